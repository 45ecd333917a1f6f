"""Counting rows, even if a table needs functions or collations of the application."""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING

from gymdbd.source import answers, statements
from gymdbd.source.schema import Facts, quote, table_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PART_ROWS = 10_000
LEAST_NUMBER, MOST_NUMBER = -(2**63), 2**63 - 1

_UNKNOWN_COLLATION = re.compile(r"no such collation sequence: (.+)", re.DOTALL)
_UNKNOWN_FUNCTION = re.compile(r"(?:unknown|no such) function: (.+?)(?:\(\))?", re.DOTALL)


def count_rows(
    connection: sqlite3.Connection, facts: Facts, names: Iterable[str] | None = None
) -> dict[str, int]:
    """Count the rows of every table, or of these; call it inside a transaction.

    A table that this SQLite does not understand is omitted.
    """
    counts = {}
    with StandIns(connection) as stand_ins:
        for name in table_names(facts) if names is None else names:
            try:
                found = stand_ins.execute(f"SELECT count(*) FROM {quote(name)}").fetchone()  # noqa: S608 - quoted
            except sqlite3.Error as error:
                if answers.meaning(error) != answers.UNKNOWN:
                    raise
            else:
                counts[name] = int(found[0])
    return counts


def count_part(connection: sqlite3.Connection, name: str, first: int) -> tuple[int, int] | None:
    """Count up to PART_ROWS rows of a table from the number `first`; return also the last number.

    None if its rows have no number of SQLite's, as in a table WITHOUT ROWID.
    """
    listed = "SELECT lower(name) FROM pragma_table_xinfo(CAST(? AS TEXT))"
    columns = connection.execute(listed, (statements.argument(connection, name),)).fetchall()
    # A column of such a name hides the number.
    number = next((one for one in ("rowid", "_rowid_", "oid") if (one,) not in columns), "none")
    sql = (
        f"SELECT count(*), max({number}) FROM (SELECT {number} FROM {quote(name)} "  # noqa: S608 - quoted
        f"WHERE {number} >= {first} ORDER BY {number} LIMIT {PART_ROWS})"
    )
    try:
        with StandIns(connection) as stand_ins:
            rows, last = stand_ins.execute(sql, columns=2).fetchone()
    except sqlite3.OperationalError as error:
        if answers.meaning(error) != answers.UNKNOWN:
            raise
        return None
    return rows, first if last is None else last


def uncounted(facts: Facts, rows: Mapping[str, int]) -> list[str]:
    """List the tables that `count_rows` omitted."""
    return [name for name in table_names(facts) if name not in rows]


def ask(connection: sqlite3.Connection, sql: str) -> sqlite3.Cursor:
    """Execute a statement whose result does not depend on how text is sorted.

    An unknown collation gets a stand-in: without it SQLite refuses even to count the rows of a
    table. The stand-ins remain; see `StandIns`.
    """
    return StandIns(connection, functions=False).execute(sql)


class StandIns:
    """Stand-ins for functions and collations that only the application has.

    A collation sorts by bytes, a function returns NULL: good enough for results that depend on
    neither. The end of the block removes them, because no later result may depend on them. SQLite
    then reports a removed function as failed for good, not as unknown.
    """

    def __init__(self, connection: sqlite3.Connection, *, functions: bool = True) -> None:
        self._connection = connection
        self._functions = functions
        self._made: dict[tuple[str, str], None] = {}

    def __enter__(self) -> StandIns:
        """Return the stand-ins."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the stand-ins."""
        for kind, name in self._made:
            if kind == "collation":
                self._connection.create_collation(name, None)
            else:
                self._connection.create_function(name, -1, None)

    def execute(self, sql: str, columns: int = 1) -> sqlite3.Cursor:
        """Execute a statement, with as many stand-ins as it needs."""
        while True:
            try:
                return statements.execute(self._connection, sql, columns)
            except sqlite3.OperationalError as error:
                if not self._make(str(error)):
                    raise

    def _make(self, text: str) -> bool:
        """Create a stand-in for what an error reports as missing; False if there is one already."""
        collation, function = _UNKNOWN_COLLATION.fullmatch(text), _UNKNOWN_FUNCTION.fullmatch(text)
        if collation:
            found = ("collation", collation[1])
        elif function and self._functions:
            found = ("function", function[1])
        else:
            return False
        if found in self._made:
            return False
        self._made[found] = None
        if collation:
            self._connection.create_collation(found[1], lambda a, b: (a > b) - (a < b))
        else:
            self._connection.create_function(found[1], -1, lambda *_: None, deterministic=True)
        return True
