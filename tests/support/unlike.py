"""Databases that this SQLite cannot check as a whole, and those that break their constraints."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_ROWS = "INSERT INTO members(at) VALUES ('2026-01-01'), ('2025-01-01')"
_TABLE = "CREATE TABLE members(id INTEGER PRIMARY KEY, at TEXT)"
# Statements that make a database, by what is odd about it. Each has a table `members` of two rows
# (in `newer table` SQLite cannot count it) and a table `plain` of one.
UNCHECKABLE = {
    "function in an index": (_TABLE, "CREATE INDEX y ON members(year_of(at))", _ROWS),
    "function in a partial index": (
        _TABLE,
        "CREATE INDEX y ON members(at) WHERE year_of(at) > 2000",
        _ROWS,
    ),
    "function in a generated column": (
        (
            "CREATE TABLE members(id INTEGER PRIMARY KEY, at TEXT, "
            "y INT AS (year_of(at)) VIRTUAL NOT NULL)"
        ),
        _ROWS,
    ),
    "function in an indexed generated column": (
        (
            "CREATE TABLE members(id INTEGER PRIMARY KEY, at TEXT, "
            "y INT AS (year_of(at)) VIRTUAL NOT NULL)"
        ),
        "CREATE INDEX by_y ON members(y)",
        _ROWS,
    ),
    "collation of a key": (
        "CREATE TABLE members(at TEXT COLLATE dictionary PRIMARY KEY) WITHOUT ROWID",
        _ROWS,
    ),
    "collation of an index": (
        "CREATE TABLE members(at TEXT COLLATE dictionary)",
        "CREATE UNIQUE INDEX by_at ON members(at)",
        _ROWS,
    ),
    "collation of a parent key": (
        "CREATE TABLE days(at TEXT COLLATE dictionary PRIMARY KEY)",
        "INSERT INTO days VALUES ('2026-01-01'), ('2025-01-01')",
        "CREATE TABLE members(at TEXT REFERENCES days(at))",
        _ROWS,
    ),
    "module": (
        _TABLE,
        _ROWS,
        "CREATE VIRTUAL TABLE texts USING fts5(body)",
        "INSERT INTO texts VALUES ('hello')",
        "PRAGMA writable_schema=ON",
        (
            "UPDATE sqlite_master SET sql='CREATE VIRTUAL TABLE texts USING korean(body)' "
            "WHERE name='texts'"
        ),
    ),
    "tokenizer": (
        _TABLE,
        _ROWS,
        "CREATE VIRTUAL TABLE texts USING fts5(body)",
        "INSERT INTO texts VALUES ('hello')",
        "PRAGMA writable_schema=ON",
        (
            "UPDATE sqlite_master SET sql='CREATE VIRTUAL TABLE texts USING fts5(body, "
            "tokenize=''korean'')' WHERE name='texts'"
        ),
    ),
    "newer view": (
        _TABLE,
        _ROWS,
        "CREATE VIEW ages AS SELECT 1",
        "PRAGMA writable_schema=ON",
        (
            "UPDATE sqlite_master SET sql='CREATE VIEW ages AS SELECT group_concat(at, '','' "
            "ORDER BY at) FROM members' WHERE name='ages'"
        ),
    ),
    "newer trigger": (
        _TABLE,
        _ROWS,
        "CREATE TRIGGER gone AFTER DELETE ON members BEGIN SELECT 1; END",
        "PRAGMA writable_schema=ON",
        (
            "UPDATE sqlite_master SET sql='CREATE TRIGGER gone AFTER DELETE ON members BEGIN "
            "SELECT raise(ABORT, ''id '' || old.id); END' WHERE name='gone'"
        ),
    ),
    "newer index": (
        _TABLE,
        _ROWS,
        "CREATE INDEX young ON members(at)",
        "PRAGMA writable_schema=ON",
        (
            "UPDATE sqlite_master SET sql='CREATE INDEX young ON members(at) WHERE id < 1_000' "
            "WHERE name='young'"
        ),
    ),
    "newer table": (
        _TABLE,
        _ROWS,
        "CREATE INDEX young ON members(at)",
        "PRAGMA writable_schema=ON",
        (
            "UPDATE sqlite_master SET sql='CREATE TABLE members(id INTEGER PRIMARY KEY, at TEXT, "
            "CHECK (id < 1_000))' WHERE name='members'"
        ),
    ),
}
_BROKEN = "INSERT INTO members(at) VALUES (NULL), ('x')"
VIOLATED = {
    "NULL": (
        _TABLE,
        _BROKEN,
        "PRAGMA writable_schema=ON",
        (
            "UPDATE sqlite_master SET sql='CREATE TABLE members(id INTEGER PRIMARY KEY, "
            "at TEXT NOT NULL)' WHERE name='members'"
        ),
    ),
    "type": (
        _TABLE,
        _BROKEN,
        "PRAGMA writable_schema=ON",
        (
            "UPDATE sqlite_master SET sql='CREATE TABLE members(id INTEGER PRIMARY KEY, at INT) "
            "STRICT' WHERE name='members'"
        ),
    ),
}


def year_of(text: str) -> int:
    """Return the year of a date: what the application's function does."""
    return int(text[:4])


def as_application(path: Path) -> sqlite3.Connection:
    """Open a database as the application does that has what SQLite here lacks."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.create_function("year_of", 1, year_of, deterministic=True)
    connection.create_collation("dictionary", lambda one, other: (one < other) - (one > other))
    return connection


def make(path: Path, statements: tuple[str, ...], *, wal: bool = False) -> Path:
    """Make a database of such statements, and close it."""
    with closing(as_application(path)) as connection:
        if wal:
            connection.execute("PRAGMA journal_mode=WAL")
        for sql in ("CREATE TABLE plain(x)", "INSERT INTO plain VALUES (1)", *statements):
            connection.execute(sql)
    return path


def spoil_schema(path: Path, name: str, pattern: str, by: str) -> None:
    """Put other text into a definition, as a failing disk does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        (sql,) = connection.execute(
            "SELECT sql FROM sqlite_master WHERE name = ?", (name,)
        ).fetchone()
        spoilt = re.sub(pattern, by, sql)
        connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (spoilt, name))
