"""The pages of one snapshot, read directly from the files and not through SQLite.

The rule: hold a read transaction; a page is its last committed frame in the WAL up to the
snapshot's mark, otherwise its image in the main file. Why these pages do not change:

* More frames than are backfilled: the transaction holds READ_LOCK(k >= 1), so the WAL is not
  restarted and no checkpoint passes the mark. Pages without a frame do not change.
* All frames backfilled at the beginning: the main file alone is the snapshot, whatever happens to
  the WAL: no checkpoint may write while READ_LOCK(0) is held, or pass the mark otherwise.
* Rollback journal: the transaction holds SHARED, which prevents writes to the main file.
* Nobody has it open: the main file is complete, and `Snapshot.confirm` checks that it did not
  change.

https://www.sqlite.org/walformat.html section 2.3. If none of these can be established, the pages
are read from SQLite's online backup in a spool file; see `method` and `reason`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd.source import agreement, wal
from gymdbd.source.errors import SourceCorruptError, SourceLockedError, SourceUnreadableError
from gymdbd.source.format import (
    FRAME_HEADER_BYTES,
    LOCK_BYTE,
    MAIN_FILE,
    ONLINE_BACKUP,
    PAGE_RULE,
    VERSIONS,
    WAL,
    WITHOUT_WAL,
    frame_offset,
)
from gymdbd.source.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

SPOOL_LIMIT_BYTES = 256 * 1024 * 1024

_ATTEMPTS = 5
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder that lives in memory, not a temporary one


class Pages:
    """One snapshot as numbered pages, normalised: without a WAL, the lock-byte page zero.

    Several threads may call `read` at once. `mark` is None if there is no WAL; `bytes_read` is how
    much was read, about. Close it soon: its transaction keeps the WAL from being reset.
    """

    def __init__(self, path: Path, *, busy_timeout_s: float = 5.0) -> None:
        """Begin the snapshot; raises a SourceError that explains what is wrong with `path`."""
        self.snapshot = Snapshot(path, busy_timeout_s=busy_timeout_s)
        self._resources = contextlib.ExitStack()
        self._log = self._main = -1
        self._index = wal.FrameIndex()
        self.reason = ""
        self.bytes_read = 0
        try:
            self._begin()
        except BaseException:
            self.snapshot.close()
            raise

    def _begin(self) -> None:
        try:
            self._find_files()
        except wal.UnreadableIndexError as error:
            self.spool(reason=str(error))
        self.page_size = self.snapshot.facts.page_size
        self.count = self.snapshot.facts.page_count
        self._lock_byte_page = LOCK_BYTE // self.page_size + 1

    def _find_files(self) -> None:
        self.method, self.mark = MAIN_FILE, None
        if self.snapshot.facts.journal_mode == "wal" and not self.snapshot.idle:
            self.mark = self.snapshot.settle()
            if self.mark.frames > self.mark.backfilled:
                self.method = PAGE_RULE
                self._log = self.snapshot.open_file(WAL).fileno()
        self._main = self.snapshot.open_file("").fileno()
        self._loaded = False

    def __enter__(self) -> Pages:
        """Return the pages; the end of the block ends their transaction."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the transaction."""
        self.close()

    def close(self) -> None:
        """End the transaction, then close all descriptors."""
        self.snapshot.close()
        self._resources.close()

    @property
    def size_bytes(self) -> int:
        """Return the size of the whole snapshot."""
        return self.count * self.page_size

    def load(self) -> None:
        """Index the whole WAL up to the mark; `read` needs that for any page."""
        if self._loaded or self.mark is None:
            return
        log = self._open_log()
        index = wal.index_frames(log, self.mark)
        if index is not None:
            agreement.require_between(self.snapshot, log, self.mark, index)
        elif self.method == PAGE_RULE:
            raise _moved(self.snapshot.path)
        if self.method == PAGE_RULE and index is not None:
            self._index = index
        self._loaded = True

    def load_tail(self, salts: bytes, frame: int, checksum: tuple[int, int]) -> list[int] | None:
        """Index only the WAL after `frame` and return the pages found there, ascending.

        0 is before the first frame. None if the WAL does not have this frame. Until `load` is
        called, only these pages may be read.
        """
        mark = self.mark
        if mark is None or salts != mark.salts or not 0 <= frame <= mark.frames:
            return None
        log = self._open_log()
        found = wal.read_frame(log, frame, self.page_size) if frame else None
        if frame and (found is None or (found.salts, found.checksum) != (salts, checksum)):
            return None
        index = wal.index_frames(log, mark, after=frame)
        if index is None:
            return None
        agreement.require_between(self.snapshot, log, mark, index, after=frame)
        if self._log >= 0:
            self._index, self._loaded = index, False
        return list(index.pages())

    def _open_log(self) -> int:
        return self._log if self._log >= 0 else self.snapshot.open_file(WAL).fileno()

    def read(self, first: int, count: int) -> bytearray:
        """Return `count` consecutive pages from number `first`, which counts from 1."""
        size = self.page_size
        self.bytes_read += count * size
        data = bytearray(_read_at(self._main, count * size, (first - 1) * size))
        present = first + len(data) // size
        data.extend(bytes(count * size - len(data)))
        touched = self._index.touches(first, count)
        if touched or present < first + count:
            for number in range(first, first + count):
                frame = self._index.get(number) if touched else 0
                start = (number - first) * size
                if frame:
                    data[start : start + size] = self._read_frame(frame)
                elif number >= present and number != self._lock_byte_page:
                    raise _too_short(self.snapshot.path, number)
        if first == 1:
            # All committed pages are here, so that is true, and a replica opens without side files.
            data[VERSIONS] = WITHOUT_WAL
        if first <= self._lock_byte_page < first + count:
            start = (self._lock_byte_page - first) * size
            data[start : start + size] = bytes(size)
        return data

    def _read_frame(self, frame: int) -> bytes:
        offset = frame_offset(frame, self.page_size) + FRAME_HEADER_BYTES
        data = _read_at(self._log, self.page_size, offset)
        if len(data) < self.page_size:
            raise _moved(self.snapshot.path)
        return data

    def spool(self, *, reason: str, limit_bytes: int = SPOOL_LIMIT_BYTES) -> None:
        """Copy this state to a nameless file with SQLite's online backup, and read that instead.

        The file is in memory if the machine has a folder for that. Raises SourceUnreadableError if
        the database is larger than `limit_bytes`.
        """
        size = self.snapshot.facts.size_bytes
        if size > limit_bytes:
            raise SourceUnreadableError(
                f"{self.snapshot.path} cannot be read page by page ({reason}), and has {size} "
                f"bytes, more than the {limit_bytes} that may be copied aside",
                hint="use journal_mode=WAL with SQLite's default locking and VFS",
            )
        self._main = self._resources.enter_context(_nameless_copy(self.snapshot))
        self.method, self.reason, self._log, self.mark = ONLINE_BACKUP, reason, -1, None
        self._index = wal.FrameIndex()


