"""Selecting rows of a backup, to be reviewed by a person and put back."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gymdbd.errors import UsageError
from gymdbd.rows import keys, tables
from gymdbd.rows.keys import EARLIER, LATER
from gymdbd.rows.literals import Literals
from gymdbd.rows.missing import Comparison
from gymdbd.source import answers, database, statements
from gymdbd.source.answers import FAULTS
from gymdbd.source.errors import GymdbdError
from gymdbd.source.schema import holds_rows, quote
from gymdbd.sqlite import sides

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gymdbd.rows.tables import Table
    from gymdbd.sqlite.sides import Side

_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}
_UNSAFE_FUNCTIONS = {"load_extension", "fts3_tokenizer"}


@dataclass(frozen=True)
class Selection:
    """Rows of one table: all, or those for which `where`, an SQL expression, is true."""

    table: Table
    definition: str
    indexes: tuple[str, ...]
    where: str

    @property
    def rest(self) -> str:
        """Return what follows FROM."""
        sql = f"{EARLIER}.{quote(self.table.name)}"
        # On lines of its own, so that a comment in it ends with it.
        return sql + (f" WHERE (\n{self.where}\n)" if self.where else "")

    @property
    def columns(self) -> list[str]:
        """Return the columns that hold values, in order."""
        return [column.name for column in self.table.columns]


class Rescue:
    """A backup opened read-only, even for the expression `where`.

    Without `wanted`, every table whose rows can be put back is selected. Given the database `live`,
    `write_sql` writes only the rows that it lacks; with `change`, also those that differ there.
    `check` is called now and then and may raise to cancel. Raises a SourceError if a database
    cannot be read, UsageError for an invalid table or expression.
    """

    def __init__(
        self,
        source: Side,
        wanted: list[str] | None = None,
        where: str = "",
        *,
        live: Side | None = None,
        change: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Open `source` and select rows of the tables that are `wanted`."""
        self.path, self.live, self.change = source.path, live, change
        self._check = check
        # If the user names a table, it is written, or an error raised.
        self.named = wanted is not None
        # What is left out and why, a line each.
        self.left_out: list[str] = []
        self._opened = sides.Opened(source)
        self.connection = self._opened.connection
        try:
            if live is not None:
                self._attach(live)
            with database.translated(self.path):
                self._begin()
                chosen = tables.holding(self.schema) if wanted is None else wanted
                found = [self._choose(name, where) for name in chosen]
                self.selections = [selection for selection in found if selection]
        except BaseException:
            self._opened.close()
            raise
        self.literals = Literals(self.encoding)

    def _begin(self) -> None:
        # This also keeps a live database from changing until the block ends.
        self.connection.execute("BEGIN")
        self.connection.execute("PRAGMA automatic_index=OFF")
        self.encoding = statements.encoding_of(self.connection)
        self.schema = tables.read_schema(self.connection)
        self.live_schema = tables.read_schema(self.connection, LATER) if self.live else None
        self._construct_virtual()

    def _attach(self, live: Side) -> None:
        try:
            self._opened.attach(live, LATER)
        except GymdbdError as error:
            if "same text encoding" not in error.message:
                raise
            raise GymdbdError(
                f"{live.path} has another text encoding than {self.path}",
                hint="gymdbd rescue --as csv writes the rows of a table as UTF-8 either way",
            ) from error

    def __enter__(self) -> Rescue:
        """Return the rescue; the end of the block closes the backup."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the backup; raises SourceMovedError if a live database changed meanwhile."""
        self.literals.close()
        try:
            self._opened.confirm()
        finally:
            self._opened.close()

    def compare(self, selection: Selection) -> Comparison:
        """Compare a table with that of the live database."""
        return Comparison(self.connection, selection.table, selection.where, self.live_schema)

    @contextlib.contextmanager
    def reading(self, selection: Selection | None = None) -> Iterator[None]:
        """Translate errors of reading; `where` may be the cause."""
        try:
            with database.interruptible(self.connection, self._check):
                yield
        except FAULTS as error:
            chosen = selection or self.selections[0]
            if chosen.where and "disk image" not in str(error):
                raise _unusable(chosen, error) from error
            raise database.source_error(error, self.path) from error

    @contextlib.contextmanager
    def sorting(self, table: Table) -> Iterator[None]:
        """Let SQLite scan a table whose key has an unknown collation.

        SQLite requires the collation even for a scan. The stand-in is removed afterwards: any
        lookup with it would be wrong.
        """
        unknown = table.unknown_orders if table.is_sorted_by_application else []
        for name in unknown:
            self.connection.create_collation(name, lambda _, __: 0)
        try:
            yield
        finally:
            for name in unknown:
                # After an error a statement may still be open; then nothing more is read.
                with contextlib.suppress(sqlite3.OperationalError):
                    self.connection.create_collation(name, None)

    def _choose(self, name: str, where: str) -> Selection | None:
        """Select a table; leave it out if it cannot be read here and the user did not name it."""
        try:
            selection = self._select(name, where)
            with self.sorting(selection.table):
                self._try(selection)
        except (sqlite3.Error, UnicodeError) as error:
            if self.named or answers.meaning(error) != answers.UNKNOWN:
                raise
            version = sqlite3.sqlite_version
            said = f"SQLite {version} cannot read it ({answers.words(error)})"
            self.left_out.append(f"{name}: {said}")
            return None
        return selection

    def _select(self, name: str, where: str) -> Selection:
        if name not in tables.holding(self.schema):
            raise self._refused(name)
        definition = self.schema["table", name]
        indexes = self.connection.execute(
            "SELECT CAST(sql AS TEXT) FROM main.sqlite_master "
            "WHERE type = 'index' AND tbl_name = CAST(? AS TEXT) AND sql NOT NULL",
            (statements.argument(self.connection, name),),
        )
        table = tables.describe(self.connection, name)
        virtual = not holds_rows(name, definition)
        return Selection(
            replace(table, virtual=virtual), definition, tuple(row[0] for row in indexes), where
        )

    def _refused(self, name: str) -> UsageError:
        held = tables.holding(self.schema)
        owner = next((table for table in held if name.startswith(f"{table}_")), None)
        if name in tables.shadows(self.schema) and owner:
            return UsageError(
                f"{name} holds the data of {owner}, and only {owner} may write it",
                hint=f"rescue its rows with --table {owner}",
            )
        return UsageError(
            f"{self.path.name} has no table {name} with rows of its own",
            hint=f"its tables are: {', '.join(held) or 'none'}",
        )

    def _construct_virtual(self) -> None:
        """Load the virtual tables for `where`, which the authorizer would refuse later."""
        for schema, defined in ((EARLIER, self.schema), (LATER, self.live_schema or {})):
            for (kind, name), sql in defined.items():
                if kind == "table" and not holds_rows(name, sql):
                    # Only the application may have its module.
                    with contextlib.suppress(sqlite3.Error, UnicodeError):
                        self.connection.execute(f"SELECT 1 FROM {schema}.{quote(name)} LIMIT 0")  # noqa: S608 - quoted

    def _try(self, selection: Selection) -> None:
        """Raise UsageError if SQLite refuses the expression, or if it does more than read."""
        if selection.where and selection.table.is_sorted_by_application:
            raise UsageError(
                f"--where cannot be used: {keys.unknown_order(selection.table)}",
                hint="rescue all rows of the table, and look for the right ones in what is written",
            )
        query = f"SELECT 1 FROM {selection.rest}"  # noqa: S608 - quoted
        try:
            if statements.is_text(query):
                self.connection.set_authorizer(_only_reading)
            else:
                # Python cannot pass such names to an authorizer; a view only reads anyway.
                query = statements.as_view(self.connection, query)
            self.connection.execute(f"EXPLAIN {query}").fetchall()
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            if not selection.where:
                raise
            raise _unusable(selection, error) from error
        finally:
            self.connection.set_authorizer(None)


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
    """Authorize reading only; SQLite calls this while it prepares a statement."""
    if action in _READING:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and second not in _UNSAFE_FUNCTIONS:
        return sqlite3.SQLITE_OK
    # Full-text search runs this by itself.
    if action == sqlite3.SQLITE_PRAGMA and (first, second) == ("data_version", None):
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY
