"""Replacing the content of a live database through SQLite, in one transaction.

The online backup works in this direction too: it takes the target's write lock and writes every
page in one transaction, so other connections see the old content until the commit, and then the
new. A stale WAL cannot be replayed over the new pages, because they go through the same WAL.
https://www.sqlite.org/backup.html
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from typing import TYPE_CHECKING

from gymdbd.errors import DiskFullError, TargetRefusedError
from gymdbd.source import live, processes
from gymdbd.source.database import open_immutable, translated
from gymdbd.source.errors import GymdbdError, SourceLockedError
from gymdbd.source.schema import load_schema, read_facts
from gymdbd.sqlite import opening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# The cache is larger than one step, so nothing is written before `when_locked`.
_STEP_BYTES = 4 * 1024 * 1024
_CACHE_KIB = 2 * _STEP_BYTES // 1024
# An application that commits without a pause frees the lock for moments only, which SQLite's own
# busy handler hardly ever meets: it sleeps for up to 100 ms.
_RETRY_S = 0.001
_DONE = 101  # SQLITE_DONE
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) if hasattr(sqlite3, "SQLITE_BUSY") else (5, 6)


@contextlib.contextmanager
def overwrite(
    content: Path,
    target: Path,
    progress: Callable[[int, int], None],
    *,
    when_locked: Callable[[], None] = lambda: None,
    when_done: Callable[[], None] = lambda: None,
    busy_timeout_s: float = 5.0,
) -> Iterator[sqlite3.Connection]:
    """Replace the content of the database `target` with `content`, a file that nobody writes.

    `when_locked` is called as soon as nobody else can commit (unless `content` is empty), and
    `progress(done_bytes, total_bytes)` after every step but the last; if they raise, the target is
    unchanged. The last one commits, and `when_done` is called right after it.
    Yields a connection to the target in a read transaction begun right after the commit, to count
    what was restored while the application goes on writing. Raises SourceLockedError if the write
    lock stays taken, TargetRefusedError if SQLite cannot do it, for example in WAL mode with
    another page size.
    """
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(contextlib.closing(open_immutable(content)))
        writer = stack.enter_context(_writer(target))
        reader = stack.enter_context(contextlib.closing(live.LiveConnection(target))).connection
        with translated(content):
            facts = read_facts(source)
        _prepare(writer, target, facts.page_size)
        # The last step commits, so there must be another step before it.
        step = max(1, min(_STEP_BYTES // facts.page_size, facts.page_count // 2))

        def advance(remaining: int, total: int) -> None:
            progress((total - remaining) * facts.page_size, total * facts.page_size)

        report = _reporter(target, advance, when_locked, when_done, busy_timeout_s)
        try:
            source.backup(writer, pages=step, progress=report, sleep=_RETRY_S)
        except sqlite3.Error as error:
            raise _refused(target, str(error)) from error
        with translated(target):
            reader.execute("BEGIN")
            load_schema(reader)
        yield reader


def _reporter(
    target: Path,
    advance: Callable[[int, int], None],
    when_locked: Callable[[], None],
    when_done: Callable[[], None],
    busy_timeout_s: float,
) -> Callable[[int, int, int], None]:
    """Return what SQLite calls after every step, or attempt at one."""
    locked = False
    deadline = time.monotonic() + busy_timeout_s

    def report(state: int, remaining: int, total: int) -> None:
        nonlocal locked
        if state == _DONE:
            # It is committed: who asks for a stop now comes too late.
            when_done()
            return
        if state in _BUSY and time.monotonic() > deadline:
            raise _locked(target)
        if state == 0 and not locked:
            locked = True
            when_locked()
        advance(remaining, total)

    return report


@contextlib.contextmanager
def _writer(target: Path) -> Iterator[sqlite3.Connection]:
    """Open the target for writing; an SQLite error means that nothing has changed."""
    with contextlib.ExitStack() as stack:
        try:
            yield stack.enter_context(opening.writing(target, busy_timeout_s=0.0))
        except sqlite3.Error as error:
            raise _refused(target, str(error)) from error


def _prepare(writer: sqlite3.Connection, target: Path, page_size: int) -> None:
    """Set the cache size; raise if SQLite would: in WAL mode the page size cannot change."""
    try:
        with contextlib.suppress(sqlite3.Error):
            load_schema(writer)
        (mode,) = writer.execute("PRAGMA journal_mode").fetchone()
        (there,) = writer.execute("PRAGMA page_size").fetchone()
        writer.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
    except sqlite3.Error as error:
        raise _refused(target, str(error)) from error
    if mode == "wal" and there != page_size:
        raise _refused(target, f"its pages have {there} bytes, those of the backup {page_size}")


def _refused(target: Path, reason: str) -> GymdbdError:
    if "full" in reason:
        return DiskFullError(
            f"no space left to restore into {target} ({reason})",
            hint=f"free some space (df -h {target.parent}); the database has not changed",
        )
    return TargetRefusedError(
        f"SQLite cannot restore into {target}: {reason}",
        hint="nothing has changed; stop the application and restore with --replace, which "
        "replaces the file",
    )


def _locked(target: Path) -> SourceLockedError:
    holders = processes.lock_holders(target) or processes.holders(target)
    return SourceLockedError(
        f"{target} stayed locked by {processes.describe(holders)}",
        hint="nothing has changed; wait for it to finish, stop it, or raise busy_timeout",
    )
