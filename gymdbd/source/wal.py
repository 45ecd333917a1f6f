"""The write-ahead log and its index, read directly.

`gymdbd.source.format` has their layout. Callers hold a read transaction and keep every descriptor
opened here until their own connection is closed, because closing one drops the locks that this
process holds on the file.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from gymdbd.source.errors import SourceCorruptError, SourceLockedError
from gymdbd.source.format import (
    FRAME_HEADER,
    FRAME_HEADER_BYTES,
    INDEX_BACKFILLED,
    INDEX_BYTES,
    INDEX_FRAMES,
    INDEX_HEADER,
    INDEX_HEADER_BYTES,
    INDEX_SUMMED_BYTES,
    INDEX_VERSION,
    WAL_HEADER_BYTES,
    WAL_MAGIC,
    WAL_SALTS,
    frame_offset,
    to_page_size,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_SETTLE_S = 1.0
_SETTLE_STEP_S = 0.001
_SEGMENT_PAGES = 1024


class UnreadableIndexError(SourceLockedError, code=SourceLockedError.code):
    """The index of the WAL is missing, of an unknown version, or changes all the time.

    Only SQLite may still be able to read the database.
    """


@dataclass(frozen=True)
class Mark:
    """The end of a snapshot in the WAL, according to the index.

    `frames` counts the frames up to and including the last commit (mxFrame), `pages` the pages
    of the database after it; `checksum` and `salts` identify that frame and the generation of the
    WAL; `backfilled` counts the frames already copied into the main file.
    """

    frames: int
    pages: int
    page_size: int
    checksum: tuple[int, int]
    salts: bytes
    backfilled: int

    @property
    def wal_size_bytes(self) -> int:
        """Return the length of the WAL up to this mark."""
        return frame_offset(self.frames + 1, self.page_size)

    def names_same_commit(self, other: Mark) -> bool:
        """Return whether two marks are of the same commit, regardless of what is backfilled."""
        return (self.salts, self.frames, self.checksum, self.pages) == (
            other.salts,
            other.frames,
            other.checksum,
            other.pages,
        )


def read_mark(index: BinaryIO) -> Mark:
    """Read the mark from an open `-shm` file.

    A writer changes the two copies of the header one after the other, and the count of backfilled
    frames last when it restarts the WAL, so they are read again until they agree. Raises
    SourceCorruptError if more frames remain backfilled than there are: a result of the WAL-reset
    bug.
    """
    deadline = time.monotonic() + _SETTLE_S
    while True:
        mark = _parse_index(os.pread(index.fileno(), INDEX_BYTES, 0))
        if mark is not None and mark.backfilled <= mark.frames:
            return mark
        if time.monotonic() > deadline:
            break
        time.sleep(_SETTLE_STEP_S)
    if mark is None:
        raise UnreadableIndexError(
            "the index of the WAL did not settle within a second",
            hint="try again; if it stays so, the -shm file is damaged: restart the application",
        )
    raise SourceCorruptError(
        f"the WAL's index says that {mark.backfilled} of {mark.frames} frames were "
        "checkpointed: commits may have been lost to SQLite's WAL-reset bug",
        hint="stop the application's checkpoints, keep the -wal file, and update SQLite to "
        "3.51.3 or newer",
        problems=("more frames backfilled than committed",),
    )


def _parse_index(data: bytes) -> Mark | None:
    """Read the index's header, or None while it is being changed."""
    first, second = data[:INDEX_HEADER_BYTES], data[INDEX_HEADER_BYTES : 2 * INDEX_HEADER_BYTES]
    if len(data) < INDEX_BYTES or first != second:
        return None
    version, initialised, page_size, frames, pages, *rest = struct.unpack(INDEX_HEADER, first)
    one, two, salts, *sums = rest
    if version != INDEX_VERSION or not initialised:
        return None
    if checksum(first[:INDEX_SUMMED_BYTES], (0, 0), byteorder=sys.byteorder) != tuple(sums):
        return None
    return Mark(
        frames=frames,
        pages=pages,
        page_size=to_page_size(page_size),
        checksum=(one, two),
        salts=salts,
        backfilled=int.from_bytes(data[INDEX_BACKFILLED], sys.byteorder),
    )


