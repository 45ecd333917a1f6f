"""Whether the WAL and its index (-shm) agree: SQLite believes the index, a damaged one hides data.

https://www.sqlite.org/walformat.html section 2 has the layout and the rules. The WAL is the record:
its frames have salts and checksums; of the index only the header has one. If they differ, SQLite
reads an older state or a mixture, and a checkpoint would write that to the main file.
"""

from __future__ import annotations

import os
import struct
from array import array
from typing import TYPE_CHECKING, BinaryIO

from gymdbd.source import wal
from gymdbd.source.errors import SourceCorruptError
from gymdbd.source.format import (
    FRAME_HEADER_BYTES,
    INDEX,
    INDEX_BLOCK_BYTES,
    INDEX_BLOCK_FRAMES,
    INDEX_BYTES,
    INDEX_HASH_FACTOR,
    INDEX_HASH_SLOTS,
    INDEX_LOCK,
    WAL,
    WRITE_LOCK,
    frame_offset,
)
from gymdbd.source.locking import is_locked

if TYPE_CHECKING:
    from gymdbd.source.snapshot import Snapshot

_ATTEMPTS = 5


def require(snapshot: Snapshot) -> None:
    """Raise SourceCorruptError if the index hides something of the WAL from this snapshot.

    The snapshot begins anew. Without an index that can be read there is nothing to compare.
    """
    if snapshot.facts.journal_mode != "wal" or snapshot.idle:
        return
    for _ in range(_ATTEMPTS):
        try:
            mark = snapshot.settle()
        except wal.UnreadableIndexError:
            return
        log = snapshot.open_file(WAL).fileno()
        frames = wal.index_frames(log, mark)
        if frames is not None:
            require_between(snapshot, log, mark, frames)
        if frames is not None or not mark.frames:
            return


def require_between(
    snapshot: Snapshot, log: int, mark: wal.Mark, frames: wal.FrameIndex, *, after: int = 0
) -> None:
    """Do the same for `frames`: those of the WAL after number `after`, up to a snapshot's mark.

    The cost follows the number of these frames. Once the WAL has been restarted, which is possible
    if all its frames are in the main file, there is nothing to compare.
    """
    index = snapshot.open_file(INDEX)
    if not is_locked(index.fileno(), INDEX_LOCK):
        # Nobody else uses it, so SQLite has made it anew, or makes do with one of its own.
        return
    problem = (
        _wrong_entry(index, log, mark, after)
        or _wrong_lookup(index, mark, frames)
        or _not_backfilled(snapshot.open_file(""), log, mark, frames)
        or _unknown_commit(index, log, mark)
    )
    if problem and wal.read_mark(index).salts == mark.salts:
        raise SourceCorruptError(
            f"the index (-shm) of {snapshot.path} does not tell what its WAL holds: {problem}",
            hint="SQLite, and so the application, does not see all that was committed. Copy the "
            "database with its -wal file first; then stop all that have it open and start them "
            "again: SQLite makes a new index from the WAL",
            problems=(problem,),
        )


class _Block:
    """One block of the index: the pages of its frames, and a hash table of these."""

    def __init__(self, index: BinaryIO, number: int) -> None:
        """Read it; missing bytes count as zero."""
        start = INDEX_BYTES if number == 0 else 0
        data = os.pread(index.fileno(), INDEX_BLOCK_BYTES, number * INDEX_BLOCK_BYTES)
        data = data.ljust(INDEX_BLOCK_BYTES, b"\0")
        hashes = INDEX_BLOCK_BYTES - 2 * INDEX_HASH_SLOTS
        self.before = 0 if number == 0 else number * INDEX_BLOCK_FRAMES - INDEX_BYTES // 4
        self.pages = array("I", data[start:hashes])
        self._slots = array("H", data[hashes:])

    def find(self, page: int, last: int) -> int:
        """Return the frame up to `last` that SQLite finds for a page, 0 for none."""
        found, slot = 0, page * INDEX_HASH_FACTOR % INDEX_HASH_SLOTS
        for _ in range(INDEX_HASH_SLOTS):
            entry = self._slots[slot]
            if not entry:
                break
            known = entry <= len(self.pages) and self.pages[entry - 1] == page
            if known and self.before + entry <= last:
                found = self.before + entry
            slot = (slot + 1) % INDEX_HASH_SLOTS
        return found


