"""The header fields and the schema of a database, as far as SQLite understands it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from gymdbd.source import answers
from gymdbd.source.answers import FAULTS

_NEED_SCHEMA = "SELECT 1 FROM sqlite_master LIMIT 1"
# SQLite reads a blob as the text or number in it, and its own check says nothing. It has written
# none: one flipped bit turns a text into a blob.
_WRONG_TYPES = """
    SELECT CAST(coalesce(name, '?') AS TEXT),
        typeof(type), typeof(name), typeof(tbl_name), typeof(rootpage), typeof(sql)
    FROM sqlite_master
    WHERE typeof(type) <> 'text' OR typeof(name) <> 'text' OR typeof(tbl_name) <> 'text'
        OR typeof(rootpage) NOT IN ('integer', 'null') OR typeof(sql) NOT IN ('text', 'null')
"""


@dataclass(frozen=True)
class Facts:
    """Header fields and schema of a database, read inside one transaction."""

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
        """Return the size of the whole database, with free pages and WAL pages."""
        return self.page_size * self.page_count


def read_facts(connection: sqlite3.Connection) -> Facts:
    """Read the facts of a connection's database; call it inside a transaction."""
    load_schema(connection)
    require_types(connection)

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
                # In SQLite a name may be a blob too.
                "SELECT CAST(type AS TEXT), CAST(name AS TEXT), CAST(coalesce(sql, '') AS TEXT) "
                "FROM sqlite_master ORDER BY 1, 2"
            )
        ),
    )


def table_names(facts: Facts) -> list[str]:
    """List the tables that hold rows of their own: neither SQLite's internal nor virtual ones.

    The content of a virtual table such as FTS5 is in its shadow tables, which are listed.
    """
    return [name for kind, name, sql in facts.schema if kind == "table" and holds_rows(name, sql)]


def holds_rows(name: str, sql: str) -> bool:
    """Return whether a table of the schema holds rows of its own: neither internal nor virtual."""
    return not name.startswith("sqlite_") and not sql.upper().startswith("CREATE VIRTUAL TABLE")


def load_schema(connection: sqlite3.Connection) -> None:
    """Read the schema, and omit definitions that only a newer SQLite understands.

    Then the connection `is_tolerant`, and must not change the schema. Raises sqlite3.Error as the
    first statement that needs the schema would, also if it is damaged.
    """
    try:
        connection.execute(_NEED_SCHEMA).fetchone()
    except FAULTS as error:
        _tolerate(connection, error)


def require_types(connection: sqlite3.Connection) -> None:
    """Raise sqlite3.DatabaseError if the schema holds what SQLite never writes into it.

    SQLite still reads such a database, and so do comparisons and rescues.
    """
    found = connection.execute(_WRONG_TYPES).fetchone()
    if found is not None:
        name, *types = found
        why = f"its type, name, table, page and SQL are stored as {', '.join(types)}"
        raise sqlite3.DatabaseError(f"malformed database schema ({name}) - {why}")


def _tolerate(connection: sqlite3.Connection, error: Exception) -> None:
    """Omit what only a newer SQLite understands; raise if it is not that."""
    if answers.meaning(error) != answers.NEWER_SCHEMA:
        raise error
    name, why = answers.unknown_object(error)
    connection.execute("PRAGMA writable_schema=ON")
    found = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,))
    if not any(answers.is_intact(str(sql), why) for (sql,) in found.fetchall()):
        connection.execute("PRAGMA writable_schema=RESET")
        raise sqlite3.DatabaseError(f"malformed database schema ({name}): {why}") from error


def is_tolerant(connection: sqlite3.Connection) -> bool:
    """Return whether parts of the schema were omitted because they are not understood."""
    return bool(connection.execute("PRAGMA writable_schema").fetchone()[0])


def unknown_definition(connection: sqlite3.Connection) -> str:
    """Describe the first definition that a tolerant connection has omitted."""
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
