"""Tables of every kind for the tests that look inside databases: odd names, types and keys."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from pathlib import Path

Row = tuple[Any, ...]

NAMES = ["t", "two words", "it's", 'say "hi"', "회원", "select", "new\nline", "[a]", "100%", "main"]

_LARGEST = 2**63 - 1

INTEGERS = st.integers(-_LARGEST - 1, _LARGEST) | st.sampled_from(
    [0, 1, -1, 2**53, 2**53 + 1, _LARGEST, -_LARGEST - 1]
)
FLOATS = st.floats(allow_nan=False) | st.sampled_from(
    [0.0, 1.0, 0.1, float("inf"), float("-inf"), 5e-324, 1.7976931348623157e308, 2.0**53]
)
TEXTS = st.text() | st.sampled_from(
    ["", "a", "A", "a ", "it's", "김회원", "a\0b", "\0", "one\r\ntwo", "1", "1.0", "\x1b[2J"]
)
# Text that SQLite holds and that is no UTF-8; Python's lone surrogates stand for its bytes.
BROKEN_TEXTS = st.binary(max_size=6).map(lambda data: data.decode("utf-8", "surrogateescape"))
BLOBS = st.binary(max_size=20)
VALUES = st.one_of(st.none(), INTEGERS, FLOATS, TEXTS, BLOBS)


def quoted(name: str) -> str:
    """Quote an identifier."""
    return '"' + name.replace('"', '""') + '"'


def make(path: Path, *statements: str | tuple[str, list[Row]]) -> Path:
    """Create a database by statements; one with rows is executed for each of them."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("BEGIN")
        for statement in statements:
            if isinstance(statement, str):
                connection.execute(statement)
            else:
                connection.executemany(*statement)
        connection.execute("COMMIT")
    return path


def read(path: Path, table: str, columns: str = "*") -> list[Row]:
    """Return the rows of a table with the type of each value, texts as the bytes they are."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        rows = connection.execute(f"SELECT {columns} FROM {quoted(table)}").fetchall()
    return [tuple((type(value), value) for value in row) for row in rows]