def _block_of(frame: int) -> int:
    return (frame - 1 + INDEX_BYTES // 4) // INDEX_BLOCK_FRAMES


def _wrong_entry(index: BinaryIO, log: int, mark: wal.Mark, after: int) -> str:
    """Return what is wrong with the page that the index has for one of the frames, or ""."""
    block, number = None, -1
    for frame in range(max(after, mark.backfilled) + 1, mark.frames + 1):
        if block is None or _block_of(frame) != number:
            number = _block_of(frame)
            block = _Block(index, number)
        found = wal.read_frame(log, frame, mark.page_size)
        if found and block.pages[frame - block.before - 1] != found.page:
            return f"frame {frame} holds page {found.page}, and the index has another page for it"
    return ""


def _wrong_lookup(index: BinaryIO, mark: wal.Mark, frames: wal.FrameIndex) -> str:
    """Return which page SQLite would look for in vain, or find in an older frame, or ""."""
    blocks: dict[int, _Block] = {}
    for page in frames.pages():
        frame = frames.get(page)
        number = _block_of(frame)
        if number not in blocks:
            blocks[number] = _Block(index, number)
        if blocks[number].find(page, mark.frames) != frame:
            return f"the newest page {page} is in frame {frame}, where SQLite does not find it"
    return ""


def _not_backfilled(main: BinaryIO, log: int, mark: wal.Mark, frames: wal.FrameIndex) -> str:
    """Return which page is said to be in the main file and is not, or ""."""
    size = mark.page_size
    for page in frames.pages():
        frame = frames.get(page)
        if frame > mark.backfilled:
            continue
        there = os.pread(main.fileno(), size, (page - 1) * size)
        if there != os.pread(log, size, frame_offset(frame, size) + FRAME_HEADER_BYTES):
            return f"frame {frame} was not checkpointed to page {page}, though the index says so"
    return ""


def _unknown_commit(index: BinaryIO, log: int, mark: wal.Mark) -> str:
    """Return which commit the index has missed, or "".

    A commit is in the WAL before it is in the index, and its writer holds the write lock meanwhile.
    So it is missed only if no writer is left and the index has not moved.
    """
    frame = _later_commit(log, mark)
    if not frame or is_locked(index.fileno(), WRITE_LOCK):
        return ""
    if not wal.read_mark(index).names_same_commit(mark) or not _is_whole(log, mark, frame):
        return ""
    return f"frame {frame} ends a commit, and the index ends at frame {mark.frames}"


def _later_commit(log: int, mark: wal.Mark) -> int:
    """Return the first frame after the mark that ends a commit, 0 for none."""
    number = mark.frames + 1
    while True:
        frame = wal.read_frame(log, number, mark.page_size)
        if frame is None or frame.salts != mark.salts:
            return 0
        if frame.pages_after:
            return number
        number += 1


def _is_whole(log: int, mark: wal.Mark, last: int) -> bool:
    """Return whether the checksums of the frames after the mark are right up to frame `last`."""
    header = wal.read_header(log)
    if not wal.is_header(header):
        return False
    byteorder = "big" if header[3] & 1 else "little"
    chained = struct.unpack(">II", header[24:32]) if not mark.frames else mark.checksum
    for number in range(mark.frames + 1, last + 1):
        start, size = frame_offset(number, mark.page_size), FRAME_HEADER_BYTES + mark.page_size
        data = os.pread(log, size, start)
        if len(data) < size:
            return False
        chained = wal.checksum(data[:8], (chained[0], chained[1]), byteorder=byteorder)
        chained = wal.checksum(data[FRAME_HEADER_BYTES:], chained, byteorder=byteorder)
        if chained != struct.unpack(">II", data[16:24]):
            return False
    return True