def open_pages(path: Path, *, busy_timeout_s: float = 5.0) -> Pages:
    """Begin a snapshot of which all pages can be read; try again if the WAL was restarted."""
    for _ in range(_ATTEMPTS):
        pages = Pages(path, busy_timeout_s=busy_timeout_s)
        if pages.mark is None or pages.method != PAGE_RULE or _matches(pages):
            return pages
        pages.close()
    raise _moved(path)


def _matches(pages: Pages) -> bool:
    """Return whether the WAL ends, at the mark, with the commit that its index names."""
    mark = pages.mark
    if mark is None:
        return True
    return pages.load_tail(mark.salts, mark.frames, mark.checksum) is not None


@contextlib.contextmanager
def _nameless_copy(snapshot: Snapshot) -> Iterator[int]:
    # Seldom needed, and imports are most of the serving side's start.
    import shutil  # noqa: PLC0415
    import tempfile  # noqa: PLC0415

    folder = tempfile.mkdtemp(dir=_SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None)
    try:
        name = os.path.join(folder, "spool")  # noqa: PTH118
        target = sqlite3.connect(name, isolation_level=None)
        try:
            target.execute("PRAGMA journal_mode=OFF")
            snapshot.copy_online(target)
        finally:
            target.close()
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Read `size` bytes at `offset`, fewer only at the end of the file."""
    data = os.pread(descriptor, size, offset)
    while len(data) < size:
        more = os.pread(descriptor, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def _moved(path: Path) -> SourceLockedError:
    return SourceLockedError(
        f"the WAL of {path} is not the one that its index describes",
        hint="try again; if it stays so, somebody replaced the -wal file under the application: "
        "restart the application",
    )


def _too_short(path: Path, number: int) -> SourceCorruptError:
    return SourceCorruptError(
        f"{path} ends before its page {number}",
        hint="somebody truncated it under the application: stop the application and restore the "
        "newest good backup (gymdbd list)",
        problems=(f"page {number} is missing",),
    )
