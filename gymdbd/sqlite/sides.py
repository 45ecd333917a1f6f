"""Opening a database that is to be looked into, as what it is: finished, or in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd.sqlite import database

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path


@dataclass(frozen=True)
class Side:
    """A database to look into: a finished backup, or a `live` one that others may write to."""

    path: Path
    live: bool = False


def open_side(side: Side, *, busy_timeout_s: float = 5.0) -> sqlite3.Connection:
    """Open it for reading; what is attached later is waited for no longer either."""
    path = database.locate(side.path)
    if side.live:
        return database.open_reader(path, busy_timeout_s=busy_timeout_s)
    connection = database.open_immutable(path)
    connection.execute(f"PRAGMA busy_timeout={int(busy_timeout_s * 1000)}")
    return connection


def attach(connection: sqlite3.Connection, side: Side, name: str) -> None:
    """Attach it for reading to a connection; both must have the same text encoding."""
    path = database.locate(side.path)
    uri = database.uri(path, "mode=ro" if side.live else "mode=ro&immutable=1")
    with database.translated(side.path):
        connection.execute(f"ATTACH ? AS {database.quote(name)}", (uri,))
