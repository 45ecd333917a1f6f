r"""put the database on a new machine, where the dead one had it

The machine that a pull job pulls from is dead, and a new one has been set up in
its place. This command puts the replica there, at `remote_database`, over SSH:
beside its place, compared there with what was sent, and then renamed, with the
mode and the owner that the old one had. If it is interrupted, nothing is there.

It needs a login that may do everything: a key that gymdbd authorize has
restricted can only pull. A new machine has a new host key, which you have to
compare and to add to ~/.ssh/known_hosts; the error says how.

Nothing over there is overwritten. If there is a file in the place already, the
command refuses; --replace first renames it over there. The application must not
run meanwhile.

examples:
  gymdbd rebuild --dry-run
      check everything, put nothing there
  gymdbd rebuild
      the replica of the only pull job
  gymdbd rebuild pull-from-pi --user pi --identity ~/.ssh/id_ed25519
      with another login than that of the pulls
  gymdbd rebuild --at yesterday
      the newest good state made at or before that time
  gymdbd rebuild --backup latest --archive data/backups --host new-pi \
      --remote-database /home/pi/gym-controller/instance/gym_system.db
      without a configuration

files:
  ~/.ssh/config, ~/.ssh/known_hosts   how to reach the host, and its key
"""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import clock, files, when, words
from gymdbd.clock import Clock
from gymdbd.commands import pull
from gymdbd.config.kinds import RebuildConfig
from gymdbd.errors import UsageError
from gymdbd.jobs.pull.replica import Replica
from gymdbd.jobs.rebuild.result import RebuildResult
from gymdbd.terminal import by_hand, configuration, databases, naming, options
from gymdbd.terminal.distance import Distance

if TYPE_CHECKING:
    import argparse

    from gymdbd.config.config import Config
    from gymdbd.config.kinds import PullConfig
    from gymdbd.terminal.output import Output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    pull.add_source(parser)
    parser.add_argument("--backup", metavar="BACKUP", help=f"put a backup there: {naming.HELP}")
    parser.add_argument("--at", metavar="TIME", help="the newest good state made at or before TIME")
    options.add_archive(parser)
    parser.add_argument("--user", metavar="NAME", help="log in as this user")
    parser.add_argument(
        "--identity", type=Path, metavar="FILE", help="log in with this private key, and no other"
    )
    parser.add_argument(
        "--replace", action="store_true", help="rename the file that is there, if there is one"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="put nothing there, print what would be done"
    )
    parser.set_defaults(method=None, limit=None)
    options.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Rebuild, or print what a rebuild would do."""
    job, settings = _job(arguments, output)
    outcome = by_hand.run_job(job, settings, output).outcome
    if isinstance(outcome.result, RebuildResult):
        told = dataclasses.replace(outcome.result, next=_steps(job.pull, settings, outcome.result))
        outcome = dataclasses.replace(outcome, result=told)
    return by_hand.report(outcome, RebuildResult, _print, output)


def _job(arguments: argparse.Namespace, output: Output) -> tuple[RebuildConfig, Config | None]:
    if arguments.backup is not None and arguments.at is not None:
        raise UsageError("name either a backup with --backup or a time with --at, not both")
    # A new machine may have a new name.
    only_host = arguments.host and not (arguments.remote_database or arguments.replica)
    host, arguments.host = arguments.host, None if only_host else arguments.host
    arguments.info_only = arguments.backup is not None or arguments.at is not None
    source, settings = pull.find_job(arguments)
    changes: dict[str, object] = {"user": arguments.user} if arguments.user else {}
    if arguments.identity:
        key = str(files.absolute(arguments.identity.expanduser()))
        changes |= {"identity_file": key, "identities_only": True}
    ssh = dataclasses.replace(source.ssh, **changes)  # type: ignore[arg-type]
    source = dataclasses.replace(source, host=host or source.host, ssh=ssh)
    job = RebuildConfig(
        name="rebuild",
        kind="rebuild",
        pull=source,
        backup=_backup(arguments, source, output),
        replace=arguments.replace,
        dry_run=arguments.dry_run,
    )
    return job, settings


def _backup(arguments: argparse.Namespace, source: PullConfig, output: Output) -> Path | None:
    """Return the backup that is to be put there, None for the replica."""
    arguments.archive = arguments.archive or source.archive_folder
    if arguments.backup is not None:
        found = naming.find(naming.Name(arguments.backup), arguments)
        return _real(databases.require_backup(found).path)
    if arguments.at is None:
        return None
    now = Clock()
    moment = when.parse(arguments.at, now.now(), now.zone)
    configuration.act(arguments, [source.replica])
    replica = Replica(source.replica)
    state = replica.state()
    # What was saved before it is older.
    if state is not None and replica.exists and not state.suspicious:
        pulled = clock.from_text(state.pulled_at)
        if pulled <= moment and not replica.change(state):
            naming.answer(Distance(pulled, moment), output)
            return None
    found = databases.find_at(moment, arguments)
    naming.answer(found.distance, output)
    return _real(found.path)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _steps(source: PullConfig, settings: Config | None, result: RebuildResult) -> list[str]:
    """Return what is left to do until the new machine is as the old one was."""
    if result.dry_run:
        return []
    database, there = shlex.quote(result.database), f"on {source.host}"
    words_ = ["gymdbd", "pull", source.name]
    if settings is None:
        words_ = ["gymdbd", "pull", "--host", source.host]
        words_ += ["--remote-database", source.remote_database, "--replica", str(source.replica)]
    install = f"sudo deploy/install.sh --database {database} --archive DIR"
    authorize = f"gymdbd authorize --database {database} --key KEY.pub >> ~/.ssh/authorized_keys"
    return [
        f"{there}: start the application, and look at what it shows",
        f"{there}, in a clone of gymdbd: {install}",
        f"{there}, if the key of the pulls may do nothing else: {authorize}",
        f"here: {shlex.join(words_)}",
    ]


def _print(result: RebuildResult, output: Output) -> None:
    would = "would " if result.dry_run else ""
    facts = [
        (f"{would}put", f"{result.host}:{result.database}"),
        ("from", f"{result.source}, as of {result.made_at}"),
        ("content", f"{words.rows_in(result.tables)}; {files.to_size(result.size)}"),
    ]
    if not result.dry_run:
        facts.append(("proof", f"read back from the disk over there: sha256 {result.sha256}"))
    made, renamed = ("would make", "would rename") if result.dry_run else ("made", "renamed")
    if result.saved:
        facts.append((renamed, f"the file that was there, to {result.saved}"))
    facts += [(renamed, f"a leftover: {path}") for path in result.aside]
    if result.makes_folder:
        facts.append((made, "the folder of the database"))
    if owner := result.ownership:
        facts.append(
            ("owner", f"{owner.get('owner')}:{owner.get('group')}, mode {owner.get('mode')}")
        )
    facts += [("remark", remark) for remark in result.remarks]
    timings = ", ".join(f"{name} {took:.3f}" for name, took in result.timings.items())
    facts.append(("took", f"{result.duration_s:.3f} s ({timings})"))
    output.facts(facts)
    if result.next:
        output.print_line()
        output.print_line("What is left to do:")
    for number, step in enumerate(result.next, 1):
        output.print_line(f"  {number}. {step}")
