"""The checkpoint before a backup: its results, who blocks it, and the guard of the WAL reset."""

from __future__ import annotations

import sqlite3
import struct
import subprocess
import sys
import threading
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from gymdbd.jobs.backup import backup
from gymdbd.source.database import has_wal_reset_bug
from gymdbd.sqlite.checkpoint import checkpoint
from tests.support.command import EventLog
from tests.support.databases import make_database, query, sqlite_elsewhere
from tests.support.jobs import backup_job, context
from tests.support.waiting import times_open, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BUSY_S = 0.5
_BACKFILL_OFFSET = 96


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Path]:
    """Give a database that an application has open, with frames in its WAL."""
    path = make_database(tmp_path / "gym.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint=0")
        for n in range(10):
            connection.execute("INSERT INTO t (text) VALUES (?)", (f"live {n}",))
        yield path


def _backfilled(path: Path) -> int:
    """Read nBackfill from the -shm in another process: reading it here would drop locks."""
    script = (
        "import sys\n"
        "with open(sys.argv[1] + '-shm', 'rb') as file:\n"
        "    sys.stdout.buffer.write(file.read(136))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, check=True)
    return int(struct.unpack_from("=I", done.stdout, _BACKFILL_OFFSET)[0])


def test_truncate_on_a_fixed_library_empties_the_wal(live: Path) -> None:
    """All three numbers are zero and the file has no bytes."""
    done = checkpoint(live, "truncate", guard=False)
    assert (done.mode, done.busy, done.log, done.checkpointed) == ("truncate", 0, 0, 0)
    assert (done.guarded, done.complete) == (False, True)
    assert live.with_name("gym.db-wal").stat().st_size == 0


def test_truncate_on_an_affected_library_is_passive_under_the_write_lock(live: Path) -> None:
    """All frames are in the main file and the WAL keeps its size."""
    size = live.with_name("gym.db-wal").stat().st_size
    done = checkpoint(live, "truncate", guard=True)
    assert (done.busy, done.guarded, done.complete) == (0, True, True)
    assert done.log == done.checkpointed == _backfilled(live) > 0
    assert live.with_name("gym.db-wal").stat().st_size == size


def test_passive_copies_everything(live: Path) -> None:
    """Its numbers are the frames of the WAL, all of them copied."""
    done = checkpoint(live, "passive")
    assert (done.mode, done.complete) == ("passive", True)
    assert done.log == _backfilled(live) > 0


def test_none_does_not_touch_the_wal(live: Path) -> None:
    """No numbers, and not one frame copied."""
    done = checkpoint(live, "none")
    assert (done.busy, done.log, done.checkpointed) == (None, None, None)
    assert _backfilled(live) == 0


def test_a_rollback_journal_database_needs_no_checkpoint(tmp_path: Path) -> None:
    """It is skipped with the journal mode as the reason."""
    path = make_database(tmp_path / "gym.db", mode="delete")
    done = checkpoint(path, "truncate")
    assert (done.busy, "journal mode is delete" in done.skipped) == (None, True)


def test_the_guard_follows_the_library() -> None:
    """Which libraries need it is known by their version."""
    affected = [(3, 7, 0), (3, 40, 1), (3, 44, 5), (3, 50, 6), (3, 51, 2)]
    fixed = [(3, 6, 23), (3, 44, 6), (3, 50, 7), (3, 51, 3), (3, 53, 0)]
    assert [has_wal_reset_bug(one) for one in affected + fixed] == [True] * 5 + [False] * 5


@pytest.mark.parametrize("mode", ["truncate", "passive"])
def test_while_another_process_writes_no_unguarded_checkpoint_ever_happens(
    live: Path, mode: str
) -> None:
    """On an affected library a held write lock means no checkpoint: not one frame is copied."""
    with sqlite_elsewhere(live, "BEGIN IMMEDIATE") as holder:
        done = checkpoint(live, mode, busy_timeout_s=_BUSY_S, guard=True)
        assert _backfilled(live) == 0
    assert (done.busy, done.log, done.checkpointed) == (None, None, None)
    assert done.skipped == "the write lock is taken"
    assert [f"(pid {holder.pid})" in name for name in done.blocked_by] == [True]
    # The same on a fixed library falls back to PASSIVE: this test can see the difference.
    with sqlite_elsewhere(live, "BEGIN IMMEDIATE"):
        checkpoint(live, mode, busy_timeout_s=_BUSY_S, guard=False)
        assert _backfilled(live) > 0


def test_no_backup_on_an_affected_library_checkpoints_past_a_held_write_lock(
    live: Path, tmp_path: Path
) -> None:
    """The whole job keeps to it: no frame is copied, the log says by whom, the backup is made."""
    job = backup_job(live, tmp_path / "archive", busy_timeout=timedelta(seconds=_BUSY_S))
    log = EventLog()
    with sqlite_elsewhere(live, "BEGIN IMMEDIATE") as holder:
        result = backup.run(job, context(log=log))
        copied = _backfilled(live)
    assert (copied == 0) == has_wal_reset_bug()
    (blocked,) = log.named("checkpoint blocked")
    assert f"(pid {holder.pid})" in blocked["blocked_by"]
    assert query(result.path, "SELECT count(*) FROM t") == [(110,)]


def test_a_write_lock_that_is_given_up_in_time_lets_the_guarded_checkpoint_through(
    live: Path,
) -> None:
    """It waits for the writer up to the busy timeout."""
    results = []
    with sqlite_elsewhere(live, "BEGIN IMMEDIATE") as holder:
        waiting = threading.Thread(
            target=lambda: results.append(
                checkpoint(live, "truncate", busy_timeout_s=20, guard=True)
            )
        )
        waiting.start()
        # The application's connection, the checkpoint's, and the one that takes the lock.
        until(lambda: times_open(live) >= 3, "the checkpoint asks for the write lock")
        assert results == []
        holder.communicate(timeout=10)
        waiting.join(20)
    assert [(done.busy, done.complete) for done in results] == [(0, True)]


@pytest.mark.parametrize("guard", [True, False])
def test_a_reader_that_pins_the_wal_is_named(live: Path, guard: bool) -> None:
    """The checkpoint copies what it may and says which process keeps it from the rest."""
    with sqlite_elsewhere(live, "BEGIN", "SELECT count(*) FROM t") as reader:
        _write_elsewhere(live)
        done = checkpoint(live, "truncate", busy_timeout_s=_BUSY_S, guard=guard)
    assert not done.complete
    assert done.log is not None
    assert done.checkpointed is not None
    assert done.checkpointed < done.log
    assert done.guarded == guard
    assert [f"(pid {reader.pid})" in name for name in done.blocked_by] == [True]
    assert done.blocked_by[0].startswith("python")


def test_a_reader_that_pins_the_wal_does_not_keep_the_backup_from_any_row(
    live: Path, tmp_path: Path
) -> None:
    """The backup holds the rows that the checkpoint could not copy; a warning names the reader."""
    log = EventLog()
    job = backup_job(live, tmp_path / "archive", busy_timeout=timedelta(seconds=_BUSY_S))
    with sqlite_elsewhere(live, "BEGIN", "SELECT count(*) FROM t") as reader:
        _write_elsewhere(live)
        result = backup.run(job, context(log=log))
    assert query(result.path, "SELECT count(*) FROM t") == [(111,)]
    assert f"(pid {reader.pid})" in result.checkpoint.blocked_by[0]
    (blocked,) = log.named("checkpoint blocked")
    assert f"(pid {reader.pid})" in blocked["blocked_by"]


def _write_elsewhere(path: Path) -> None:
    with sqlite_elsewhere(
        path, "PRAGMA wal_autocheckpoint=0", "INSERT INTO t (text) VALUES ('later')"
    ):
        pass
