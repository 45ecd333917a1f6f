"""Databases that somebody made to do harm: SQLite and gymdbd get them as any other file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

Maker = Callable[[Path], Path]

PAGE = 4096
_FREELIST, _FREE_COUNT = 32, 36

# Definitions with an expression that is small where the file is made, and its harmful form.
GIGABYTES = "length(hex(zeroblob(450000000 + a)))"
# One step of SQLite that compares each of so many positions with half of so many bytes.
HOURS = "instr(zeroblob(900000000 + a), zeroblob(450000000) || x'01')"
_SMALL = "length(hex(zeroblob(4 + a)))"

DEFINITIONS = {
    "index": f"CREATE INDEX harm ON t (a, {_SMALL})",
    "partial index": f"CREATE INDEX harm ON t (a) WHERE {_SMALL} > 0",
    "check": f"CREATE TABLE harm (a, CHECK ({_SMALL} > 0))",
    "generated column": f"CREATE TABLE harm (a, b AS ({_SMALL}) NOT NULL)",
    "view": f"CREATE VIEW harm AS SELECT a, {_SMALL} AS b FROM t",
    "trigger": f"CREATE TRIGGER harm AFTER INSERT ON t BEGIN SELECT {_SMALL} FROM t; END",
}


def with_expression(path: Path, kind: str, expression: str) -> Path:
    """Make a small database with a harmful expression in a definition of this kind."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a)")
        connection.execute(DEFINITIONS[kind])
        connection.execute("INSERT INTO t (a) VALUES (1), (2), (3)")
        if "TABLE harm" in DEFINITIONS[kind]:
            connection.execute("INSERT INTO harm (a) VALUES (1), (2), (3)")
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = replace(sql, ?, ?)", (_SMALL, expression)
        )
    return path


def _pages(path: Path) -> Path:
    """Make a database with a table over several pages, a chain of overflow pages and free pages."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size={PAGE}")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a)")
        connection.execute("CREATE INDEX i ON t (a)")
        connection.execute("CREATE TABLE gone (a)")
        connection.executemany("INSERT INTO gone VALUES (?)", [(bytes(3000),)] * 20)
        connection.executemany("INSERT INTO t (a) VALUES (?)", [(bytes(900),)] * 40)
        connection.execute("INSERT INTO t (a) VALUES (?)", (bytes(9 * PAGE),))
        connection.execute("DROP TABLE gone")
    return path


def _root(path: Path, name: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,))
        return int(found.fetchone()[0])


def _write(path: Path, at: int, *numbers: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"".join(number.to_bytes(4, "big") for number in numbers))


def freelist_of_itself(path: Path) -> Path:
    """Let the first trunk of the free pages name itself as the next, of four thousand million."""
    data = _pages(path).read_bytes()
    trunk = int.from_bytes(data[_FREELIST : _FREELIST + 4], "big")
    _write(path, _FREE_COUNT, 2**32 - 1)
    _write(path, (trunk - 1) * PAGE, trunk)
    return path


def tree_of_itself(path: Path) -> Path:
    """Let the root of a table name itself as its rightmost child."""
    root = _root(_pages(path), "t")
    _write(path, (root - 1) * PAGE + 8, root)
    return path


def overflow_of_itself(path: Path) -> Path:
    """Let every overflow page of the large value name itself as the next."""
    data = _pages(path).read_bytes()
    for at in range(PAGE, len(data), PAGE):
        following = int.from_bytes(data[at : at + 4], "big")
        if following == at // PAGE + 2 and not any(data[at + 8 : at + PAGE]):
            _write(path, at, at // PAGE + 1)
    return path


LOOPS: dict[str, Maker] = {
    "freelist": freelist_of_itself,
    "tree": tree_of_itself,
    "overflow": overflow_of_itself,
}


def with_many_values(path: Path) -> Path:
    """Make a database with an index of a thousand values, each as large as the file may have."""
    count = 1000
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a)")
        names = ", ".join(f"{_SMALL} + {number}" for number in range(count))
        connection.execute(f"CREATE INDEX harm ON t ({names})")
        connection.execute("INSERT INTO t (a) VALUES (1)")
        values = ", ".join(f"hex(zeroblob(500000 + a * {number}))" for number in range(count))
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = ? WHERE name = 'harm'",
            (f"CREATE INDEX harm ON t ({values})",),
        )
    return path


def with_an_endless_step(path: Path) -> Path:
    """Make a database of 8 MB in which SQLite needs an hour for a single step of its check."""
    endless = "instr(zeroblob(8000000 + a), zeroblob(4000000) || x'01')"
    with_expression(path, "index", endless)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE filler AS SELECT zeroblob(8400000) AS a")
    return path
