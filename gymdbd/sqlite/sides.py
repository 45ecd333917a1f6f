"""Opening databases for reading, either finished or in use."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd.source import answers, database, live
from gymdbd.source.answers import FAULTS
from gymdbd.source.schema import load_schema, quote
from gymdbd.sqlite import opening, soundness

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gymdbd.source.errors import GymdbdError


@dataclass(frozen=True)
class Side:
    """A database to read: a finished backup, or a `live` database that others may write to."""

    path: Path
    live: bool = False


class Opened:
    """A side that is open for reading, and others that are attached to it."""

    def __init__(self, side: Side, *, busy_timeout_s: float = 5.0) -> None:
        """Open it; `busy_timeout_s` also applies to sides that are attached later."""
        self._busy_timeout_s = busy_timeout_s
        self._live: list[live.Access] = []
        self._paths = {"main": side.path}
        path, parameters = self._find(side)
        self.connection = database.connect(path, parameters, busy_timeout_s)
        opening.bound(self.connection, *self._paths.values())
        # If there is an error, the first statement raises it again.
        with contextlib.suppress(*FAULTS):
            load_schema(self.connection)

    def attach(self, side: Side, name: str) -> None:
        """Attach another side for reading; both must have the same text encoding."""
        uri = database.uri(*self._find(side))
        self._paths[name] = side.path
        opening.bound(self.connection, *self._paths.values())
        with database.translated(side.path):
            attach = f"ATTACH ? AS {quote(name)}"
            try:
                self.connection.execute(attach, (uri,))
            except FAULTS as error:
                if answers.meaning(error) != answers.NEWER_SCHEMA:
                    raise
                # This skips definitions that only a newer SQLite understands.
                self.connection.execute("PRAGMA writable_schema=ON")
                self.connection.execute(attach, (uri,))

    def _find(self, side: Side) -> tuple[Path, str]:
        path = database.locate(side.path)
        if not side.live:
            return path, "mode=ro&immutable=1"
        self._live.append(live.Access(path, busy_timeout_s=self._busy_timeout_s))
        return path, self._live[-1].parameters

    @contextlib.contextmanager
    def reading(self, check: Callable[[], None]) -> Iterator[None]:
        """Read from any of them in this block, as `gymdbd.sqlite.opening.reading` does from one."""
        try:
            with database.interruptible(self.connection, check):
                yield
        except FAULTS as error:
            raise self._blame(error) from error

    def _blame(self, error: Exception) -> GymdbdError:
        """Find out which side an error is about: SQLite does not say."""
        *_, last = self._paths.values()
        if answers.meaning(error) == answers.UNKNOWN:
            return database.source_error(error, last)
        for name, path in self._paths.items():
            try:
                found = self.connection.execute(f"PRAGMA {name}.quick_check(20)").fetchall()
            except FAULTS as another:
                return database.source_error(another, path)
            problems = tuple(line for (line,) in found if soundness.is_damage(str(line)))
            if problems:
                return database.corrupt(path, problems)
        return database.source_error(error, last)

    def confirm(self) -> None:
        """Raise SourceMovedError if the data read from a live side may not be a single state."""
        for access in self._live:
            access.confirm()

    def close(self) -> None:
        """Close all sides."""
        for access in self._live:
            access.give_away()
        self.connection.close()


def attach_new(connection: sqlite3.Connection, path: Path, name: str) -> None:
    """Attach a private file for writing; the caller syncs it."""
    connection.execute("COMMIT")
    connection.execute(f"ATTACH ? AS {quote(name)}", (database.uri(path, "mode=rw"),))
    connection.execute(f"PRAGMA {name}.journal_mode=OFF")
    connection.execute(f"PRAGMA {name}.synchronous=OFF")
    connection.execute("PRAGMA ignore_check_constraints=ON")
    connection.execute("BEGIN")
