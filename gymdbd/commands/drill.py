"""rehearse a restore of the newest backup, and time it

The newest good backup, or the one that is named, is restored to a scratch
folder, in the same way as gymdbd restore does it. Then the job's probes: are
queried and its command: is run, and the copy is deleted. The live database is
not touched. gymdbd status reports the result of the last drill of the newest
backup.

examples:
  gymdbd drill
      the drill job of the configuration
  gymdbd drill --at tuesday
      the newest good backup of Tuesday, with the probes of the drill job
  gymdbd drill --database instance/gym_system.db
      the newest backup of a database, without probes or a command; that needs
      no configuration, and with --archive DIR no database
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import files, words
from gymdbd.archive import belonging
from gymdbd.archive.catalog import LATEST, Catalog
from gymdbd.clock import Clock
from gymdbd.config.kinds import DrillConfig
from gymdbd.errors import BackupMissingError, UsageError
from gymdbd.jobs.drill.result import DrillResult
from gymdbd.terminal import by_hand, configuration, databases, naming, options

if TYPE_CHECKING:
    import argparse

    from gymdbd.archive.backup import Backup
    from gymdbd.config.config import Config
    from gymdbd.terminal.naming import Name
    from gymdbd.terminal.output import Output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    naming.add_words(
        parser,
        "JOB|BACKUP",
        f"a drill job (default: the only one), or {naming.HELP} (default: latest)",
        nargs="*",
    )
    naming.add_at(parser)
    options.add_search(parser)
    options.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the drill and print the result."""
    job, settings = _job(arguments, output)
    outcome = by_hand.run_job(job, settings, output).outcome
    return by_hand.report(outcome, DrillResult, _print, output)


def _job(arguments: argparse.Namespace, output: Output) -> tuple[DrillConfig, Config | None]:
    """Return the drill to run, and the configuration if its status is to have the run.

    The drill of a named backup is no run of its job: it does not show that the newest is good.
    """
    names = naming.named(arguments)
    if arguments.archive or arguments.source:
        return _of_named(names, arguments, output), None
    settings = configuration.load(arguments)
    first = names[0].text if names and not names[0].is_time else None
    if names and first not in settings.jobs:
        return _of_any_job(names, settings, arguments, output), None
    job = configuration.choose_job(settings, first, DrillConfig)
    if len(names) <= 1:
        return job, settings
    arguments.archive, arguments.source = job.archive, job.database
    return _on(_backup(names[1:], arguments, output), job), None


def _of_named(names: list[Name], arguments: argparse.Namespace, output: Output) -> DrillConfig:
    """Return the drill of what --archive or --database names."""
    settings = configuration.loaded(arguments)
    if names and settings is not None and names[0].text in settings.jobs:
        raise UsageError("name either a JOB, or --archive DIR or --database PATH")
    if names:
        return _on(_backup(names, arguments, output))
    if arguments.archive is None:
        arguments.archive = databases.find(LATEST, arguments).path.parent
    database = files.absolute(arguments.source) if arguments.source else None
    return dataclasses.replace(_in(files.absolute(arguments.archive)), database=database)


def _of_any_job(
    names: list[Name], settings: Config, arguments: argparse.Namespace, output: Output
) -> DrillConfig:
    """Return the drill of the backup that is named, by the job that drills such backups."""
    try:
        backup = _backup(names, arguments, output)
    except BackupMissingError as error:
        raise naming.no_job(error, names[0], settings.jobs) from error
    jobs = [job for job in settings.jobs.values() if isinstance(job, DrillConfig)]
    fitting = [job for job in jobs if _drills(job, backup)]
    if len(fitting) > 1:
        raise UsageError(
            f"{len(fitting)} jobs drill backups such as {backup.path}",
            hint="name one of them before the backup: gymdbd drill "
            f"{' or '.join(job.name for job in fitting)} BACKUP",
        )
    return _on(backup, *fitting)


def _backup(names: list[Name], arguments: argparse.Namespace, output: Output) -> Backup:
    found = naming.find(naming.only(names), arguments)
    naming.answer(found.distance, output)
    return databases.require_backup(found)


def _drills(job: DrillConfig, backup: Backup) -> bool:
    """Return whether a job drills backups of this archive and database."""
    archive = backup.path.parent
    if job.archive.resolve() != archive.resolve():
        return False
    every = Catalog(archive, Clock().zone).backups()
    mine = every if job.origin is None else belonging.likely(every, job.origin)
    return backup.path.name in [other.path.name for other in mine]


def _on(backup: Backup, job: DrillConfig | None = None) -> DrillConfig:
    """Return the drill of a backup, with the probes and the command of the job."""
    archive = backup.path.parent
    like = dataclasses.replace(job, archive=archive) if job else _in(archive)
    return dataclasses.replace(like, only=backup.path.name)


def _in(archive: Path) -> DrillConfig:
    """Return a drill without a job; its scratch folder is elsewhere if nobody may write there."""
    scratch = None if os.access(archive, os.W_OK) else Path(tempfile.gettempdir())
    return DrillConfig(name="drill", kind="drill", archive=archive, scratch_folder=scratch)


def _print(result: DrillResult, output: Output) -> None:
    output.facts(
        [
            ("backup", f"{result.backup}, made {words.age(result.age_s)} ago"),
            ("restored", f"{words.rows_in(result.tables)}, integrity ok"),
            *[("probe", f"{probe.sql}: {probe.value}") for probe in result.probes],
            *([("command", "passed")] if result.command else []),
            ("recovers", f"in {result.recover_s:.3f} s"),
        ]
    )
