"""Places that processes of this machine take and leave, known to all of them and written nowhere.

A place is a socket with an abstract name, which the kernel forgets with its last holder. Only Linux
has these names; elsewhere a place is a lock on an empty file in the account's folder for temporary
files. A place can be kept after the process: a `sleep` holds it then.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import socket
import stat
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# struct ucred: process, user, group.
_PEERCRED = 17  # SO_PEERCRED, of Linux alone, as are the names that it is asked about.
_CREDENTIALS = "3i"


class Place:
    """A taken place; it is left with the process, by `leave`, or after `keep`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def leave(self) -> None:
        """Leave it."""
        os.close(self._descriptor)

    def keep(self, seconds: float) -> None:
        """Leave it only after this time, whatever becomes of this process."""
        with contextlib.suppress(OSError):
            subprocess.Popen(
                ["sleep", str(math.ceil(seconds))],  # noqa: S607 - as the account finds it
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                pass_fds=[self._descriptor],
                start_new_session=True,
            )
        self.leave()


def take(purpose: str, count: int, *, is_linux: bool = sys.platform == "linux") -> Place | None:
    """Take one of `count` places of this account, None if all are taken."""
    take_one: Callable[[str], int | None] = _by_name if is_linux else _by_file
    for number in range(count):
        descriptor = take_one(f"gymdbd-{os.geteuid()}-{purpose}-{number}")
        if descriptor is not None:
            return Place(descriptor)
    return None


def _by_name(name: str) -> int | None:
    with socket.socket(socket.AF_UNIX) as holder:
        try:
            holder.bind(f"\0{name}")
        except OSError:
            if _is_ours(name):
                return None
            # Another user has the name: he shall not keep anybody from a place.
            return os.dup(holder.fileno())
        holder.listen(1)
        return os.dup(holder.fileno())


def _is_ours(name: str) -> bool:
    """Return whether a name is taken by this account, by root, or by somebody unknown."""
    with socket.socket(socket.AF_UNIX) as caller:
        caller.setblocking(False)
        try:
            caller.connect(f"\0{name}")
            found = caller.getsockopt(socket.SOL_SOCKET, _PEERCRED, struct.calcsize(_CREDENTIALS))
        except OSError:
            return True
    return struct.unpack(_CREDENTIALS, found)[1] in (0, os.geteuid())


def _by_file(name: str) -> int | None:
    how = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    descriptor = os.open(Path(tempfile.gettempdir()) / name, how, 0o600)
    try:
        facts = os.fstat(descriptor)
        if facts.st_uid == os.geteuid() and stat.S_ISREG(facts.st_mode):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