def count_frames(index: bytes) -> int:
    """Return the number of frames (mxFrame) in the head of a `-shm` file, 0 if it is invalid.

    It may have the byte order of another machine.
    """
    for byteorder in ("little", "big"):
        if index[:4] == INDEX_VERSION.to_bytes(4, byteorder):
            return int.from_bytes(index[INDEX_FRAMES], byteorder)
    return 0


def checksum(data: bytes, seed: tuple[int, int], *, byteorder: str) -> tuple[int, int]:
    """Compute the WAL's checksum. https://www.sqlite.org/fileformat2.html section 4.2."""
    one, two = seed
    words = struct.unpack(f"{'<' if byteorder == 'little' else '>'}{len(data) // 4}I", data)
    for position in range(0, len(words), 2):
        one = (one + words[position] + two) & 0xFFFFFFFF
        two = (two + words[position + 1] + one) & 0xFFFFFFFF
    return one, two


def is_header(data: bytes) -> bool:
    """Return whether 32 bytes are the header of a WAL."""
    return len(data) == WAL_HEADER_BYTES and struct.unpack(">I", data[:4])[0] in WAL_MAGIC


@dataclass(frozen=True)
class Frame:
    """The header of one frame: its page, the database's pages after a commit (else 0)."""

    page: int
    pages_after: int
    salts: bytes
    checksum: tuple[int, int]


class FrameIndex:
    """The frame with the newest image of each page.

    It takes four bytes a page, and only for parts of the database that are in the WAL; a dict would
    take a hundred, and the serving side may be a small machine.
    """

    def __init__(self) -> None:
        self._segments: dict[int, array[int]] = {}

    def put(self, page: int, frame: int) -> None:
        """Record that `frame` holds `page`; the last call for a page wins."""
        segment = self._segments.get(page // _SEGMENT_PAGES)
        if segment is None:
            segment = array("I", bytes(4 * _SEGMENT_PAGES))
            self._segments[page // _SEGMENT_PAGES] = segment
        segment[page % _SEGMENT_PAGES] = frame

    def get(self, page: int) -> int:
        """Return the frame of `page`, 0 if the WAL has none."""
        segment = self._segments.get(page // _SEGMENT_PAGES)
        return segment[page % _SEGMENT_PAGES] if segment else 0

    def touches(self, first: int, count: int) -> bool:
        """Return whether any of `count` pages from `first` may have a frame."""
        last = (first + count - 1) // _SEGMENT_PAGES
        return any(key in self._segments for key in range(first // _SEGMENT_PAGES, last + 1))

    def pages(self) -> Iterator[int]:
        """Yield the pages that have a frame, in ascending order."""
        for key in sorted(self._segments):
            for offset, frame in enumerate(self._segments[key]):
                if frame:
                    yield key * _SEGMENT_PAGES + offset


def read_header(log: int) -> bytes:
    """Read the WAL's header from an open descriptor; shorter if the file is."""
    return os.pread(log, WAL_HEADER_BYTES, 0)


def read_frame(log: int, frame: int, page_size: int) -> Frame | None:
    """Read the header of one frame, None if the file ends before it."""
    data = os.pread(log, FRAME_HEADER_BYTES, frame_offset(frame, page_size))
    if len(data) < FRAME_HEADER_BYTES:
        return None
    page, pages_after, salts, one, two = struct.unpack(FRAME_HEADER, data)
    return Frame(page, pages_after, salts, (one, two))


def index_frames(log: int, mark: Mark, *, after: int = 0) -> FrameIndex | None:
    """Index frames `after` + 1 up to the mark; None if they do not belong to the mark.

    Every frame must have the mark's salts, and the last must be the commit that the index names.
    Checksums of pages are not computed: that takes a second for 32 MB, during which the lock lets
    the WAL grow, and SQLite has recovered a WAL left by a crash when the database was opened.
    """
    header = read_header(log)
    if not is_header(header) or header[WAL_SALTS] != mark.salts:
        return None
    index = FrameIndex()
    frame = None
    for number in range(after + 1, mark.frames + 1):
        frame = read_frame(log, number, mark.page_size)
        if frame is None or frame.salts != mark.salts:
            return None
        if frame.page <= mark.pages:
            index.put(frame.page, number)
    if frame is not None and (frame.pages_after, frame.checksum) != (mark.pages, mark.checksum):
        return None
    return index if read_header(log) == header else None
