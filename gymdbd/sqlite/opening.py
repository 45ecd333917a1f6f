"""Opening a database on this machine: any for reading, a live one for writing.

A writer is never the last to close. An application that has opened and closed its own database
file has lost its POSIX locks (https://www.sqlite.org/howtocorrupt.html section 2.2). SQLite in this
process then takes itself for the last user, and closing a read-write connection removes the -wal
that the application goes on writing. A read-only connection that was opened before and is closed
after keeps SQLite from it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING

from gymdbd.source import database, processes
from gymdbd.source.database import connect
from gymdbd.source.errors import NotOwnerError, SourceLockedError
from gymdbd.source.format import JOURNAL, beside, side_files
from gymdbd.source.live import LiveConnection, is_shared_with_owner, may_leave_sides

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def _go_on() -> None:
    """Let a long statement go on."""


@contextlib.contextmanager
def reading(
    path: Path, *, has_wal: bool = False, check: Callable[[], None] = _go_on
) -> Iterator[sqlite3.Connection]:
    """Open a file of our own for reading, that nobody writes: a backup, a copy, a replica.

    SQLite reads its WAL only if it `has_wal`. `check` is called every now and then during long
    statements, and what it raises ends them. An error of SQLite's becomes one of ours.
    """
    opened = database.open_copy(path) if has_wal else database.open_immutable(path)
    with (
        contextlib.closing(opened) as connection,
        database.translated(path),
        database.interruptible(connection, check),
    ):
        yield connection


@contextlib.contextmanager
def reading_live(
    path: Path,
    *,
    busy_timeout_s: float = 5.0,
    leave_nothing: bool = False,
    check: Callable[[], None] = _go_on,
) -> Iterator[sqlite3.Connection]:
    """Do as `reading` with a live database; SourceMovedError if it did not stand still meanwhile.

    With `leave_nothing` an idle one is read without side files by its owner as well.
    """
    reader = LiveConnection(path, busy_timeout_s=busy_timeout_s, leave_nothing=leave_nothing)
    with contextlib.closing(reader), database.translated(path):
        try:
            with database.interruptible(reader.connection, check):
                yield reader.connection
        except Exception:
            # What is wrong with a file that is written meanwhile is nothing that is wrong with it.
            reader.confirm()
            raise
        reader.confirm()


@contextlib.contextmanager
def writing(path: Path, *, busy_timeout_s: float = 5.0) -> Iterator[sqlite3.Connection]:
    """Open a live database for writing, in autocommit mode; never creates one.

    What its application has beside it stays there, whatever happened to the application's locks.
    Raises NotOwnerError if the side files that this would leave were of no use to the owner, and
    SourceLockedError if somebody who takes no locks is in the middle of a transaction.
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
                # Only who may write can roll it back.
                writer.execute("PRAGMA schema_version").fetchone()
                guard.touch()
            _keep_journal(writer, path)
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
    """Say whether a rollback journal waits that SQLite would roll back.

    One of `journal_mode=PERSIST` or TRUNCATE stays after its transaction, without its first byte.
    """
    try:
        with beside(path, JOURNAL).open("rb") as file:
            return file.read(1) not in (b"", b"\0")
    except OSError:
        return False


def _require_no_journal_in_use(path: Path) -> None:
    """Leave a journal alone whose writer may be at work: without locks only /proc tells."""
    found = processes.holders(path) if has_hot_journal(path) else []
    if found:
        raise SourceLockedError(
            f"{path} is in the middle of a transaction of {processes.describe(found)}, which "
            "takes no locks that SQLite respects by default",
            hint="wait until it is done, or stop it; nothing has changed",
        )


def _keep_journal(writer: sqlite3.Connection, path: Path) -> None:
    """Leave a journal where it is if the application keeps its own after each transaction."""
    if beside(path, JOURNAL).exists():
        writer.execute("PRAGMA journal_mode").fetchone()
        with contextlib.suppress(sqlite3.Error):
            writer.execute("PRAGMA main.journal_mode=PERSIST").fetchone()
