"""Who holds a database, asked about real processes with real locks of SQLite."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gymdbd.source import processes
from gymdbd.source.format import CHECKPOINT_LOCK, READ_LOCKS, WRITE_LOCK
from gymdbd.source.processes import Process
from tests.support.command import require
from tests.support.databases import make_database, sqlite_elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_PROC = Path("/nonexistent")
_WRITE = "INSERT INTO t (text) VALUES ('x')"

_BOTH = pytest.mark.parametrize("proc", [Path("/proc"), _NO_PROC], ids=["proc", "lsof"])


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Give a small database in WAL mode, under a name that needs quoting."""
    require("lsof")
    return make_database(tmp_path / "gym 회원.db", rows=3)


@contextlib.contextmanager
def _open_elsewhere(path: Path, mode: str) -> Iterator[subprocess.Popen[str]]:
    """Let another process have the plain file open, not through SQLite."""
    script = (
        "import sys\n"
        "with open(sys.argv[1], sys.argv[2]) as file:\n"
        "    print('open', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "open\n"
            yield process
        finally:
            process.communicate(timeout=30)


def _pids(found: list[Process]) -> list[int]:
    return [one.pid for one in found]


@_BOTH
def test_nobody_holds_a_database_that_nobody_has_open(database: Path, proc: Path) -> None:
    """Our own process does not count."""
    with database.open("r+b"):
        assert processes.holders(database, proc=proc) == []
        assert processes.writers(database, proc=proc) == []


@_BOTH
def test_a_process_with_the_database_open_is_a_holder_and_a_writer(
    database: Path, proc: Path
) -> None:
    """SQLite opens for writing unless told otherwise; the command comes with the process id."""
    with sqlite_elsewhere(database, "SELECT * FROM t") as other:
        (holder,) = processes.holders(database, proc=proc)
        assert processes.writers(database, proc=proc) == [holder]
    assert holder.pid == other.pid
    assert holder.command.startswith("python")
    assert str(holder) == f"{holder.command} (pid {other.pid})"
    assert processes.holders(database, proc=proc) == []


@_BOTH
def test_a_process_that_only_reads_is_a_holder_and_no_writer(database: Path, proc: Path) -> None:
    """By the mode in which it opened the file."""
    with _open_elsewhere(database, "rb") as other:
        assert _pids(processes.holders(database, proc=proc)) == [other.pid]
        assert processes.writers(database, proc=proc) == []


@_BOTH
@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_a_process_with_a_side_file_open_is_a_holder(
    database: Path, proc: Path, suffix: str
) -> None:
    """It is no writer: that is about the database itself."""
    side = database.with_name(database.name + suffix)
    with _open_elsewhere(side, "w") as other:
        assert _pids(processes.holders(database, proc=proc)) == [other.pid]
        assert processes.writers(database, proc=proc) == []


@_BOTH
def test_a_process_with_another_database_open_is_no_holder(database: Path, proc: Path) -> None:
    """Nor where that name begins with this one."""
    other = make_database(database.with_name(database.name + "2"))
    with sqlite_elsewhere(other, "SELECT * FROM t"):
        assert processes.holders(database, proc=proc) == []


@_BOTH
def test_all_holders_are_listed_in_order(database: Path, proc: Path) -> None:
    """Each once, however many descriptors it has."""
    with (
        sqlite_elsewhere(database, "SELECT * FROM t") as one,
        sqlite_elsewhere(database, "SELECT * FROM t") as two,
        _open_elsewhere(database, "rb") as three,
    ):
        assert _pids(processes.holders(database, proc=proc)) == sorted(
            [one.pid, two.pid, three.pid]
        )
        assert _pids(processes.writers(database, proc=proc)) == sorted([one.pid, two.pid])


@_BOTH
def test_a_database_that_is_not_there_has_no_holders(tmp_path: Path, proc: Path) -> None:
    """The question is no error."""
    assert processes.holders(tmp_path / "gone.db", proc=proc) == []
    assert processes.writers(tmp_path / "gone.db", proc=proc) == []
    assert processes.lock_holders(tmp_path / "gone.db", proc=proc) == []


def test_a_reader_in_a_transaction_holds_a_read_lock(database: Path) -> None:
    """It is what keeps a checkpoint from finishing; it holds no other lock."""
    with sqlite_elsewhere(database, "BEGIN", "SELECT * FROM t") as reader:
        assert _pids(processes.lock_holders(database, READ_LOCKS)) == [reader.pid]
        assert processes.lock_holders(database, WRITE_LOCK) == []
        assert processes.lock_holders(database, CHECKPOINT_LOCK) == []


def test_a_reader_between_transactions_holds_no_read_lock(database: Path) -> None:
    """An open connection alone blocks nothing, though its process has the file open."""
    with sqlite_elsewhere(database, "SELECT * FROM t") as reader:
        assert processes.lock_holders(database, READ_LOCKS) == []
        assert _pids(processes.holders(database)) == [reader.pid]


def test_a_writer_holds_the_write_lock(database: Path) -> None:
    """From BEGIN IMMEDIATE on; readers beside it hold only theirs."""
    with (
        sqlite_elsewhere(database, "BEGIN IMMEDIATE", _WRITE) as writer,
        sqlite_elsewhere(database, "BEGIN", "SELECT * FROM t") as reader,
    ):
        assert _pids(processes.lock_holders(database, WRITE_LOCK)) == [writer.pid]
        found = _pids(processes.lock_holders(database, READ_LOCKS))
        assert found == sorted([writer.pid, reader.pid])


@pytest.mark.parametrize("begin", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_a_writer_in_rollback_mode_holds_a_lock_of_the_main_file(
    tmp_path: Path, begin: str
) -> None:
    """A reader's shared lock is not counted: it does not keep others from reading."""
    path = make_database(tmp_path / "gym.db", mode="delete")
    with sqlite_elsewhere(path, "BEGIN", "SELECT * FROM t"):
        assert processes.lock_holders(path) == []
    with sqlite_elsewhere(path, begin, _WRITE) as writer:
        assert _pids(processes.lock_holders(path)) == [writer.pid]
    assert processes.lock_holders(path) == []


def test_a_process_that_waits_for_a_lock_does_not_hold_it(database: Path, tmp_path: Path) -> None:
    """The kernel lists who waits as well, with an arrow; only the holder is in the way."""
    proc = tmp_path / "proc"
    proc.mkdir()
    inode = database.stat().st_ino
    place = f"fe:00:{inode} 1073741824 1073742335"
    (proc / "locks").write_text(
        f"1: POSIX  ADVISORY  WRITE 4001 {place}\n1: -> POSIX  ADVISORY  WRITE 4002 {place}\n"
    )
    assert _pids(processes.lock_holders(database, proc=proc)) == [4001]


def test_without_a_lock_table_no_lock_holder_is_named(database: Path) -> None:
    """An empty answer is all there is, and no error."""
    with sqlite_elsewhere(database, "BEGIN IMMEDIATE", _WRITE):
        assert processes.lock_holders(database, WRITE_LOCK, proc=_NO_PROC) == []


def test_where_lsof_is_missing_too_nobody_is_named(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without either tells nothing; it is looked for in /usr/sbin in any case."""
    with sqlite_elsewhere(database, "SELECT * FROM t") as other:
        monkeypatch.setenv("PATH", str(database.parent))
        found = _pids(processes.holders(database, proc=_NO_PROC))
    assert found == ([other.pid] if Path("/usr/sbin/lsof").exists() else [])


def test_processes_are_described_for_a_message() -> None:
    """Those that could not be found are admitted to."""
    found = [Process(411, "python3 app.py"), Process(500, "sqlite3")]
    assert processes.describe(found) == "python3 app.py (pid 411), sqlite3 (pid 500)"
    assert processes.describe([]) == "a process that could not be named"


def test_we_are_never_among_the_others(database: Path) -> None:
    """Whichever way is asked."""
    with database.open("r+b"):
        assert os.getpid() not in _pids(processes.holders(database))
