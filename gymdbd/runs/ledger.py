"""The ledger: a line for each run and for each due moment without one, for more than a year.

It lies beside the status file and is written under its lock. A line is appended, so that its cost
does not depend on how much the ledger holds; but several unchanged runs in one hour share one line,
which is written over in its place. What a crash has torn is no line for those who read. A ledger
that would become too large is written anew: its older half has then one line for all that was alike
on a day.
"""

from __future__ import annotations

import collections
import contextlib
import io
import os
from datetime import timedelta
from typing import IO, TYPE_CHECKING

from gymdbd import bounded, disk, files
from gymdbd.runs import line as lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from gymdbd.runs.line import Line

MOST_BYTES = 20 * 1024 * 1024
MOST_AGE = timedelta(days=400)

NAME = "ledger.jsonl"

# How far back the last line of a job is sought, to write it over.
_TAIL = 16 * 1024
_LONGEST_LINE = 64 * 1024
# It is read backwards in such pieces, to find where the lines of a time begin.
_BLOCK = 256 * 1024
# Blanks at the end of a line that can be written over: it may become longer by so much.
_SPARE = 64
_KEPT_BYTES = MOST_BYTES // 2
_MOST_SHORTENED = MOST_BYTES * 3 // 4
# A clock that shows so much more than the newest line is not trusted with what is old.
_LONGEST_GAP = timedelta(days=40)


def read(path: Path, since: datetime | None = None) -> list[Line]:
    """Return the lines in the order in which they were written; none if there is no ledger.

    With `since`, without those that had ended before. Raises GymdbdError if it cannot be read.
    """
    with _reading(path) as file:
        if since is None:
            return list(_lines(file))
        _seek(file, since)
        return [line for line in _lines(file) if line.ended >= since]


def hourly(path: Path, since: datetime) -> list[tuple[Line, int]]:
    """Return the last line of each job, state and hour since then, and how many there are of it.

    Only those are parsed, so that a job that runs every second does not make it slow. A line that
    saw too low a voltage is another one. Raises GymdbdError as `read`.
    """
    last: dict[bytes, bytes] = {}
    counts: collections.Counter[bytes] = collections.Counter()
    with _reading(path) as file:
        _seek(file, since)
        while data := file.readline(_LONGEST_LINE):
            if key := lines.hour(data):
                last[key] = data
                counts[key] += 1
    found = ((lines.parse(data), counts[key]) for key, data in last.items())
    return [(line, count) for line, count in found if line is not None and line.ended >= since]


