"""Reading a database that an application may have open, without harming it.

All readers of a live database are opened here, and every writer has a reader beside it
(`gymdbd.sqlite.opening`):

* A reader leaves no -wal or -shm that the owner of the database could not use. SQLite creates both
  when an idle database in WAL mode is opened. So a user other than the owner reads an idle
  database without them, and `confirm` checks that it did not change meanwhile.
* An index (-shm) in use is never recreated, whatever happened to the locks on it
  (`gymdbd.source.index`).
* Locks that gymdbd does not share are respected if they are visible: the `.lock` folder of
  SQLite's unix-dotfile VFS, and the journal of a process that takes no locks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import sys
import time
from typing import TYPE_CHECKING

from gymdbd.source import index, processes
from gymdbd.source.database import connect, source_error
from gymdbd.source.errors import (
    SourceLockedError,
    SourceMovedError,
    SourceUnreadableError,
)
from gymdbd.source.format import (
    HEADER_BYTES,
    PENDING_LOCK,
    SHARED_LOCK,
    VERSIONS,
    WAL,
    WITH_WAL,
    beside,
    side_files,
)

if TYPE_CHECKING:
    from pathlib import Path

Stamp = tuple[int, ...]

_LOCKED = "mode=ro"
_UNLOCKED = "mode=ro&immutable=1"
_POLL_S = 0.01
# How long after a write another write may leave the file's times unchanged: a tick of the kernel,
# and two seconds if the file system has whole seconds only.
_TICK_NS = 20_000_000
_SECONDS_NS = 2_000_000_000
_CAP_CHOWN = 0x1

# Closing a descriptor of the database would drop all locks that this process has on it, even those
# of other connections. So there is one descriptor for each file until the process ends.
_descriptors: dict[tuple[int, int], int] = {}


class LiveConnection:
    """A read-only connection to a live database.

    `idle` is set if nobody had it open and it is read without locks, because this user may not
    leave side files: then call `confirm` before using what was read.
    """

    def __init__(
        self, path: Path, *, busy_timeout_s: float = 5.0, leave_nothing: bool = False
    ) -> None:
        """Open `path`, a resolved path; raises a SourceError if it cannot be opened."""
        self.path = path
        self.access = Access(path, busy_timeout_s=busy_timeout_s, leave_nothing=leave_nothing)
        self.connection = connect(path, self.access.parameters, busy_timeout_s)

    @property
    def idle(self) -> bool:
        """Return whether it is read without locks, as a file that nobody has open."""
        return self.access.idle

    def touch(self) -> None:
        """Read once, so that SQLite opens the WAL and holds its locks from now on."""
        try:
            self.connection.execute("PRAGMA schema_version").fetchone()
        finally:
            self.access.give_away()

    def confirm(self) -> None:
        """Raise SourceMovedError if the data read may not be a single state of the database."""
        self.access.confirm()

    def close(self) -> None:
        """Close the connection."""
        # The first read, which is never later than this, creates the side files.
        self.access.give_away()
        self.connection.close()


class Access:
    """How this user may read a live database, decided when it is created.

    `parameters` are those of SQLite's URI.
    """

    def __init__(
        self, path: Path, *, busy_timeout_s: float = 5.0, leave_nothing: bool = False
    ) -> None:
        """Wait for locks that SQLite does not see, then decide."""
        self.path = path
        self._stamp: Stamp = ()
        deadline = time.monotonic() + busy_timeout_s
        _await_lock_folder(path, deadline)
        index.keep(path)
        self.parameters = _LOCKED
        self._missing: list[Path] = []
        if not leave_nothing and may_leave_sides(path):
            self._missing = [side for side in side_files(path)[:2] if not side.exists()]
        elif not self._keep_sides(deadline):
            self.parameters = _UNLOCKED
            self._stamp = _settled_stamp(path)

    @property
    def idle(self) -> bool:
        """Return whether nobody had the database open, so that it is read without locks."""
        return self.parameters == _UNLOCKED

    def confirm(self) -> None:
        """Raise SourceMovedError if an idle database has changed."""
        if self.idle and (_stamp(self.path) != self._stamp or _has_content(self.path, WAL)):
            raise moved(self.path)

    def give_away(self) -> None:
        """Give the side files that SQLite created here the group of the database."""
        for side in self._missing:
            with contextlib.suppress(OSError):
                _hand_over(side, self.path)

    def _keep_sides(self, deadline: float) -> bool:
        """Return whether reading creates no side file; existing ones are kept from now on.

        Nobody removes them while a reader's lock is held. SQLite's connection in this process
        shares that lock, and releases it when it is closed.
        """
        descriptor = _descriptor(self.path)
        if not _is_in_wal_mode(descriptor):
            return True
        _lock_as_reader(self.path, descriptor, deadline)
        wal, shm = side_files(self.path)[:2]
        if wal.exists() and shm.exists():
            return True
        # No other connection in this process needs that lock: it would have created both files.
        _lock(descriptor, fcntl.LOCK_UN, SHARED_LOCK)
        if not _has_content(self.path, WAL):
            return False
        if may_leave_sides(self.path) or is_shared_with_owner(self.path):
            return True
        raise SourceUnreadableError(
            f"{wal} holds changes that a crash left, and {shm} is missing: made by this user "
            f"(uid {os.geteuid()}) it would be of no use to the owner of the database",
            hint="start the application once, or run this as the owner of the database or as root",
        )


def may_leave_sides(path: Path) -> bool:
    """Return whether the owner of the database can use a -wal and -shm made by this process."""
    facts = path.stat()
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return False
    if os.geteuid() == 0 and _may_give_away():
        return True
    if facts.st_uid != os.geteuid():
        return False
    return (
        not facts.st_mode & 0o070
        or facts.st_gid in (os.getegid(), *os.getgroups())
        or _group_of_new_files(path) == facts.st_gid
    )


def stamp(path: Path) -> Stamp:
    """Return values that change if the main file is written, which a reader's lock prevents."""
    return _stamp(path)[:4]


