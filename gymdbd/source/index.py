"""Protecting the index of a WAL (-shm) whose user has lost its locks on it.

An application that opens and closes its own -shm, for example to archive the folder, drops all its
locks on it. By SQLite's rule the next connection then takes the index for unused and truncates it;
the application, which has it mapped, dies of a bus error at its next commit. A lock that does not
belong to this process keeps SQLite in this process from truncating it.
https://www.sqlite.org/walformat.html section 2.3
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from typing import TYPE_CHECKING, Dict, Tuple

from gymdbd.source import processes
from gymdbd.source.descriptors import PROC
from gymdbd.source.format import INDEX, INDEX_LOCK, beside

if TYPE_CHECKING:
    from pathlib import Path

# struct flock of fcntl(2), with 64-bit offsets.
_LOCK = "hhqqi4x"
# The inode of a line of /proc/PID/maps.
_INODE = 4

# Closing a descriptor would drop the locks of this process on the file, so all stay open.
_kept: Dict[Tuple[int, int], int] = {}


def keep(path: Path) -> None:
    """Hold the lock of a user of the database's index, if a process uses it without the lock.

    An unused index is not locked: SQLite must recreate it after a crash.
    """
    index = beside(path, INDEX)
    with contextlib.suppress(OSError, AttributeError):
        facts = index.stat()
        here = facts.st_dev, facts.st_ino
        if here in _kept or processes.lock_holders(path, INDEX_LOCK):
            return
        if not any(_maps(user.pid, facts.st_ino) for user in processes.writers(index)):
            return
        descriptor = os.open(index, os.O_RDONLY | os.O_CLOEXEC)
        _kept[here] = descriptor
        first = INDEX_LOCK.start
        wanted = struct.pack(_LOCK, fcntl.F_RDLCK, os.SEEK_SET, first, 1, 0)
        # A lock of the open file, which only Linux has; SQLite takes it for another process's.
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)


def _maps(pid: int, inode: int) -> bool:
    """Return whether a process has mapped a file, as SQLite does once it has the lock."""
    lines = (PROC / str(pid) / "maps").read_text(errors="replace").splitlines()
    return any(line.split()[_INODE] == str(inode) for line in lines)
