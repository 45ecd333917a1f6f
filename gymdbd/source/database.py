"""Opening a database without harming it, and asking it about itself.

Nothing here opens a live database file behind SQLite's back: closing any descriptor of the file
drops every POSIX lock that this process holds on it, SQLite's own included.
https://www.sqlite.org/howtocorrupt.html section 2.2.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import stat
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd.source import answers, processes, statements
from gymdbd.source.errors import (
    GymdbdError,
    SourceCorruptError,
    SourceEmptyError,
    SourceLockedError,
    SourceMissingError,
    SourceNotADatabaseError,
    SourceNotAFileError,
    SourceUnreadableError,
)
from gymdbd.source.format import JOURNAL, WAL, beside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

# The first release without the WAL-reset bug, and the two older lines it was ported back to.
# https://www.sqlite.org/wal.html#walresetbug
_FIXED = (3, 51, 3)
_BACKPORTS = {(3, 44): 6, (3, 50): 7}

# SQLite takes a file of one byte for an empty one too, and removes the -wal beside either, even
# through a connection that may only read (unixFileSize, pagerOpenWalIfPresent).
_EMPTY_SIZE = 1
_SHM_BYTES = 32768

# What a statement raises. SQLite quotes what it finds in a schema, and if that is not UTF-8 Python
# fails to decode SQLite's own words.
FAULTS = (sqlite3.Error, UnicodeDecodeError)

_UNKNOWN = (answers.UNKNOWN, answers.NEWER_SCHEMA)
_UNKNOWN_COLLATION = re.compile(r"no such collation sequence: (.+)", re.DOTALL)
_UNKNOWN_FUNCTION = re.compile(r"(?:unknown|no such) function: (.+?)(?:\(\))?", re.DOTALL)
_NEED_SCHEMA = "SELECT 1 FROM sqlite_master LIMIT 1"

# Virtual machine steps between two looks at whether to go on: some milliseconds.
_STATEMENT_STEPS = 100_000


@dataclass(frozen=True)
class Facts:
    """What a database says of itself, read inside one transaction."""

    page_size: int
    page_count: int
    encoding: str
    journal_mode: str
    auto_vacuum: int
    user_version: int
    application_id: int
    schema: tuple[tuple[str, str, str], ...]

    @property
    def size_bytes(self) -> int:
        """Return the size of the whole database, free pages and WAL pages included."""
        return self.page_size * self.page_count


def has_wal_reset_bug(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> bool:
    """Say whether a library's checkpoint can lose a commit when it races with a WAL reset."""
    if version < (3, 7, 0) or version >= _FIXED:
        return False
    backport = _BACKPORTS.get((version[0], version[1]))
    return backport is None or version[2] < backport


def locate(path: Path) -> Path:
    """Resolve `path` to the file that SQLite would open, or say why there is none.

    Never opens anything, so that a pipe cannot block and no lock is touched. Raises
    SourceMissingError, SourceNotAFileError, SourceEmptyError or SourceUnreadableError.
    """
    try:
        # RuntimeError is how Python before 3.13 reports a loop of links.
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
            hint="check its symbolic links with namei -l",
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
    """Open a file of our own that nobody else has, together with its WAL.

    Who closes it for writing as the last one brings its WAL in and removes it: a live database is
    opened by gymdbd.source.live.
    """
    return connect(path, "mode=rw" if write else "mode=ro", 0.0)


def open_immutable(path: Path) -> sqlite3.Connection:
    """Open a finished backup that nobody writes: no locks, no side files, nothing changed.

    What only a newer SQLite understands of its schema is left out; see `load_schema`.
    """
    connection = connect(path, "mode=ro&immutable=1", 0.0)
    # What else is wrong the first statement tells.
    with contextlib.suppress(*FAULTS):
        load_schema(connection)
    return connection


def uri(path: Path, parameters: str) -> str:
    """Return the URI that names a file to SQLite, with `parameters` such as `mode=ro`."""
    return f"file:{urllib.parse.quote(os.fsencode(path.absolute()))}?{parameters}"


