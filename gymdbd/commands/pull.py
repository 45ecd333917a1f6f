r"""pull a database over SSH, prove it equal, and swap it in

Only changes are transferred. The replica is always one complete snapshot; the
previous replica is saved before it is replaced. If the connection breaks, the
previous replica stays in place, and the next pull continues where this one
stopped.

The other machine needs sshd and python3 3.9 or newer, but no gymdbd. Hosts,
users and keys come from ~/.ssh/config; host keys are always checked.

examples:
  gymdbd pull pull-from-pi
      run a job of the configuration now
  gymdbd pull pull-from-pi --info-only
      pull nothing; print information about the remote database
  gymdbd pull --host raspberry-pi --replica instance/gym_system.db \
      --remote-database /home/pi/gym-controller/instance/gym_system.db
      without a configuration

files:
  ~/.ssh/config, ~/.ssh/known_hosts   how to reach the host, and its key
  backups/, beside the replica        old replicas, unless archive: is given
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymdbd import clock, files, log, words
from gymdbd.config.config import LogConfig
from gymdbd.config.kinds import PullConfig
from gymdbd.errors import FolderMissingError, UsageError
from gymdbd.jobs.context import Context
from gymdbd.jobs.pull.result import PullResult
from gymdbd.runs import as_owner
from gymdbd.terminal import by_hand, configuration, options

if TYPE_CHECKING:
    import argparse

    from gymdbd.config.config import Config
    from gymdbd.terminal.output import Output

_CHECKED = {
    "full": "every page and index (PRAGMA integrity_check), and the rows",
    "quick": "every page (PRAGMA quick_check), and the rows",
    "equal": "equality with the remote database, and the rows; every page is checked later",
}


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `find_job`: a job, or the three flags instead of one."""
    options.add_job(parser, "pull")
    parser.add_argument("--host", help="a host in ~/.ssh/config, a name or an address")
    parser.add_argument("--remote-database", metavar="PATH", help="the database on that host")
    parser.add_argument("--replica", type=Path, metavar="PATH", help="the copy on this machine")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    add_source(parser)
    parser.add_argument(
        "--method",
        choices=("query", "scp"),
        help="query: one snapshot, only changes are transferred (default); scp: copy the files, "
        "refused if the database was written to meanwhile",
    )
    parser.add_argument(
        "--limit",
        type=options.limit,
        metavar="RATE",
        help="receive at most so many bytes a second, such as 500KiB/s; none: without the limit of "
        "the configuration",
    )
    parser.add_argument(
        "--info-only", action="store_true", help="pull nothing, describe the remote database"
    )
    options.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Pull, or describe the remote database, and print the result."""
    job, settings = find_job(arguments)
    if arguments.info_only:
        if settings or arguments.replica:
            # With the configuration of SSH and the keys that a pull uses.
            configuration.say_acting(as_owner.run_as_owner(job, settings))
        return _inspect(job, output)
    outcome = by_hand.run_job(job, settings, output).outcome
    return by_hand.report(outcome, PullResult, _print, output)


def find_job(arguments: argparse.Namespace) -> tuple[PullConfig, Config | None]:
    """Return the job that the command line names, and its configuration, if there is one."""
    given = {name: getattr(arguments, name) for name in ("host", "remote_database", "replica")}
    if not any(given.values()):
        settings = configuration.load(arguments)
        job = configuration.choose_job(settings, arguments.job, PullConfig)
        method = arguments.method or job.method
        limit = job.limit if arguments.limit is None else arguments.limit or None
        return dataclasses.replace(job, method=method, limit=limit), settings
    if arguments.job:
        raise UsageError("name either a JOB, or --host, --remote-database and --replica, not both")
    if not (arguments.host and arguments.remote_database):
        raise UsageError(
            "--host, --remote-database and --replica are needed together",
            hint="add the missing ones, or name a pull JOB of the configuration",
        )
    if not arguments.replica and not arguments.info_only:
        raise UsageError("--replica is missing: the path of the copy on this machine")
    replica = files.absolute(arguments.replica or "replica.db")
    try:
        files.require_folder(replica.parent)
    except FolderMissingError as error:
        raise UsageError(f"--replica: {error.message}", hint=error.hint) from error
    job = PullConfig(
        name="pull",
        kind="pull",
        host=arguments.host,
        remote_database=arguments.remote_database,
        replica=replica,
        method=arguments.method or "query",
        limit=arguments.limit or None,
    )
    return job, None


def _inspect(job: PullConfig, output: Output) -> int:
    from gymdbd.jobs import peer  # noqa: PLC0415 - the help does not need it

    log.configure(LogConfig(), by_hand=True)
    with by_hand.stoppable() as check:
        facts = peer.inspect(job, Context(log=log.logger(), check=check))
    output.result(facts, lambda: _print_facts(facts, peer.unknown(facts), output))
    return 0


def _print(result: PullResult, output: Output) -> None:
    timings = ", ".join(
        f"{name} {took:.3f}" for name, took in result.timings.items() if "." not in name
    )
    changed, total = result.pages_changed, result.pages_total
    pages = f"; {changed:,} of {total:,} pages" if total is not None else ""
    facts = [
        ("replica", result.replica),
        ("strategy", f"{result.strategy} ({result.reason})"),
        (
            "traffic",
            (
                f"{files.to_size(result.bytes_received)} received, "
                f"{files.to_size(result.bytes_sent)} sent{pages}"
            ),
        ),
        ("content", words.rows_in(result.tables)),
    ]
    if result.checked:
        facts.append(("checked", _CHECKED[result.checked]))
    facts += [("remark", remark) for remark in result.remarks]
    if result.saved:
        facts.append(("saved", f"the previous replica, as {result.saved}"))
    if result.waiting:
        facts.append(("waiting", words.waits(result.waiting)))
    limited = f", waited {result.limited.waited_s:.1f} s for the limit" if result.limited else ""
    facts.append(("took", f"{result.duration_s:.3f} s ({timings}){limited}"))
    output.facts(facts)


def _print_facts(facts: dict[str, Any], unknown: str, output: Output) -> None:
    """Print what the other side has told; it may be of another release, or tell little."""
    lines = [
        ("host", facts.get("host")),
        ("database", facts.get("database")),
        ("size", _size(facts)),
        ("wal", _wal(facts)),
        ("journal mode", facts.get("journal_mode")),
        ("newest change", _newest(facts)),
        ("free disk", _bytes(facts, "disk_free_bytes")),
        ("in use by", _holders(facts)),
        ("sqlite", _sqlite(facts)),
        ("python", facts.get("python")),
        ("unknown", unknown),
    ]
    output.facts([(name, text) for name, text in lines if text])
    output.print_line()
    output.table(["table", "rows"], [[name, f"{n:,}"] for name, n in facts["tables"].items()])


def _bytes(facts: dict[str, Any], name: str) -> str:
    return files.to_size(facts[name]) if name in facts else ""


def _size(facts: dict[str, Any]) -> str:
    size = _bytes(facts, "size_bytes")
    if "page_count" not in facts or "page_size" not in facts:
        return size
    pages = f"{facts['page_count']:,} pages of {facts['page_size']} bytes"
    return f"{size}, {pages}" if size else pages


def _wal(facts: dict[str, Any]) -> str:
    parts = [_bytes(facts, "wal_size_bytes")]
    if "wal_frames" in facts:
        parts.append(words.counted(facts["wal_frames"], "frame"))
    if "wal_frames_backfilled" in facts:
        parts.append(f"{facts['wal_frames_backfilled']:,} of them checkpointed")
    return ", ".join(filter(None, parts))


def _newest(facts: dict[str, Any]) -> str:
    if "newest_change" not in facts:
        return ""
    moment = datetime.fromtimestamp(facts["newest_change"], UTC)
    return clock.to_text(moment, clock.Clock().zone).replace("T", " ")


def _holders(facts: dict[str, Any]) -> str:
    if "held_by" not in facts:
        return ""
    if facts.get("restricted"):
        return "a restricted key is not told"
    return ", ".join(facts["held_by"]) or "no process that the account can see"


def _sqlite(facts: dict[str, Any]) -> str:
    bug = " (has the WAL-reset bug: update it)" if facts.get("wal_reset_bug") else ""
    return f"{facts['sqlite']}{bug}" if "sqlite" in facts else ""
