"""Copying a snapshot of a live database to a file: through SQLite, or file by file."""

from __future__ import annotations

import errno
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO

from gymdbd import files
from gymdbd.disk import write_error
from gymdbd.errors import DiskFullError, WriteFailedError
from gymdbd.source import wal
from gymdbd.source.database import corrupt, source_error
from gymdbd.source.errors import SourceCorruptError, SourceLockedError, SourceUnreadableError
from gymdbd.source.format import (
    VERSIONS,
    WAL,
    WAL_HEADER_BYTES,
    WAL_SALTS,
    WITH_WAL,
    WITHOUT_WAL,
    beside,
)
from gymdbd.source.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from pathlib import Path

    CopyProgress = Callable[[int, int], None]

_STEP_BYTES = 16 * 1024 * 1024
_PIECE_BYTES = 1024 * 1024
_RAW_ATTEMPTS = 5
# SQLite's names of I/O errors: only the source is read, only the target is written.
_UNREAD = ("SQLITE_IOERR_READ", "SQLITE_IOERR_SHORT_READ", "SQLITE_IOERR_CORRUPTFS")
_UNWRITTEN = ("SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC", "SQLITE_IOERR_TRUNCATE")


def copy(snapshot: Snapshot, target: Path, progress: CopyProgress) -> None:
    """Write a snapshot into the new file `target`, which can be read without a WAL.

    SQLite's online backup copies the pages in steps, so that `progress(done, total)`, in bytes,
    can cancel by raising. Writers do not restart it, because the transaction is already open on
    the source. The copy is flushed to the disk meanwhile: the application's commits would have to
    wait for a single flush at the end.
    """
    page_size = snapshot.facts.page_size
    files.create(target)
    flusher = _Flusher(target)

    def report(status: int, remaining: int, total: int) -> None:
        del status
        flusher.flush()
        progress((total - remaining) * page_size, total * page_size)

    destination = None
    try:
        destination = sqlite3.connect(target, isolation_level=None)
        # The target is synced once, when it is published; nobody reads it before.
        destination.execute("PRAGMA journal_mode=OFF")
        destination.execute("PRAGMA synchronous=OFF")
        snapshot.connection.backup(
            destination, pages=max(1, _STEP_BYTES // page_size), progress=report, sleep=0.0
        )
    except sqlite3.Error as error:
        raise _copy_error(error, snapshot.path, target) from error
    finally:
        if destination is not None:
            destination.close()
        flusher.close()
    need_no_wal(target)


def _copy_error(error: sqlite3.Error, source: Path, target: Path) -> Exception:
    text = str(error)
    if "full" in text:
        return DiskFullError(
            f"no space left to write {target.parent}",
            hint=f"free some space (df -h {target.parent}); nothing there has changed",
        )
    if "malformed" in text or "corrupt" in text:
        return corrupt(source, (text,))
    name = getattr(error, "sqlite_errorname", "")
    if name in _UNREAD:
        return source_error(error, source)
    if name in _UNWRITTEN:
        return write_error(OSError(errno.EIO, text), target)
    return WriteFailedError(
        f"copying {source} to {target.parent} failed ({text})",
        hint="check both disks and the kernel's log (dmesg); nothing there has changed",
    )


class _Flusher:
    """Flushes a file to the disk while it is written, one flush at a time."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._pool = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None

    def flush(self) -> None:
        """Begin a flush unless one is running; raises the OSError of the previous flush."""
        if self._last is None or self._last.done():
            if self._last is not None:
                self._last.result()
            self._last = self._pool.submit(os.fsync, self._descriptor)

    def close(self) -> None:
        """Wait for the running flush."""
        self._pool.shutdown()
        os.close(self._descriptor)


def copy_raw(
    path: Path, target: Path, progress: CopyProgress, *, busy_timeout_s: float
) -> Snapshot:
    """Copy main file and WAL of one snapshot to `target`; return the snapshot, still held.

    The WAL is copied first: a writer may restart a fully checkpointed WAL during our transaction,
    which changes its header, but then no checkpoint can touch the main file.
    """
    for _ in range(_RAW_ATTEMPTS):
        snapshot = Snapshot(path, busy_timeout_s=busy_timeout_s)
        try:
            if _copy_raw(snapshot, target, progress):
                return snapshot
        except BaseException:
            snapshot.close()
            raise
        snapshot.close()
    raise SourceLockedError(
        f"the WAL of {path} was restarted during each of {_RAW_ATTEMPTS} copies",
        hint="omit --raw: the default backup does not depend on an unchanged WAL",
    )


def _copy_raw(snapshot: Snapshot, target: Path, progress: CopyProgress) -> bool:
    """Copy the main file as it is and its WAL up to this snapshot; True if neither changed.

    False means that a writer restarted the WAL meanwhile, which is possible if it is fully
    checkpointed; then the copies are worthless and a new snapshot is needed. In rollback-journal
    mode the read transaction alone prevents changes to the main file.
    """
    in_wal_mode = snapshot.facts.journal_mode == "wal"
    mark = snapshot.settle() if in_wal_mode and not snapshot.idle else None
    log = snapshot.open_file(WAL) if mark and mark.frames else None
    header = log.read(WAL_HEADER_BYTES) if log else b""
    if mark and log and (not wal.is_header(header) or header[WAL_SALTS] != mark.salts):
        return False
    total = snapshot.facts.size_bytes + (mark.wal_size_bytes if mark else 0)
    target_log = beside(target, WAL)
    if log and mark:
        log.seek(0)
        if mark.frames == mark.backfilled:
            _require_whole(log, mark)
        _copy_bytes(log, target_log, mark.wal_size_bytes, 0, total, progress)
        log.seek(0)
        if log.read(WAL_HEADER_BYTES) != header:
            return False
    elif in_wal_mode:
        files.create(target_log)
    done = mark.wal_size_bytes if log and mark else 0
    main = snapshot.open_file("")
    _copy_bytes(main, target, os.fstat(main.fileno()).st_size, done, total, progress)
    return True


def _require_whole(log: BinaryIO, mark: wal.Mark) -> None:
    """Raise SourceUnreadableError if a WAL is cut that SQLite no longer needs.

    All of it is in the main file. Of a copy SQLite would take its frames for the newer ones.
    """
    size = os.fstat(log.fileno()).st_size
    if size < mark.wal_size_bytes:
        raise SourceUnreadableError(
            f"{log.name} ends after {size} of {mark.wal_size_bytes} bytes that the index counts",
            hint="omit --raw: all that it held is in the database, and the default backup reads "
            "only that",
        )


def _copy_bytes(
    source: BinaryIO, target: Path, size: int, before: int, total: int, progress: CopyProgress
) -> None:
    """Copy `size` bytes; `progress` counts from `before` towards `total`."""
    files.create(target)
    with target.open("wb") as file:
        done = 0
        while done < size:
            chunk = source.read(min(_PIECE_BYTES, size - done))
            if not chunk:
                raise SourceCorruptError(
                    f"{source.name} ended after {done} of {size} bytes",
                    hint="another program truncated it: restart the application",
                )
            file.write(chunk)
            done += len(chunk)
            progress(before + done, total)


def need_no_wal(path: Path) -> None:
    """Mark a finished copy as a rollback-journal database, readable without a WAL.

    It has every committed page, and only so can it be opened from a read-only folder. The manifest
    records the `journal_mode` of the source.
    """
    with path.open("r+b") as file:
        file.seek(VERSIONS.start)
        if file.read(2) == WITH_WAL:
            file.seek(VERSIONS.start)
            file.write(WITHOUT_WAL)