def connect(path: Path, parameters: str, busy_timeout_s: float) -> sqlite3.Connection:
    """Open a database in autocommit mode, by SQLite's parameters for its URI."""
    with translated(path):
        connection = sqlite3.connect(
            uri(path, parameters),
            uri=True,
            timeout=busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )
    # Names and texts that are not valid UTF-8 must come back as the bytes they are.
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    return connection


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn an sqlite3 error about `path` into one of ours."""
    try:
        yield
    except FAULTS as error:
        raise source_error(error, path) from error


def source_error(error: Exception, path: Path) -> GymdbdError:
    """Say what one of FAULTS means for the database at `path`."""
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
    hint = _unknown_hint() if kind in _UNKNOWN else _unreadable_hint(path)
    return SourceUnreadableError(f"{path} cannot be read ({text})", hint=hint)


def corrupt(path: Path, problems: tuple[str, ...]) -> SourceCorruptError:
    """Build the error for a database that SQLite finds damaged."""
    return SourceCorruptError(
        f"{path} is damaged: {'; '.join(problems[:3])}",
        hint="stop the application and restore the newest good backup (gymdbd list); "
        "earlier backups are kept and nothing is pruned meanwhile",
        problems=problems,
    )


def _is_full(folder: Path) -> bool:
    """Say whether a disk has no room for what SQLite makes beside a database."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    blocks, nodes = disk.f_bavail, disk.f_favail
    if os.geteuid() == 0:
        blocks, nodes = disk.f_bfree, disk.f_ffree
    return blocks * disk.f_frsize < _SHM_BYTES or (disk.f_files > 0 and not nodes)


def _unknown_hint() -> str:
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
    """Call `check` every now and then during long statements; what it raises ends them."""
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


def read_facts(connection: sqlite3.Connection) -> Facts:
    """Ask a connection for the facts of its database; call it inside a transaction."""
    load_schema(connection)

    def pragma(name: str) -> int:
        return int(connection.execute(f"PRAGMA {name}").fetchone()[0])

    return Facts(
        page_size=pragma("page_size"),
        page_count=pragma("page_count"),
        encoding=str(connection.execute("PRAGMA encoding").fetchone()[0]),
        journal_mode=str(connection.execute("PRAGMA journal_mode").fetchone()[0]),
        auto_vacuum=pragma("auto_vacuum"),
        user_version=pragma("user_version"),
        application_id=pragma("application_id"),
        schema=tuple(
            connection.execute(
                # SQLite takes a blob for a name as well.
                "SELECT CAST(type AS TEXT), CAST(name AS TEXT), CAST(coalesce(sql, '') AS TEXT) "
                "FROM sqlite_master ORDER BY 1, 2"
            )
        ),
    )


def table_names(facts: Facts) -> list[str]:
    """List the tables that hold rows of their own: neither SQLite's internal nor virtual ones.

    The content of a virtual table such as FTS5 lies in its shadow tables, which are listed.
    """
    return [name for kind, name, sql in facts.schema if kind == "table" and holds_rows(name, sql)]


def holds_rows(name: str, sql: str) -> bool:
    """Say whether a table of the schema holds rows of its own: neither internal nor virtual."""
    return not name.startswith("sqlite_") and not sql.upper().startswith("CREATE VIRTUAL TABLE")


def count_rows(connection: sqlite3.Connection, facts: Facts) -> dict[str, int]:
    """Count the rows of every table; call it inside a transaction.

    A table that this SQLite does not understand is left out.
    """
    counts = {}
    with StandIns(connection) as stand_ins:
        for name in table_names(facts):
            try:
                found = stand_ins.execute(f"SELECT count(*) FROM {quote(name)}").fetchone()  # noqa: S608 - quoted
            except sqlite3.Error as error:
                if answers.meaning(error) != answers.UNKNOWN:
                    raise
            else:
                counts[name] = int(found[0])
    return counts


