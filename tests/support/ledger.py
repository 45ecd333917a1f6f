"""A writer that never rests, on a database that stays small.

`python -m tests.support.ledger DATABASE [--autocheckpoint PAGES]` writes until its input ends.
Every transaction enters a payment in `payments`, adds it to its account, strikes out the oldest
payment, and keeps the one row of `totals` equal to what the other tables add up to: a mixture of
two states breaks a total.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.command import ROOT, environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ACCOUNTS = 50
_PAYMENTS = 400
_SCHEMA = """
CREATE TABLE accounts (id INTEGER PRIMARY KEY, paid INTEGER NOT NULL);
CREATE TABLE payments (id INTEGER PRIMARY KEY, account INTEGER NOT NULL, amount INTEGER NOT NULL,
    note BLOB NOT NULL);
CREATE INDEX payments_by_account ON payments (account, amount);
CREATE TABLE totals (id INTEGER PRIMARY KEY CHECK (id = 1), commits INTEGER NOT NULL,
    paid INTEGER NOT NULL, kept INTEGER NOT NULL, payments INTEGER NOT NULL);
"""
_BROKEN = """
SELECT totals.commits,
    paid = (SELECT sum(paid) FROM accounts)
    AND kept = (SELECT sum(amount) FROM payments)
    AND payments = (SELECT count(*) FROM payments)
    AND commits = (SELECT max(id) FROM payments)
FROM totals
"""


def create(path: Path, *, page_size: int = 1024) -> Path:
    """Create the ledger with its first payments, in WAL mode."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size={page_size}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(_SCHEMA)
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO accounts VALUES (?, 0)", [(number,) for number in range(_ACCOUNTS)]
        )
        connection.execute("INSERT INTO totals VALUES (1, 0, 0, 0, 0)")
        for _ in range(_PAYMENTS):
            pay(connection, strike=False)
        connection.execute("COMMIT")
    return path


def pay(connection: sqlite3.Connection, *, strike: bool = True) -> None:
    """Enter one payment, and strike out the oldest; the caller holds a transaction."""
    account, amount = os.urandom(1)[0] % _ACCOUNTS, os.urandom(1)[0]
    connection.execute(
        "INSERT INTO payments (account, amount, note) VALUES (?, ?, ?)",
        (account, amount, os.urandom(100)),
    )
    connection.execute("UPDATE accounts SET paid = paid + ? WHERE id = ?", (amount, account))
    struck = 0
    if strike:
        ((oldest, struck),) = connection.execute(
            "SELECT id, amount FROM payments ORDER BY id LIMIT 1"
        ).fetchall()
        connection.execute("DELETE FROM payments WHERE id = ?", (oldest,))
    connection.execute(
        "UPDATE totals SET commits = commits + 1, paid = paid + ?, kept = kept + ?, "
        "payments = payments + ?",
        (amount, amount - struck, 0 if strike else 1),
    )


def add_payments(path: Path, count: int, *, autocheckpoint: int = 0) -> None:
    """Enter payments in a transaction each, from a connection that leaves its WAL behind."""
    with closing(connect(path, autocheckpoint=autocheckpoint)) as connection:
        for _ in range(count):
            connection.execute("BEGIN IMMEDIATE")
            pay(connection)
            connection.execute("COMMIT")


def connect(path: Path, *, autocheckpoint: int) -> sqlite3.Connection:
    """Open the ledger as the application does."""
    connection = sqlite3.connect(path, timeout=10.0, isolation_level=None)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute(f"PRAGMA wal_autocheckpoint={autocheckpoint}")
    return connection


@dataclass(frozen=True)
class Totals:
    """How many commits a copy of the ledger holds, and what is wrong with it."""

    commits: int
    problems: tuple[str, ...]


def look_into(connection: sqlite3.Connection) -> Totals:
    """Read the totals in one transaction, and compare them with the tables."""
    ((commits, whole),) = connection.execute(_BROKEN).fetchall()
    return Totals(commits, () if whole else ("the totals are not those of the tables",))


def check_copy(path: Path) -> Totals:
    """Check a finished copy thoroughly: its integrity, its totals, and nothing beside it."""
    uri = f"{path.as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        found = look_into(connection)
        said = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
    beside = [
        path.name + suffix
        for suffix in ("-wal", "-shm", "-journal")
        if path.with_name(path.name + suffix).exists()
    ]
    problems = [one for one in said if one != "ok"] + beside
    return Totals(found.commits, (*found.problems, *problems))


@contextlib.contextmanager
def writing(
    path: Path, *, autocheckpoint: int = 1000, python: Sequence[str] = (sys.executable,)
) -> Iterator[int]:
    """Write at full rate in a process of its own while in the block; gives its process id.

    `python` may be one of another machine, begun in its checkout.
    """
    with subprocess.Popen(
        [
            *python,
            "-m",
            "tests.support.ledger",
            str(path),
            f"--autocheckpoint={autocheckpoint}",
        ],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "writing\n"
            yield process.pid
        finally:
            said, _ = process.communicate(timeout=30)
            assert said == "", f"the writer had trouble: {said}"


def main() -> None:
    """Write until the standard input ends, and say what went wrong if something did."""
    parser = argparse.ArgumentParser()
    parser.add_argument("database", type=Path)
    parser.add_argument("--autocheckpoint", type=int, default=1000)
    arguments = parser.parse_args()
    with closing(connect(arguments.database, autocheckpoint=arguments.autocheckpoint)) as writer:
        sys.stdout.write("writing\n")
        sys.stdout.flush()
        try:
            while not select.select([sys.stdin], [], [], 0)[0]:
                writer.execute("BEGIN IMMEDIATE")
                pay(writer)
                writer.execute("COMMIT")
        except sqlite3.Error as error:
            sys.stdout.write(f"{error}\n")


if __name__ == "__main__":
    main()
