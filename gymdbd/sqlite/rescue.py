"""Rows of a backup, written so that somebody can look them over and put them back."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

from gymdbd.errors import GymdbdError, UsageError
from gymdbd.sqlite import database, sides, tables
from gymdbd.sqlite.database import quote
from gymdbd.sqlite.literal import Literals

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import BinaryIO

    from gymdbd.sqlite.sides import Side
    from gymdbd.sqlite.tables import Table

_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}
_UNSAFE_FUNCTIONS = {"load_extension", "fts3_tokenizer"}


@dataclass(frozen=True)
class Selection:
    """Rows of one table: all, or those for which `where`, an SQL expression, is true."""

    table: Table
    definition: str
    indexes: tuple[str, ...]
    where: str

    def query(self, *, with_rowid: bool = False) -> str:
        """Return the SELECT for the columns that hold values, in their order."""
        columns = ", ".join(quote(name) for name in self.columns(with_rowid=with_rowid))
        sql = f"SELECT {columns} FROM {quote(self.table.name)}"  # noqa: S608 - quoted
        # On lines of its own, so that a comment in it ends there.
        return sql + (f" WHERE (\n{self.where}\n)" if self.where else "")

    def columns(self, *, with_rowid: bool = False) -> list[str]:
        """Return the names of what is selected; the rowid where it has no column of its own."""
        rowid = self.table.rowid
        extra = [rowid] if with_rowid and rowid and not self.table.integer_key else []
        return [*extra, *(column.name for column in self.table.columns)]

    def insert(self, values: str, *, with_rowid: bool = False) -> str:
        """Return the statement that puts a row back."""
        columns = ", ".join(quote(name) for name in self.columns(with_rowid=with_rowid))
        return f"INSERT OR REPLACE INTO {quote(self.table.name)} ({columns}) VALUES ({values})"  # noqa: S608 - quoted


class Rescue:
    """A backup opened for reading, and nothing but reading, whatever `where` says.

    `check` is called now and then and may raise to give up. Raises a SourceError for a backup
    that cannot be read, UsageError for a table or an expression that cannot be.
    """

    def __init__(
        self,
        source: Side,
        wanted: list[str],
        where: str = "",
        *,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Open `source` and select rows of the tables that are `wanted`."""
        self.path = source.path
        self._check = check
        self._opened = sides.Opened(source)
        self._connection = self._opened.connection
        try:
            with database.translated(self.path):
                # A live database is held still, too, until the block is left.
                self._connection.execute("BEGIN")
                self.encoding = str(self._connection.execute("PRAGMA encoding").fetchone()[0])
                schema = tables.read_schema(self._connection)
                self.selections = [self._select(schema, name, where) for name in wanted]
                self._construct_virtual(schema)
                self._connection.set_authorizer(_only_reading)
                for selection in self.selections:
                    self._try(selection)
        except BaseException:
            self._opened.close()
            raise
        self._literals = Literals(self.encoding)

    def __enter__(self) -> Rescue:
        """Return it; leaving the block closes the backup."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the backup; raises SourceMovedError if a live one did not stand still."""
        self._literals.close()
        try:
            self._opened.confirm()
        finally:
            self._opened.close()

    def write_sql(self, file: BinaryIO, origin: str) -> dict[str, int]:
        """Write statements that put the rows back, in one transaction; return how many of each.

        A table without a primary key gets its rows added: a rowid means nothing once it has been
        given to another row. `origin` is told in a comment.
        """
        counts: dict[str, int] = {}
        file.write(_encoded(_preface(self, origin)))
        for selection in self.selections:
            name = selection.table.name
            counts[name] = 0
            for row in self._rows(selection):
                values = ", ".join(self._literals.sql(value) for value in row)
                file.write(_encoded(f"{selection.insert(values)};\n"))
                counts[name] += 1
        told = ", ".join(f"{_comment(name)}: {count} rows" for name, count in counts.items())
        file.write(_encoded(f"COMMIT;\n-- {told}\n"))
        return counts

    def write_csv(self, file: BinaryIO) -> dict[str, int]:
        """Write the rows of the one table that is selected, after a header; return how many."""
        (selection,) = self.selections
        csv = self._literals.csv
        file.write(_encoded(",".join(map(csv, selection.columns())) + "\r\n"))
        count = 0
        for row in self._rows(selection):
            file.write(_encoded(",".join(map(csv, row)) + "\r\n"))
            count += 1
        return {selection.table.name: count}

    def write_database(self, target: Path) -> dict[str, int]:
        """Fill the new, empty file `target` with the tables, their indexes, rowids and rows."""
        with (
            _filling(target),
            contextlib.closing(sqlite3.connect(target, isolation_level=None)) as connection,
        ):
            # Nobody sees the file before it is published, and it is synced once, then.
            connection.execute("PRAGMA journal_mode=OFF")
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("PRAGMA ignore_check_constraints=ON")
            connection.execute(f"PRAGMA encoding='{self.encoding}'")
            connection.execute("BEGIN")
            counts = {one.table.name: self._fill(connection, one) for one in self.selections}
            connection.execute("COMMIT")
        return counts

    def _fill(self, connection: sqlite3.Connection, selection: Selection) -> int:
        connection.execute(selection.definition)
        marks = ", ".join("?" * len(selection.columns(with_rowid=True)))
        insert = selection.insert(marks, with_rowid=True)
        count = 0
        for row in self._rows(selection, with_rowid=True):
            try:
                connection.execute(insert, row)
            except UnicodeEncodeError:
                # Python gives SQLite no text that is not valid; as an expression it takes it.
                values = ", ".join(self._literals.sql(value) for value in row)
                connection.execute(selection.insert(values, with_rowid=True))
            count += 1
        for index in selection.indexes:
            connection.execute(index)
        return count

    def _rows(self, selection: Selection, *, with_rowid: bool = False) -> Iterator[tuple[Any, ...]]:
        try:
            with database.interruptible(self._connection, self._check):
                yield from self._connection.execute(selection.query(with_rowid=with_rowid))
        except sqlite3.Error as error:
            if selection.where and "disk image" not in str(error):
                raise _unusable(selection, error) from error
            raise database.source_error(error, self.path) from error

    def _select(self, schema: tables.Schema, name: str, where: str) -> Selection:
        definition = schema.get(("table", name))
        if definition is None or not database.holds_rows(name, definition):
            known = ", ".join(
                one
                for (kind, one), sql in sorted(schema.items())
                if kind == "table" and database.holds_rows(one, sql)
            )
            raise UsageError(
                f"{self.path.name} has no table {name} with rows of its own",
                hint=f"its tables are: {known or 'none'}",
            )
        indexes = self._connection.execute(
            "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql NOT NULL",
            (name,),
        )
        table = tables.describe(self._connection, name)
        return Selection(table, definition, tuple(row[0] for row in indexes), where)

    def _construct_virtual(self, schema: tables.Schema) -> None:
        """Let virtual tables declare themselves, which takes more than reading, for `where`."""
        for (kind, name), sql in schema.items():
            if kind == "table" and not database.holds_rows(name, sql):
                with contextlib.suppress(sqlite3.Error):  # Its module may be the application's.
                    self._connection.execute(f"SELECT 1 FROM {quote(name)} LIMIT 0")  # noqa: S608 - quoted

    def _try(self, selection: Selection) -> None:
        """Refuse an expression that SQLite refuses, before anything is written."""
        try:
            self._connection.execute(f"EXPLAIN {selection.query()}").fetchall()
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            if not selection.where:
                raise
            raise _unusable(selection, error) from error


