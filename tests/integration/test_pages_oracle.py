"""The page rule against SQLite's own online backup of the same read transaction."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gymdbd.remote import delta
from gymdbd.source.errors import SourceError
from gymdbd.source.fingerprint import Fingerprint, take
from gymdbd.source.pages import Pages, open_pages
from tests.support import samples

# The application lives in a process of its own: closing a descriptor of the database here would
# drop its locks.
_APP = """
import json, os, signal, sqlite3, sys
connection = None
for line in sys.stdin:
    if connection is None:
        connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0.02)
        setup = ["PRAGMA synchronous=OFF", "PRAGMA cache_size=4"]
    else:
        setup = []
    for statement in setup + json.loads(line):
        if statement == "CRASH":
            os.kill(os.getpid(), signal.SIGKILL)
        if statement == "CLOSE":
            connection.close()
            connection = None
            break
        try:
            connection.execute(statement).fetchall()
        except sqlite3.OperationalError as error:
            if "lock" not in str(error) and "within a transaction" not in str(error):
                raise
            break
    if connection is not None and connection.in_transaction:
        connection.execute("ROLLBACK")
    print("done", flush=True)
"""

# What an online backup changes by itself on page 1: the versions, the change counter, the schema
# cookie, and the counter's other copy with the library's version.
_CHANGED_BY_BACKUP = (slice(18, 20), slice(24, 28), slice(40, 44), slice(92, 100))
_LARGE = 60_000
# Longer than the step of a file system's clock.
_TICK_NS = 20_000_000


class App:
    """An application on the database, which can be told to die in mid-transaction."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _APP, str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *statements: str) -> None:
        """Execute statements one after the other, up to the first that finds a lock."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(statements) + "\n")
        self.process.stdin.flush()
        if self.process.stdout.readline() == "done\n":
            return
        assert statements[-1] == "CRASH"
        assert self.process.wait(10) == -signal.SIGKILL
        self.close()
        self.process = self._start()

    def close(self) -> None:
        """End the process."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        self.process.wait(10)


def read_by_rule(pages: Pages) -> bytes:
    """Read every page, in runs that do not divide the database evenly."""
    pages.load()
    return b"".join(
        pages.read(first, min(7, pages.count + 1 - first)) for first in range(1, pages.count + 1, 7)
    )


