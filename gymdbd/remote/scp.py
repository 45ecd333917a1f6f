"""Method `scp`: a plain copy of `.db` and `-wal`, accepted only if nothing changed meanwhile.

No lock is held on the other machine, so the copy must prove itself:

* The state of the source before and after must be equal: size and time of the database and of its
  WAL, the database's header with its change counter, the WAL's header, and the head of its index
  (`-shm`). The WAL's header changes whenever a WAL is restarted, which would silently damage such
  copies; the index shows every commit, even one that fits into the WAL's old size.
* The database is copied before its WAL. While the WAL's header is unchanged, every page that a
  checkpoint may have changed meanwhile is in the WAL that is copied afterwards.
* SFTP has times in whole seconds. Without a WAL and its index, copying begins in a later second
  than the state was read, so that any change changes the time.
* The copy is opened, its WAL checkpointed, and checked.

If a source is written to all day, this keeps failing, and method `query` is needed.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gymdbd import files
from gymdbd.errors import CopyTornError, WriteFailedError
from gymdbd.source import answers, database, wal
from gymdbd.source.errors import (
    GymdbdError,
    SourceCorruptError,
    SourceEmptyError,
    SourceError,
    SourceMissingError,
    SourceNotADatabaseError,
    SourceUnreadableError,
)
from gymdbd.source.format import (
    HEADER_BYTES,
    INDEX,
    INDEX_BACKFILLED,
    JOURNAL,
    JOURNAL_MAGIC,
    MAGIC,
    SIDE_SUFFIXES,
    VERSIONS,
    WAL,
    WAL_HEADER_BYTES,
    WITH_WAL,
    beside,
)
from gymdbd.source.schema import load_schema
from gymdbd.sqlite import opening, soundness

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gymdbd.remote.client import Progress
    from gymdbd.remote.ssh.sftp import FileFacts, RemoteFiles

ATTEMPTS = 5
_SETTLE_S = 1.1
# Both copies of the index's header, and how much of the WAL was checkpointed.
_INDEX_BYTES = INDEX_BACKFILLED.stop


@dataclass(frozen=True)
class SourceState:
    """What must be equal before and after a copy: sizes, times, headers."""

    main: FileFacts
    header: bytes
    log: FileFacts | None
    log_header: bytes
    index_head: bytes
    journal_head: bytes

    @property
    def size_bytes(self) -> int:
        """Return how many bytes there are to copy."""
        return self.main.size + (self.log.size if self.log else 0)


@dataclass(frozen=True)
class Copied:
    """The result of a copy: its size with the WAL, the bytes copied, and the attempts.

    `ownership` are mode, owner and group of the source, None if unknown. The copy has no WAL; the
    source works with one if its `journal_mode` is "wal".
    """

    size_bytes: int
    copied_bytes: int
    attempts: int
    journal_mode: str
    ownership: dict[str, Any] | None = None


def copy_database(
    remote: RemoteFiles,
    source: str,
    partial: Path,
    *,
    progress: Progress,
    check: Callable[[], None],
    allow: Callable[[int], None] = lambda _: None,
    attempts: int = ATTEMPTS,
) -> Copied:
    """Copy a database into the file `partial`, whole, checked, and readable without a WAL.

    `progress("copy", done, total)` is in bytes; `allow(size)` may refuse by raising. Raises
    SourceMissingError, SourceEmptyError, SourceNotADatabaseError, SourceCorruptError or
    SourceUnreadableError for the source, CopyTornError if it changed during every attempt, and a
    DestinationError if it cannot be written. Leaves nothing on failure. What is wrong with two
    copies during which nothing changed is wrong with the source.
    """
    moved, copied, doubt = "", 0, None
    try:
        for attempt in range(1, attempts + 1):
            check()
            before = _read_state(remote, source)
            allow(before.size_bytes)
            files.require_space(partial.parent, 2 * before.size_bytes)
            changed = _copy_once(remote, source, partial, before, progress)
            copied += before.size_bytes
            if changed:
                moved = changed
                continue
            try:
                _checkpoint(source, partial, wal.count_frames(before.index_head))
            except SourceError as error:
                # A change that left no trace would be a reason, so copy again to be sure.
                if doubt:
                    raise
                doubt = error
            else:
                mode = "wal" if before.header[VERSIONS] == WITH_WAL else "delete"
                size = partial.stat().st_size
                return Copied(size, copied, attempt, mode, before.main.ownership)
    except BaseException:
        remove(partial)
        raise
    remove(partial)
    if not moved and doubt:
        raise doubt
    raise CopyTornError(
        f"{source} was not at rest during any of {attempts} copies: {moved}",
        hint="use method query, which copies a snapshot while the application writes "
        "(method: query, or --method query); scp needs an idle application",
    )


def _read_state(remote: RemoteFiles, source: str) -> SourceState:
    main = remote.find(source)
    if main is None:
        raise missing(source)
    log = remote.find(source + WAL)
    state = SourceState(
        main=main,
        header=remote.read_head(source, HEADER_BYTES),
        log=log,
        log_header=remote.read_head(source + WAL, WAL_HEADER_BYTES) if log else b"",
        index_head=remote.read_head(source + INDEX, _INDEX_BYTES) if log else b"",
        journal_head=remote.read_head(source + JOURNAL, len(JOURNAL_MAGIC)),
    )
    if not state.header:
        # SQLite would remove the WAL of an empty copy, even if it has content.
        raise empty(source)
    if not state.header.startswith(MAGIC):
        raise SourceNotADatabaseError(
            f"{source} on the other machine is not an SQLite database", hint="check the path"
        )
    return state


def _copy_once(
    remote: RemoteFiles, source: str, partial: Path, before: SourceState, progress: Progress
) -> str:
    """Copy both files; return what changed meanwhile, or ""."""
    if before.journal_head == JOURNAL_MAGIC:
        # A transaction is open, or a crash interrupted it.
        time.sleep(_SETTLE_S)
        return "a transaction is open in its rollback journal"
    if not (before.log_header and before.index_head):
        time.sleep(_SETTLE_S)
    total, main_size = before.size_bytes, before.main.size
    log_partial = beside(partial, WAL)
    remove(partial)
    with files.writing(partial):
        files.create(partial)
        with partial.open("wb") as file:
            if not remote.copy(source, main_size, file, lambda n: progress("copy", n, total)):
                return "the database became shorter"
    if before.log and before.log.size:
        with files.writing(log_partial):
            files.create(log_partial)
            with log_partial.open("wb") as file:
                done = remote.copy(
                    source + WAL,
                    before.log.size,
                    file,
                    lambda n: progress("copy", main_size + n, total),
                )
        if not done:
            return "its WAL became shorter"
    return _describe_change(before, _read_state(remote, source))


def _describe_change(before: SourceState, after: SourceState) -> str:
    """Return the first difference in words, or ""."""
    if before.log_header != after.log_header:
        return "its WAL was restarted"
    if (before.log, before.index_head) != (after.log, after.index_head):
        return "its WAL grew or changed"
    if before.main != after.main:
        return "the database grew or changed"
    if before.header != after.header:
        return "the database's header changed"
    return "" if before.journal_head == after.journal_head else "a transaction was open in it"


def _checkpoint(source: str, partial: Path, frames: int) -> None:
    """Checkpoint the WAL of the copy and check it; raises a SourceError if that is impossible.

    SQLite checks the checksum of every frame, and ignores frames from the first invalid one on: of
    those that the index counts over there it must find all.
    """
    try:
        with closing(database.open_copy(partial, write=True)) as connection:
            opening.bound(connection, partial)
            load_schema(connection)
            _, found, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if 0 <= found < frames:
                raise _invalid_frame(source, found, frames)
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            mode = str(connection.execute("PRAGMA journal_mode=DELETE").fetchone()[0])
            problems = soundness.check(connection, quick=True).problems
    except answers.FAULTS as error:
        raise _meant(source, partial, error) from error
    if problems:
        raise _damaged(source, problems)
    if busy or mode != "delete":
        raise _unreadable(source, "its WAL could not be checkpointed")


def _meant(source: str, partial: Path, error: Exception) -> GymdbdError:
    """Return what an error of SQLite's means, of the source or of this machine's disk."""
    words, meaning = answers.words(error), answers.meaning(error)
    if "full" in words or "disk I/O" in words:
        with files.writing(partial):
            files.require_space(partial.parent, partial.stat().st_size)
        return WriteFailedError(
            f"the copy of {source} in {partial.parent} could not be used ({words})",
            hint="check the disk of this machine; the replica has not changed",
        )
    if meaning == answers.DAMAGED:
        return _damaged(source, (words,))
    if meaning == answers.NOT_A_DATABASE:
        return SourceNotADatabaseError(
            f"{source} is not a database that SQLite can read ({words})",
            hint="check the path; an encrypted database needs its own tools",
        )
    return _unreadable(source, words)


def _damaged(source: str, problems: tuple[str, ...]) -> SourceCorruptError:
    return SourceCorruptError(
        f"{source} is damaged: {'; '.join(problems[:3])}",
        hint="the replica has not changed; stop the application there and restore the newest "
        "good backup (gymdbd list)",
        problems=problems,
    )


def _invalid_frame(source: str, found: int, frames: int) -> SourceUnreadableError:
    return SourceUnreadableError(
        f"frame {found + 1} of the {frames} frames of the WAL of {source} has a wrong checksum: "
        "who has the database open reads all of them, a copy of its files only those before",
        hint="the replica has not changed; use method query (method: query, or --method query), "
        "which reads what the application reads, and make a backup over there now: after a crash "
        "the application itself would lose these commits",
    )


def _unreadable(source: str, reason: str) -> SourceUnreadableError:
    return SourceUnreadableError(
        f"nothing was written to {source} meanwhile, and its copy cannot be read: {reason}",
        hint="the replica has not changed; use method query (method: query, or --method query), "
        "which reads the database where it is",
    )


def missing(source: str) -> SourceMissingError:
    """Return the error for a database that is not there."""
    return SourceMissingError(
        f"there is no database at {source} on the other machine",
        hint="check remote_database; a relative path starts in the home folder there",
    )


def empty(source: str) -> SourceEmptyError:
    """Return the error for a database without a byte."""
    return SourceEmptyError(
        f"{source} on the other machine has zero bytes",
        hint="check that the application has created it and that the disk there was not full",
    )


def remove(partial: Path) -> None:
    """Remove the copy and its side files."""
    for suffix in ("", *SIDE_SUFFIXES):
        files.remove(beside(partial, suffix))
