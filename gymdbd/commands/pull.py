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
        "--info-only", action="store_true", help="pull nothing, describe the remote database"
    )
    options.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Pull, or describe the remote database, and print the result."""
    job, settings = find_job(arguments)
    if arguments.info_only:
        return _inspect(job, output)
    outcome = by_hand.run_job(job, settings, output).outcome
    return by_hand.report(outcome, PullResult, _print, output)


def find_job(arguments: argparse.Namespace) -> tuple[PullConfig, Config | None]:
    """Return the job that the command line names, and its configuration, if there is one."""
    given = {name: getattr(arguments, name) for name in ("host", "remote_database", "replica")}
    if not any(given.values()):
        settings = configuration.load(arguments)
        job = configuration.choose_job(settings, arguments.job, PullConfig)
        return dataclasses.replace(job, method=arguments.method or job.method), settings
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
    )
    return job, None


def _inspect(job: PullConfig, output: Output) -> int:
    from gymdbd.jobs import peer  # noqa: PLC0415 - the help does not need it

    log.configure(LogConfig(), by_hand=True)
    facts = peer.inspect(job, Context(log=log.logger()))
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
    facts.append(("took", f"{result.duration_s:.3f} s ({timings})"))
    output.facts(facts)


def _print_facts(facts: dict[str, Any], unknown: str, output: Output) -> None:
    changed = clock.to_text(datetime.fromtimestamp(facts["newest_change"], UTC), clock.Clock().zone)
    bug = " (has the WAL-reset bug: update it)" if facts["wal_reset_bug"] else ""
    nobody = "no process that the account can see"
    if facts.get("restricted"):
        nobody = "a restricted key is not told"
    held_by = ", ".join(facts["held_by"]) or nobody
    output.facts(
        [
            ("host", facts["host"]),
            ("database", facts["database"]),
            (
                "size",
                (
                    f"{files.to_size(facts['size_bytes'])}, {facts['page_count']:,} pages "
                    f"of {facts['page_size']} bytes"
                ),
            ),
            (
                "wal",
                (
                    f"{files.to_size(facts['wal_size_bytes'])}, "
                    f"{words.counted(facts['wal_frames'], 'frame')}, "
                    f"{facts['wal_frames_backfilled']:,} of them checkpointed"
                ),
            ),
            ("journal mode", facts["journal_mode"]),
            ("newest change", changed.replace("T", " ")),
            ("free disk", files.to_size(facts["disk_free_bytes"])),
            ("in use by", held_by),
            ("sqlite", f"{facts['sqlite']}{bug}"),
            ("python", facts["python"]),
            *([("unknown", unknown)] if unknown else []),
        ]
    )
    output.print_line()
    output.table(["table", "rows"], [[name, f"{n:,}"] for name, n in facts["tables"].items()])