def moved(path: Path) -> SourceMovedError:
    """Build the error for a database that was written while it was being read."""
    return SourceMovedError(
        f"{path} was written while it was being read, by somebody whose locks do not hold here",
        hint="run this again; if it stays so run it as the owner of the database or as root, and "
        "see that the application uses SQLite's default locking",
    )


def _await_lock_folder(path: Path, deadline: float) -> None:
    """Wait until nobody holds the lock of SQLite's unix-dotfile VFS, which is a folder."""
    folder = path.with_name(path.name + ".lock")
    while folder.is_dir():
        if time.monotonic() >= deadline:
            found = processes.describe(processes.holders(path))
            raise SourceLockedError(
                f"{path} stayed locked by {folder}, as the unix-dotfile VFS does ({found})",
                hint="wait until the application is done; if nothing uses the database, a crash "
                f"left the lock: rmdir {folder}",
            )
        time.sleep(_POLL_S)


def _is_in_wal_mode(descriptor: int) -> bool:
    return os.pread(descriptor, HEADER_BYTES, 0)[VERSIONS] == WITH_WAL


def _descriptor(path: Path) -> int:
    facts = path.stat()
    key = facts.st_dev, facts.st_ino
    if key not in _descriptors:
        try:
            _descriptors[key] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise SourceUnreadableError(
                f"{path} cannot be read ({error.strerror})",
                hint=f"let this user (uid {os.geteuid()}) read the database",
            ) from error
    return _descriptors[key]


def _lock_as_reader(path: Path, descriptor: int, deadline: float) -> None:
    """Take SQLite's reader lock, in the order in which SQLite takes it."""
    while True:
        try:
            _lock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, PENDING_LOCK)
            try:
                _lock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, SHARED_LOCK)
            finally:
                _lock(descriptor, fcntl.LOCK_UN, PENDING_LOCK)
        except OSError as error:
            if time.monotonic() >= deadline:
                raise source_error(sqlite3.OperationalError(f"locked: {error}"), path) from error
            time.sleep(_POLL_S)
        else:
            return


def _lock(descriptor: int, how: int, span: range) -> None:
    fcntl.lockf(descriptor, how, len(span), span.start)


def _stamp(path: Path) -> Stamp:
    """Return values that change with a file that is read without locks; () if it is missing."""
    try:
        facts = os.stat(path)  # noqa: PTH116 - one call, no Path made
    except OSError:
        return ()
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _settled_stamp(path: Path) -> Stamp:
    """Wait until a later write must change the times of the file; return its stamp."""
    while True:
        found = _stamp(path)
        since = _TICK_NS if any(moment % 1_000_000_000 for moment in found[3:]) else _SECONDS_NS
        if all(abs(time.time_ns() - moment) >= since for moment in found[3:]):
            return found
        time.sleep(_POLL_S)


def _may_give_away() -> bool:
    """Return whether root still has the capability to change the owner of files."""
    try:
        with open("/proc/self/status") as file:  # noqa: PTH123 - a name of the kernel's
            found = [line.split()[1] for line in file if line.startswith("CapEff:")]
    except OSError:
        return True
    return not found or bool(int(found[0], 16) & _CAP_CHOWN)


def is_shared_with_owner(path: Path) -> bool:
    """Return whether files that this process creates beside it get a group that may write it."""
    facts = path.stat()
    return bool(facts.st_mode & 0o020) and _group_of_new_files(path) == facts.st_gid


def _group_of_new_files(path: Path) -> int:
    folder = path.parent.stat()
    return folder.st_gid if sys.platform == "darwin" or folder.st_mode & 0o2000 else os.getegid()


def _hand_over(side: Path, path: Path) -> None:
    here, there = side.lstat(), path.stat()
    if here.st_uid != os.geteuid() or here.st_gid == there.st_gid:
        return
    os.chown(side, -1, there.st_gid, follow_symlinks=False)


def _has_content(path: Path, suffix: str) -> bool:
    try:
        return beside(path, suffix).stat().st_size > 0
    except OSError:
        return False
