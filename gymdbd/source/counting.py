"""Counting the rows of a database whose application has more than SQLite brings."""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING

from gymdbd.source import answers, statements
from gymdbd.source.schema import Facts, quote, table_names

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNKNOWN_COLLATION = re.compile(r"no such collation sequence: (.+)", re.DOTALL)
_UNKNOWN_FUNCTION = re.compile(r"(?:unknown|no such) function: (.+?)(?:\(\))?", re.DOTALL)


def count_rows(connection: sqlite3.Connection, facts: Facts) -> dict[str, int]:
    """Count the rows of every table; call it inside a transaction.

    A table that this SQLite does not understand is left out.
    """
    counts = {}
    with StandIns(connection) as stand_ins:
        for name in table_names(facts):
            try:
                found = stand_ins.execute(f"SELECT count(*) FROM {quote(name)}").fetchone()  # noqa: S608 - quoted
            except sqlite3.Error as error:
                if answers.meaning(error) != answers.UNKNOWN:
                    raise
            else:
                counts[name] = int(found[0])
    return counts


def uncounted(facts: Facts, rows: Mapping[str, int]) -> list[str]:
    """Name the tables that `count_rows` has left out."""
    return [name for name in table_names(facts) if name not in rows]


def ask(connection: sqlite3.Connection, sql: str) -> sqlite3.Cursor:
    """Execute a statement whose answer does not depend on how text is sorted.

    A collation that only the application knows is stood in for: SQLite refuses even to count the
    rows of a table whose collation it has not got. The stand-ins stay; see `StandIns`.
    """
    return StandIns(connection, functions=False).execute(sql)


class StandIns:
    """What the application alone has, stood in for while a statement is answered.

    A collation sorts by bytes, a function answers NULL: good enough for an answer that depends on
    neither. Leaving the block takes them away, because no later answer may depend on them: SQLite
    then says of a function that it failed, which it does not forget, instead of that it is unknown.
    """

    def __init__(self, connection: sqlite3.Connection, *, functions: bool = True) -> None:
        self._connection = connection
        self._functions = functions
        self._made: dict[tuple[str, str], None] = {}

    def __enter__(self) -> StandIns:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Take the stand-ins away."""
        for kind, name in self._made:
            if kind == "collation":
                self._connection.create_collation(name, None)
            else:
                self._connection.create_function(name, -1, None)

    def execute(self, sql: str) -> sqlite3.Cursor:
        """Execute a statement, with as many stand-ins as it needs."""
        while True:
            try:
                return statements.execute(self._connection, sql)
            except sqlite3.OperationalError as error:
                if not self._make(str(error)):
                    raise

    def _make(self, text: str) -> bool:
        """Stand in for what an error says is missing, if that has not been tried."""
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
            self._connection.create_collation(
                found[1], lambda one, other: (one > other) - (one < other)
            )
        else:
            self._connection.create_function(found[1], -1, lambda *_: None, deterministic=True)
        return True
