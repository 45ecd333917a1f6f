"""Opening a database that is to be looked into, as what it is: finished, or in use."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd.source import answers, database, live

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path


@dataclass(frozen=True)
class Side:
    """A database to look into: a finished backup, or a `live` one that others may write to."""

    path: Path
    live: bool = False


class Opened:
    """A side that is open for reading, and others attached to it."""

    def __init__(self, side: Side, *, busy_timeout_s: float = 5.0) -> None:
        """Open it; what is attached later is waited for no longer either."""
        self._busy_timeout_s = busy_timeout_s
        self._live: list[live.Access] = []
        path, parameters = self._find(side)
        self.connection = database.connect(path, parameters, busy_timeout_s)
        # What else is wrong the first statement tells.
        with contextlib.suppress(*database.FAULTS):
            database.load_schema(self.connection)

    def attach(self, side: Side, name: str) -> None:
        """Attach another one for reading; both must have the same text encoding."""
        uri = database.uri(*self._find(side))
        with database.translated(side.path):
            attach = f"ATTACH ? AS {database.quote(name)}"
            try:
                self.connection.execute(attach, (uri,))
            except database.FAULTS as error:
                if answers.meaning(error) != answers.NEWER_SCHEMA:
                    raise
                # What only a newer SQLite understands of its schema is left out.
                self.connection.execute("PRAGMA writable_schema=ON")
                self.connection.execute(attach, (uri,))

    def _find(self, side: Side) -> tuple[Path, str]:
        path = database.locate(side.path)
        if not side.live:
            return path, "mode=ro&immutable=1"
        self._live.append(live.Access(path, busy_timeout_s=self._busy_timeout_s))
        return path, self._live[-1].parameters

    def confirm(self) -> None:
        """Raise SourceMovedError if what was read of a live one may be no single state of it."""
        for access in self._live:
            access.confirm()

    def close(self) -> None:
        """Close them all."""
        for access in self._live:
            access.give_away()
        self.connection.close()


def attach_new(connection: sqlite3.Connection, path: Path, name: str) -> None:
    """Attach a file of ours for writing, that nobody else has and that is synced by its maker."""
    connection.execute("COMMIT")
    connection.execute(f"ATTACH ? AS {database.quote(name)}", (database.uri(path, "mode=rw"),))
    connection.execute(f"PRAGMA {name}.journal_mode=OFF")
    connection.execute(f"PRAGMA {name}.synchronous=OFF")
    connection.execute("PRAGMA ignore_check_constraints=ON")
    connection.execute("BEGIN")
