"""Reading the rows of a table: of any width, and with values too large to be in memory twice.

SQLite returns at most 2,000 columns at once, and Python copies every value; the copy of a text may
take four times its size. So a row that is too wide is read in parts, and a large value is returned
as a `Large`, which can be read in pieces.
"""

from __future__ import annotations

import pickle
import secrets
import sqlite3
import tempfile
from typing import TYPE_CHECKING, Any

from gymdbd.rows.large import LARGE, Large
from gymdbd.rows.literals import Literals
from gymdbd.source import statements
from gymdbd.source.schema import quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gymdbd.rows.tables import Table

_GROUP = 60


class Fetch:
    """Fetches rows of one table of a connection; `columns` are its own or the rowid."""

    def __init__(
        self, connection: sqlite3.Connection, table: Table, schema: str, columns: Sequence[str]
    ) -> None:
        self.connection = connection
        self.source = f"{schema}.{quote(table.name)}"
        self.columns = list(columns)
        self.identity = (
            [table.rowid] if table.rowid else list(table.key.columns if table.key else ())
        )
        self.most = connection.getlimit(sqlite3.SQLITE_LIMIT_COLUMN)
        self.encoding = statements.encoding_of(connection)
        # The stand-in for an unknown collation must not be used to find a row.
        self._order = " COLLATE BINARY" if table.is_sorted_by_application else ""
        self.in_parts = bool(self.identity) and (
            len(self.columns) > self.most or self._has_large(schema)
        )

    def rows(self, rest: str, name: str) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of `FROM rest`; `name` is the quoted name of the table in it."""
        if not self.in_parts:
            yield from _select(self.connection, _listed(self.columns, name), rest)
            return
        wanted = _listed(self.identity, name)
        for identity in _spooled(_select(self.connection, wanted, rest)):
            yield self.row(identity)

    def row(self, identity: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the values of one row."""
        literals = Literals(self.encoding)
        same = " AND ".join(
            f"{quote(column)}{self._order} IS {literals.sql(value)}"
            for column, value in zip(self.identity, identity, strict=True)
        )
        literals.close()
        where = f"{self.source} WHERE {same}"
        values: list[Any] = []
        for at in range(0, len(self.columns), self.most):
            values += self._part(self.columns[at : at + self.most], where)
        return tuple(values)

    def _part(self, columns: list[str], where: str) -> list[Any]:
        mark = secrets.token_bytes(16)
        wanted = ", ".join(
            f"CASE WHEN {_is_large(column)} THEN X'{mark.hex()}' ELSE {quote(column)} END"
            for column in columns
        )
        query = f"SELECT {wanted} FROM {where}"  # noqa: S608 - quoted
        row = statements.execute(self.connection, query, len(columns)).fetchone()
        return [
            self._large(columns[at], where) if value == mark else value
            for at, value in enumerate(row)
        ]

    def _large(self, column: str, where: str) -> Large:
        name = quote(column)
        query = f"SELECT typeof({name}), length(CAST({name} AS BLOB)) FROM {where}"  # noqa: S608 - quoted
        kind, size = statements.execute(self.connection, query, 2).fetchone()
        return Large(self.connection, name, where, kind, size, self.encoding)

    def _has_large(self, schema: str) -> bool:
        (pages,) = self.connection.execute(f"PRAGMA {schema}.page_count").fetchone()
        (size,) = self.connection.execute(f"PRAGMA {schema}.page_size").fetchone()
        if pages * size <= LARGE:
            return False
        tests = [_is_large(column) for column in self.columns]
        # In groups, because SQLite limits how deep an expression may be nested.
        groups = [" OR ".join(tests[at : at + _GROUP]) for at in range(0, len(tests), _GROUP)]
        condition = " OR ".join(f"({group})" for group in groups) or "0"
        query = f"SELECT 1 FROM {self.source} WHERE {condition} LIMIT 1"  # noqa: S608 - quoted
        return statements.execute(self.connection, query).fetchone() is not None


def fetch_both(
    old: Fetch, new: Fetch, rest: str
) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Yield pairs of rows of `FROM rest`, in which the tables are named `o` and `n`."""
    most, connection = old.most, old.connection
    in_parts = old.in_parts or new.in_parts
    if not in_parts and len(old.columns) + len(new.columns) <= most:
        width = len(old.columns)
        wanted = [*_listed(old.columns, "o"), *_listed(new.columns, "n")]
        for row in _select(connection, wanted, rest):
            yield row[:width], row[width:]
        return
    width = len(old.identity)
    wanted = [*_listed(old.identity, "o"), *_listed(new.identity, "n")]
    for row in _spooled(_select(connection, wanted, rest)):
        yield old.row(row[:width]), new.row(row[width:])


def _listed(columns: list[str], name: str) -> list[str]:
    return [f"{name}.{quote(column)}" for column in columns]


def _select(
    connection: sqlite3.Connection, wanted: list[str], rest: str
) -> Iterator[tuple[Any, ...]]:
    query = f"SELECT {', '.join(wanted) or '1'} FROM {rest}"  # noqa: S608 - quoted
    yield from statements.execute(connection, query, len(wanted) or 1)


def _spooled(rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Yield rows after all were read: by then SQLite has freed what their condition loaded."""
    with tempfile.TemporaryFile() as file:
        for row in rows:
            pickle.dump(row, file)
        file.seek(0)
        while True:
            try:
                yield pickle.load(file)  # noqa: S301 - written above; the file has no name
            except EOFError:
                return


def _is_large(column: str) -> str:
    """Return the condition that a value is large; it reads only the length of a blob."""
    name = quote(column)
    return (
        f"CASE typeof({name}) WHEN 'blob' THEN length({name}) > {LARGE} "
        f"WHEN 'text' THEN length(CAST({name} AS BLOB)) > {LARGE} ELSE 0 END"
    )
