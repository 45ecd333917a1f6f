"""Backups as a list has them: what the index knows is not read, the rest when it is needed."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from gymdbd import disk, files, names
from gymdbd.archive import facts, index
from gymdbd.archive import manifest as manifests
from gymdbd.archive import marks as all_marks
from gymdbd.archive.backup import Backup
from gymdbd.archive.index import Index, stamp_of
from gymdbd.errors import FormatError
from gymdbd.source.errors import SourceUnreadableError
from gymdbd.source.format import SIDE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import tzinfo
    from pathlib import Path

    from gymdbd.archive.facts import Facts
    from gymdbd.archive.index import Row, Stamp
    from gymdbd.archive.manifest import Manifest
    from gymdbd.archive.marks import Marks

Read = TypeVar("Read")

# gym_system_backup_20261123_030000.db; with -2 and so on for more backups in the same second.
NAME = re.compile(
    r"(?P<stem>.+)_backup_(?P<stamp>\d{8}_\d{6})(?:-(?P<again>\d{1,4}))?\.db", re.DOTALL
)

_GONE = -1
# The status of no file.
_NONE = os.stat_result([0] * 10)


class Listed(Backup):
    """A backup whose `.db` is looked at, and whose manifest is read, when that is first needed.

    A `.db` that is gone by then makes it unverified.
    """

    marks: Marks = all_marks.NONE
    fault: str = ""
    _archive: Path
    _name: str
    _manifest: Manifest | None = None
    _row: Row | None = None
    _index: Index

    @cached_property
    def described(self) -> Facts | None:
        """Return what its manifest says in short, whatever the size of the `.db`."""
        return None if self._row is None else self._index.facts(self._row)

    @cached_property
    def created(self) -> datetime:
        """Return when it was created, by its row; without one it is set."""
        return index.created(self._row or ())

    @cached_property
    def path(self) -> Path:
        """Return its path."""
        return self._archive / self._name

    @cached_property
    def facts(self) -> Facts | None:
        """Return its manifest in short; None if there is none, or the `.db` has another size."""
        described = self.described
        return described if described is not None and described.size == self.size else None

    @property
    def waits(self) -> bool:
        """Return whether it waits for an answer."""
        if self._row is not None and not index.is_suspicious(self._row):
            return False
        return self.described is not None and self.described.is_suspicious and super().waits

    @property
    def is_overwritten(self) -> bool:
        """Return whether it holds content that a restore has overwritten."""
        if self._row is not None and not index.is_overwritten(self._row):
            return False
        described = self.described
        return described is not None and described.is_overwritten and super().is_overwritten

    @property
    def where(self) -> str:
        """Return its path as text, which takes no Path to make."""
        return f"{self._archive}{os.sep}{self._name}"

    @property
    def size(self) -> int:
        """Return the size of the `.db`."""
        return max(self._length, 0)

    @cached_property
    def note(self) -> str:
        """Return why the manifest cannot be used."""
        if self._length == _GONE:
            return "it was removed"
        if self.described is None or self.described.size == self._length:
            return self.fault
        return f"it has {self._length} bytes, its manifest says {self.described.size}"

    @cached_property
    def manifest(self) -> Manifest | None:
        """Return its manifest; None if there is none that can be used."""
        found = self._manifest
        if found is None and self.facts is not None:
            found = _tried(manifests.read, self.path)[0]
        return found if found is not None and found.size == self.size else None

    @cached_property
    def _length(self) -> int:
        try:
            return os.lstat(f"{self._archive}/{self._name}").st_size
        except FileNotFoundError:
            return _GONE
        except OSError as error:
            raise disk.not_checked(error, self.path) from error


class Reader:
    """Reads the backups in a folder; with an index and what lies there, only what is not known.

    `manifests` and `marks` are what an index can have of them, `read` is how many of these had to
    be read.
    """

    def __init__(
        self,
        archive: Path,
        zone: tzinfo,
        index: Index | None = None,
        present: Collection[str] | None = None,
    ) -> None:
        self._rows: dict[str, Row] = {}
        self._described: dict[str, tuple[Stamp, Facts]] = {}
        self.marks: dict[str, tuple[Stamp, Marks]] = {}
        self.read = 0
        self._archive = archive
        self._folder = f"{archive}{os.sep}"
        self._zone = zone
        self._index = index or Index()
        self._present = present
        # Most backups have nothing but their manifest beside them, and all of them the same stem.
        usual = (".db", ".db.json")
        self._others = {n for n in present or () if n[0] != "." and not n.endswith(usual)}
        self._stems: dict[str, str] = {}

    @property
    def manifests(self) -> dict[str, tuple[Stamp, Facts]]:
        """Return what an index can have of the manifests."""
        known = {name: (row[1:5], self._index.facts(row)) for name, row in self._rows.items()}
        return {**known, **self._described}

    def backup(self, name: str, match: re.Match[str]) -> Listed:
        """Read the backup of this name, which has this `match`."""
        backup = Listed.__new__(Listed)
        # An archive may have thousands: only what differs from the defaults is set.
        known = vars(backup)
        known["_name"], known["_archive"] = name, self._archive
        stem, stamp, again = match.groups()
        known["stem"] = self._stems.get(stem) or self._stems.setdefault(stem, names.plain(stem))
        if again:
            known["again"] = int(again)
        if not self._describe(backup, known):
            known["created"] = _from_name(stamp, backup.path, self._zone)
        if self._present is None or self._others or not name.isascii():
            self._mark(backup, known)
            sides = [name + suffix for suffix in SIDE_SUFFIXES if self._may_be_there(name + suffix)]
            there = map(self._archive.joinpath, sides)
            if found := tuple(side for side in there if files.is_there(side)):
                known["side_files"] = found
        return backup

    def _describe(self, backup: Listed, known: dict[str, Any]) -> bool:
        """Note what its manifest says in short, itself if it is read, or why it cannot be."""
        name = known["_name"] + ".json"
        if (found := self._found(name)) is None:
            return False
        if (row := self._index.row(name, found)) is not None:
            known["_row"], known["_index"], known["instant"] = (
                row,
                self._index,
                index.instant_of(row),
            )
            known["place"], known["former_places"] = self._index.places(row)
            self._rows[name] = row
            return True
        manifest, fault = _tried(manifests.read, backup.path)
        if isinstance(fault, SourceUnreadableError):
            known["unread"] = fault
        elif fault is not None:
            known["fault"] = fault.message
        if manifest is None:
            return False
        known["_manifest"], known["described"] = manifest, (described := facts.of(manifest))
        _, known["created"], known["place"], known["former_places"], *_ = described
        self.read += 1
        self._described[name] = stamp_of(found), described
        return True

    def _mark(self, backup: Listed, known: dict[str, Any]) -> None:
        """Note its marks, or why they cannot be read."""
        name = f"{known['_name']}.marks.json"
        found = self._found(name)
        if found is None:
            return
        marks = self._index.marks(name, found)
        if marks is None:
            marks, fault = _tried(all_marks.read, backup.path)
            if fault is not None:
                known["marks_fault"] = fault.message
            if marks is None:
                return
            self.read += 1
        known["marks"] = marks
        self.marks[name] = stamp_of(found), marks

    def _found(self, name: str) -> os.stat_result | None:
        """Return the status of a file beside a backup; None if it is not there."""
        if not self._may_be_there(name):
            return None
        try:
            return os.lstat(self._folder + name)
        except FileNotFoundError:
            return None
        except OSError:
            # It is read, and that says what is wrong.
            return _NONE

    def _may_be_there(self, name: str) -> bool:
        # A name that is not ASCII may be listed in another form than it is asked for.
        present = self._present
        return present is None or name in present or not name.isascii()


def _tried(
    read: Callable[[Path], Read | None], path: Path
) -> tuple[Read | None, FormatError | SourceUnreadableError | None]:
    """Return what was read, or why it could not be."""
    try:
        return read(path), None
    except (FormatError, SourceUnreadableError) as error:
        return None, error


def _from_name(stamp: str, path: Path, zone: tzinfo) -> datetime:
    """Return the time in a backup's name; the file's mtime if the digits are not a date."""
    try:
        digits = (stamp[:4], *(stamp[at : at + 2] for at in (4, 6, 9, 11, 13)))
        year, month, day, hour, minute, second = map(int, digits)
        return datetime(year, month, day, hour, minute, second, tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
