"""One committed state of a live database, held by a read transaction while it is copied."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
import time
from typing import TYPE_CHECKING, BinaryIO, Callable

from gymdbd.source import live, wal
from gymdbd.source.counting import count_rows
from gymdbd.source.database import interruptible, locate, translated
from gymdbd.source.errors import (
    SourceCorruptError,
    SourceError,
    SourceLockedError,
    SourceMovedError,
)
from gymdbd.source.format import INDEX, beside
from gymdbd.source.schema import (
    Facts,
    is_tolerant,
    read_facts,
    unknown_definition,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

_OPEN_ATTEMPTS = 5
_SETTLE_S = 5.0
# How long a turn may keep the commits of an application without a WAL waiting.
TURN_S = 1.0


class Snapshot:
    """A read transaction on a live database and what can be copied while it lasts.

    `connection` is in the transaction, and `facts` describe its state; after the monotonic time
    `ends_at` nothing of it is vouched for. The transaction keeps the
    WAL from being reset, so it must not last longer than the copy; in rollback-journal mode the
    application's commits wait for it too, unless it is held in `turn`s only.
    """

    def __init__(self, path: Path, *, busy_timeout_s: float = 5.0) -> None:
        """Begin the transaction; raises a SourceError that explains what is wrong with `path`."""
        self.path = locate(path)
        self._descriptors = contextlib.ExitStack()
        for _ in range(_OPEN_ATTEMPTS):
            # SQLite opens the main file first, and the WAL, by its name, at the first read. If the
            # file is replaced in between, it would be read without the commits in its WAL.
            self._file = _file_at(self.path)
            self._reader = live.LiveConnection(self.path, busy_timeout_s=busy_timeout_s)
            self.connection = self._reader.connection
            self.ends_at = float("inf")
            self._next_turn = 0.0
            try:
                self.facts = self._begin()
            except BaseException:
                self.close()
                raise
            if _file_at(self.path) == self._file:
                return
            self.close()
        raise _replaced(self.path)

    @property
    def idle(self) -> bool:
        """Return whether nobody had the database open, so that its main file is complete."""
        return self._reader.idle

    @property
    def unknown(self) -> str:
        """Return what only a newer SQLite understands of the schema, "" if nothing."""
        if not is_tolerant(self.connection):
            return ""
        return unknown_definition(self.connection)

    def _begin(self) -> Facts:
        with translated(self.path):
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            # A deferred BEGIN takes its snapshot at the first read.
            self.connection.execute("BEGIN")
            self._reader.touch()
            # A reader's lock prevents writes to the main file, except in WAL mode or with another
            # kind of lock.
            self._stamp = live.stamp(self.path)
            self._version = self._data_version()
            facts = read_facts(self.connection)
            # Without its WAL, SQLite reports another journal mode.
            return dataclasses.replace(facts, journal_mode="wal") if self.idle else facts

    def confirm(self) -> None:
        """Raise SourceMovedError if the database may have changed during the transaction.

        That is possible only for an idle database that is read without locks, if the application
        takes none, or after `ends_at`. Call this before using what was copied or counted.
        """
        self.require_time()
        self._reader.confirm()
        now = live.stamp(self.path)
        # If another file has replaced it, the snapshot is still one state.
        if self.facts.journal_mode != "wal" and now[:2] == self._stamp[:2] and now != self._stamp:
            raise live.moved(self.path)

    @property
    def is_in_turns(self) -> bool:
        """Return whether an application's commits wait for the transaction: it has no WAL."""
        return self.facts.journal_mode != "wal" and not self.idle

    def require_time(self) -> None:
        """Raise SourceMovedError after `ends_at`."""
        if time.monotonic() >= self.ends_at:
            raise SourceMovedError(
                f"the snapshot of {self.path} was ended before all of it was fetched, so that its "
                "WAL can be reset",
                hint="run this again: it goes on where it was, with a new snapshot",
            )

    def let_go(self) -> None:
        """End the transaction at `ends_at`; other threads may still be reading the descriptors."""
        self._reader.close()

    def rest(self) -> None:
        """End the transaction until the next turn, if commits wait for it."""
        if self.is_in_turns and self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def turn(self, turn_s: float = TURN_S) -> Iterator[float]:
        """Hold the transaction in the block, which is to end at the monotonic time that it gets.

        If an application's commits wait for it, it is another one of the same state, and the next
        turn begins after a pause as long as this one. SourceMovedError if the state is another.
        """
        if not self.is_in_turns:
            yield float("inf")
            return
        time.sleep(max(0.0, self._next_turn - time.monotonic()))
        with translated(self.path):
            begun = time.monotonic()
            try:
                self.connection.execute("BEGIN")
                self._reader.touch()
                begun = time.monotonic()
                if self._data_version() != self._version:
                    raise _written(self.path)
                yield begun + turn_s
                self.confirm()
            finally:
                self.rest()
                ended = time.monotonic()
                self._next_turn = ended + (ended - begun)

    def _data_version(self) -> int:
        """Return a number that changes with the file's change counter, for this connection only."""
        return int(self.connection.execute("PRAGMA data_version").fetchone()[0])

    def __enter__(self) -> Snapshot:
        """Return the snapshot; the end of the block ends its transaction."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the transaction; raises SourceMovedError if the database may have changed."""
        try:
            if error is None or isinstance(error, (SourceError, sqlite3.Error)):
                self.confirm()
        finally:
            self.close()

    def close(self) -> None:
        """End the transaction, then close the descriptors that must outlive it."""
        self._reader.close()
        self._descriptors.close()

    def settle(self) -> wal.Mark:
        """Restart the transaction until its end in the WAL is known; return that mark.

        Only for WAL mode. A mark read after the transaction began may be that of a later commit,
        which this connection does not see; a mark that is the same before and after is that of the
        transaction. Raises UnreadableIndexError if there is none; then the snapshot is a new one
        with an unknown mark.
        """
        try:
            return self._settle()
        except wal.UnreadableIndexError:
            self.facts = self._begin()
            raise

    def _settle(self) -> wal.Mark:
        index = self.open_file(INDEX)
        deadline = time.monotonic() + _SETTLE_S
        while time.monotonic() < deadline:
            mark = self._begin_at_mark(index)
            if mark is not None:
                return mark
        raise wal.UnreadableIndexError(
            f"{self.path} is written so fast that no snapshot could be told from the next",
            hint="try again when the application is less busy",
        )

    def _begin_at_mark(self, index: BinaryIO) -> wal.Mark | None:
        with translated(self.path):
            self.connection.execute("ROLLBACK")
            before = wal.read_mark(index)
            self.connection.execute("BEGIN")
            self.connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
            mark = wal.read_mark(index)
            if not mark.names_same_commit(before):
                return None
            self.facts = read_facts(self.connection)
            return mark

    def copy_online(self, target: sqlite3.Connection) -> None:
        """Copy this state into another connection's database with SQLite's online backup."""
        with translated(self.path):
            self.connection.backup(target)

    def count_rows(self, *, check: Callable[[], None] = lambda: None) -> dict[str, int]:
        """Count the rows of every table in this state; `check` may raise to cancel."""
        with translated(self.path), interruptible(self.connection, check):
            return count_rows(self.connection, self.facts)

    def open_file(self, suffix: str) -> BinaryIO:
        """Open the database or a side file; it stays open until the connection is closed."""
        path = beside(self.path, suffix)
        try:
            file = self._descriptors.enter_context(path.open("rb", buffering=0))
            facts = os.fstat(file.fileno())
        except OSError as error:
            if suffix == INDEX:
                raise wal.UnreadableIndexError(
                    f"{path} cannot be read ({error.strerror})",
                    hint=f"let this user read the -shm file in {path.parent}",
                ) from error
            raise SourceCorruptError(
                f"{path} cannot be read while the database is open ({error.strerror})",
                hint="somebody moved or removed it under the application: restart the application",
            ) from error
        if not suffix and (facts.st_dev, facts.st_ino) != self._file:
            raise _replaced(self.path)
        return file


def _file_at(path: Path) -> tuple[int, int] | None:
    """Return the identity of the file with this name, None if there is none."""
    try:
        facts = os.stat(path)  # noqa: PTH116 - one call, no Path made
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def _written(path: Path) -> SourceMovedError:
    return SourceMovedError(
        f"{path} was written before all of it was read; it has no WAL, so that its pages are read "
        "with pauses in which the application may write",
        hint="run this again: it goes on where it was; in WAL mode (PRAGMA journal_mode=WAL) "
        "nobody has to wait",
    )


def _replaced(path: Path) -> SourceLockedError:
    return SourceLockedError(
        f"{path} was replaced by another file while it was being opened",
        hint="wait until whoever replaces it is done, and run this again",
    )
