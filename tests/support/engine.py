"""Helpers for the tests of the pull engine: a serving process, a writer process, databases."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from gymdbd.remote import bootstrap
from gymdbd.remote.client import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WAIT_S = 20.0


@contextlib.contextmanager
def serving(arguments: list[str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Start the loader as sshd would; the block gets the process, which has read nothing yet."""
    process = subprocess.Popen(
        arguments or bootstrap.arguments(sys.executable),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
    )
    try:
        yield process
    finally:
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait(WAIT_S)
        if process.stderr is not None:
            process.stderr.close()


@contextlib.contextmanager
def session(database: Path, *, python: str = sys.executable, **options: Any) -> Iterator[Session]:
    """Hold a session with a fresh serving process."""
    with serving(bootstrap.arguments(python)) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        prelude = functools.partial(bootstrap.bundle, str(database))
        yield Session(process.stdout, process.stdin, prelude=prelude, **options)


def open_app(path: Path, *, journal_mode: str = "wal") -> sqlite3.Connection:
    """Open a database as an application does, in autocommit mode."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=WAIT_S)
    connection.execute(f"PRAGMA journal_mode={journal_mode}")
    connection.execute("PRAGMA synchronous=OFF")
    return connection


def make_members(path: Path, rows: int = 2000, *, journal_mode: str = "wal") -> None:
    """Create a database with one table of `rows` members."""
    with closing(open_app(path, journal_mode=journal_mode)) as app:
        app.execute("CREATE TABLE member(id INTEGER PRIMARY KEY, name TEXT, visits INT)")
        app.execute("BEGIN")
        app.executemany(
            "INSERT INTO member(name, visits) VALUES (?, 0)",
            ((f"회원 {number} " + "x" * 200,) for number in range(rows)),
        )
        app.execute("COMMIT")


def problems(path: Path) -> list[str]:
    """Return what SQLite's integrity check finds, and open the file without touching it."""
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
        found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
    return [one for one in found if one != "ok"]


def wait_until(condition: Callable[[], bool], *, seconds: float = WAIT_S) -> None:
    """Wait for a condition, and fail where it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.005)
