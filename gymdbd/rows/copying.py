"""Copying rows of a backup into a small new database, inside SQLite."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from gymdbd.source import answers, statements
from gymdbd.source.counting import StandIns
from gymdbd.source.schema import quote
from gymdbd.sqlite import sides

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gymdbd.rows.rescue import Rescue, Selection

_TARGET = "rescued"
# Private-use characters, one for each byte from 0x80 on.
_PRIVATE = 0x10FF00


class Copy:
    """Copies the selected rows of a Rescue into a new database."""

    def __init__(self, rescue: Rescue, target: Path) -> None:
        self._rescue = rescue
        self._target = target

    def write(self) -> dict[str, int]:
        """Write the database; return the number of rows by table."""
        rescue = self._rescue
        made: list[Selection] = []
        with self._open() as connection:
            for selection in rescue.selections:
                with self._leaving_out(selection.table.name, named=rescue.named):
                    # A CHECK or a default may call a function of the application.
                    StandIns(connection).execute(_stand_in(selection.definition))
                    made.append(selection)
        sides.attach_new(rescue.connection, self._target, _TARGET)
        counts: dict[str, int] = {}
        for selection in made:
            with self._leaving_out(selection.table.name, named=rescue.named):
                counts[selection.table.name] = self._fill(selection)
        rescue.connection.execute("COMMIT")
        rescue.connection.execute(f"DETACH {_TARGET}")
        rescue.connection.execute("BEGIN")
        with self._open() as connection:
            for selection in made:
                if selection.table.name not in counts:
                    connection.execute(_stand_in(f"DROP TABLE {quote(selection.table.name)}"))
                    continue
                for index in selection.indexes:
                    with self._leaving_out(f"an index of {selection.table.name}"):
                        connection.execute(_stand_in(index))
            _give_names(connection, rescue.encoding)
        return counts

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self._target, isolation_level=None)) as connection:
            # The file is synced once, when it is published; nobody reads it before.
            connection.execute("PRAGMA journal_mode=OFF")
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute(f"PRAGMA encoding='{self._rescue.encoding}'")
            yield connection

    @contextlib.contextmanager
    def _leaving_out(self, what: str, *, named: bool = False) -> Iterator[None]:
        """Skip what only the application can write, unless the user named it."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if named or answers.meaning(error) != answers.UNKNOWN:
                raise
            said = f"SQLite {sqlite3.sqlite_version} cannot write it ({answers.words(error)})"
            self._rescue.left_out.append(f"{what}: {said}")

    def _fill(self, selection: Selection) -> int:
        """Copy rows inside SQLite: a row may be too large to be in memory several times."""
        table, connection = selection.table, self._rescue.connection
        columns = selection.columns
        limit = connection.getlimit(sqlite3.SQLITE_LIMIT_COLUMN)
        if table.rowid and not table.integer_key and len(columns) < limit:
            columns = [table.rowid, *columns]
        name = quote(table.name)
        wanted = ", ".join(f"{name}.{quote(column)}" for column in columns)
        query = f"SELECT {wanted} FROM {selection.rest}"  # noqa: S608 - quoted
        if not statements.is_text(query):
            query = statements.as_view(connection, query, len(columns))
        names = ", ".join(map(quote, columns))
        insert = _stand_in(f"INSERT INTO {_TARGET}.{name} ({names}) ") + query
        return connection.execute(insert).rowcount


def _stand_in(sql: str) -> str:
    """Replace bytes that are not UTF-8 by private-use characters, which Python can encode."""
    return "".join(chr(ord(c) - 0xDC00 + _PRIVATE) if "\udc80" <= c <= "\udcff" else c for c in sql)


def _give_names(connection: sqlite3.Connection, encoding: str) -> None:
    """Restore the names in which `_stand_in` replaced bytes."""
    private = {_PRIVATE + byte: 0xDC00 + byte for byte in range(0x80, 0x100)}
    rows = connection.execute("SELECT rowid, name, tbl_name, sql FROM sqlite_master").fetchall()
    changed = [
        row for row in rows if any(part and part != part.translate(private) for part in row[1:])
    ]
    if not changed:
        return
    connection.execute("PRAGMA writable_schema=ON")
    for row in changed:
        parts = [
            statements.encode(part.translate(private), encoding) if part else None
            for part in row[1:]
        ]
        connection.execute(
            "UPDATE sqlite_master SET name = CAST(? AS TEXT), tbl_name = CAST(? AS TEXT), "
            "sql = CAST(? AS TEXT) WHERE rowid = ?",
            (*parts, row[0]),
        )
    connection.execute("PRAGMA writable_schema=RESET")
    # A condition or an expression of an index may contain such a text.
    connection.execute("REINDEX")