def uncounted(facts: Facts, rows: Mapping[str, int]) -> list[str]:
    """Name the tables that `count_rows` has left out."""
    return [name for name in table_names(facts) if name not in rows]


def ask(connection: sqlite3.Connection, sql: str) -> sqlite3.Cursor:
    """Execute a statement whose answer does not depend on how text is sorted.

    A collation that only the application knows is stood in for: SQLite refuses even to count the
    rows of a table whose collation it has not got. The stand-ins stay; see `StandIns`.
    """
    return StandIns(connection, functions=False).execute(sql)


class StandIns:
    """What the application alone has, stood in for while a statement is answered.

    A collation sorts by bytes, a function answers NULL: good enough for an answer that depends on
    neither. Leaving the block takes them away, because no later answer may depend on them: SQLite
    then says of a function that it failed, which it does not forget, instead of that it is unknown.
    """

    def __init__(self, connection: sqlite3.Connection, *, functions: bool = True) -> None:
        self._connection = connection
        self._functions = functions
        self._made: dict[tuple[str, str], None] = {}

    def __enter__(self) -> StandIns:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Take the stand-ins away."""
        for kind, name in self._made:
            if kind == "collation":
                self._connection.create_collation(name, None)
            else:
                self._connection.create_function(name, -1, None)

    def execute(self, sql: str) -> sqlite3.Cursor:
        """Execute a statement, with as many stand-ins as it needs."""
        while True:
            try:
                return statements.execute(self._connection, sql)
            except sqlite3.OperationalError as error:
                if not self._make(str(error)):
                    raise

    def _make(self, text: str) -> bool:
        """Stand in for what an error says is missing, if that has not been tried."""
        collation, function = _UNKNOWN_COLLATION.fullmatch(text), _UNKNOWN_FUNCTION.fullmatch(text)
        if collation:
            found = ("collation", collation[1])
        elif function and self._functions:
            found = ("function", function[1])
        else:
            return False
        if found in self._made:
            return False
        self._made[found] = None
        if collation:
            self._connection.create_collation(
                found[1], lambda one, other: (one > other) - (one < other)
            )
        else:
            self._connection.create_function(found[1], -1, lambda *_: None, deterministic=True)
        return True


def load_schema(connection: sqlite3.Connection) -> None:
    """Read the schema, and leave out what only a newer SQLite understands.

    Then the connection `is_tolerant`; it must not be one that changes the schema. Raises
    sqlite3.Error as the first statement that needs the schema would, for a damaged one too.
    """
    try:
        connection.execute(_NEED_SCHEMA).fetchone()
    except FAULTS as error:
        if answers.meaning(error) != answers.NEWER_SCHEMA:
            raise
        name, why = answers.unknown_object(error)
        connection.execute("PRAGMA writable_schema=ON")
        found = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,))
        if not any(answers.is_intact(str(sql), why) for (sql,) in found.fetchall()):
            connection.execute("PRAGMA writable_schema=RESET")
            raise sqlite3.DatabaseError(f"malformed database schema ({name}): {why}") from error


def is_tolerant(connection: sqlite3.Connection) -> bool:
    """Say whether parts of the schema have been left out because they are not understood."""
    return bool(connection.execute("PRAGMA writable_schema").fetchone()[0])


def unknown_definition(connection: sqlite3.Connection) -> str:
    """Name what a tolerant connection has left out: the first of it, which SQLite tells."""
    connection.execute("PRAGMA writable_schema=RESET")
    try:
        connection.execute(_NEED_SCHEMA).fetchone()
    except FAULTS as error:
        name, why = answers.unknown_object(error)
        return f"what its schema says of {name} ({why})"
    finally:
        connection.execute("PRAGMA writable_schema=ON")
    return "a part of its schema"


def quote(name: str) -> str:
    """Quote an identifier for SQL. https://www.sqlite.org/lang_keywords.html."""
    return '"' + name.replace('"', '""') + '"'


def _empty(real: Path, path: Path) -> SourceEmptyError:
    """Build the error for a file without content; nothing may open it, not even to read."""
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
