"""Opening a database on this machine: any for reading, a live one for writing.

A writer is never the last to close. An application that opened and closed its own database file
has lost its POSIX locks (https://www.sqlite.org/howtocorrupt.html section 2.2). SQLite in this
process then takes itself for the last user, and closing a read-write connection would remove the
-wal that the application goes on writing. A read-only connection that is opened before and closed
after prevents that.
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import sqlite3
from typing import TYPE_CHECKING

from gymdbd.source import database, processes
from gymdbd.source.database import connect
from gymdbd.source.errors import NotOwnerError, SourceLockedError
from gymdbd.source.format import JOURNAL, WAL, beside, side_files
from gymdbd.source.live import LiveConnection, is_shared_with_owner, may_leave_sides

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


# An expression in a schema, such as that of an index, may make a value of gigabytes out of nothing,
# or keep a single step of SQLite busy for hours with it. What is stored in a file is smaller.
_LEAST_VALUE_BYTES = 1024 * 1024
_MOST_VALUE_BYTES = 2**31 - 1


def _go_on() -> None:
    """Let a long statement go on."""


def bound(connection: sqlite3.Connection, *paths: Path) -> None:
    """Let SQLite make no value that is larger than these files with their WALs together.

    It reports one that would be as too big, which is no damage. All that SQLite holds in this
    process has half of the memory.
    """
    size = 0
    for path in (file for main in paths for file in (main, beside(main, WAL))):
        with contextlib.suppress(OSError):
            size += path.stat().st_size
    most = min(max(size, _LEAST_VALUE_BYTES), _MOST_VALUE_BYTES)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, most)
    # An index may have two thousand such values at once.
    connection.execute(f"PRAGMA hard_heap_limit={_half_of_memory()}")


@functools.cache
def _half_of_memory() -> int:
    """Return half of the memory that this process can have; SQLite takes this limit but once."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(total, allowed if allowed > 0 else total) // 2


@contextlib.contextmanager
def reading(
    path: Path, *, has_wal: bool = False, check: Callable[[], None] = _go_on
) -> Iterator[sqlite3.Connection]:
    """Open a file that nobody writes for reading: a backup, a copy, a replica.

    SQLite reads its WAL only if it `has_wal`. `check` is called every now and then during long
    statements and may raise to cancel them. Errors of SQLite are translated. No value may be larger
    than the file (`bound`): it may come from elsewhere.
    """
    opened = database.open_copy(path) if has_wal else database.open_immutable(path)
    with (
        contextlib.closing(opened) as connection,
        database.translated(path),
        database.interruptible(connection, check),
    ):
        bound(connection, path)
        yield connection


@contextlib.contextmanager
def reading_live(
    path: Path,
    *,
    busy_timeout_s: float = 5.0,
    leave_nothing: bool = False,
    check: Callable[[], None] = _go_on,
) -> Iterator[sqlite3.Connection]:
    """Open a live database for reading; SourceMovedError if it may have changed meanwhile.

    With `leave_nothing`, its owner also reads an idle database without side files.
    """
    reader = LiveConnection(path, busy_timeout_s=busy_timeout_s, leave_nothing=leave_nothing)
    with contextlib.closing(reader), database.translated(path):
        try:
            with database.interruptible(reader.connection, check):
                yield reader.connection
        except Exception:
            # If the file was written meanwhile, the error may not be real.
            reader.confirm()
            raise
        reader.confirm()


@contextlib.contextmanager
def writing(path: Path, *, busy_timeout_s: float = 5.0) -> Iterator[sqlite3.Connection]:
    """Open a live database for writing, in autocommit mode; never creates one.

    The side files of its application are not removed, whatever happened to its locks. Raises
    NotOwnerError if this would leave side files that the owner cannot use, and SourceLockedError
    if a process that takes no locks is in the middle of a transaction.
    """
    with contextlib.closing(LiveConnection(path, busy_timeout_s=busy_timeout_s)) as guard:
        require_owner(path, idle=guard.idle)
        _require_no_journal_in_use(path)
        with contextlib.closing(connect(path, "mode=rw", busy_timeout_s)) as writer:
            try:
                guard.touch()
            except sqlite3.OperationalError:
                if not has_hot_journal(path):
                    raise
                # Only a writer can roll it back.
                writer.execute("PRAGMA schema_version").fetchone()
                guard.touch()
            _keep_journal(writer, path)
            _flush_wholly(writer)
            try:
                yield writer
            finally:
                # The application may have switched to WAL mode meanwhile.
                with contextlib.suppress(sqlite3.Error):
                    guard.touch()


def require_owner(path: Path, *, idle: bool = False) -> None:
    """Raise NotOwnerError if a writer would leave what the owner of the database cannot use."""
    if idle or not all(side.exists() for side in side_files(path)[:2]):
        require_common(path, idle=idle)


def require_common(path: Path, *, idle: bool = False) -> None:
    """Raise NotOwnerError unless the owner of a database can use what this user makes there."""
    if idle or not (may_leave_sides(path) or is_shared_with_owner(path)):
        raise NotOwnerError(
            f"{path} belongs to uid {path.stat().st_uid}, who could not use what this user (uid "
            f"{os.geteuid()}) would leave in its folder",
            hint="run this as the owner of the database or as root",
        )


def has_hot_journal(path: Path) -> bool:
    """Return whether there is a rollback journal that SQLite would roll back.

    With `journal_mode=PERSIST` or TRUNCATE it remains after its transaction, without a header.
    """
    try:
        with beside(path, JOURNAL).open("rb") as file:
            return file.read(1) not in (b"", b"\0")
    except OSError:
        return False


def _require_no_journal_in_use(path: Path) -> None:
    """Raise SourceLockedError if the writer of a journal may be active, according to /proc."""
    found = processes.holders(path) if has_hot_journal(path) else []
    if found:
        raise SourceLockedError(
            f"{path} is in the middle of a transaction of {processes.describe(found)}, which "
            "takes no locks that SQLite respects by default",
            hint="wait until it is done, or stop it; nothing has changed",
        )


def _flush_wholly(writer: sqlite3.Connection) -> None:
    """Let SQLite flush by F_FULLFSYNC, without which macOS leaves a commit in the drive's cache."""
    writer.execute("PRAGMA fullfsync=ON")
    writer.execute("PRAGMA checkpoint_fullfsync=ON")


def _keep_journal(writer: sqlite3.Connection, path: Path) -> None:
    """Do not delete a journal that the application keeps after each transaction."""
    if beside(path, JOURNAL).exists():
        writer.execute("PRAGMA journal_mode").fetchone()
        with contextlib.suppress(sqlite3.Error):
            writer.execute("PRAGMA main.journal_mode=PERSIST").fetchone()
