"""take the last restore of a database back

A restore saves what it overwrites, and notes beside the database where that is.
This command puts it back, as gymdbd restore does: it is verified first, the
application can keep running, and the present content is saved before. So what
was written since the restore is not lost, and a second undo takes the first one
back.

It refuses if no restore is known, if there was no database before it, if what
it overwrote is gone (pruning leaves that for at least 14 days), or if the file
was replaced since, by a pull for example. If a restore was interrupted, what
was there before it comes back; an interrupted undo is finished.

examples:
  gymdbd undo --dry-run
      show which restore would be taken back, and which rows would change
  gymdbd undo
      the last restore into the only database of the configuration
  gymdbd undo --database instance/gym_system.db
      into this file, with or without a configuration
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd.clock import Clock
from gymdbd.commands import restore
from gymdbd.errors import UsageError
from gymdbd.jobs.restore import record
from gymdbd.terminal import configuration, options

if TYPE_CHECKING:
    import argparse

    from gymdbd.terminal.output import Output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "job",
        nargs="?",
        metavar="JOB",
        help="a job of the configuration: the database that it backs up, or its replica (default: "
        "the only one)",
    )
    parser.add_argument(
        "--database",
        dest="source",
        type=Path,
        metavar="PATH",
        help="the database; with it, no configuration is needed",
    )
    parser.add_argument(
        "--replace", action="store_true", help="put a new file in place of the database"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="change nothing, print what would be done"
    )
    parser.set_defaults(archive=None)
    options.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Take the last restore back, or print what that would do."""
    named = _database(arguments)
    # Beside a database of another user's, that user reads what the restore has noted.
    configuration.act(arguments, [named])
    target = Path(os.path.realpath(named))
    backup = record.to_undo(target, Clock().zone)
    job, settings = restore.job_for(backup, target, arguments, is_undo=True)
    return restore.perform(job, settings, arguments, output)


def _database(arguments: argparse.Namespace) -> Path:
    """Return the database that is meant; UsageError if there are several."""
    named = configuration.database(arguments)
    if named and arguments.job:
        raise UsageError("name either a job or a database with --database, not both")
    if named:
        return named
    settings = configuration.load(arguments)
    jobs = [settings.job(arguments.job)] if arguments.job else list(settings.jobs.values())
    found = {made.file: job.name for job in jobs if (made := job.backups)}
    if not found:
        what = (
            f"job {arguments.job} has" if arguments.job else f"the jobs of {settings.source} have"
        )
        raise UsageError(f"{what} no database", hint="name the database with --database PATH")
    if len(found) > 1:
        several = ", ".join(f"{path} ({name})" for path, name in found.items())
        raise UsageError(
            f"the jobs of {settings.source} have {len(found)} databases: {several}",
            hint="name one of the jobs, or a database with --database PATH",
        )
    return next(iter(found))
