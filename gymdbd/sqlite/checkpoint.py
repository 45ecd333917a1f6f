"""Copying the WAL back into the main file, without triggering SQLite's WAL-reset bug.

https://www.sqlite.org/pragma.html#pragma_wal_checkpoint and wal.html section 11. In SQLite up to
3.51.2 a checkpoint without the write lock can lose a commit if it races with a writer's reset of
the WAL, and TRUNCATE on a busy database silently becomes such a PASSIVE checkpoint. On these
releases a second connection takes the write lock first.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd.source import live, processes
from gymdbd.source.answers import FAULTS
from gymdbd.source.database import has_wal_reset_bug, source_error
from gymdbd.source.errors import NotOwnerError, SourceLockedError
from gymdbd.source.format import CHECKPOINT_LOCK, READ_LOCKS, WRITE_LOCK
from gymdbd.source.schema import load_schema
from gymdbd.sqlite import opening

if TYPE_CHECKING:
    from pathlib import Path

_POLL_S = 0.001


@dataclass(frozen=True)
class Checkpoint:
    """The result of a checkpoint of `mode` (truncate, passive or none).

    `busy`, `log` and `checkpointed` are SQLite's result row: 1 if it was blocked, the frames in
    the WAL, and the frames that are in the main file. They are None if no checkpoint was run, for
    the reason in `skipped`. `guarded` is set if the write lock was held, `blocked_by` names the
    blocking processes.
    """

    mode: str
    busy: int | None = None
    log: int | None = None
    checkpointed: int | None = None
    guarded: bool = False
    skipped: str = ""
    blocked_by: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Return whether everything committed is in the main file."""
        return self.busy == 0 and self.log == self.checkpointed


def checkpoint(
    path: Path, mode: str, *, busy_timeout_s: float = 5.0, guard: bool | None = None
) -> Checkpoint:
    """Run one checkpoint of the database at `path` (a resolved path).

    A blocked checkpoint is a result, not an error: the backup has the WAL's rows anyway. So is an
    idle database of another user, which is not opened for writing. `guard` overrides whether this
    SQLite needs the write lock. Raises a SourceError if the database cannot be opened or is
    damaged.
    """
    if mode == "none":
        return Checkpoint(mode, skipped="not requested")
    try:
        return _checkpoint(
            path, mode, busy_timeout_s, has_wal_reset_bug() if guard is None else guard
        )
    except NotOwnerError as error:
        return Checkpoint(mode, skipped=error.message)
    except FAULTS as error:
        problem = source_error(error, path)
        if isinstance(problem, SourceLockedError):
            blockers = _names(processes.lock_holders(path, WRITE_LOCK))
            return Checkpoint(mode, skipped="the write lock is taken", blocked_by=blockers)
        if "readonly" in str(error) or "read-only" in str(error):
            return Checkpoint(mode, skipped=f"this user may not write the database ({error})")
        raise problem from error


def _checkpoint(path: Path, mode: str, busy_timeout_s: float, guard: bool) -> Checkpoint:
    reason = _reason_for_none(path, busy_timeout_s)
    if reason:
        return Checkpoint(mode, skipped=reason)
    with opening.writing(path, busy_timeout_s=busy_timeout_s) as connection:
        # Read something first: on a connection that has not read yet the pragma finds no WAL and
        # does nothing.
        load_schema(connection)
        if not guard:
            return _run(connection, path, mode, guarded=False)
        deadline = time.monotonic() + busy_timeout_s
        with opening.writing(path, busy_timeout_s=0) as holder:
            _take_write_lock(holder, deadline)
            try:
                # PASSIVE copies everything too; the WAL keeps its size, and the next write of the
                # application restarts it.
                return _run(connection, path, "passive", guarded=True, deadline=deadline)
            finally:
                holder.execute("ROLLBACK")


def _reason_for_none(path: Path, busy_timeout_s: float) -> str:
    """Return why there is nothing to copy, or no permission, without opening it for writing."""
    with closing(live.LiveConnection(path, busy_timeout_s=busy_timeout_s)) as reader:
        if reader.idle:
            return "nobody has it open, and it belongs to another user: only that user or root may"
        load_schema(reader.connection)
        journal_mode = reader.connection.execute("PRAGMA journal_mode").fetchone()[0]
    return "" if journal_mode == "wal" else f"journal mode is {journal_mode}: there is no WAL"


def _take_write_lock(connection: sqlite3.Connection, deadline: float) -> None:
    """Begin a write transaction, trying often enough to succeed beside a writer at full rate.

    SQLite's own busy handler sleeps for up to 100 ms between two tries, and loses every race.
    """
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            # Waiting does not help if this user may not write.
            if "locked" not in str(error) or time.monotonic() >= deadline:
                raise
            time.sleep(_POLL_S)
        else:
            return


def _run(
    connection: sqlite3.Connection, path: Path, mode: str, *, guarded: bool, deadline: float = 0.0
) -> Checkpoint:
    """Run the checkpoint; SQLite does nothing while another is running, so try again."""
    while True:
        busy, log, checkpointed = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        if log >= 0 or time.monotonic() >= deadline:
            break
        time.sleep(_POLL_S)
    complete = busy == 0 and log == checkpointed
    blockers = () if complete else _names(_blockers(path))
    return Checkpoint(mode, busy, log, checkpointed, guarded, blocked_by=blockers)


def _blockers(path: Path) -> list[processes.Process]:
    spans = (READ_LOCKS, WRITE_LOCK, CHECKPOINT_LOCK)
    return sorted({holder for span in spans for holder in processes.lock_holders(path, span)})


def _names(found: list[processes.Process]) -> tuple[str, ...]:
    return tuple(str(process) for process in found)