def read_by_backup(pages: Pages) -> bytes:
    """Let SQLite copy the very same transaction."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as target:
        pages.snapshot.copy_online(target)
        return target.serialize()


def masked(content: bytes) -> bytes:
    """Blank what an online backup changes."""
    changed = bytearray(content)
    for part in _CHANGED_BY_BACKUP:
        changed[part] = bytes(part.stop - part.start)
    return bytes(changed)


def patched(content: bytes, pages: Pages, numbers: list[int]) -> bytes:
    """Put pages into an older content, as a pull does."""
    size = pages.page_size
    changed = bytearray(content[: pages.size_bytes])
    for number in numbers:
        changed[(number - 1) * size : number * size] = pages.read(number, 1)
    return bytes(changed)


class PageRule(RuleBasedStateMachine):
    """Random work by an application, and a snapshot held for a random part of it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "gym.db"
        self.app = App(self.path)
        self.held: Pages | None = None
        self.last: tuple[Fingerprint, bytes] | None = None

    def teardown(self) -> None:
        """End everything that was started."""
        if self.held:
            self.held.close()
        self.app.close()
        shutil.rmtree(self.folder)

    @initialize(page_size=st.sampled_from([512, 1024, 4096, 65536]), vacuum=st.integers(0, 2))
    def create(self, page_size: int, vacuum: int) -> None:
        """Create the application's database."""
        self.app.run(
            f"PRAGMA page_size={page_size}",
            f"PRAGMA auto_vacuum={vacuum}",
            "PRAGMA journal_mode=WAL",
            "PRAGMA wal_autocheckpoint=20",
            "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)",
            "CREATE INDEX i ON t(v)",
        )

    @rule(size=st.integers(0, 3000), count=st.integers(1, 30))
    def insert(self, size: int, count: int) -> None:
        """Insert rows."""
        self.app.run(*[f"INSERT INTO t(v) VALUES (randomblob({size}))"] * count)

    @rule(size=st.integers(10_000, _LARGE))
    def insert_large(self, size: int) -> None:
        """Insert a row that overflows onto pages of its own."""
        self.app.run(f"INSERT INTO t(v) VALUES (randomblob({size}))")

    @rule(share=st.integers(1, 5), size=st.integers(0, 2000))
    def update(self, share: int, size: int) -> None:
        """Update a share of the rows."""
        self.app.run(f"UPDATE t SET v = randomblob({size}) WHERE id % {share} = 0")

    @rule(share=st.integers(1, 4))
    def delete(self, share: int) -> None:
        """Delete a share of the rows; 1 is all of them."""
        self.app.run(f"DELETE FROM t WHERE id % {share} = 0", "PRAGMA incremental_vacuum")

    @rule(name=st.integers(0, 3))
    def change_schema(self, name: int) -> None:
        """Create a table, or drop it."""
        self.app.run(f"CREATE TABLE IF NOT EXISTS x{name}(a)", f"DROP TABLE IF EXISTS x{3 - name}")

    @rule()
    def vacuum(self) -> None:
        """Rewrite the whole database."""
        self.app.run("VACUUM")

    @rule(mode=st.sampled_from(["PASSIVE", "FULL", "RESTART", "TRUNCATE"]))
    def checkpoint(self, mode: str) -> None:
        """Run a checkpoint as far as the held snapshot lets it."""
        self.app.run(f"PRAGMA wal_checkpoint({mode})")

    @rule(page_size=st.sampled_from([512, 1024, 8192]))
    def change_page_size(self, page_size: int) -> None:
        """Change the page size, which needs rollback mode and a VACUUM."""
        self.app.run(
            "PRAGMA journal_mode=DELETE",
            f"PRAGMA page_size={page_size}",
            "VACUUM",
            "PRAGMA journal_mode=WAL",
        )

    @rule(mode=st.sampled_from(["DELETE", "TRUNCATE", "PERSIST", "WAL", "WAL"]))
    def switch_journal_mode(self, mode: str) -> None:
        """Switch the journal mode."""
        self.app.run(f"PRAGMA journal_mode={mode}")

    @rule()
    def roll_back(self) -> None:
        """Write frames that are never committed."""
        self.app.run("BEGIN", *["INSERT INTO t(v) VALUES (randomblob(3000))"] * 20, "ROLLBACK")

    @rule()
    def close(self) -> None:
        """Let the application close the database, which may remove the WAL."""
        self.app.run("CLOSE")

    @rule(committed=st.booleans())
    def crash(self, committed: bool) -> None:
        """Kill the application in mid-transaction, with pages spilled from its cache."""
        rows = ["INSERT INTO t(v) VALUES (randomblob(2000))"] * 20
        self.app.run("BEGIN", *rows, *(["COMMIT"] if committed else []), "CRASH")

    @rule()
    def hold_or_release(self) -> None:
        """Begin a snapshot, or end it; only SQLite can mend a crash in rollback mode before."""
        if self.held:
            self.held.close()
            self.held = None
            return
        try:
            self.held = open_pages(self.path, busy_timeout_s=0.1)
        except SourceError:
            assert self.path.with_name("gym.db-journal").exists()
            self.app.run("SELECT count(*) FROM t")
            self.held = open_pages(self.path, busy_timeout_s=0.1)
        self.compare_with_last(self.held)

    def compare_with_last(self, held: Pages) -> None:
        """Check that what is said to have changed since the last snapshot is all that has."""
        fingerprint, content = take(held), read_by_rule(held)
        settled = fingerprint.taken_ns - fingerprint.ctime_ns > _TICK_NS
        if self.last:
            saved, before = self.last
            plan = delta.choose(saved, fingerprint, len(before))
            event(f"{plan.strategy}: {plan.reason}" if plan.since is None else plan.strategy)
            if plan.since:
                sums = (plan.since.checksum_one, plan.since.checksum_two)
                numbers = held.load_tail(bytes.fromhex(plan.since.salts), plan.since.frames, sums)
                assert numbers is not None
                before = patched(before, held, numbers)
            if plan.since or plan.strategy == delta.UNCHANGED:
                assert content == before
        self.last = (replace(fingerprint, settled=settled), content)

    @invariant()
    def is_what_sqlite_reads(self) -> None:
        """Compare a held snapshot with what SQLite reads in it, whatever was done since."""
        if self.held is None:
            return
        by_backup, by_rule = read_by_backup(self.held), read_by_rule(self.held)
        size = self.held.page_size

        assert len(by_backup) == len(by_rule) == self.held.size_bytes
        differing = [
            start // size + 1
            for start in range(0, len(by_rule), size)
            if masked(by_backup)[start : start + size] != masked(by_rule)[start : start + size]
        ]
        assert differing == []


PageRule.TestCase.settings = settings(
    max_examples=samples.count(30, of=120),
    stateful_step_count=50,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)


class TestPageRule(PageRule.TestCase):  # type: ignore[misc, valid-type]
    """The snapshot by the page rule is the one that SQLite's online backup reads."""
