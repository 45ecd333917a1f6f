"""The index of an archive: what its manifests and marks say, so that each is read only once.

`.gymdbd.index` is a cache. Without it everything is read, and every answer is the same; whoever
proves a backup reads its manifest itself. An entry counts while the file that it is of has the
inode, the size and both times that it had when it was read. A file that was written when the index
was, is read again: the clock of a file system stands still for a moment, up to two seconds, and in
the same moment it may have been written once more.

The index counts if it is the file of somebody who decides about the whole archive, its owner or
root, or of this user, and nobody else may write it. If a byte of it is wrong, there is none.

The file is two lines: a head with the format and the CRC-32 of the second, and JSON in ASCII. There
`places` are `[host, path, [former path ...]]`. `manifests` and `marks` are tables, each a list of
columns, which are read and checked faster than thousands of rows: the names of the files, their
inodes, sizes, mtimes and ctimes in nanoseconds, and then what they say. `took_ns` is how long it
took to read them. Tables that a later release adds are ignored.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import zlib
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypeAlias

from gymdbd import bounded, files
from gymdbd.archive import marks as all_marks
from gymdbd.archive.facts import Facts
from gymdbd.origin import Place
from gymdbd.source.errors import GymdbdError

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.archive.marks import Marks

NAME = ".gymdbd.index"

_HEAD = b"gymdbd index 1 %08x\n"
_MOST_BYTES = 64 * 1024 * 1024
# A name, a place or a note that is longer than any of use is read from its own file every time.
_MOST_TEXT = 8192
# How long the clock of a file system may stand still: of FAT, and of those with finer times.
_SECOND_NS = 1_000_000_000
_COARSE_NS, _FINE_NS = 2 * _SECOND_NS, _SECOND_NS // 10

Stamp: TypeAlias = tuple[int, int, int, int]
Row: TypeAlias = tuple[Any, ...]
_STAMPED = (str, int, int, int, int)
# When it was created in microseconds since 1970, the offset of its zone in seconds, and the place,
# size, rows and flags.
_MANIFEST = (*_STAMPED, int, int, int, int, int, int)
_INSTANT, _OFFSET, _PLACE, _FLAG = 5, 6, 7, 10
_MARKS = (*_STAMPED, dict)
_EMPTY: dict[str, Any] = {
    "places": [],
    "manifests": [[] for _ in _MANIFEST],
    "marks": [[] for _ in _MARKS],
    "took_ns": 0,
}
_FLAGS = ("is_checked", "is_overwritten", "is_suspicious", "has_remarks", "has_unchecked")
# What these are, by the number that has them as its bits.
_SAID = list(itertools.product((False, True), repeat=len(_FLAGS)))
_OVERWRITTEN, _SUSPICIOUS = 1 << 3, 1 << 2

_ZERO = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY_S = 86_400
# A clock of a zone may show the next year or the last one.
_EARLIEST = datetime(MINYEAR + 1, 1, 1, tzinfo=UTC)
_LATEST = datetime(MAXYEAR, 1, 1, tzinfo=UTC)

_FAULTS = (
    OSError,
    *bounded.FAULTS,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    OverflowError,
)


def instant(moment: datetime) -> int:
    """Return a time in microseconds since 1970."""
    return (moment - _ZERO) // _MICROSECOND


class Index:
    """What is known of the manifests and marks of an archive, by the names of their files."""

    def __init__(self, content: dict[str, Any] | None = None, written_ns: int = 0) -> None:
        content = content or _EMPTY
        self._places = [_place(*row) for row in content["places"]]
        columns = content["manifests"]
        self._manifests = _Table(columns, _MANIFEST)
        _require_within(columns[_INSTANT], instant(_EARLIEST), instant(_LATEST))
        _require_within(columns[_OFFSET], 1 - _DAY_S, _DAY_S - 1)
        _require_within(columns[_PLACE], 0, len(self._places) - 1)
        _require_within(columns[_FLAG], 0, len(_SAID) - 1)
        self._marks = _Table(content["marks"], _MARKS)
        self._begun_ns = written_ns - content["took_ns"]

    def row(self, name: str, found: os.stat_result) -> Row | None:
        """Return the row of the manifest with this name; None if it is to be read."""
        return self._manifests.row(name, found, self._begun_ns)

    def facts(self, row: Row) -> Facts:
        """Return what a row says."""
        *_, at, offset_s, place, size, rows, flags = row
        told = _text(at, offset_s)
        return Facts(told, created(row), *self._places[place], size, rows, *_SAID[flags])

    def places(self, row: Row) -> tuple[Place, tuple[Place, ...]]:
        """Return the place of the database of a row, and earlier ones."""
        return self._places[row[_PLACE]]

    def marks(self, name: str, found: os.stat_result) -> Marks | None:
        """Return the marks in the file with this name; None if it is to be read."""
        row = self._marks.row(name, found, self._begun_ns)
        try:
            return None if row is None else all_marks.of(row[-1])
        except _FAULTS:
            return None


def created(row: Row) -> datetime:
    """Return when the backup of a row was created."""
    return _ZERO + timedelta(microseconds=row[_INSTANT])


def _offset(created_at: str) -> int:
    """Return the offset of a time from UTC, in seconds."""
    offset = datetime.fromisoformat(created_at).utcoffset() or timedelta()
    return int(offset.total_seconds())


def _text(at: int, offset_s: int) -> str:
    """Return a time as manifests have it."""
    zone = timezone(timedelta(seconds=offset_s))
    return (_ZERO + timedelta(microseconds=at)).astimezone(zone).isoformat()


def instant_of(row: Row) -> int:
    """Return when the backup of a row was created, in microseconds since 1970."""
    at: int = row[_INSTANT]
    return at


def is_overwritten(row: Row) -> bool:
    """Return whether the backup of a row holds what a restore has overwritten."""
    return bool(row[_FLAG] & _OVERWRITTEN)


def is_suspicious(row: Row) -> bool:
    """Return whether the manifest of a row calls the backup suspicious."""
    return bool(row[_FLAG] & _SUSPICIOUS)


def _require_within(column: list[int], least: int, most: int) -> None:
    """Raise ValueError if a number is outside the bounds."""
    if column and not (least <= min(column) and max(column) <= most):
        raise ValueError("a number is outside its bounds")


class _Table:
    """A table of an index; TypeError or ValueError if it is none of these columns."""

    def __init__(self, columns: list[list[Any]], kinds: tuple[type, ...]) -> None:
        for kind, column in zip(kinds, columns, strict=True):
            if type(column) is not list or len(column) != len(columns[0]):
                raise TypeError("the columns are not equally long lists")
            if column and set(map(type, column)) != {kind}:
                raise TypeError(f"a column is not of {kind.__name__}")
        self._rows = dict(zip(columns[0], zip(*columns, strict=True), strict=True))

    def row(self, name: str, found: os.stat_result, begun_ns: int) -> Row | None:
        """Return the row of a file, if that is still the file that it was."""
        row: Row | None = self._rows.get(name)
        if row is None:
            return None
        mtime, ctime = row[3], row[4]
        if (
            row[1] != found.st_ino
            or row[2] != found.st_size
            or mtime != found.st_mtime_ns
            or ctime != found.st_ctime_ns
        ):
            return None
        newest = mtime if mtime > ctime else ctime  # noqa: FURB136 - max() takes thrice as long.
        if newest + _COARSE_NS < begun_ns:
            return row
        return row if newest % _SECOND_NS and newest + _FINE_NS < begun_ns else None


def load(archive: Path) -> Index:
    """Return the index of an archive, an empty one if there is none that counts."""
    with contextlib.suppress(*_FAULTS):
        descriptor = bounded.opened(archive / NAME)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if _is_trusted(found, archive) and found.st_size <= _MOST_BYTES:
                head, body = file.readline(len(_HEAD) + 8), file.read(found.st_size)
                if head == _HEAD % zlib.crc32(body):
                    return Index(json.loads(body), found.st_mtime_ns)
    return Index()


def store(
    archive: Path,
    manifests: dict[str, tuple[Stamp, Facts]],
    marks: dict[str, tuple[Stamp, Marks]],
    took_ns: int,
) -> None:
    """Write the index of an archive, if this user decides about the archive; never fails.

    Two processes may do so at once: the file of either of them is right.
    """
    with contextlib.suppress(*_FAULTS, GymdbdError):
        if os.geteuid() not in (0, archive.stat().st_uid):
            return
        data = _bytes(manifests, marks, took_ns)
        if len(data) > _MOST_BYTES:
            return
        path = archive / NAME
        with contextlib.suppress(FileNotFoundError):
            if not _is_trusted(path.lstat(), archive):
                path.unlink()
        files.write_atomically(path, data)


def _is_trusted(found: os.stat_result, archive: Path) -> bool:
    """Return whether an index is of somebody who decides about the archive, and of nobody else."""
    owners = (os.geteuid(), 0, archive.stat().st_uid)
    return found.st_uid in owners and not found.st_mode & 0o022 and found.st_nlink == 1


def _bytes(
    manifests: dict[str, tuple[Stamp, Facts]],
    marks: dict[str, tuple[Stamp, Marks]],
    took_ns: int,
) -> bytes:
    places: dict[tuple[Place, tuple[Place, ...]], int] = {}
    rows = []
    for name, (stamp, facts) in manifests.items():
        of = (facts.place, facts.former_places)
        if len(json.dumps(_of_place(*of))) < _MOST_TEXT:
            at = places.setdefault(of, len(places))
            flags = sum(getattr(facts, flag) << at for at, flag in enumerate(reversed(_FLAGS)))
            moment = instant(facts.created), _offset(facts.created_at)
            # A time that is written in another way is read from its manifest every time.
            if _EARLIEST <= facts.created <= _LATEST and _text(*moment) == facts.created_at:
                rows.append((name, *stamp, *moment, at, facts.size, facts.rows, flags))
    content = {
        "took_ns": took_ns,
        "places": [_of_place(*of) for of in places],
        "manifests": _columns(rows, _MANIFEST),
        "marks": _columns(
            [
                (name, *stamp, said)
                for name, (stamp, known) in marks.items()
                if len(json.dumps(said := all_marks.said(known))) < _MOST_TEXT
            ],
            _MARKS,
        ),
    }
    body = json.dumps(content, separators=(",", ":")).encode("ascii")
    return _HEAD % zlib.crc32(body) + body


def stamp_of(found: os.stat_result) -> Stamp:
    """Return what differs if a file was written or replaced; a status takes much more memory."""
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _columns(rows: list[tuple[Any, ...]], kinds: tuple[type, ...]) -> list[Any]:
    return list(zip(*rows, strict=True)) if rows else [[] for _ in kinds]


def _of_place(place: Place, former: tuple[Place, ...]) -> list[Any]:
    return [place.host, place.path, [was.path for was in former]]


def _place(host: str, path: str, former: list[str]) -> tuple[Place, tuple[Place, ...]]:
    """Return the places in a row; one of `_FAULTS` if they could not be used."""
    for text in (path, *former):
        if "\0" in text + host:
            raise ValueError("a place has a NUL")
        os.fsencode(text)
    return Place(host, path), tuple(Place(host, was) for was in former)
