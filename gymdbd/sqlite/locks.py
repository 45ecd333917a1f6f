"""Whether a process holds a lock on a database, without taking one; and taking the last one.

This finds processes that this user may not see, too. A process with a connection to the database
must not call it: closing a descriptor drops its locks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from gymdbd.errors import ReplicaInUseError, TargetInUseError
from gymdbd.source import processes
from gymdbd.source.format import INDEX, INDEX_LOCKS, MAIN_LOCKS, beside
from gymdbd.source.locking import is_locked
from gymdbd.words import stop_it

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def require_free(path: Path) -> None:
    """Raise TargetInUseError if a process is known to have the database open."""
    found = processes.holders(path)
    if not found and not is_held(path):
        return
    seen = processes.describe(found) if found else "a process that this user may not see"
    raise TargetInUseError(
        f"{path} is open in {seen}",
        hint=f"nothing has changed; {stop_it()}, or omit --replace to restore into the open "
        "database through SQLite",
    )


def is_held(path: Path) -> bool:
    """Return whether another process holds any of SQLite's locks on a database.

    An application that opened and closed the main file has lost its locks on it, but still holds
    those on the index of the WAL.
    """
    return (
        _is_locked(path, MAIN_LOCKS)
        or holds_wal(path)
        or path.with_name(path.name + ".lock").is_dir()  # The unix-dotfile VFS.
    )


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold SQLite's exclusive lock on a database that is about to be replaced.

    Nobody has it open in WAL mode or is in a transaction meanwhile; ReplicaInUseError if somebody
    is. Nothing else of this process may open the file in the block: closing it drops the lock.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        try:
            size, start = len(MAIN_LOCKS), MAIN_LOCKS.start
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, size, start)
        except OSError as error:
            raise ReplicaInUseError(
                f"{path} cannot be locked ({error.strerror}): a process that this user may not see "
                "uses it, or its file system has no locks",
                hint="stop whatever uses it, and try again; nothing has changed",
            ) from error
        yield
    finally:
        os.close(descriptor)


def holds_wal(path: Path) -> bool:
    """Return whether another process uses the WAL of a database."""
    return _is_locked(beside(path, INDEX), INDEX_LOCKS)


def _is_locked(path: Path, span: range) -> bool:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return is_locked(descriptor, span)
        finally:
            os.close(descriptor)
    return False