def began(path: Path) -> datetime | None:
    """Return since when it has been kept, None if there is no ledger; GymdbdError as `read`."""
    with _reading(path) as file:
        return next((line.began for line in _lines(file, MOST_BYTES)), None)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[IO[bytes]]:
    try:
        descriptor = bounded.opened(path)
    except FileNotFoundError:
        yield io.BytesIO()
        return
    except OSError as error:
        raise disk.read_error(
            error, f"the ledger {path}", denied="run as the user that the daemon runs as"
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        yield file


def _seek(file: IO[bytes], since: datetime) -> None:
    """Go to a line before which the lines are older, because they are in the order of time.

    A clock that was set back has written a few that are older than those around them.
    """
    at = file.seek(0, os.SEEK_END)
    while at > 0:
        at = max(0, at - _BLOCK)
        file.seek(at)
        if at > 0:
            file.readline(_LONGEST_LINE)
        if not any(line.ended >= since for line in _lines(file, _BLOCK)):
            file.seek(at)
            return
    file.seek(0)


def _lines(file: IO[bytes], until: int | None = None) -> Iterator[Line]:
    """Yield the lines; with `until`, only those that begin within so many bytes from here."""
    at = 0
    while (until is None or at < until) and (data := file.readline(_LONGEST_LINE)):
        at += len(data)
        line = lines.parse(data) if data.endswith(b"\n") else None
        if line is not None:
            yield line


def append(path: Path, added: list[Line]) -> None:
    """Add lines; the caller holds the lock of the status file.

    An unchanged run goes into the line of those before it in the same hour. Raises GymdbdError if
    that cannot be written, and then nothing of it is there. What could not be read back is left
    out: the process of another user may have reported it.
    """
    is_longer = False
    for line in filter(_is_readable, added):
        with files.writing(path), _opened(path) as descriptor:
            if not _is_due_anew(descriptor, line):
                is_longer |= _add(descriptor, line)
                continue
            files.require_space(path.parent, _MOST_SHORTENED)
            with os.fdopen(os.dup(descriptor), "rb") as file:
                shorter = _shortened(file, line)
        files.write_atomically(path, shorter)
        with files.writing(path), _opened(path) as descriptor:
            is_longer |= _add(descriptor, line)
    if is_longer:
        with files.writing(path):
            files.sync_file(path)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = bounded.opened(path, os.O_RDWR | os.O_CREAT)
    try:
        files.hand_over(descriptor, path.parent)
        yield descriptor
    finally:
        os.close(descriptor)


def _add(descriptor: int, line: Line) -> bool:
    """Add a line; return False if it went into another one, whose loss would be that of a count."""
    end = os.fstat(descriptor).st_size
    start = max(0, end - _TAIL)
    # As if a line ended before the first byte of the file.
    tail = b"\n" + os.pread(descriptor, _TAIL, start)
    if _written_over(descriptor, tail, start - 1, line):
        return False
    text = _encoded(line)
    text += b" " * (_SPARE if line.same_hour(line) else 0) + b"\n"
    # The line before it may be torn.
    begin = b"" if tail.endswith(b"\n") else b"\n"
    try:
        files.write_at(descriptor, begin + text, end)
    except OSError:
        os.ftruncate(descriptor, end)
        raise
    return True


def _is_readable(line: Line) -> bool:
    text = _encoded(line)
    return len(text) + _SPARE < _LONGEST_LINE and lines.parse(text) is not None


def _encoded(line: Line) -> bytes:
    return line.text().encode("utf-8", "surrogatepass")


def _written_over(descriptor: int, tail: bytes, start: int, line: Line) -> bool:
    """Put `line` into the newest one of its job, if they are of one hour and there is room."""
    at = tail.rfind(b"\n" + lines.beginning(line.job)) + 1
    end = tail.find(b"\n", at)
    if at == 0 or end < at:
        return False
    before = lines.parse(tail[at:end])
    if before is None or not before.same_hour(line):
        return False
    text = _encoded(before.joined(line))
    if len(text) > end - at:
        return False
    files.write_at(descriptor, text.ljust(end - at), start + at)
    return True


def _is_due_anew(descriptor: int, line: Line) -> bool:
    """Say whether the file would become too large, or begins a day and has days that are too old.

    A clock that is far ahead is not trusted with what is too old.
    """
    size = os.fstat(descriptor).st_size
    if size + _LONGEST_LINE > MOST_BYTES:
        return True
    tail = os.pread(descriptor, _TAIL, max(0, size - _TAIL)).split(b"\n")
    newest = next(filter(None, map(lines.parse, reversed(tail))), None)
    if newest is None or newest.day == line.day or newest.ended < line.began - _LONGEST_GAP:
        return False
    first = lines.parse(os.pread(descriptor, _LONGEST_LINE, 0).partition(b"\n")[0])
    return first is not None and _is_too_old(first, line)


def _shortened(file: IO[bytes], line: Line) -> bytes:
    """Return a ledger without the days that are too old for `line`, and its older part by days."""
    size = os.fstat(file.fileno()).st_size
    # What is larger than it ever gets is not ours, and may have no end.
    size -= file.seek(max(0, size - 2 * MOST_BYTES))
    by_days: dict[tuple[str, ...], Line] = {}
    summarized = max(0, size - _KEPT_BYTES) if size + _LONGEST_LINE > MOST_BYTES else 0
    for old in _lines(file, summarized):
        key = (old.day, old.job, old.state, old.why or "", old.code or "")
        by_days[key] = by_days[key].joined(old) if key in by_days else old
    days = [_encoded(old) + b"\n" for old in by_days.values() if not _is_too_old(old, line)]
    rest = b""
    while not rest and (data := file.readline(_LONGEST_LINE)):
        first = lines.parse(data)
        if first is None or not _is_too_old(first, line):
            rest = data + file.read()
    while days and sum(map(len, days)) + len(rest) > _MOST_SHORTENED:
        del days[: len(days) // 8 + 1]
    return b"".join([*days, rest])


def _is_too_old(old: Line, line: Line) -> bool:
    return old.ended < line.began - MOST_AGE