def _unusable(selection: Selection, error: Exception) -> UsageError:
    if "prohibited" in str(error) or "not authorized" in str(error):
        hint = "it may read the backup and nothing else"
    else:
        hint = (
            f"it must be one SQL expression about {selection.table.name}, such as "
            '"id = 7" or "name LIKE \'김%\'"'
        )
    return UsageError(f"--where {selection.where!r} cannot be used ({error})", hint=hint)


def _only_reading(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    """Allow what reads the backup, for SQLite to ask before it runs anything."""
    if action in _READING:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and second not in _UNSAFE_FUNCTIONS:
        return sqlite3.SQLITE_OK
    # Full-text search asks for this by itself.
    if action == sqlite3.SQLITE_PRAGMA and (first, second) == ("data_version", None):
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


@contextlib.contextmanager
def _filling(target: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise GymdbdError(
            f"the rows cannot be put into a database at {target.parent} ({error})",
            hint="check that the disk has room; where the table needs functions or collations of "
            "the application, use --as sql",
        ) from error


def _preface(rescue: Rescue, origin: str) -> str:
    lines = [f"Rows of {origin}. Look them over, then apply all or none of them:"]
    lines += ["  sqlite3 -bail DATABASE < THIS_FILE"]
    lines += ["A row that is there already, by its key or by a unique column, is replaced."]
    for one in rescue.selections:
        which = f"where {one.where}" if one.where else "all rows"
        keyless = "" if one.table.key else "; without a primary key, so that its rows are added"
        lines.append(f"{one.table.name}: {which}{keyless}")
    lines += [] if rescue.encoding == "UTF-8" else [f"For a database in {rescue.encoding}."]
    commented = "".join(f"-- {_comment(line)}\n" for line in lines)
    return f"{commented}PRAGMA foreign_keys = OFF;\nBEGIN IMMEDIATE;\n"


def _comment(text: str) -> str:
    """Keep a text inside its comment."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
