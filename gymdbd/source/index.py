"""The index of a WAL (-shm) whose user has lost the locks on it.

An application that has opened and closed its own -shm, to pack the folder of its database say, has
dropped all its locks on it. Whoever connects next is told by SQLite's rule that nobody uses the
index, and truncates it; the application, which has it mapped, dies of a bus error at its next
commit. A lock that is not of this process keeps SQLite in this process from that.
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

# Closing one would drop what this process has locked there, so each stays open.
_kept: Dict[Tuple[int, int], int] = {}


def keep(path: Path) -> None:
    """Hold the lock of a user of the database's index, if somebody uses it without one.

    Never for an index that nobody uses: what a crash left must be made anew.
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
        # One of the open file, which Linux alone has: another process's for SQLite.
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)


def _maps(pid: int, inode: int) -> bool:
    """Say whether a process has a file in its memory: it does so once it has had the lock."""
    lines = (PROC / str(pid) / "maps").read_text(errors="replace").splitlines()
    return any(line.split()[_INODE] == str(inode) for line in lines)
