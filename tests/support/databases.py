"""Databases and archives: made, asked, and compared."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def make_database(path: Path, *, rows: int = 100, mode: str = "wal") -> Path:
    """Create a small database with one table `t` and return its path."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)")
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO t (text) VALUES (?)", [(f"row {n}" * 20,) for n in range(rows)]
        )
        connection.execute("COMMIT")
    return path


def make_large_database(path: Path, *, size_mib: int) -> Path:
    """Create a database of about `size_mib` MiB, as fast as the disk takes it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("CREATE TABLE blobs (id INTEGER PRIMARY KEY, data BLOB)")
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO blobs (data) VALUES (zeroblob(16777216 - 4096))",
            [()] * (size_mib // 16),
        )
        connection.execute("CREATE TABLE last (word TEXT)")
        connection.execute("INSERT INTO last VALUES ('written beyond everything else')")
        connection.execute("COMMIT")
    return path


def query(path: Path | str, sql: str) -> list[tuple[Any, ...]]:
    """Ask a finished backup that nobody writes."""
    uri = f"{Path(path).absolute().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        return connection.execute(sql).fetchall()


def broken_promises(path: Path | str) -> list[str]:
    """Return what is wrong with a copy of the application's database: integrity and totals."""
    found = [row[0] for row in query(path, "PRAGMA integrity_check") if row[0] != "ok"]
    ((members, rentals, events, fees),) = query(
        path, "SELECT members, rentals, events, fees FROM totals"
    )
    for what, expected, sql in (
        ("members", members, "SELECT count(*) FROM members"),
        ("rentals", rentals, "SELECT count(*) FROM rentals"),
        ("events", events, "SELECT count(*) FROM sensor_events"),
        ("fees", fees, "SELECT coalesce(sum(fee), 0) FROM rentals"),
        ("paid", fees, "SELECT coalesce(sum(paid), 0) FROM members"),
    ):
        ((actual,),) = query(path, sql)
        if actual != expected:
            found.append(f"{what}: {actual}, the totals say {expected}")
    return found


def tree(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in a folder but the lock, by name."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.is_file() and path.name != ".gymdbd.lock"
    }


def backups(folder: Path) -> list[Path]:
    """List the files with a backup's name, oldest first."""
    # The second one of a second ends in -2.
    return sorted(folder.glob("*_backup_*.db"), key=lambda path: path.stem)


@contextlib.contextmanager
def sqlite_elsewhere(database: Path | str, *statements: str) -> Iterator[subprocess.Popen[str]]:
    """Let another process run these statements and keep its connection open.

    `database` is a path, or a URI such as `file:...?mode=ro`.
    """
    script = (
        "import sqlite3, sys\n"
        "uri = sys.argv[1].startswith('file:')\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None, uri=uri)\n"
        "for statement in sys.argv[2:]:\n"
        "    connection.execute(statement).fetchall()\n"
        "print('done', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(database), *statements],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "done\n"
            yield process
        finally:
            process.communicate(timeout=30)
