"""A gym's controller: a Flask application that writes to its own SQLite database.

`python -m tests.support.flask_app DATABASE [--autocheckpoint PAGES] [--port PORT]` serves it with
waitress, prints the address once it listens, and ends when its standard input does. Besides it can
write continuously at full rate (POST /writer). Every transaction keeps the row of `totals` equal
to what the other tables add up to, so that half a transaction is seen at once.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import waitress
from flask import Flask, jsonify, request

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCHEMA = """
CREATE TABLE IF NOT EXISTS members (id INTEGER PRIMARY KEY, name TEXT NOT NULL,
    paid INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS rentals (id INTEGER PRIMARY KEY,
    member_id INTEGER NOT NULL REFERENCES members, fee INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS sensor_events (id INTEGER PRIMARY KEY, locker INTEGER NOT NULL,
    open INTEGER NOT NULL, payload BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS rentals_by_member ON rentals (member_id);
CREATE INDEX IF NOT EXISTS events_by_locker ON sensor_events (locker, open);
CREATE TABLE IF NOT EXISTS totals (id INTEGER PRIMARY KEY CHECK (id = 1),
    members INTEGER NOT NULL, rentals INTEGER NOT NULL, events INTEGER NOT NULL,
    fees INTEGER NOT NULL);
INSERT OR IGNORE INTO totals VALUES (1, 0, 0, 0, 0);
"""


@dataclass
class Controller:
    """The gym's business, on one database file."""

    path: str
    autocheckpoint: int = 1000
    stop: threading.Event = field(default_factory=threading.Event)
    durations_s: list[float] = field(default_factory=list)
    thread: threading.Thread | None = None
    trouble: str = ""

    def __post_init__(self) -> None:
        """Create the tables, and hold one connection: the app is running, its WAL stays."""
        self.resident = self.connect()
        self.resident.executescript(_SCHEMA)

    def connect(self) -> sqlite3.Connection:
        """Open a connection in WAL mode, as the application's configuration says."""
        connection = sqlite3.connect(
            self.path, timeout=10.0, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint={self.autocheckpoint}")
        return connection

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Do what is in the block in one transaction on a connection of its own."""
        with closing(self.connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    def write_continuously(self) -> None:
        """Commit one rental with its sensor event after the other, until told to stop."""
        try:
            with closing(self.connect()) as connection:
                while not self.stop.is_set():
                    started = time.perf_counter()
                    connection.execute("BEGIN IMMEDIATE")
                    rent(connection, 1 + len(self.durations_s) % 7)
                    connection.execute("COMMIT")
                    self.durations_s.append(time.perf_counter() - started)
        except sqlite3.Error as error:
            self.trouble = str(error)

    def start_writer(self) -> None:
        """Start writing, with new figures."""
        self.stop.clear()
        self.durations_s = []
        self.thread = threading.Thread(target=self.write_continuously)
        self.thread.start()

    def stop_writer(self) -> None:
        """Stop writing and wait for the last commit."""
        self.stop.set()
        if self.thread is not None:
            self.thread.join()
            self.thread = None

    def writer(self) -> dict[str, Any]:
        """Return how many commits the writer made, how long the slowest took, and its trouble."""
        durations_s = list(self.durations_s)
        return {
            "commits": len(durations_s),
            "slowest_s": max(durations_s, default=0.0),
            "trouble": self.trouble,
        }


def rent(connection: sqlite3.Connection, fee: int) -> int:
    """Rent a locker and note that its door opened; return the id of the rental."""
    rental = connection.execute(
        "INSERT INTO rentals (member_id, fee) VALUES (1, ?)", (fee,)
    ).lastrowid
    connection.execute("UPDATE members SET paid = paid + ? WHERE id = 1", (fee,))
    connection.execute(
        "INSERT INTO sensor_events (locker, open, payload) VALUES (?, 1, ?)",
        (fee, os.urandom(200)),
    )
    connection.execute(
        "UPDATE totals SET rentals = rentals + 1, events = events + 1, fees = fees + ?", (fee,)
    )
    return int(rental or 0)


def create_app(controller: Controller) -> Flask:
    """Build the application."""
    app = Flask(__name__)

    @app.post("/members")
    def add_member() -> Any:
        with controller.transaction() as connection:
            member = connection.execute(
                "INSERT INTO members (name) VALUES (?)", (request.get_json()["name"],)
            ).lastrowid
            connection.execute("UPDATE totals SET members = members + 1")
        return jsonify(id=member)

    @app.post("/rentals")
    def add_rental() -> Any:
        with controller.transaction() as connection:
            rental = rent(connection, int(request.get_json()["fee"]))
        return jsonify(id=rental)

    @app.get("/totals")
    def totals() -> Any:
        with closing(controller.connect()) as connection:
            row = connection.execute("SELECT members, rentals, events, fees FROM totals")
            return jsonify(dict(zip(("members", "rentals", "events", "fees"), *row, strict=True)))

    @app.post("/writer")
    def start_writer() -> Any:
        controller.start_writer()
        return jsonify(controller.writer())

    @app.get("/writer")
    def show_writer() -> Any:
        return jsonify(controller.writer())

    @app.delete("/writer")
    def stop_writer() -> Any:
        controller.stop_writer()
        return jsonify(controller.writer())

    return app


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    parser.add_argument("--autocheckpoint", type=int, default=1000)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    controller = Controller(arguments.database, arguments.autocheckpoint)
    server = waitress.create_server(
        create_app(controller), host="127.0.0.1", port=arguments.port, threads=4
    )
    threading.Thread(target=server.run, daemon=True).start()
    sys.stdout.write(f"http://127.0.0.1:{server.effective_port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    controller.stop_writer()
    controller.resident.close()


if __name__ == "__main__":
    main()
