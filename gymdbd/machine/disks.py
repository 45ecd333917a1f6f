"""The disks of a configuration: what is on each of them, and how it is."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gymdbd import disk, mounts
from gymdbd.config.kinds import BackupConfig

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from gymdbd.config.config import Config


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder of a configuration: of a live database, backups, the status, or written otherwise.

    Backups of the live databases `copied` are made in it.
    """

    folder: Path
    copied: tuple[Path, ...] = ()
    is_written: bool = False
    is_archive: bool = False
    is_source: bool = False
    is_status: bool = False


@dataclass(frozen=True, kw_only=True)
class Disk:
    """A file system with `places` of a configuration on it, and `free` of its `size` bytes.

    The next backup needs `needed` bytes. The disk has `failed` if the kernel no longer writes to it
    after an error. `closed` are the places that are to be written, and are mounted read-only.
    """

    number: int
    places: tuple[Place, ...]
    free: int = 0
    size: int = 0
    needed: int = 0
    failed: bool = False
    closed: tuple[Place, ...] = ()

    @property
    def name(self) -> str:
        """Return the folder that stands for it: the first archive, or the first place."""
        archives = [place for place in self.places if place.is_archive]
        return str((archives or self.places)[0].folder)


def places(settings: Config) -> list[Place]:
    """Return the folders that a configuration names, each once."""
    jobs = settings.jobs.values()
    # Nothing is looked at yet: `archives` of a pull would see whether its archive is there.
    made = {job.backups.archive for job in jobs if job.backups}
    archives = made.union(*(job.archives() for job in jobs if not job.backups))
    written = {folder for job in jobs if job.backups for folder in job.folders()}
    backups = [job for job in jobs if isinstance(job, BackupConfig)]
    sources = {job.database.parent for job in backups}
    return [
        Place(
            folder=folder,
            is_written=folder in written,
            is_archive=folder in archives,
            is_source=folder in sources,
            is_status=folder == settings.status_file.parent,
            copied=tuple(job.database for job in backups if job.archive == folder),
        )
        for folder in sorted({*archives, *written, *sources, settings.status_file.parent})
    ]


def look(place: Place) -> Disk:
    """Look at the disk of a place; raises OSError if that is not there or not allowed."""
    try:
        number = place.folder.stat().st_dev
        system = os.statvfs(place.folder)
        mount = mounts.of(place.folder)
    except OSError as error:
        if not disk.is_damage(error):
            raise
        return Disk(number=-1, places=(place,), failed=True)
    closed = (place.is_written or place.is_status) and mount.state == mounts.READ_ONLY
    return Disk(
        number=number,
        places=(place,),
        free=system.f_bavail * system.f_frsize,
        size=system.f_blocks * system.f_frsize,
        needed=max(map(_size, place.copied), default=0),
        failed=mount.state == mounts.FAILED,
        closed=(place,) if closed else (),
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        # The job tells that its database is not there.
        return 0


def merged(seen: Iterable[Disk], failed: Collection[Path] = ()) -> list[Disk]:
    """Return each disk once, with all of its places; it is known to have failed in one `failed`."""
    found: dict[int, Disk] = {}
    for disk_of_place in seen:
        has_failed = disk_of_place.failed or disk_of_place.places[0].folder in failed
        one = replace(disk_of_place, failed=has_failed)
        known = found.get(one.number)
        found[one.number] = one if known is None else _both(known, one)
    return list(found.values())


def _both(known: Disk, other: Disk) -> Disk:
    return replace(
        known,
        places=(*known.places, *other.places),
        needed=max(known.needed, other.needed),
        failed=known.failed or other.failed,
        closed=(*known.closed, *other.closed),
    )
