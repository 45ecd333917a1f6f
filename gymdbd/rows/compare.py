"""Comparing two states of a database inside SQLite.

One database is attached to the other: only SQLite knows its collations, types and the order of its
keys, and it scans tables of any size in the memory of its page cache. Each row of the later table
is looked up by key in the earlier table.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from gymdbd.rows import tables
from gymdbd.rows.difference import (
    ADDED,
    ALTERED,
    CHANGED,
    DROPPED,
    NEW,
    REMOVED,
    SAME,
    RowDifference,
    TableDifference,
)
from gymdbd.rows.keys import EARLIER, LATER, match, names_of_key, only, with_key
from gymdbd.rows.large import differ
from gymdbd.rows.values import Fetch, fetch_both
from gymdbd.source import answers, database, statements
from gymdbd.source.answers import FAULTS
from gymdbd.source.counting import StandIns
from gymdbd.source.errors import GymdbdError
from gymdbd.source.schema import load_schema, quote
from gymdbd.sqlite import sides

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from gymdbd.rows.keys import Match
    from gymdbd.rows.tables import Table
    from gymdbd.sqlite.sides import Side


class Pair:
    """Two databases to compare, each in a read transaction; nothing is written.

    The transactions last until the end of the block. `check` is called now and then and may raise
    to cancel. Raises a SourceError if a side cannot be read.
    """

    def __init__(
        self,
        earlier: Side,
        later: Side,
        *,
        busy_timeout_s: float = 5.0,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Open both and begin the transactions."""
        self.earlier, self.later = earlier, later
        self._check = check
        database.locate(later.path)
        self._opened = sides.Opened(earlier, busy_timeout_s=busy_timeout_s)
        self._connection = self._opened.connection
        try:
            self._begin()
        except BaseException:
            self._opened.close()
            raise

    def _begin(self) -> None:
        execute = self._connection.execute
        with database.translated(self.earlier.path):
            load_schema(self._connection)
            # A lookup without an index must be slow rather than fill the memory.
            execute("PRAGMA automatic_index=OFF")
            encoding = execute("PRAGMA main.encoding").fetchone()[0]
        try:
            self._opened.attach(self.later, LATER)
        except GymdbdError as error:
            if "same text encoding" not in error.message:
                raise
            raise GymdbdError(
                f"{self.earlier.path} is in {encoding}, {self.later.path} is not",
                hint="databases of two text encodings cannot be compared; gymdbd rescue --as csv "
                "writes the rows of a table as UTF-8 either way",
            ) from error
        execute("BEGIN")
        with database.translated(self.earlier.path):
            self.before = tables.read_schema(self._connection, EARLIER)
        with database.translated(self.later.path):
            self.after = tables.read_schema(self._connection, LATER)
        # Computed once: there may be ten thousand tables.
        self._held = {
            EARLIER: frozenset(tables.names(self.before)),
            LATER: frozenset(tables.names(self.after)),
        }

    def __enter__(self) -> Pair:
        """Return the pair; the end of the block ends the transactions."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the transactions; raises SourceMovedError if a live side changed in spite of them."""
        try:
            self._opened.confirm()
        finally:
            self._opened.close()

    def definitions(self) -> list[tuple[str, str, str]]:
        """List (type, name, difference) of all other definitions: indexes, views, triggers."""
        held = {("table", name) for name in self.table_names()}
        return [
            (*defined, self._definition(*defined))
            for defined in sorted((self.before.keys() | self.after.keys()) - held)
            if self._definition(*defined) != SAME
        ]

    def table_names(self) -> list[str]:
        """List the tables of either side, sorted."""
        return sorted(self._held[EARLIER] | self._held[LATER])

    def tables(self) -> Iterator[TableDifference]:
        """Compare all tables."""
        for name in self.table_names():
            yield self.table(name)

    def table(self, name: str) -> TableDifference:
        """Compare one table."""
        with self._opened.reading(self._check):
            try:
                return self._table(name)
            except FAULTS as error:
                if answers.meaning(error) != answers.UNKNOWN:
                    raise
                return self._not_understood(name, error)

    def _not_understood(self, name: str, error: Exception) -> TableDifference:
        """Return what can be found out about a table although this SQLite cannot read it."""
        counts: dict[str, int | None] = {}
        for schema in (EARLIER, LATER):
            with contextlib.suppress(*FAULTS):
                counts[schema] = self._count(schema, name) if name in self._held[schema] else None
        return TableDifference(
            name,
            self._definition("table", name),
            counts.get(EARLIER),
            counts.get(LATER),
            problem=f"SQLite {sqlite3.sqlite_version} cannot read it ({answers.words(error)})",
        )

    def _table(self, name: str) -> TableDifference:
        before, after = self._describe(name)
        old = None if before is None else self._count(EARLIER, name)
        new = None if after is None else self._count(LATER, name)
        definition = self._definition("table", name)
        if before is None or after is None:
            return TableDifference(name, definition, old, new, new or 0, old or 0)
        return self._compare(before, after, definition, old or 0, new or 0)

    def rows(self, name: str) -> Generator[RowDifference, None, None]:
        """Yield the rows of a table that differ: removed, then changed, then added ones.

        Raises GymdbdError if the rows cannot be matched.
        """
        with self._opened.reading(self._check):
            before, after = self._describe(name)
            if before is None or after is None:
                for table, schema in ((before, EARLIER), (after, LATER)):
                    if table is not None:
                        yield from self._one_sided(table, schema)
                return
            how = match(self._connection, before, after)
            if how.problem:
                raise GymdbdError(
                    f"the rows of {name} cannot be compared: {how.problem}",
                    hint="gymdbd rescue writes the rows of either side, to compare by eye",
                )
            yield from self._one_sided(before, EARLIER, how)
            yield from self._changed(before, after, how)
            yield from self._one_sided(after, LATER, how)

    def _ask(self, query: str, columns: int = 1) -> sqlite3.Cursor:
        return statements.execute(self._connection, query, columns)

    def _describe(self, name: str) -> tuple[Table | None, Table | None]:
        before, after = (
            tables.describe(self._connection, name, schema) if name in self._held[schema] else None
            for schema in (EARLIER, LATER)
        )
        return before, after

    def _definition(self, kind: str, name: str) -> str:
        before, after = self.before.get((kind, name)), self.after.get((kind, name))
        if before is None or after is None:
            return NEW if before is None else DROPPED
        return SAME if before == after else ALTERED

    def _count(self, schema: str, name: str) -> int:
        # An index is smaller, but only the application may know its order.
        with StandIns(self._connection, functions=False) as stand_ins:
            row = stand_ins.execute(f"SELECT count(*) FROM {schema}.{quote(name)}").fetchone()  # noqa: S608 - quoted
        return int(row[0])

    def _compare(
        self, before: Table, after: Table, definition: str, old: int, new: int
    ) -> TableDifference:
        here = {column.name for column in before.columns}
        there = {column.name for column in after.columns}
        how = match(self._connection, before, after)
        both, changed = (0, 0) if how.problem else self._join(before.name, how)
        return TableDifference(
            name=before.name,
            definition=definition,
            before=old,
            after=new,
            added=0 if how.problem else new - both,
            removed=0 if how.problem else old - both,
            changed=changed,
            columns_added=tuple(column.name for column in after.columns if column.name not in here),
            columns_dropped=tuple(
                column.name for column in before.columns if column.name not in there
            ),
            key=how.key,
            problem=how.problem,
        )

    def _join(self, name: str, how: Match) -> tuple[int, int]:
        """Count the rows that both sides have, and those of them that changed."""
        # CROSS JOIN fixes the order: the later table is scanned, the earlier one looked up. The
        # LIMIT keeps the inner statement separate: an aggregate could not take its many columns.
        row = self._ask(
            f"SELECT count(*), total(changed) FROM (SELECT {how.changed} AS changed "  # noqa: S608 - quoted
            f"FROM {LATER}.{quote(name)} AS n "
            f"CROSS JOIN {EARLIER}.{quote(name)} AS o ON {how.same_row} LIMIT -1)",
            2,
        ).fetchone()
        return int(row[0]), int(row[1])

    def _one_sided(
        self, table: Table, schema: str, how: Match | None = None
    ) -> Iterator[RowDifference]:
        """Yield the rows that only one side has; all of its rows without `how`."""
        mine, other = ("o", f"{LATER}.{quote(table.name)} AS n")
        if schema == LATER:
            mine, other = ("n", f"{EARLIER}.{quote(table.name)} AS o")
        key = how.key if how else names_of_key(table)
        columns = [column.name for column in table.columns]
        fetch = Fetch(self._connection, table, schema, with_key(key, columns))
        rest = f"{fetch.source} AS {mine}"
        if how:
            rest += f" WHERE NOT EXISTS (SELECT 1 FROM {other} WHERE {how.same_row})"  # noqa: S608 - quoted
        for row in fetch.rows(rest, mine):
            values = dict(zip(with_key(key, columns), row, strict=True))
            named = {name: values[name] for name in key}
            if schema == EARLIER:
                yield RowDifference(REMOVED, named, before=only(columns, values))
            else:
                yield RowDifference(ADDED, named, after=only(columns, values))

    def _changed(self, before: Table, after: Table, how: Match) -> Iterator[RowDifference]:
        columns = [column for column, _ in how.columns]
        wanted = with_key(how.key, columns)
        old = Fetch(self._connection, before, EARLIER, wanted)
        new = Fetch(self._connection, after, LATER, wanted)
        # Both sides are scanned in the same order.
        rest = (
            f"{new.source} AS n CROSS JOIN {old.source} AS o ON {how.same_row} WHERE {how.changed}"
        )
        for was, now in fetch_both(old, new, rest):
            before_row = dict(zip(wanted, was, strict=True))
            after_row = dict(zip(wanted, now, strict=True))
            changed = [name for name in columns if differ(before_row[name], after_row[name])]
            old_values, new_values = only(changed, before_row), only(changed, after_row)
            yield RowDifference(CHANGED, only(how.key, after_row), old_values, new_values)
