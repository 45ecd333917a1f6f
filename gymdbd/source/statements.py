"""Statements with names that are no UTF-8, as old programs on Windows and in PHP left them.

SQLite takes any bytes for a name, and Python hands it no statement that is not UTF-8. What SQLite
finds in a schema it does read as it is: such a query becomes a view of the connection's own
temporary schema, which lies in memory and is seen by nobody else.

In Python each byte of such a name stands as a lone surrogate, U+DCF6 for 0xF6 (PEP 383).
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Union

_VIEW = "gymdbd_query"
_TABLES = ("gymdbd_one", "gymdbd_other")


def execute(connection: sqlite3.Connection, query: str, columns: int = 1) -> sqlite3.Cursor:
    """Execute a SELECT of so many columns, whatever its names are made of.

    Raises what `execute` of the connection does.
    """
    try:
        return connection.execute(query)
    except UnicodeEncodeError:
        return connection.execute(as_view(connection, query, columns))


def as_view(connection: sqlite3.Connection, query: str, columns: int = 1, name: str = _VIEW) -> str:
    """Define the temporary view `name` as a query, and return the statement that reads it.

    A view of that name is replaced.
    """
    # Once it is in use it stays where it is: at worst in a temporary file without a name.
    with contextlib.suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA temp_store=MEMORY")
    # Names of its own for the columns: Python must be able to read these as well.
    names = ", ".join(f"c{number}" for number in range(columns))
    sql = encode(f"CREATE VIEW {name} ({names}) AS {query}", encoding_of(connection))
    (setting,) = connection.execute("PRAGMA writable_schema").fetchone()
    connection.execute("SAVEPOINT gymdbd_view")
    try:
        _define(connection, name, sql)
    except BaseException:
        connection.execute("ROLLBACK TO gymdbd_view")
        raise
    finally:
        connection.execute("RELEASE gymdbd_view")
        connection.execute(f"PRAGMA writable_schema={setting}")
    return f"SELECT * FROM temp.{name}"  # noqa: S608 - a name of ours


def _define(connection: sqlite3.Connection, name: str, sql: bytes) -> None:
    there = connection.execute(
        "SELECT name FROM sqlite_temp_master WHERE name IN (?, ?)", _TABLES
    ).fetchone()
    if there is None:
        connection.execute(f"CREATE TEMP TABLE {_TABLES[0]} (a)")
    table, other = _TABLES if there in (None, _TABLES[:1]) else reversed(_TABLES)
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute("DELETE FROM sqlite_temp_master WHERE name = ?", (name,))
    connection.execute(
        "INSERT INTO sqlite_temp_master VALUES ('view', ?, ?, 0, CAST(? AS TEXT))",
        (name, name, sql),
    )
    # Lets SQLite read the temporary schema anew, and not that of the database, which may be large.
    connection.execute(f"ALTER TABLE temp.{table} RENAME TO {other}")


def argument(connection: sqlite3.Connection, text: str) -> Union[str, bytes]:
    """Return what is to be bound so that `CAST(? AS TEXT)` is `text`."""
    return text if is_text(text) else encode(text, encoding_of(connection))


def is_text(text: str) -> bool:
    """Return whether a text is UTF-8, so that Python hands it to SQLite as it is."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def encode(text: str, encoding: str) -> bytes:
    """Return the bytes of a text in the encoding of its database, valid or not."""
    data = text.encode("utf-8", "surrogateescape")
    if encoding == "UTF-8":
        return data
    return data.decode("utf-8", "surrogatepass").encode(encoding, "surrogatepass")


def encoding_of(connection: sqlite3.Connection) -> str:
    """Return the encoding of a connection's databases: UTF-8, UTF-16le or UTF-16be."""
    return str(connection.execute("PRAGMA encoding").fetchone()[0])
