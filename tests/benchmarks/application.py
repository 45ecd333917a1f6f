"""An application for the benchmarks: its database, and a process that commits at a steady rate.

`python -m tests.benchmarks.application DATABASE RATE` commits RATE times a second, waiting for
the disk each time, until its standard input ends; then it prints when each commit was wanted and
how long it took, as JSON. At rate 0 it only keeps the database open.
"""

from __future__ import annotations

import contextlib
import json
import random
import select
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_INSERT = "INSERT INTO sensor_events (locker, payload) VALUES (?, ?)"
_ROWS_AT_ONCE = 5000


@dataclass
class Commits:
    """When each commit was wanted, in monotonic seconds, and how long after that it was done."""

    wanted: list[float] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)


def build(path: Path, size_mb: int) -> None:
    """Create a database in WAL mode of `size_mb` million bytes, with an index, of random rows."""
    random.seed(1)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # Through a WAL everything would be written twice.
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.executescript(
            "CREATE TABLE sensor_events (id INTEGER PRIMARY KEY, locker INTEGER, payload TEXT);"
            "CREATE INDEX events_by_locker ON sensor_events (locker, id);"
        )
        pages = size_mb * 1_000_000 // connection.execute("PRAGMA page_size").fetchone()[0]
        while connection.execute("PRAGMA page_count").fetchone()[0] < pages:
            rows = [(random.randrange(120), _payload()) for _ in range(_ROWS_AT_ONCE)]
            connection.execute("BEGIN")
            connection.executemany(_INSERT, rows)
            connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode=WAL")


@contextlib.contextmanager
def running(path: Path, rate: float) -> Iterator[Commits]:
    """Let an application commit to `path` all the while; its commits are there afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.application", str(path), str(rate)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    commits = Commits()
    try:
        yield commits
    finally:
        answer, _ = process.communicate(timeout=60)
    commits.wanted, commits.took_s = json.loads(answer)


def commit(path: Path, rate: float) -> Commits:
    """Commit until standard input ends.

    A commit that another one kept waiting counts from the moment it was wanted, so that one long
    wait is not taken for a single slow commit.
    """
    commits = Commits()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        sys.stdout.write("open\n")
        sys.stdout.flush()
        due = time.monotonic()
        while not _ended(due, rate):
            started = time.monotonic()
            wanted = due if commits.wanted and _finished(commits) > due else started
            connection.execute(_INSERT, (1, _payload()))
            commits.wanted.append(wanted)
            commits.took_s.append(time.monotonic() - wanted)
            due += 1 / rate
    return commits


def _finished(commits: Commits) -> float:
    return commits.wanted[-1] + commits.took_s[-1]


def _ended(due: float, rate: float) -> bool:
    """Wait until `due`; say whether the input ended meanwhile."""
    wait_s = max(0.0, due - time.monotonic()) if rate else None
    return bool(select.select([sys.stdin], [], [], wait_s)[0])


def _payload() -> str:
    return random.randbytes(60).hex()


if __name__ == "__main__":
    made = commit(Path(sys.argv[1]), float(sys.argv[2]))
    json.dump([made.wanted, made.took_s], sys.stdout)
