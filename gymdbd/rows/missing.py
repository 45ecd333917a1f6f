"""The rows of a backup that a live database lacks, and the conflicts with its rows."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gymdbd.rows import tables
from gymdbd.rows.keys import EARLIER, LATER, match
from gymdbd.rows.values import Fetch
from gymdbd.source import statements
from gymdbd.source.schema import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gymdbd.rows.keys import Match
    from gymdbd.rows.tables import Schema, Table

# How many conflicts of a kind are listed; all are counted.
MOST_NAMED = 100

_LIVE = "gymdbd_live"
_LONGEST = 200


@dataclass(frozen=True)
class Conflict:
    """A row of the backup, identified by its `key`, that is not written because of `why`.

    `unique`: the value in `columns` belongs to the row `holder` of the live database; `changed`:
    the row is there with other values.
    """

    why: str
    key: dict[str, Any]
    columns: tuple[str, ...] = ()
    holder: dict[str, Any] = field(default_factory=dict)


@dataclass
class Rescued:
    """What was done with the rows of one table; filled while they are written.

    Rows were `added`, `updated`, or left out because they are there and `changed`, or because a
    unique value is `taken`. `problem` says why they could not be compared with the live rows.
    `unsure` names the unique columns whose order only the application knows.
    """

    added: int = 0
    updated: int = 0
    changed: int = 0
    taken: int = 0
    problem: str = ""
    skipped: bool = False
    unsure: list[str] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)


class Comparison:
    """One table of a backup, `main`, beside that of a live database, attached as `later`.

    `live` is None if the live database has no such table, or if there is no live database.
    """

    def __init__(
        self, connection: sqlite3.Connection, table: Table, where: str, schema: Schema | None
    ) -> None:
        self._connection = connection
        self.table = table
        self.where = where
        self.compared = schema is not None
        self.live: Table | None = None
        self.columns = [column.name for column in table.columns]
        self._how: Match | None = None
        self.problem = ""
        self.unsure: list[str] = []
        if schema is not None and ("table", table.name) in schema:
            self._compare()

    def _compare(self) -> None:
        self.live = tables.describe(self._connection, self.table.name, LATER)
        there = {column.name for column in self.live.columns}
        self.columns = [name for name in self.columns if name in there]
        if not self.columns:
            self.problem = "the live database has none of its columns"
            return
        try:
            how = match(self._connection, self.table, self.live)
        except sqlite3.OperationalError as error:
            self.problem = str(error)
            return
        self.problem = how.problem
        # The user's condition may contain the name of the table.
        self._how = replace(how, earlier=quote(self.table.name), later=_LIVE)
        self._indexes = [] if how.problem else list(self._unique_indexes())

    @property
    def left_out(self) -> list[str]:
        """Return the columns that the live database no longer has."""
        return [column.name for column in self.table.columns if column.name not in self.columns]

    @property
    def key(self) -> tuple[str, ...]:
        """Return the columns that identify a row to a person."""
        if self._how is not None and self._how.key:
            return self._how.key
        if self.table.key is not None:
            return self.table.key.columns
        return (self.table.rowid,) if self.table.rowid else ()

    @property
    def written(self) -> list[str]:
        """Return the columns to write, with the rowid if only that identifies a row."""
        limit = self._connection.getlimit(sqlite3.SQLITE_LIMIT_COLUMN)
        named = self._how is not None and not self._how.problem and self.key == (self.table.rowid,)
        if named and self.key[0] not in self.columns and len(self.columns) < limit:
            return [self.key[0], *self.columns]
        return self.columns

    @property
    def target(self) -> tuple[str, ...]:
        """Return the key by which rows may be updated, () if there is no permanent key."""
        if self.table.virtual:
            return self.key
        return self.key if self.table.key is not None and self.key == self.table.key.columns else ()

    def missing(self) -> Iterator[tuple[Any, ...]]:
        """Yield the values of `written` of the rows to add."""
        return self._rows(self.written, self._missing, *self._not_taken())

    def differing(self) -> Iterator[tuple[Any, ...]]:
        """Yield the values of `written` of the rows to update."""
        return self._rows(self.written, self._changed, *self._not_taken())

    def count_changed(self) -> tuple[int, list[Conflict]]:
        """Count the rows that are there with other values, and list the first of them."""
        return self._named("changed", (), (), self._changed)

    def taken(self, *, also_changed: bool) -> tuple[int, list[Conflict]]:
        """Count the rows whose unique values belong to other rows, and list the first of them."""
        total, named = 0, []
        condition = f"({self._missing} OR {self._changed})" if also_changed else self._missing
        for columns, held in self._indexes if self._how and not self.problem else ():
            holder = tuple(
                f"(SELECT {_LIVE}.{quote(name)} FROM {self._source} WHERE {held} LIMIT 1)"  # noqa: S608 - quoted
                for name in self.key
            )
            count, some = self._named("unique", columns, holder, condition, _exists(self, held))
            total += count
            named += some
        return total, named

    @property
    def _source(self) -> str:
        return f"{LATER}.{quote(self.table.name)} AS {_LIVE}"

    @property
    def _missing(self) -> str:
        if self._how is None or self.problem:
            return "1"
        return f"NOT {_exists(self, self._how.same_row)}"

    @property
    def _changed(self) -> str:
        if self._how is None or self.problem:
            return "0"
        return _exists(self, f"{self._how.same_row} AND ({self._how.changed})")

    def _not_taken(self) -> list[str]:
        if self._how is None or self.problem:
            return []
        return [f"NOT {_exists(self, held)}" for _, held in self._indexes]

    def _unique_indexes(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield the columns of each unique index, and the condition that another row has them."""
        name, how = self.table.name, self._how
        connection = self._connection
        for (index,) in connection.execute(
            'SELECT name FROM pragma_index_list(CAST(? AS TEXT), ?) WHERE "unique" AND NOT partial',
            (statements.argument(connection, name), LATER),
        ).fetchall():
            parts = connection.execute(
                "SELECT name, coll FROM pragma_index_xinfo(CAST(? AS TEXT), ?) WHERE key",
                (statements.argument(connection, index), LATER),
            ).fetchall()
            columns = tuple(column for column, _ in parts)
            # An expression has no column names: if it is violated, the script applies nothing.
            if how is None or columns == how.key or not set(columns) <= set(self.columns):
                continue
            if not {str(order).upper() for _, order in parts} <= tables.COLLATIONS:
                self.unsure.append(", ".join(columns))
                continue
            held = " AND ".join(
                f"{_LIVE}.{quote(column)} = +{how.earlier}.{quote(column)} COLLATE {quote(order)}"
                for column, order in parts
            )
            yield columns, f"{held} AND NOT ({how.same_row})" if how.key else held

    def _where(self, *conditions: str) -> str:
        own = [f"(\n{self.where}\n)"] if self.where else []
        return " AND ".join([*own, *(f"({condition})" for condition in conditions)]) or "1"

    def query(self, *conditions: str) -> str:
        """Return what follows FROM for the rows of the backup that meet all conditions."""
        name = quote(self.table.name)
        return f"{EARLIER}.{name} WHERE {self._where(*conditions)}"

    def _rows(self, columns: list[str], *conditions: str) -> Iterator[tuple[Any, ...]]:
        fetch = Fetch(self._connection, self.table, EARLIER, columns)
        return fetch.rows(self.query(*conditions), quote(self.table.name))

    def _named(
        self, why: str, columns: tuple[str, ...], holder: tuple[str, ...], *conditions: str
    ) -> tuple[int, list[Conflict]]:
        rest = self.query(*conditions)
        count = self._ask(f"SELECT count(*) FROM {rest}", 1).fetchone()[0]  # noqa: S608 - quoted
        wanted = [f"{quote(self.table.name)}.{quote(name)}" for name in self.key]
        shown = ", ".join(map(_short, [*wanted, *holder])) or "1"
        query = f"SELECT {shown} FROM {rest}"  # noqa: S608 - quoted
        width = len(self.key)
        rows = self._ask(f"{query} LIMIT {MOST_NAMED}", max(1, len(wanted) + len(holder)))
        return int(count), [
            Conflict(
                why,
                dict(zip(self.key, row[:width], strict=False)),
                columns,
                dict(zip(self.key, row[width:], strict=False)),
            )
            for row in rows
        ]

    def _ask(self, query: str, columns: int) -> sqlite3.Cursor:
        return statements.execute(self._connection, query, columns)


def _exists(comparison: Comparison, condition: str) -> str:
    return f"EXISTS (SELECT 1 FROM {comparison._source} WHERE {condition})"  # noqa: S608, SLF001 - of this module


def _short(expression: str) -> str:
    return (
        f"CASE WHEN length({expression}) > {_LONGEST} THEN substr({expression}, 1, {_LONGEST}) "
        f"ELSE {expression} END"
    )
