"""Opening a database without harming it, and translating errors.

Only SQLite opens a live database file here: closing any other descriptor of the file drops all
POSIX locks that this process holds on it, even SQLite's own.
https://www.sqlite.org/howtocorrupt.html section 2.2.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import urllib.parse
from typing import TYPE_CHECKING

from gymdbd.source import answers, processes, schema
from gymdbd.source.errors import (
    GymdbdError,
    SourceCorruptError,
    SourceEmptyError,
    SourceLockedError,
    SourceMissingError,
    SourceNotADatabaseError,
    SourceNotAFileError,
    SourceUnreadableError,
    SourceUnreadError,
)
from gymdbd.source.format import JOURNAL, WAL, beside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# The first release without the WAL-reset bug, and the two older lines it was ported back to.
# https://www.sqlite.org/wal.html#walresetbug
_FIXED = (3, 51, 3)
_BACKPORTS = {(3, 44): 6, (3, 50): 7}

# SQLite also treats a file of one byte as empty, and removes the -wal of an empty file, even
# through a read-only connection (unixFileSize, pagerOpenWalIfPresent).
_EMPTY_SIZE = 1
_SHM_BYTES = 32768

_UNKNOWN = (answers.UNKNOWN, answers.NEWER_SCHEMA)

# Virtual machine steps between two calls of `check`: some milliseconds.
_STATEMENT_STEPS = 100_000


def has_wal_reset_bug(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> bool:
    """Return whether a checkpoint of this SQLite can lose a commit if it races with a WAL reset."""
    if version < (3, 7, 0) or version >= _FIXED:
        return False
    backport = _BACKPORTS.get((version[0], version[1]))
    return backport is None or version[2] < backport


def locate(path: Path) -> Path:
    """Resolve `path` to the file that SQLite would open.

    Nothing is opened, so a pipe cannot block and no lock is affected. Raises SourceMissingError,
    SourceNotAFileError, SourceEmptyError or SourceUnreadableError.
    """
    try:
        # Python before 3.13 raises RuntimeError for a loop of links.
        real = path.resolve(strict=True)
        facts = real.stat()
    except FileNotFoundError as error:
        raise SourceMissingError(
            f"there is no database at {path}",
            hint="check the path; gymdbd never creates a database that it is to protect",
        ) from error
    except PermissionError as error:
        raise _denied(path) from error
    except (OSError, RuntimeError) as error:
        raise SourceNotAFileError(
            f"{path} cannot be followed to a file: {error}",
            hint="look at each symbolic link in it (ls -l)",
        ) from error
    if not stat.S_ISREG(facts.st_mode):
        raise SourceNotAFileError(
            f"{path} is a {_kind(facts.st_mode)}, not a database file",
            hint="name the .db file itself",
        )
    if not os.access(real, os.R_OK):
        raise _denied(path)
    if facts.st_size <= _EMPTY_SIZE:
        raise _empty(real, path)
    return real


def open_copy(path: Path, *, write: bool = False) -> sqlite3.Connection:
    """Open a private file with its WAL.

    The last connection that is open for writing checkpoints the WAL and removes it; so a live
    database must be opened by gymdbd.source.live.
    """
    return connect(path, "mode=rw" if write else "mode=ro", 0.0)


def open_immutable(path: Path) -> sqlite3.Connection:
    """Open a finished backup that nobody writes, without locks or side files.

    Definitions that only a newer SQLite understands are omitted; see `load_schema`.
    """
    connection = connect(path, "mode=ro&immutable=1", 0.0)
    # If there is an error, the first statement raises it again.
    with contextlib.suppress(*answers.FAULTS):
        schema.load_schema(connection)
    return connection


def uri(path: Path, parameters: str) -> str:
    """Return SQLite's URI of a file, with `parameters` such as `mode=ro`."""
    return f"file:{urllib.parse.quote(os.fsencode(path.absolute()))}?{parameters}"


