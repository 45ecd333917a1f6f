"""make a verified backup now

The backup is one self-contained .db file with every committed row, including
rows that are still in the WAL. It is verified before it is renamed into place.
If the backup fails, the archive stays as it was.

The application can keep writing, and never waits longer than busy_timeout. If
the application has another file open than the one at the path, no backup is
made, and the error names the processes and files. If the database was deleted
while the application has it open, its content is saved, and the command fails.

examples:
  gymdbd backup nightly-backup
      run a job of the configuration now
  gymdbd backup --for instance/gym_system.db
      run the job that backs up this database, whatever its name is
  gymdbd backup --database instance/gym_system.db
      without a configuration, into data/backups/database/
  gymdbd backup nightly-backup --cleanup --keep-days 14 --keep-count 10
      prune old backups afterwards
  gymdbd backup nightly-backup --deleted
      save what the application still writes to after its file was replaced
  gymdbd backup nightly-backup --stats-only
      make no backup; print count, size, oldest, newest and rows of the backups

files:
  gym_system_backup_20261123_030000.db        a backup, named by local time
  gym_system_backup_20261123_030000.db.json   its manifest: checksums, rows
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymdbd import files, words
from gymdbd.archive.catalog import Catalog
from gymdbd.clock import Clock
from gymdbd.config.kinds import BackupConfig
from gymdbd.errors import UsageError
from gymdbd.jobs.backup.result import BackupResult
from gymdbd.runs import as_owner
from gymdbd.source import database, identity, uses
from gymdbd.source.errors import SourceMissingError
from gymdbd.terminal import by_hand, configuration, options, retention

if TYPE_CHECKING:
    import argparse

    from gymdbd.config.config import Config
    from gymdbd.jobs.backup.result import Changes
    from gymdbd.sqlite.checkpoint import Checkpoint
    from gymdbd.terminal.output import Output

_ARCHIVE = configuration.ARCHIVE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    options.add_job(parser, "backup")
    parser.add_argument("--database", type=Path, metavar="PATH", help="the database to back up")
    parser.add_argument(
        "--for",
        dest="of",
        type=Path,
        metavar="PATH",
        help="run the job of the configuration that backs up this database",
    )
    parser.add_argument(
        "--archive",
        type=Path,
        metavar="DIR",
        help=f"the folder for the backup (default: {_ARCHIVE}/); with --database "
        "it is created if its parent folder exists",
    )
    parser.add_argument(
        "--skip-checkpoint",
        action="store_true",
        help="make no checkpoint; the backup still contains all rows in the WAL",
    )
    parser.add_argument(
        "--raw", action="store_true", help="copy .db, -wal and -shm unchanged, as three files"
    )
    parser.add_argument(
        "--deleted",
        action="store_true",
        help="save a deleted or replaced database from the process that still has it open",
    )
    parser.add_argument(
        "--cleanup",
        action="store_true",
        help="prune old backups afterwards, by the job's rule (default: --keep-days 14 "
        "--keep-count 10) as the flags --keep-... change it",
    )
    options.add_retention(parser)
    parser.add_argument(
        "--stats-only", action="store_true", help="make no backup, describe those in the archive"
    )
    options.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Make the backup and print the result."""
    job, settings = _job(arguments)
    if arguments.stats_only:
        configuration.say_acting(as_owner.run_as_owner(job, settings))
        return _stats(job, output)
    outcome = by_hand.run_job(job, settings, output).outcome
    return by_hand.report(outcome, BackupResult, print_result, output)


def _job(arguments: argparse.Namespace) -> tuple[BackupConfig, Config | None]:
    if bool(arguments.job) + bool(arguments.database) + bool(arguments.of) > 1:
        raise UsageError("name only one of JOB, --database PATH and --for PATH")
    if options.retention(arguments) and not arguments.cleanup:
        raise UsageError(
            "--keep-days, --keep-count, ... have no effect without --cleanup",
            hint="add --cleanup to prune old backups",
        )
    if arguments.database:
        return _with_flags(_unconfigured(arguments), arguments), None
    settings = configuration.load(arguments)
    if arguments.of:
        job = _job_for(arguments.of, settings)
    else:
        job = configuration.choose_job(settings, arguments.job, BackupConfig)
    if arguments.archive:
        job = dataclasses.replace(job, archive=files.absolute(arguments.archive))
    return _with_flags(job, arguments), settings


