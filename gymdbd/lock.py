"""Locks that are named after what they guard, and end with the process that holds them.

They use `flock` on a file that is never removed: the kernel releases the lock however the holder
ends, and no stale pid file is left. The content of the file names the holder, for the error
message only.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import bounded
from gymdbd.errors import BusyError, NoLocksError
from gymdbd.files import hand_over, resolved, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_POLL_S = 0.1


def archive_lock(archive: Path) -> Path:
    """Return the lock that guards an archive: backups, pruning and marks take it."""
    return archive / ".gymdbd.lock"


def reader_locks(archive: Path) -> list[Path]:
    """Return the locks of who reads a backup, so that it is not pruned meanwhile.

    An archive that this user may not write, for example on a read-only disk, is not locked.
    """
    return [archive_lock(archive)] if os.access(archive, os.W_OK) else []


def file_lock(path: Path) -> Path:
    """Return the lock that guards a single file, such as a replica or the status file."""
    return path.with_name(f".{path.name}.lock")


@contextlib.contextmanager
def hold(
    paths: Iterable[Path], *, wait_s: float = 0.0, check: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Hold every lock in `paths`, waiting at most `wait_s` seconds for all of them together.

    They are taken in sorted order, so that two holders of the same set cannot deadlock. `check`
    is called while waiting, and may raise to stop. Raises BusyError, which names the holder.
    """
    deadline = time.monotonic() + wait_s
    with contextlib.ExitStack() as stack:
        for path in sorted(set(paths)):
            stack.enter_context(_hold_one(path, deadline, check))
        yield


@contextlib.contextmanager
def hold_as_it_is(path: Path) -> Iterator[None]:
    """Lock a file that is not one of our lock files, without writing it; BusyError if it is locked.

    Raises OSError if it cannot be opened.
    """
    descriptor = bounded.opened(resolved(path))
    try:
        if not _try_lock(descriptor, path):
            raise _busy(path, descriptor)
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock at `path` now; a missing lock file is not held."""
    try:
        descriptor = bounded.opened(path)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def _hold_one(path: Path, deadline: float, check: Callable[[], None]) -> Iterator[None]:
    with writing(path):
        descriptor = bounded.opened(path, os.O_RDWR | os.O_CREAT)
    try:
        with writing(path):
            hand_over(descriptor, path.parent)
        # A process that only checks, by `is_held`, has released the lock at the second try.
        deadline = max(deadline, time.monotonic() + _POLL_S)
        while not _try_lock(descriptor, path):
            check()
            if time.monotonic() >= deadline:
                raise _busy(path, descriptor)
            time.sleep(_POLL_S)
        _name_holder(descriptor)
        yield
    finally:
        # The kernel releases the lock even if it reports that the text could not be written.
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _try_lock(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise NoLocksError(
            f"the file system of {path.parent} refuses the lock {path} ({error.strerror})",
            hint="a share has to be mounted with locks (NFS: lockd on both machines, or the option "
            "nolock, nolocks on a Mac, if only this one writes there); otherwise use a folder on a "
            "disk of this machine, and copy from there",
        ) from error
    return True


def _name_holder(descriptor: int) -> None:
    """Write the holder into the lock file; the lock works without it, such as on a full disk."""
    text = json.dumps({"pid": os.getpid(), "command": Path(sys.argv[0]).name})
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)


def _busy(path: Path, descriptor: int) -> BusyError:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        who = f"{holder['command']}, process {holder['pid']}"
    except (OSError, ValueError, KeyError, TypeError):
        who = "another process"
    return BusyError(
        f"{path.parent} is in use by {who}",
        hint=f"wait until it is done and run this again; the lock is {path}",
    )
