"""An application with a database, in a process of its own, which does what the test tells it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SCRIPT = """
import os, sqlite3, sys
if len(sys.argv) > 2:
    os.setuid(int(sys.argv[2]))
connection = sqlite3.connect(sys.argv[1], isolation_level=None, uri=sys.argv[1][:5] == "file:")
connections = [connection]
print("ready", flush=True)
for line in sys.stdin:
    if line.startswith("python "):
        exec(line[7:])
        print("done", flush=True)
    else:
        print(connection.execute(line).fetchall(), flush=True)
"""


@dataclass
class Application:
    """The running application; it is killed in the end."""

    process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        """Return the id of its process."""
        return self.process.pid

    def run(self, line: str) -> str:
        """Let it execute a statement, or after the word `python` a line of Python."""
        self.begin(line)
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def begin(self, line: str) -> None:
        """Let it begin what may have no end."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def write(self, rows: int = 1) -> None:
        """Commit some rows; they stay in its WAL."""
        self.run("PRAGMA wal_autocheckpoint=0")
        self.run(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < "
            f"{rows}) INSERT INTO t (text) SELECT 'new' FROM n"
        )

    def rows(self) -> int:
        """Return how many rows it sees."""
        return int(self.run("SELECT count(*) FROM t").strip("[](),"))


@contextlib.contextmanager
def application(
    database: Path | str, *, prefix: list[str] | None = None, user: int | None = None
) -> Iterator[Application]:
    """Start it on a path or a URI; `prefix` is a command that starts it elsewhere."""
    words = [*(prefix or []), sys.executable, "-c", _SCRIPT, str(database)]
    words += [str(user)] if user is not None else []
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield Application(process)
        finally:
            process.kill()
