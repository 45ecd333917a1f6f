"""Arguments and steps that several verbs share: the configuration, jobs run by hand, archives."""

from __future__ import annotations

import argparse
import functools
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from gymdbd.archive.backup import Backup
    from gymdbd.config.config import Config
    from gymdbd.config.kinds import JobConfig
    from gymdbd.origin import Origin
    from gymdbd.source.errors import GymdbdError
    from gymdbd.terminal.output import Output

Job = TypeVar("Job", bound="JobConfig")
Value = TypeVar("Value")

DEFAULT_ARCHIVE = Path("data/backups/database")


# The arguments with which a verb needs no configuration.
INSTEAD = {
    **dict.fromkeys(("list", "verify", "drill"), "--archive DIR"),
    **dict.fromkeys(("keep", "unkeep", "accept"), "BACKUP --archive DIR"),
    "restore": "BACKUP --archive DIR --to PATH",
    "diff": "BACKUP --archive DIR --database PATH",
    "rescue": "BACKUP --archive DIR --table TABLE",
    "prune": "--archive DIR --keep-days N",
    "backup": "--database PATH",
    "authorize": "--database PATH --key FILE",
    **dict.fromkeys(("pull", "emergency"), "--host HOST --remote-database PATH --replica PATH"),
}


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object, also for errors"
    )


def add_job(parser: argparse.ArgumentParser, kind: str) -> None:
    """Add the name of a job, for `choose_job`."""
    parser.add_argument(
        "job",
        nargs="?",
        metavar="JOB",
        help=f"a {kind} job of the configuration (default: the only one)",
    )


def add_archive(parser: argparse.ArgumentParser) -> None:
    """Add --archive, for `archives`."""
    parser.add_argument(
        "--archive",
        type=Path,
        metavar="DIR",
        help="the archive to search (default: every archive of the configuration)",
    )


def number(text: str) -> int:
    """Parse a number in the syntax of the configuration."""
    from gymdbd.config import values

    return _read(values.number, text)


def percent(text: str) -> int:
    """Parse a percentage in the syntax of the configuration."""
    from gymdbd.config import values

    return _read(values.percent, text)


def duration(text: str) -> timedelta:
    """Parse a duration in the syntax of the configuration."""
    from gymdbd.config import values

    return _read(values.duration, text)


def _read(reader: Callable[[str], Value], text: str) -> Value:
    try:
        return reader(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def load_config(arguments: argparse.Namespace) -> Config:
    """Load the configuration named by the command line, or found in the usual places."""
    from gymdbd.config import config

    found = config.find(arguments.config, instead=_instead(arguments))
    return config.load(Path(os.path.abspath(found)))  # noqa: PTH100 - links stay


def _instead(arguments: argparse.Namespace) -> str:
    """Return a command line with which this verb needs no configuration; empty if it needs one."""
    parser = getattr(arguments, "parser", None)
    verb = parser.prog.split()[-1] if parser else ""
    return f"gymdbd {verb} {INSTEAD[verb]}" if verb in INSTEAD else ""


def choose_job(settings: Config, name: str | None, kind: type[Job]) -> Job:
    """Return the job called `name`, or the only job of its kind if `name` is None."""
    from gymdbd.errors import UsageError

    candidates = [job for job in settings.jobs.values() if isinstance(job, kind)]
    word = kind.__name__.removesuffix("Config").lower()
    if name is None:
        if len(candidates) == 1:
            return candidates[0]
        others = ", ".join(f"{job.name} ({job.kind})" for job in settings.jobs.values())
        if not candidates:
            raise UsageError(
                f"{settings.source} has no {word} job",
                hint=f"its jobs are: {others}; the {word} job may belong to another machine",
            )
        raise UsageError(
            f"{settings.source} has {len(candidates)} {word} jobs; name one of them",
            hint=f"its {word} jobs are: {', '.join(job.name for job in candidates)}",
        )
    job = settings.job(name)
    if not isinstance(job, kind):
        names = ", ".join(job.name for job in candidates) or "none"
        raise UsageError(
            f"job {name} is a {job.kind} job, not a {word} job",
            hint=f"its {word} jobs are: {names}",
        )
    return job


def run_by_hand(
    job: JobConfig, settings: Config | None, output: Output, *, in_journal: bool = True
) -> tuple[dict[str, Any], int]:
    """Run a job in this process; return its entry for the status file and the exit code.

    The first SIGINT or SIGTERM stops it at its next safe point.
    """
    from gymdbd import log
    from gymdbd.config.config import LogConfig
    from gymdbd.runs.runner import Run
    from gymdbd.runs.status import StatusFile

    stops: list[int] = []
    for number_ in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number_, lambda caught, _: stops.append(caught))
    # The verb prints the failure itself, so the log prints only warnings to the terminal.
    log.configure(settings.log if settings else LogConfig(), by_hand=True, in_journal=in_journal)
    with output.progress() as progress:
        entry = Run(
            job=job,
            reason="by hand",
            # A restore, for example, is not a configured job: the status file has no entry for it.
            status=(
                StatusFile(settings.status_file) if settings and job.name in settings.jobs else None
            ),
            progress=progress,
            tell=output.remark,
            stopping=lambda: bool(stops),
        ).execute()
    return entry, int(entry["exit_code"])


