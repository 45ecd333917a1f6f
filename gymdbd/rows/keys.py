"""Which row of one state of a table is which row of another, and what makes the two differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd.source import statements
from gymdbd.source.database import quote

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from gymdbd.rows.tables import Table

EARLIER, LATER = "main", "later"

_GROUP = 60


@dataclass(frozen=True)
class Match:
    """How rows `o` of the earlier table and `n` of the later are told apart and compared.

    `earlier` and `later` are what a statement calls the two instead.

    `columns` are those that both have, each with whether its values' types must be compared as
    well. Where no key tells the rows apart `problem` says why, and there is no other field.
    """

    key: tuple[str, ...] = ()
    collations: tuple[str, ...] = ()
    columns: tuple[tuple[str, bool], ...] = ()
    problem: str = ""
    earlier: str = "o"
    later: str = "n"

    @property
    def same_row(self) -> str:
        """Return the condition under which `o` and `n` are one row, before and after.

        With the collation of the key's index, which is not always that of its column: with any
        other the index would not be used.
        """
        return " AND ".join(
            f"{self.earlier}.{quote(name)} = {self.later}.{quote(name)} COLLATE {quote(collation)}"
            for name, collation in zip(self.key, self.collations)  # noqa: B905 - Python 3.9
        )

    @property
    def changed(self) -> str:
        """Return the condition under which that row was changed.

        The plus signs and the collation take the values as they are: `a` is not `A`, and 1 is not
        `1`. Yet 1 is 1.0 to SQLite, so that where a column can hold either their types are asked.
        """
        tests = []
        for name, typed in self.columns:
            old, new = f"{self.earlier}.{quote(name)}", f"{self.later}.{quote(name)}"
            tests.append(f"+{old} COLLATE BINARY IS NOT +{new}")
            tests += [f"typeof({old}) <> typeof({new})"] if typed else []
        # In groups, because SQLite limits how deep an expression may be nested.
        groups = [tests[at : at + _GROUP] for at in range(0, len(tests), _GROUP)]
        return " OR ".join(f"({' OR '.join(group)})" for group in groups) or "0"


def match(connection: sqlite3.Connection, before: Table, after: Table) -> Match:
    """Match two states of one table by its primary key.

    By the rowid where none is declared, or where SQLite has let the key be NULL.
    """
    if before.key is None and after.key is None:
        return _by_rowid(before, after)
    if before.key is None or after.key is None or _names(before) != _names(after):
        return Match(problem="its key is another one than before")
    if before.unknown_orders:
        return Match(problem=unknown_order(before))
    if _has_nulls(connection, before, EARLIER) or _has_nulls(connection, after, LATER):
        return _by_rowid(before, after)
    # An integer key is the rowid, the same on both sides; another may be equal and yet differ.
    left_out = before.key.columns if before.integer_key else ()
    return Match(before.key.columns, before.key.collations, _columns(before, after, left_out))


def unknown_order(table: Table) -> str:
    """Say that SQLite cannot look up a row of a table by its key."""
    return f"only the application knows the order {table.unknown_orders[0]} of its key"


def _names(table: Table) -> list[tuple[str, str, str]]:
    """Return what makes two keys one: the name, type and collation of each column."""
    if table.key is None:
        return []
    types = {column.name: column.type for column in table.columns}
    return [
        (name, types.get(name, ""), table.key.collations[at])
        for at, name in enumerate(table.key.columns)
    ]


def _by_rowid(before: Table, after: Table) -> Match:
    if before.rowid is None or before.rowid != after.rowid:
        return Match(problem="no key tells its rows apart, and its rowid has no name of its own")
    return Match((before.rowid,), ("BINARY",), _columns(before, after))


def _columns(
    before: Table, after: Table, left_out: tuple[str, ...] = ()
) -> tuple[tuple[str, bool], ...]:
    """Return the columns that both have, each with whether 1 and 1.0 must be told apart in it."""
    later = {column.name: column.affinity for column in after.columns}
    return tuple(
        (one.name, one.affinity == "BLOB" or one.affinity != later[one.name])
        for one in before.columns
        if one.name in later and one.name not in left_out
    )


def _has_nulls(connection: sqlite3.Connection, table: Table, schema: str) -> bool:
    if table.key is None or not table.key.nullable:
        return False
    nulls = " OR ".join(f"{quote(name)} IS NULL" for name in table.key.columns)
    found = statements.execute(
        connection,
        f"SELECT 1 FROM {schema}.{quote(table.name)} WHERE {nulls} LIMIT 1",  # noqa: S608 - quoted
    )
    return found.fetchone() is not None


def together(key: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Return what is to be read of a row, each column once."""
    return [*(name for name in key if name not in columns), *columns]


def names_of_key(table: Table) -> tuple[str, ...]:
    """Return the columns that tell one row of a table from another, () if there are none."""
    if table.key is not None:
        return table.key.columns
    return () if table.rowid is None else (table.rowid,)