def connect(path: Path, parameters: str, busy_timeout_s: float) -> sqlite3.Connection:
    """Open a database in autocommit mode, with `parameters` of SQLite's URI.

    Its content and schema may be anybody's: no expression in it calls a function that is not
    harmless, and a page with impossible cells is damage, whatever else SQLite would make of it.
    """
    with translated(path):
        connection = sqlite3.connect(
            uri(path, parameters),
            uri=True,
            timeout=busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("PRAGMA cell_size_check=ON")
    # Bytes that are not valid UTF-8 in names and texts must be preserved.
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    return connection


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Translate an sqlite3 error about `path`."""
    try:
        yield
    except answers.FAULTS as error:
        raise source_error(error, path) from error


def source_error(error: Exception, path: Path) -> GymdbdError:
    """Translate one of answers.FAULTS, raised for the database at `path`."""
    text, kind = answers.words(error), answers.meaning(error)
    if kind == answers.NOT_A_DATABASE:
        return SourceNotADatabaseError(
            f"{path} is not an SQLite database ({text})",
            hint="check the path; an encrypted database needs its own tools",
        )
    if kind == answers.DAMAGED:
        return corrupt(path, (text,))
    if kind == answers.LOCKED:
        holders = processes.lock_holders(path) or processes.holders(path)
        return SourceLockedError(
            f"{path} stayed locked by {processes.describe(holders)} ({text})",
            hint="wait for it to finish, or raise busy_timeout; a process that uses "
            "locking_mode=EXCLUSIVE lets nobody else read",
        )
    if kind not in _UNKNOWN and _is_full(path.parent):
        return SourceUnreadableError(
            f"{path} cannot be used: the disk that it lies on is full ({text})",
            hint=f"free some space (df -h {path.parent}): SQLite needs some for its -shm file",
        )
    if kind == answers.UNREAD:
        return unread(path, text)
    hint = _unknown_hint(text) if kind in _UNKNOWN else _unreadable_hint(path)
    return SourceUnreadableError(f"{path} cannot be read ({text})", hint=hint)


def unread(path: Path, reason: str) -> SourceUnreadError:
    """Build the error for a database whose bytes its disk does not give back."""
    return SourceUnreadError(
        f"{path} cannot be read ({reason})",
        hint="look whether its disk is failing (dmesg; if so, run gymdbd emergency on the "
        "machine that pulls it), or somebody cut or replaced its -wal under the application; "
        "earlier backups are kept and nothing is pruned meanwhile",
    )


def corrupt(path: Path, problems: tuple[str, ...]) -> SourceCorruptError:
    """Build the error for a database that SQLite finds damaged."""
    return SourceCorruptError(
        f"{path} is damaged: {'; '.join(problems[:3])}",
        hint="stop the application and restore the newest good backup (gymdbd list); "
        "earlier backups are kept and nothing is pruned meanwhile",
        problems=problems,
    )


def _is_full(folder: Path) -> bool:
    """Return whether a disk has no space for SQLite's side files."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    blocks, nodes = disk.f_bavail, disk.f_favail
    if os.geteuid() == 0:
        blocks, nodes = disk.f_bfree, disk.f_ffree
    return blocks * disk.f_frsize < _SHM_BYTES or (disk.f_files > 0 and not nodes)


def _unknown_hint(text: str) -> str:
    if answers.is_too_big(text):
        return (
            "an expression in its schema makes a value that is larger than the file itself, or "
            "than the memory here: look at its indexes and generated columns (sqlite3 -readonly, "
            ".schema); it is not damaged for all that"
        )
    return (
        f"the database uses what SQLite {sqlite3.sqlite_version} here has not got, of the "
        "application or of a newer SQLite; it is not damaged for all that"
    )


def _unreadable_hint(path: Path) -> str:
    journal = beside(path, JOURNAL)
    if _has_content(journal):
        return (
            f"a crash left {journal.name} behind: start the application once, or run "
            f"sqlite3 with a query on the database, so that SQLite rolls it back"
        )
    return (
        f"let this user (uid {os.geteuid()}) read the database and read and write its -shm "
        f"file in {path.parent}; the disk may also be failing (dmesg)"
    )


@contextlib.contextmanager
def interruptible(connection: sqlite3.Connection, check: Callable[[], None]) -> Iterator[None]:
    """Call `check` every now and then during long statements; it may raise to cancel them."""
    raised: list[Exception] = []

    def handler() -> int:
        try:
            check()
        except Exception as error:  # noqa: BLE001 - carried across SQLite's C code, raised below
            raised.append(error)
        return len(raised)

    connection.set_progress_handler(handler, _STATEMENT_STEPS)
    try:
        yield
    except sqlite3.OperationalError:
        if raised:
            raise raised[0] from None
        raise
    finally:
        connection.set_progress_handler(None, 0)


def _empty(real: Path, path: Path) -> SourceEmptyError:
    """Build the error for an empty file; nothing may open it, not even for reading."""
    wal = beside(real, WAL)
    if _has_content(wal):
        hint = (
            f"copy it and {wal} away before any program opens it: SQLite removes the -wal of an "
            "empty database, and that still holds changes; earlier backups are kept"
        )
    else:
        hint = (
            "check that the application has created it and that the disk was not full; "
            "earlier backups are kept"
        )
    return SourceEmptyError(f"{path} is empty: it is not a database yet, or no longer", hint=hint)


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISFIFO(mode):
        return "pipe"
    if stat.S_ISSOCK(mode):
        return "socket"
    return "device"


def _denied(path: Path) -> SourceUnreadableError:
    return SourceUnreadableError(
        f"{path} cannot be read: permission denied for uid {os.geteuid()}",
        hint="run as the database's owner, or let this user's group read the database and "
        "read and write its -shm file",
    )
