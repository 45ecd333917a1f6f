"""A person's answer to suspicious backups and replicas: it marks them and settles their jobs."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd import acting, clock, files, lock, log
from gymdbd.archive import answers
from gymdbd.archive.backup import REJECTED, SUSPICIOUS
from gymdbd.archive.catalog import Catalog
from gymdbd.clock import Clock
from gymdbd.config.kinds import PullConfig
from gymdbd.jobs.context import Context
from gymdbd.jobs.pull import suspicion
from gymdbd.jobs.pull.replica import Replica
from gymdbd.jobs.restore import restore
from gymdbd.runs import keeper
from gymdbd.runs.status import trouble_logged
from gymdbd.source.errors import GymdbdError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gymdbd.archive.backup import Backup
    from gymdbd.config.config import Config
    from gymdbd.config.kinds import RestoreConfig
    from gymdbd.origin import Origin


@dataclass(frozen=True)
class Subject:
    """What an answer is about: a backup and the suspicious ones before it, or all of a job."""

    archive: Path
    origin: Origin
    backup: Backup | None = None
    pull: PullConfig | None = None

    @contextlib.contextmanager
    def locked(self) -> Iterator[Catalog | None]:
        """Yield the archive, holding its lock and the replica's; None if there is no archive."""
        there = files.is_folder(self.archive) or self.pull is None
        locks = [lock.archive_lock(self.archive)] if there else []
        with lock.hold([*locks, *(self.pull.locks() if self.pull else [])]):
            yield Catalog(self.archive, Clock().zone) if there else None

    def changes(self, backup: Backup, *, right: bool) -> bool:
        """Return whether the answer changes a backup."""
        if self.backup is not None and backup.path == self.backup.path:
            return backup.verdict in (SUSPICIOUS, REJECTED) if right else backup.verdict != REJECTED
        before = self.backup is None or backup.order < self.backup.order
        return before and backup.verdict == SUSPICIOUS


def answer(subject: Subject, settings: Config | None, *, right: bool) -> list[str]:
    """Accept what is `right`, or reject it; return the paths of what that has changed."""
    now = Clock()
    with subject.locked() as catalog:
        backups = catalog.backups(subject.origin) if catalog else []
        chosen = [backup for backup in backups if subject.changes(backup, right=right)]
        answers.mark(chosen, clock.to_text(now.now(), now.zone), right=right)
        paths = [str(backup.path) for backup in chosen]
        if subject.pull is not None and suspicion.answer(subject.pull, catalog, right=right):
            paths.append(str(subject.pull.replica))
        if settings is not None:
            _settle_jobs(settings, subject.archive, subject.origin, right=right)
    return paths


def reject_restored(
    settings: Config, restored: RestoreConfig, tell: Callable[[str], None]
) -> list[str]:
    """Settle the jobs of a restored database, whose suspicious backups its restore has rejected.

    Those in its other archives are rejected too, and their paths returned. An archive that is in
    use or missing is skipped: the status of its job reports what waits there.
    """
    if restored.source is None:
        return []
    own = restored.backup.parent
    _settle_jobs(settings, own, restored.source, right=False)
    context = Context(log=log.logger())
    backup = Catalog(own, context.clock.zone).read(restored.backup.name)
    rejected: list[str] = []
    for archive, origin in _archives_of(restored.target, settings):
        if _same_place(archive, own) or acting.decider(archive) or not files.is_folder(archive):
            continue
        try:
            with lock.hold([lock.archive_lock(archive)]):
                catalog = Catalog(archive, context.clock.zone)
                rejected += restore.reject_newer(origin, backup, catalog, context)
                _settle_jobs(settings, archive, origin, right=False)
        except GymdbdError as error:
            tell(f"gymdbd: suspicious backups in {archive} were not rejected: {error.message}")
    return rejected


def _settle_jobs(settings: Config, archive: Path, origin: Origin, *, right: bool) -> None:
    """Clear the failure of the jobs that make these backups, unless another one waits."""
    for job in settings.jobs.values():
        made = job.backups
        if made is None or not _same_place(made.archive, archive):
            continue
        if not _overlap(made.origin, origin):
            continue
        there = files.is_folder(archive)
        look = Catalog(archive, Clock().zone).look() if there else None
        found = look.waiting(made.origin) if look else None
        waiting = found.path.name if found else None
        if isinstance(job, PullConfig):
            state = suspicion.last(job, Replica(job.replica))
            if state is not None and state.suspicious and not state.rejected:
                continue
        with trouble_logged():
            file = keeper.status_file(settings.status_file)
            (file.accepted if right else file.rejected)(job, waiting)


def _archives_of(database: Path, settings: Config) -> list[tuple[Path, Origin]]:
    """Return the archives in which the configured jobs store backups of a database or replica."""
    made = [job.backups for job in settings.jobs.values() if job.backups]
    return [(of.archive, of.origin) for of in made if _same_place(of.file, database)]


def _same_place(path: Path, other: Path) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)


def _overlap(origin: Origin, other: Origin) -> bool:
    """Return whether two origins may be the same database."""
    same = any(place.same(there) for place in origin.places for there in other.places)
    return origin.stem == other.stem and (same or not other.places)
