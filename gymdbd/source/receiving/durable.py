"""Flushing what was written to the disk, and a lock that dies with its process."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os

# The answers of a file system that cannot flush a file or folder so.
_NO_SYNC = (errno.EINVAL, errno.ENOTTY, errno.ENOTSUP, errno.EOPNOTSUPP)


def flush(descriptor: int) -> None:
    """Flush an open file or folder; on macOS, where fsync does not, as far as to the disk itself.

    A file system that cannot flush a folder has no error for it.
    """
    full = getattr(fcntl, "F_FULLFSYNC", None)
    try:
        if full is not None:
            fcntl.fcntl(descriptor, full)
        else:
            os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
        with contextlib.suppress(OSError):
            os.fsync(descriptor)


def is_locked_by_us(descriptor: int) -> bool:
    """Lock an open file; return False if another process has locked it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # A file system without locks: then nobody has locked it.
        if error.errno not in (*_NO_SYNC, errno.ENOLCK, errno.ENOSYS):
            raise
    return True
