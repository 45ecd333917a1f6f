"""The common part of accept and reject: which backups they mark, and the status of their jobs."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd.terminal import databases, options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from gymdbd.archive.backup import Backup
    from gymdbd.archive.catalog import Catalog
    from gymdbd.config.config import Config
    from gymdbd.config.kinds import JobConfig, PullConfig, RestoreConfig
    from gymdbd.origin import Origin
    from gymdbd.terminal.output import Output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "backup",
        metavar="BACKUP|JOB",
        help="a backup's name or path, or a job, for everything of it that waits for an answer",
    )
    options.add_archive(parser)
    databases.add_database(parser)
    options.add_json(parser)


@dataclass(frozen=True)
class _Meant:
    """The target of an answer: a backup and the suspicious ones before it, or a job."""

    archive: Path
    origin: Origin
    backup: Backup | None = None
    pull: PullConfig | None = None

    @contextlib.contextmanager
    def locked(self) -> Iterator[Catalog | None]:
        """Yield the archive, holding its lock and the replica's; None if there is no archive."""
        from gymdbd import lock
        from gymdbd.archive.catalog import Catalog
        from gymdbd.clock import Clock

        there = self.archive.is_dir() or self.pull is None
        locks = [lock.archive_lock(self.archive)] if there else []
        with lock.hold([*locks, *(self.pull.locks() if self.pull else [])]):
            yield Catalog(self.archive, Clock().zone) if there else None


def answer(arguments: argparse.Namespace, output: Output, *, right: bool) -> int:
    """Mark the named backups, and record the answer in the status of their jobs."""
    from gymdbd import clock
    from gymdbd.archive import answers
    from gymdbd.clock import Clock

    now = Clock()
    settings = _settings(arguments)
    meant = _find(arguments, settings, right=right)
    with meant.locked() as catalog:
        backups = catalog.backups(meant.origin) if catalog else []
        chosen = [backup for backup in backups if _is_meant(backup, meant, right=right)]
        paths = [str(backup.path) for backup in chosen]
        answers.mark(chosen, clock.to_text(now.now(), now.zone), right=right)
        if meant.pull is not None:
            from gymdbd.jobs.pull import suspicion

            answered = suspicion.answer(meant.pull, catalog, right=right)
            paths += [str(meant.pull.replica)] if answered else []
        if settings is not None:
            clear_status(settings, meant.archive, meant.origin, right=right)
    word = "accepted" if right else "rejected"

    def show() -> None:
        for path in paths:
            output.print_line(f"{word}  {path}")
        if not paths:
            output.print_line(f"nothing of {arguments.backup} needed to be {word}")

    output.result({"state": "ok" if paths else "unchanged", word: paths}, show)
    return 0


def _settings(arguments: argparse.Namespace) -> Config | None:
    from gymdbd.errors import ConfigError

    try:
        return options.load_config(arguments)
    except ConfigError:
        if arguments.archive is None and arguments.config is not None:
            raise
        return None


def _find(arguments: argparse.Namespace, settings: Config | None, *, right: bool) -> _Meant:
    """Find the job, replica or backup that the argument names."""
    from gymdbd.archive.backup import DAMAGED
    from gymdbd.errors import BackupMissingError, UsageError
    from gymdbd.origin import Origin
    from gymdbd.words import did_you_mean

    word = arguments.backup
    if settings is not None and word in settings.jobs:
        return _of_job(settings.jobs[word])
    pull = _of_replica(Path(os.path.abspath(word)), arguments)  # noqa: PTH100 - links stay
    if pull is not None:
        return _of_job(pull)
    try:
        backup = databases.find_backup(word, arguments)
    except BackupMissingError as error:
        if settings is not None and os.sep not in word:
            near = did_you_mean(word, list(settings.jobs))
            error.message = f"no job is called {word}{near}, and {error.message}"
        raise
    if right and backup.verdict == DAMAGED:
        raise UsageError(
            f"{backup.path} is damaged: {'; '.join(backup.marks.problems)}",
            hint="a damaged backup cannot be accepted; try to repair it: gymdbd verify --repair",
        )
    origin = Origin(backup.stem, (backup.place,) if backup.place else ())
    return _Meant(backup.path.parent, origin, backup=backup)


