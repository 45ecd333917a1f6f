"""A sample database of a gym, and a process that writes to it, for `gymdbd demo`.

`python -m gymdbd.terminal.sample DATABASE` writes until its standard input ends.
"""

from __future__ import annotations

import select
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from gymdbd.source.database import open_copy, open_immutable

_MEMBERS, _LOCKERS, _EVENTS = 344, 120, 20_000

_SCHEMA = """
CREATE TABLE members (id INTEGER PRIMARY KEY, name TEXT NOT NULL, phone TEXT, joined TEXT);
CREATE TABLE rentals (id INTEGER PRIMARY KEY, member_id INTEGER NOT NULL REFERENCES members,
    locker INTEGER NOT NULL, rented_at TEXT NOT NULL, returned_at TEXT);
CREATE TABLE sensor_events (id INTEGER PRIMARY KEY, locker INTEGER NOT NULL, open INTEGER NOT NULL,
    at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f', 'now')));
CREATE INDEX rentals_by_member ON rentals (member_id);
CREATE INDEX events_by_locker ON sensor_events (locker, at);
"""


def build(path: Path) -> None:
    """Create the database with its members, rentals and sensor events, in WAL mode."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(_SCHEMA)
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO members (name, phone, joined) VALUES (?, ?, '2026-01-02')",
            [(f"회원 {n}", f"010-0000-{n:04}") for n in range(_MEMBERS)],
        )
        connection.executemany(
            "INSERT INTO rentals (member_id, locker, rented_at) VALUES (?, ?, '2026-11-01')",
            [(n % _MEMBERS + 1, n) for n in range(_LOCKERS)],
        )
        connection.executemany(
            "INSERT INTO sensor_events (locker, open) VALUES (?, ?)",
            [(n % _LOCKERS, n % 2) for n in range(_EVENTS)],
        )
        connection.execute("COMMIT")


def newest_event(path: Path, *, immutable: bool = False) -> int:
    """Return the id of the newest sensor event."""
    opened = open_immutable(path) if immutable else open_copy(path)
    with closing(opened) as connection:
        return int(connection.execute("SELECT max(id) FROM sensor_events").fetchone()[0])


def write(path: Path) -> None:
    """Commit sensor events until standard input ends."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        count = 0
        while not select.select([sys.stdin], [], [], 0)[0]:
            connection.execute(
                "INSERT INTO sensor_events (locker, open) VALUES (?, ?)", (count % 120, count % 2)
            )
            if count == 0:
                sys.stdout.write("writing\n")
                sys.stdout.flush()
            count += 1


if __name__ == "__main__":
    write(Path(sys.argv[1]))
