"""Matching the rows of two states of a table, and the conditions under which they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gymdbd.source import statements
from gymdbd.source.schema import quote

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from gymdbd.rows.tables import Table

EARLIER, LATER = "main", "later"

_GROUP = 60


@dataclass(frozen=True)
class Match:
    """How rows `o` of the earlier table and `n` of the later are matched and compared.

    `earlier` and `later` replace these names in a statement. `columns` are those that both tables
    have, each with whether the types of its values must be compared too. If no key can match the
    rows, `problem` says why, and the other fields are unset.
    """

    key: tuple[str, ...] = ()
    collations: tuple[str, ...] = ()
    columns: tuple[tuple[str, bool], ...] = ()
    problem: str = ""
    earlier: str = "o"
    later: str = "n"

    @property
    def same_row(self) -> str:
        """Return the condition under which `o` and `n` are the same row.

        It has the collation of the key's index, which may differ from that of the column: with any
        other, SQLite would not use the index.
        """
        return " AND ".join(
            f"{self.earlier}.{quote(name)} = {self.later}.{quote(name)} COLLATE {quote(collation)}"
            for name, collation in zip(self.key, self.collations)  # noqa: B905 - Python 3.9
        )

    @property
    def changed(self) -> str:
        """Return the condition under which that row was changed.

        The plus signs and the collation prevent conversions: `a` is not `A`, and 1 is not `1`. To
        SQLite 1 still equals 1.0, so the types are compared if a column can hold both.
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

    By the rowid if none is declared, or if the key of a row is NULL.
    """
    if before.key is None and after.key is None:
        return _by_rowid(before, after)
    if before.key is None or after.key is None or _names(before) != _names(after):
        return Match(problem="its key is another one than before")
    if before.unknown_orders:
        return Match(problem=unknown_order(before))
    if _has_nulls(connection, before, EARLIER) or _has_nulls(connection, after, LATER):
        return _by_rowid(before, after)
    # An integer key is the rowid, identical on both sides; other keys may be equal and yet differ.
    left_out = before.key.columns if before.integer_key else ()
    return Match(before.key.columns, before.key.collations, _columns(before, after, left_out))


def unknown_order(table: Table) -> str:
    """Return why SQLite cannot look up a row of a table by its key."""
    return f"only the application knows the order {table.unknown_orders[0]} of its key"


def _names(table: Table) -> list[tuple[str, str, str]]:
    """Return what must be equal in two keys: the name, type and collation of each column."""
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
    """Return the columns that both have, each with whether 1 and 1.0 must be distinguished."""
    later = {column.name: column.affinity for column in after.columns}
    return tuple(
        (column.name, column.affinity == "BLOB" or column.affinity != later[column.name])
        for column in before.columns
        if column.name in later and column.name not in left_out
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


def with_key(key: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Return the columns to read of a row, each once, with those of the key."""
    return [*(name for name in key if name not in columns), *columns]


def names_of_key(table: Table) -> tuple[str, ...]:
    """Return the columns that identify a row of a table, () if there are none."""
    if table.key is not None:
        return table.key.columns
    return () if table.rowid is None else (table.rowid,)


def only(names: Sequence[str], values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of these columns."""
    return {name: values[name] for name in names}