def _of_job(job: JobConfig) -> _Meant:
    from gymdbd.config.kinds import PullConfig
    from gymdbd.errors import UsageError

    place = options.archive_of(job)
    if place is None:
        raise UsageError(f"job {job.name} is a {job.kind} job, which makes no backups")
    return _Meant(*place, pull=job if isinstance(job, PullConfig) else None)


def _of_replica(path: Path, arguments: argparse.Namespace) -> PullConfig | None:
    """Return the pull that made the replica at `path` without a configuration; None if none did."""
    from gymdbd.config.kinds import PullConfig
    from gymdbd.jobs.pull.replica import Replica

    state = Replica(path).state() if path.is_file() else None
    if state is None:
        return None
    return PullConfig(
        name="pull",
        kind="pull",
        host=state.host,
        remote_database=state.remote_database,
        replica=path,
        archive=arguments.archive,
    )


def _is_meant(backup: Backup, meant: _Meant, *, right: bool) -> bool:
    """Return whether an answer changes a backup: the named one, or a suspicious one before it."""
    from gymdbd.archive.backup import REJECTED, SUSPICIOUS

    if meant.backup is not None and backup.path == meant.backup.path:
        return backup.verdict in (SUSPICIOUS, REJECTED) if right else backup.verdict != REJECTED
    before = meant.backup is None or backup.order < meant.backup.order
    return before and backup.verdict == SUSPICIOUS


def clear_status(settings: Config, archive: Path, origin: Origin, *, right: bool) -> None:
    """Clear the failure of the jobs that make these backups, unless another one waits."""
    from gymdbd.archive.catalog import Catalog
    from gymdbd.clock import Clock
    from gymdbd.config.kinds import PullConfig
    from gymdbd.jobs.backup import content
    from gymdbd.jobs.pull import suspicion
    from gymdbd.jobs.pull.replica import Replica
    from gymdbd.runs.status import StatusFile, trouble_logged

    for job in settings.jobs.values():
        place = options.archive_of(job)
        if place is None or not _same_place(place[0], archive) or not _overlap(place[1], origin):
            continue
        there = archive.is_dir()
        waiting = content.waiting(Catalog(archive, Clock().zone), place[1]) if there else None
        if isinstance(job, PullConfig):
            state = suspicion.last(job, Replica(job.replica))
            if state is not None and state.suspicious and not state.rejected:
                continue
        with trouble_logged():
            file = StatusFile(settings.status_file)
            (file.accepted if right else file.rejected)(job, waiting)


def reject_elsewhere(settings: Config, restored: RestoreConfig, output: Output) -> list[str]:
    """Reject suspicious backups of a restored database in its other archives; return their paths.

    An archive that is in use or missing is skipped: the status of its job reports what waits there.
    """
    from gymdbd import lock, log
    from gymdbd.archive.catalog import Catalog
    from gymdbd.jobs.context import Context
    from gymdbd.jobs.restore import restore
    from gymdbd.source.errors import GymdbdError

    context = Context(log=log.logger())
    backup = Catalog(restored.backup.parent, context.clock.zone).read(restored.backup.name)
    rejected: list[str] = []
    for archive, origin in _archives_of(restored.target, settings):
        if _same_place(archive, restored.backup.parent) or not archive.is_dir():
            continue
        try:
            with lock.hold([lock.archive_lock(archive)]):
                catalog = Catalog(archive, context.clock.zone)
                rejected += restore.reject_newer(origin, backup, catalog, context)
                clear_status(settings, archive, origin, right=False)
        except GymdbdError as error:
            output.remark(
                f"gymdbd: suspicious backups in {archive} were not rejected: {error.message}"
            )
    return rejected


def _archives_of(database: Path, settings: Config) -> list[tuple[Path, Origin]]:
    """Return the archives in which the configured jobs store backups of a database or replica."""
    from gymdbd.config.kinds import BackupConfig, PullConfig

    return [
        (job.archive_folder if isinstance(job, PullConfig) else job.archive, job.origin)
        for job in settings.jobs.values()
        if isinstance(job, BackupConfig | PullConfig)
        and _same_place(job.replica if isinstance(job, PullConfig) else job.database, database)
    ]


def _same_place(path: Path, other: Path) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)


def _overlap(origin: Origin, other: Origin) -> bool:
    """Return whether two origins may be the same database."""
    same = any(place.same(there) for place in origin.places for there in other.places)
    return origin.stem == other.stem and (same or not other.places)
