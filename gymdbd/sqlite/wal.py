"""The write-ahead log and its index, read directly.

Formats: https://www.sqlite.org/fileformat2.html section 4 (the WAL) and
https://www.sqlite.org/walformat.html section 2.1 (the index). Callers hold a read transaction and
keep every descriptor opened here until their own connection is closed, because closing one
drops the locks that this process holds on the file.
"""

from __future__ import annotations

import struct
import sys
import time
from dataclasses import dataclass
from typing import BinaryIO

from gymdbd.errors import SourceCorruptError, SourceLockedError

HEADER_SIZE = 32
FRAME_HEADER_SIZE = 24

_MAGIC = (0x377F0682, 0x377F0683)
_VERSION = 3007000
_INDEX_COPY_SIZE = 48
_INDEX_SIZE = 136
_SETTLE_S = 1.0


@dataclass(frozen=True)
class Mark:
    """Where a snapshot ends in the WAL, as the index says it.

    `frames` counts the frames up to and including the last commit (mxFrame), `pages` the pages
    of the database after it, `checksum` and `salts` identify that very frame of that very
    generation, `backfilled` counts the frames already copied into the main file.
    """

    frames: int
    pages: int
    page_size: int
    checksum: tuple[int, int]
    salts: bytes
    backfilled: int

    @property
    def commit(self) -> tuple[bytes, int, tuple[int, int]]:
        """Return what tells this commit from every other."""
        return self.salts, self.frames, self.checksum

    @property
    def wal_size_bytes(self) -> int:
        """Return how long the WAL is up to this mark."""
        return HEADER_SIZE + self.frames * (FRAME_HEADER_SIZE + self.page_size)


def read_mark(index: BinaryIO) -> Mark:
    """Read the mark from an open `-shm` file.

    A writer changes the two copies of the header one after the other, so they are read again
    until they agree. Raises SourceCorruptError where more frames are said to be backfilled than
    there are, which is what the WAL-reset bug leaves behind.
    """
    deadline = time.monotonic() + _SETTLE_S
    while True:
        index.seek(0)
        data = index.read(_INDEX_SIZE)
        mark = _parse_index(data)
        if mark is not None:
            break
        if time.monotonic() > deadline:
            raise SourceLockedError(
                "the index of the WAL did not settle within a second",
                hint="try again; if it stays so, the -shm file is damaged: restart the application",
            )
    if mark.backfilled > mark.frames:
        raise SourceCorruptError(
            f"the WAL's index says that {mark.backfilled} of {mark.frames} frames were "
            "checkpointed: commits may have been lost to SQLite's WAL-reset bug",
            hint="stop the application's checkpoints, keep the -wal file, and update SQLite to "
            "3.51.3 or newer",
            problems=("more frames backfilled than committed",),
        )
    return mark


def _parse_index(data: bytes) -> Mark | None:
    """Read the index's header, or None while it is being changed."""
    first, second = data[:_INDEX_COPY_SIZE], data[_INDEX_COPY_SIZE : 2 * _INDEX_COPY_SIZE]
    if len(data) < _INDEX_SIZE or first != second:
        return None
    version, _, _, initialised, big_endian, page_size, frames, pages = struct.unpack(
        "=IIIBBHII", first[:24]
    )
    if version != _VERSION or not initialised:
        return None
    if checksum(first[:40], (0, 0), byteorder=sys.byteorder) != struct.unpack("=II", first[40:48]):
        return None
    del big_endian
    return Mark(
        frames=frames,
        pages=pages,
        # 65536 does not fit into two bytes and is written as 1.
        page_size=(page_size & 0xFE00) + ((page_size & 0x0001) << 16),
        checksum=struct.unpack("=II", first[24:32]),
        salts=first[32:40],
        backfilled=struct.unpack("=I", data[96:100])[0],
    )


def checksum(data: bytes, seed: tuple[int, int], *, byteorder: str) -> tuple[int, int]:
    """Compute the WAL's checksum. https://www.sqlite.org/fileformat2.html section 4.2."""
    one, two = seed
    words = struct.unpack(f"{'<' if byteorder == 'little' else '>'}{len(data) // 4}I", data)
    for position in range(0, len(words), 2):
        one = (one + words[position] + two) & 0xFFFFFFFF
        two = (two + words[position + 1] + one) & 0xFFFFFFFF
    return one, two


def is_header(data: bytes) -> bool:
    """Say whether 32 bytes are the header of a WAL."""
    return len(data) == HEADER_SIZE and struct.unpack(">I", data[:4])[0] in _MAGIC
