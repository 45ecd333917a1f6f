"""One committed state of a live database, held still by a read transaction while it is copied."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
import time
from typing import TYPE_CHECKING, BinaryIO, Callable, Optional

from gymdbd.errors import (
    DiskFullError,
    SourceCorruptError,
    SourceError,
    SourceLockedError,
    WriteFailedError,
)
from gymdbd.source import live, wal
from gymdbd.source.database import (
    Facts,
    corrupt,
    count_rows,
    interruptible,
    is_tolerant,
    locate,
    read_facts,
    translated,
    unknown_definition,
)

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path
    from types import TracebackType

CopyProgress = Callable[[int, int], None]

_STEP_BYTES = 16 * 1024 * 1024
_COPY_BYTES = 1024 * 1024
_RAW_ATTEMPTS = 5
_OPEN_ATTEMPTS = 5
_SETTLE_S = 5.0
# Offsets 18 and 19 of the header: 2 means that readers need a WAL, 1 that they do not.
# https://www.sqlite.org/fileformat2.html section 1.3.3.
_VERSIONS_OFFSET = 18


class Snapshot:
    """A read transaction on a live database and what can be copied while it lasts.

    `facts` are those of this very state. The transaction keeps a WAL from being reset, so it
    must not be held for longer than the copying takes; in rollback-journal mode it also makes
    the application's commits wait.
    """

    def __init__(self, path: Path, *, busy_timeout_s: float = 5.0) -> None:
        """Begin the transaction; raises a SourceError naming what is wrong with `path`."""
        self.path = locate(path)
        self._descriptors = contextlib.ExitStack()
        for _ in range(_OPEN_ATTEMPTS):
            # SQLite opens the main file first and its WAL, by its name, at the first read. One that
            # is replaced in between would be read without the commits of its WAL.
            self._file = _file_at(self.path)
            self._reader = live.LiveConnection(self.path, busy_timeout_s=busy_timeout_s)
            self._connection = self._reader.connection
            try:
                self.facts = self._begin()
            except BaseException:
                self.close()
                raise
            if _file_at(self.path) == self._file:
                return
            self.close()
        raise _replaced(self.path)

    @property
    def idle(self) -> bool:
        """Say whether nobody had the database open, so that its main file is all there is."""
        return self._reader.idle

    @property
    def unknown(self) -> str:
        """Name what only a newer SQLite understands of the schema; "" if nothing."""
        if not is_tolerant(self._connection):
            return ""
        return unknown_definition(self._connection)

    def _begin(self) -> Facts:
        with translated(self.path):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            # A deferred BEGIN takes its snapshot at the first read.
            self._connection.execute("BEGIN")
            self._reader.touch()
            # Under a reader's lock nobody writes the main file, unless WAL or another kind of lock
            # is in use.
            self._stamp = live.stamp(self.path)
            facts = read_facts(self._connection)
            # Read without its WAL it tells another mode.
            return dataclasses.replace(facts, journal_mode="wal") if self.idle else facts

    def confirm(self) -> None:
        """Raise SourceMovedError if this has not been one state for the whole time.

        It can only happen to an idle database that is read without locks, and with an application
        that takes none. Whoever uses what was copied or counted calls this first.
        """
        self._reader.confirm()
        now = live.stamp(self.path)
        # A file that came in its place is none of this snapshot's business.
        if self.facts.journal_mode != "wal" and now[:2] == self._stamp[:2] and now != self._stamp:
            raise live.moved(self.path)

    def __enter__(self) -> Snapshot:
        """Return the snapshot; leaving the block ends its transaction."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the transaction; raises SourceMovedError if it has not been one state."""
        try:
            if error is None or isinstance(error, (SourceError, sqlite3.Error)):
                self.confirm()
        finally:
            self.close()

    def close(self) -> None:
        """End the transaction, then close the descriptors that had to outlive it."""
        self._reader.close()
        self._descriptors.close()

    def settle(self) -> wal.Mark:
        """Begin the transaction again until it is known where in the WAL it ends; return that mark.

        Only for WAL mode. A mark read after the beginning may be that of a later commit, whose
        rows this connection does not count; one that is the same before and after is exactly
        ours. Raises UnreadableIndexError where that cannot be had; the snapshot is then a new one
        of unknown mark.
        """
        try:
            return self._settle()
        except wal.UnreadableIndexError:
            self.facts = self._begin()
            raise

    def _settle(self) -> wal.Mark:
        index = self.open_file("-shm")
        deadline = time.monotonic() + _SETTLE_S
        while time.monotonic() < deadline:
            mark = self._begin_at_mark(index)
            if mark is not None:
                return mark
        raise wal.UnreadableIndexError(
            f"{self.path} is written so fast that no snapshot could be told from the next",
            hint="try again when the application is less busy",
        )

    def _begin_at_mark(self, index: BinaryIO) -> wal.Mark | None:
        with translated(self.path):
            self._connection.execute("ROLLBACK")
            before = wal.read_mark(index)
            self._connection.execute("BEGIN")
            self._connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
            mark = wal.read_mark(index)
            if not mark.names_same_commit(before):
                return None
            self.facts = read_facts(self._connection)
            return mark

    def copy_online(self, target: sqlite3.Connection) -> None:
        """Copy this state into another connection's database with SQLite's online backup."""
        with translated(self.path):
            self._connection.backup(target)

    def count_rows(self, *, check: Callable[[], None] = lambda: None) -> dict[str, int]:
        """Count the rows of every table in this state; `check` may raise to give up."""
        with translated(self.path), interruptible(self._connection, check):
            return count_rows(self._connection, self.facts)

    def copy_to(self, target: Path, progress: CopyProgress) -> None:
        """Write this state into the new file `target`, which needs no WAL to be read.

        SQLite's online backup copies the pages. It goes on in steps, so that `progress(done,
        total)`, in bytes, can stop it by raising; it cannot start again between them as it does
        under other writers elsewhere, because the transaction is already open on the source.
        What is written goes to the disk all the while: one flush of the whole copy at the end
        would make the application's commits, which wait for the same disk, queue up behind it.
        """
        page_size = self.facts.page_size
        create(target)
        flusher = _Flusher(target)

        def report(status: int, remaining: int, total: int) -> None:
            del status
            flusher.flush()
            progress((total - remaining) * page_size, total * page_size)

        destination = None
        try:
            destination = sqlite3.connect(target, isolation_level=None)
            # Nobody sees the target until it is published; it is synced once, at the end.
            destination.execute("PRAGMA journal_mode=OFF")
            destination.execute("PRAGMA synchronous=OFF")
            self._connection.backup(
                destination, pages=max(1, _STEP_BYTES // page_size), progress=report, sleep=0.0
            )
        except sqlite3.Error as error:
            raise self._copy_error(error, target) from error
        finally:
            if destination is not None:
                destination.close()
            flusher.close()
        _need_no_wal(target)

    def _copy_error(self, error: sqlite3.Error, target: Path) -> Exception:
        text = str(error)
        if "full" in text:
            return DiskFullError(
                f"no space left to write {target.parent}",
                hint=f"free some space (df -h {target.parent}); nothing there has changed",
            )
        if "malformed" in text or "corrupt" in text:
            return corrupt(self.path, (text,))
        return WriteFailedError(
            f"copying {self.path} to {target.parent} failed ({text})",
            hint="check both disks and the kernel's log (dmesg); nothing there has changed",
        )

    def copy_raw(self, target: Path, progress: CopyProgress) -> bool:
        """Copy the main file as it is and its WAL up to this snapshot; True when that held still.

        False means that a writer started the WAL anew meanwhile, which a fully checkpointed WAL
        allows; the copies are then worthless and a new snapshot must be taken. In
        rollback-journal mode the read transaction alone keeps the main file still.
        """
        in_wal_mode = self.facts.journal_mode == "wal"
        mark = self.settle() if in_wal_mode and not self.idle else None
        log = self.open_file("-wal") if mark and mark.frames else None
        header = log.read(wal.HEADER_SIZE) if log else b""
        if mark and log and (not wal.is_header(header) or header[16:24] != mark.salts):
            return False
        total = self.facts.size_bytes + (mark.wal_size_bytes if mark else 0)
        target_log = target.with_name(target.name + "-wal")
        if log and mark:
            log.seek(0)
            _copy(log, target_log, mark.wal_size_bytes, 0, total, progress)
            log.seek(0)
            if log.read(wal.HEADER_SIZE) != header:
                return False
        elif in_wal_mode:
            create(target_log)
        done = mark.wal_size_bytes if log and mark else 0
        main = self.open_file("")
        _copy(main, target, os.fstat(main.fileno()).st_size, done, total, progress)
        return True

    def open_file(self, suffix: str) -> BinaryIO:
        """Open the database or a side file; it stays open until the connection is closed."""
        path = self.path.with_name(self.path.name + suffix)
        try:
            file = self._descriptors.enter_context(path.open("rb", buffering=0))
            facts = os.fstat(file.fileno())
        except OSError as error:
            if suffix == "-shm":
                raise wal.UnreadableIndexError(
                    f"{path} cannot be read ({error.strerror})",
                    hint=f"let this user read the -shm file in {path.parent}",
                ) from error
            raise SourceCorruptError(
                f"{path} cannot be read while the database is open ({error.strerror})",
                hint="somebody moved or removed it under the application: restart the application",
            ) from error
        if not suffix and (facts.st_dev, facts.st_ino) != self._file:
            raise _replaced(self.path)
        return file


class _Flusher:
    """Forces what is written to a file onto the disk meanwhile, one flush after the other."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        # Its import is a part of the serving side's start, which copies nothing this way.
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

        self._pool = ThreadPoolExecutor(1)
        self._last: Optional[Future[None]] = None

    def flush(self) -> None:
        """Begin a flush unless one is under way; raises the OSError of the one before."""
        if self._last is None or self._last.done():
            if self._last is not None:
                self._last.result()
            self._last = self._pool.submit(os.fsync, self._descriptor)

    def close(self) -> None:
        """Wait for the flush that is under way."""
        self._pool.shutdown()
        os.close(self._descriptor)


def copy_raw(
    path: Path, target: Path, progress: CopyProgress, *, busy_timeout_s: float
) -> Snapshot:
    """Copy main file and WAL of one snapshot to `target`; return the snapshot, still held.

    The WAL is copied first: in a fully checkpointed WAL a writer may begin anew under our
    transaction, which its header tells, but then no checkpoint can touch the main file.
    """
    for _ in range(_RAW_ATTEMPTS):
        snapshot = Snapshot(path, busy_timeout_s=busy_timeout_s)
        try:
            if snapshot.copy_raw(target, progress):
                return snapshot
        except BaseException:
            snapshot.close()
            raise
        snapshot.close()
    raise SourceLockedError(
        f"the WAL of {path} began anew during each of {_RAW_ATTEMPTS} copies",
        hint="leave out --raw: the default backup does not depend on the WAL standing still",
    )


def _file_at(path: Path) -> tuple[int, int] | None:
    """Return which file has this name now, None where there is none."""
    try:
        facts = os.stat(path)  # noqa: PTH116 - one call, no Path made
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def _replaced(path: Path) -> SourceLockedError:
    return SourceLockedError(
        f"{path} was replaced by another file while it was being opened",
        hint="wait until whoever replaces it is done, and run this again",
    )


def create(path: Path) -> None:
    """Create an empty file that only this user can read, replacing any leftover."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _copy(
    source: BinaryIO, target: Path, size: int, before: int, total: int, progress: CopyProgress
) -> None:
    """Copy `size` bytes; `progress` counts from `before` towards `total`."""
    create(target)
    with target.open("wb") as file:
        done = 0
        while done < size:
            chunk = source.read(min(_COPY_BYTES, size - done))
            if not chunk:
                raise SourceCorruptError(
                    f"the source ended after {done} of {size} bytes",
                    hint="somebody truncated it under the application: restart the application",
                )
            file.write(chunk)
            done += len(chunk)
            progress(before + done, total)


def _need_no_wal(path: Path) -> None:
    """Mark a finished copy as readable without a WAL, as a rollback-journal database.

    It holds every committed page, so that is true, and it is what lets it be opened read-only
    from a read-only folder. `journal_mode` in the manifest remembers what the source was.
    """
    with path.open("r+b") as file:
        file.seek(_VERSIONS_OFFSET)
        if file.read(2) == b"\2\2":
            file.seek(_VERSIONS_OFFSET)
            file.write(b"\1\1")