def _unconfigured(arguments: argparse.Namespace) -> BackupConfig:
    """Return the job that --database describes, whose archive is created if need be."""
    job = BackupConfig(
        name="backup",
        kind="backup",
        database=files.absolute(arguments.database),
        archive=files.absolute(arguments.archive or _ARCHIVE),
    )
    configuration.say_acting(as_owner.run_as_owner(job, None))
    if not arguments.stats_only:
        _require_database(job.database, arguments)
        if arguments.archive and arguments.archive.is_absolute():
            # If a disk is not mounted, its folder must not be created on another disk.
            files.require_folder(job.archive.parent)
        files.make_folder(job.archive)
    return job


def _require_database(path: Path, arguments: argparse.Namespace) -> None:
    """Raise unless there is a database to back up, so that a mistyped path creates no archive."""
    try:
        database.locate(path)
    except SourceMissingError:
        if not arguments.deleted and not identity.removed(path, uses.look(path)):
            raise


def _job_for(database: Path, settings: Config) -> BackupConfig:
    """Return the first job that backs up a database; links in either path are followed."""
    wanted = os.path.realpath(database.expanduser())
    for job in settings.jobs.values():
        if isinstance(job, BackupConfig) and os.path.realpath(job.database) == wanted:
            return job
    raise UsageError(
        f"no job of {settings.source} backs up {database}",
        hint="add one, or make a backup without a job: gymdbd backup --database PATH",
    )


def _with_flags(job: BackupConfig, arguments: argparse.Namespace) -> BackupConfig:
    changes: dict[str, Any] = {}
    if arguments.skip_checkpoint:
        changes["checkpoint"] = "none"
    if arguments.raw:
        changes["raw"] = True
    if arguments.deleted:
        changes["deleted"] = True
    if arguments.cleanup:
        keep = dataclasses.replace(job.keep or retention.DEFAULT, **options.retention(arguments))
        if keep.faults():
            raise UsageError("--keep-days 0 and --keep-count 0 together would retain nothing")
        changes["keep"] = keep
    return dataclasses.replace(job, **changes)


def print_result(result: BackupResult, output: Output) -> None:
    """Print the result of a backup."""
    timings = ", ".join(f"{name} {seconds:.3f}" for name, seconds in result.timings.items())
    output.facts(
        [
            ("backup", result.path),
            ("size", f"{files.to_size(result.size)}; {words.rows_in(result.tables)}"),
            ("verified", "integrity ok; schema and row counts equal those of the snapshot"),
            *(("remark", remark) for remark in result.remarks),
            ("sha256", result.sha256),
            ("md5", result.md5),
            ("checkpoint", _checkpoint(result.checkpoint)),
            *_changes(result.changes),
            ("pruned", str(len(result.pruned))),
            *([("waiting", words.waits(result.waiting))] if result.waiting else []),
            ("took", f"{result.duration_s:.3f} s ({timings})"),
        ]
    )


def _changes(changes: Changes | None) -> list[tuple[str, str]]:
    if changes is None:
        return []
    return [("changes", f"{changes.digest}, since {Path(changes.previous).name}")]


def _checkpoint(done: Checkpoint) -> str:
    blockers = ", ".join(done.blocked_by)
    if done.busy is None:
        return f"none: {done.skipped}" + (f" by {blockers}" if blockers else "")
    text = f"{done.mode}, {done.checkpointed} of {done.log} frames"
    if done.guarded:
        text += ", under the write lock"
    if blockers:
        text += f", blocked by {blockers}"
    return text


def _stats(job: BackupConfig, output: Output) -> int:
    backups = Catalog(job.archive, Clock().zone).backups(job.origin)
    newest = next((backup.manifest for backup in backups if backup.manifest), None)
    tables = newest.tables if newest else {}
    summary: dict[str, Any] = {
        "count": len(backups),
        "size": sum(backup.size for backup in backups),
        "oldest": backups[-1].path.name if backups else None,
        "newest": backups[0].path.name if backups else None,
        "tables": tables,
    }

    def show() -> None:
        output.facts(
            [
                ("archive", str(job.archive)),
                ("backups", str(summary["count"])),
                ("size", files.to_size(summary["size"])),
                ("oldest", summary["oldest"] or "-"),
                ("newest", summary["newest"] or "-"),
            ]
        )
        if tables:
            output.print_line()
            output.table(["table", "rows"], [[name, f"{n:,}"] for name, n in tables.items()])

    output.result(summary, show)
    return 0