def logged(work: Callable[[argparse.Namespace, Output], int]) -> Callable[..., int]:
    """Log the start and end of a verb that changes something but does not run a job."""

    @functools.wraps(work)
    def run(arguments: argparse.Namespace, output: Output) -> int:
        from gymdbd import disk, log
        from gymdbd.config.config import LogConfig
        from gymdbd.runs import runner
        from gymdbd.source.errors import GymdbdError

        log.configure(LogConfig(), by_hand=True)
        backup = getattr(arguments, "backup", None)
        begun = time.monotonic()
        with log.bound(job=work.__module__.rpartition(".")[2], run_id=runner.new_id()):
            log.logger().info("run started", reason="by hand", backup=backup)
            outcome = runner.success({})
            try:
                return work(arguments, output)
            except GymdbdError as error:
                outcome = runner.failure(error)
                raise
            except OSError as error:
                outcome = runner.failure(disk.system_error(error))
                raise
            finally:
                took = round(time.monotonic() - begun, 3)
                runner.log_end({**outcome, "duration_s": took})

    return run


def report_unread(errors: list[GymdbdError]) -> None:
    """Print the archives that could not be read; the other archives are shown anyway."""
    from gymdbd.terminal.output import Output

    for error in errors:
        Output().remark(f"gymdbd: left out: {error.message}. What to do: {error.hint}")


def report_failure(entry: dict[str, Any], output: Output) -> None:
    """Print the error of a failed run, and where it saved a damaged database."""
    error = {name: entry[name] for name in ("state", "error", "hint", "code")}
    copy = (entry.get("result") or {}).get("damaged_copy")
    output.failure({**error, **({"damaged_copy": copy} if copy else {})})


def archive_summary(backups: list[Backup]) -> dict[str, Any]:
    """Return the number and total size of backups, and the names of the oldest and newest."""
    return {
        "count": len(backups),
        "size": sum(backup.size for backup in backups),
        "oldest": backups[-1].path.name if backups else None,
        "newest": backups[0].path.name if backups else None,
    }


def archives(arguments: argparse.Namespace) -> list[Path]:
    """Return the archive of --archive, or those of the configuration."""
    if arguments.archive:
        return [Path(os.path.abspath(arguments.archive))]  # noqa: PTH100 - links stay
    return archives_of(load_config(arguments))


def archives_of(settings: Config) -> list[Path]:
    """Return every archive of the configuration; a pull's default archive only if it exists."""
    from gymdbd.config.kinds import BackupConfig, PullConfig, VerifyConfig

    found = set()
    for job in settings.jobs.values():
        if isinstance(job, BackupConfig | VerifyConfig):
            found.add(job.archive)
        elif isinstance(job, PullConfig) and (job.archive or job.archive_folder.is_dir()):
            found.add(job.archive_folder)
    return sorted(found)


def archive_of(job: JobConfig) -> tuple[Path, Origin] | None:
    """Return the archive and the database of a job's backups, None if it makes no backups."""
    from gymdbd.config.kinds import BackupConfig, PullConfig

    if isinstance(job, BackupConfig):
        return job.archive, job.origin
    return (job.archive_folder, job.origin) if isinstance(job, PullConfig) else None


def makes(job: JobConfig, backup: Backup) -> bool:
    """Return whether a job makes backups like this one."""
    from gymdbd.archive import belonging
    from gymdbd.archive.catalog import Catalog
    from gymdbd.clock import Clock

    place = archive_of(job)
    if place is None or os.path.realpath(place[0]) != os.path.realpath(backup.path.parent):
        return False
    every = Catalog(backup.path.parent, Clock().zone).backups()
    return any(other.path == backup.path for other in belonging.to_look_at(every, place[1]))


def waits(name: str) -> str:
    """Return the message for a suspicious backup that waits for accept or reject."""
    return (
        f"{name} is suspicious; pruning is stopped until gymdbd accept {name} "
        f"or gymdbd reject {name}"
    )


def age(seconds: float) -> str:
    """Format an age in its largest unit: `5 h`."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
