"""An application that has lost its POSIX locks: it has opened and closed its own database file.

A download or a hash of the file does that, and packing the whole folder ends those on the index of
its WAL as well. It commits one row after the other, tells of each one
that is committed, and goes on until it is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.waiting import until

# What it has opened and closed: its database, or the whole folder.
FILE, FOLDER = "", ",-wal,-shm"

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SCRIPT = """
import os, sqlite3, sys, time
path, told, ends, *statements = sys.argv[1:]
connection = sqlite3.connect(path, isolation_level=None, timeout=20)
for statement in statements:
    connection.execute(statement).fetchall()
connection.execute("CREATE TABLE IF NOT EXISTS commits (number INTEGER PRIMARY KEY)")
for end in ends.split(","):
    open(path + end, "rb").close()
with open(told, "wb", buffering=0) as file:
    for number in range(1, 10**9):
        connection.execute("INSERT OR REPLACE INTO commits VALUES (?)", (number,))
        os.pwrite(file.fileno(), b"%010d" % number, 0)
        time.sleep(0.001)
"""


@dataclass(frozen=True)
class Forgetful:
    """The application while it runs."""

    database: Path
    pid: int
    _told: Path

    @property
    def committed(self) -> int:
        """Return the number of the newest row that is committed for sure."""
        try:
            return int(self._told.read_text() or "0")
        except FileNotFoundError:
            return 0

    def commit_more(self, count: int = 5) -> int:
        """Wait until it has committed more rows; return the number of the newest one before."""
        before = self.committed
        until(lambda: self.committed >= before + count, f"{count} more commits")
        return before

    def kill(self) -> int:
        """Kill it as a power cut would; return the number of its newest row."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        return self.committed


@contextlib.contextmanager
def running(
    database: Path, *statements: str, prefix: tuple[str, ...] = (), closed: str = FILE
) -> Iterator[Forgetful]:
    """Run it on a database that is there, after these statements; it is killed in the end."""
    told = database.with_name(f"{database.name}.told")
    command = [
        *prefix,
        sys.executable,
        "-c",
        _SCRIPT,
        str(database),
        str(told),
        closed,
        *statements,
    ]
    with subprocess.Popen(command) as process:
        try:
            app = Forgetful(database, process.pid, told)
            app.commit_more()
            yield app
        finally:
            process.kill()


def missing(database: Path, first: int, last: int) -> list[int]:
    """List the rows from number `first` to `last` that a database does not hold."""
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        held = {row[0] for row in connection.execute("SELECT number FROM commits")}
    return [number for number in range(first, last + 1) if number not in held]
