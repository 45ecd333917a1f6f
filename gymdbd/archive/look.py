"""One look at an archive: what it holds at a moment, for all the questions that are asked then."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from typing import TYPE_CHECKING

from gymdbd import disk, names
from gymdbd.archive import belonging, index
from gymdbd.archive.listed import NAME, Reader
from gymdbd.errors import FolderMissingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo
    from pathlib import Path

    from gymdbd.archive.backup import Backup
    from gymdbd.origin import Origin

# So many manifests and marks are read at every look rather than written into the index.
_FEW = 32


def listed(archive: Path) -> dict[str, bool]:
    """Return the names of what lies in an archive, as the folder has them, and which are files."""
    try:
        with os.scandir(archive) as entries:
            # An entry itself takes five times the memory of its name.
            found = {entry.name: entry.is_file(follow_symlinks=False) for entry in entries}
    except FileNotFoundError as error:
        raise FolderMissingError(
            f"there is no archive at {archive}",
            hint="check the path, or mount the disk that holds it",
        ) from error
    except OSError as error:
        raise disk.read_error(
            error,
            f"the archive {archive}",
            denied="run as the user that made the backups: the folder is theirs alone",
        ) from error
    for name in [name for name in found if name[0] == "." and names.is_of_macos(name)]:
        del found[name]
    return found


class Look:
    """The backups of an archive as they were when this was made, newest first.

    It costs a look at each manifest and mark, and reads those that the index does not know.
    """

    def __init__(self, archive: Path, zone: tzinfo) -> None:
        begun = time.monotonic_ns()
        with _uncollected():
            entries = listed(archive)
            reader = Reader(archive, zone, index.load(archive), entries)
            found = _read(archive, entries, reader)
            self._every = sorted(found, key=_age, reverse=True)
        if reader.read > _FEW:
            index.store(archive, reader.manifests, reader.marks, time.monotonic_ns() - begun)

    def backups(self, origin: Origin | None = None) -> list[Backup]:
        """Return the backups, newest first; with `origin` only those of that database."""
        return list(self._every) if origin is None else belonging.of(self._every, origin)

    def good_before(self, origin: Origin, backup: Backup | None = None) -> Backup | None:
        """Return the newest good backup of a database, or the newest one older than `backup`.

        If there is no backup of the database itself, one of the same path counts, because the
        machine may have been renamed.
        """
        others = [
            other
            for other in self._every
            if backup is None or other.order != backup.order or other.path != backup.path
        ]
        candidates = belonging.likely(others, origin)
        older = (other for other in candidates if backup is None or other.order < backup.order)
        return next((other for other in older if other.good), None)

    def moved_from(self, origin: Origin) -> list[str]:
        """Return the earlier paths of a database, for the manifest of its next backup."""
        return [place.path for place in belonging.moved_from(self._every, origin)]

    def waiting(self, origin: Origin) -> Backup | None:
        """Return the newest suspicious backup of a database that nobody has answered."""
        return next((backup for backup in self.backups(origin) if backup.waits), None)

    def add(self, backup: Backup) -> None:
        """Add a backup that was made since."""
        self._every = sorted([*self._every, backup], key=_age, reverse=True)


def _read(archive: Path, entries: dict[str, bool], reader: Reader) -> list[Backup]:
    """Return the backups among what lies in an archive."""
    found: list[Backup] = []
    for name, is_file in entries.items():
        if is_file and name.endswith(".db") and (match := NAME.fullmatch(name)):
            try:
                plain = name if name.isascii() else names.listed(archive / name).name
                found.append(reader.backup(plain, match))
            except FileNotFoundError:
                continue  # It was pruned since the folder was listed.
            except OSError as error:
                raise disk.not_checked(error, archive / name) from error
    return found


def _age(backup: Backup) -> tuple[int, int]:
    return backup.instant, backup.again


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Let the block make thousands of objects that all stay, without a search for garbage."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
