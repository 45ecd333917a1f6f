"""Rows of a backup, written so that somebody can look them over and put them back."""

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
from gymdbd.source.database import quote
from gymdbd.source.errors import GymdbdError
from gymdbd.sqlite import sides

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

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
        # On lines of its own, so that a comment in it ends there.
        return sql + (f" WHERE (\n{self.where}\n)" if self.where else "")

    @property
    def columns(self) -> list[str]:
        """Return the columns that hold values, in their order."""
        return [column.name for column in self.table.columns]


class Rescue:
    """A backup opened for reading, and nothing but reading, whatever `where` says.

    Without `wanted` every table whose rows can be put back. Given `live`, the database for which
    they are, `write_sql` writes only what that lacks; with `change` also what differs there.
    `check` is called now and then and may raise to give up. Raises a SourceError for a database
    that cannot be read, UsageError for a table or an expression that cannot be.
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
        # Who names a table is to have it, or an error.
        self.named = wanted is not None
        # What is not rescued, and why, a line each.
        self.left_out: list[str] = []
        self._opened = sides.Opened(source)
        self.connection = self._opened.connection
        try:
            if live is not None:
                self._attach(live)
            with database.translated(self.path):
                # A live database is held still, too, until the block is left.
                self.connection.execute("BEGIN")
                self.connection.execute("PRAGMA automatic_index=OFF")
                self.encoding = statements.encoding_of(self.connection)
                self.schema = tables.read_schema(self.connection)
                self.live_schema = tables.read_schema(self.connection, LATER) if live else None
                self._construct_virtual()
                chosen = tables.holding(self.schema) if wanted is None else wanted
                found = [self._choose(name, where) for name in chosen]
                self.selections = [selection for selection in found if selection]
        except BaseException:
            self._opened.close()
            raise
        self.literals = Literals(self.encoding)

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
        """Return it; leaving the block closes the backup."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the backup; raises SourceMovedError if a live one did not stand still."""
        self.literals.close()
        try:
            self._opened.confirm()
        finally:
            self._opened.close()

    def compare(self, selection: Selection) -> Comparison:
        """Return a table beside that of the live database."""
        return Comparison(self.connection, selection.table, selection.where, self.live_schema)

    @contextlib.contextmanager
    def reading(self, selection: Selection | None = None) -> Iterator[None]:
        """Turn what reading raises into errors of ours; `where` may be at fault."""
        try:
            with database.interruptible(self.connection, self._check):
                yield
        except database.FAULTS as error:
            chosen = selection or self.selections[0]
            if chosen.where and "disk image" not in str(error):
                raise _unusable(chosen, error) from error
            raise database.source_error(error, self.path) from error

    @contextlib.contextmanager
    def sorting(self, table: Table) -> Iterator[None]:
        """Let SQLite read a table whose key it cannot sort, from end to end and no other way.

        It asks for the key's collation all the same. One that is none must not stay: whatever was
        looked up with it would be wrong.
        """
        unknown = table.unknown_orders if table.is_sorted_by_application else []
        for name in unknown:
            self.connection.create_collation(name, lambda _, __: 0)
        try:
            yield
        finally:
            for name in unknown:
                # After an error a statement may be open still: nothing is read any more then.
                with contextlib.suppress(sqlite3.OperationalError):
                    self.connection.create_collation(name, None)

    def _choose(self, name: str, where: str) -> Selection | None:
        """Select a table; one that nobody has named and that cannot be read here is left out."""
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
        virtual = not database.holds_rows(name, definition)
        return Selection(
            replace(table, virtual=virtual), definition, tuple(row[0] for row in indexes), where
        )

    def _refused(self, name: str) -> UsageError:
        held = tables.holding(self.schema)
        owner = next((table for table in held if name.startswith(f"{table}_")), None)
        if name in tables.shadows(self.schema) and owner:
            return UsageError(
                f"{name} is where {owner} keeps what it holds, and only {owner} may write it",
                hint=f"rescue its rows with --table {owner}",
            )
        return UsageError(
            f"{self.path.name} has no table {name} with rows of its own",
            hint=f"its tables are: {', '.join(held) or 'none'}",
        )

    def _construct_virtual(self) -> None:
        """Let virtual tables declare themselves, which takes more than reading, for `where`."""
        for schema, defined in ((EARLIER, self.schema), (LATER, self.live_schema or {})):
            for (kind, name), sql in defined.items():
                if kind == "table" and not database.holds_rows(name, sql):
                    # Its module may be the application's.
                    with contextlib.suppress(sqlite3.Error, UnicodeError):
                        self.connection.execute(f"SELECT 1 FROM {schema}.{quote(name)} LIMIT 0")  # noqa: S608 - quoted

    def _try(self, selection: Selection) -> None:
        """Refuse an expression that SQLite refuses or that does more than read."""
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
                # Python cannot say such names to what authorizes; an expression only reads anyhow.
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
    """Allow what reads the backup, for SQLite to ask before it runs anything."""
    if action in _READING:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and second not in _UNSAFE_FUNCTIONS:
        return sqlite3.SQLITE_OK
    # Full-text search asks for this by itself.
    if action == sqlite3.SQLITE_PRAGMA and (first, second) == ("data_version", None):
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY
