"""The terms on which a restricted key is served: it can neither load this machine nor look around.

A session takes one of a few places for its database. Reading all pages takes a place of another
kind, and keeps it for a second for each megabyte that was read, at most an hour. So a database of
some megabytes can be compared every few seconds, as a frequent pull of a busy one does, and one of
several gigabytes four times an hour; of an interrupted pull only what was read counts.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymdbd import places
from gymdbd.source.errors import (
    AnotherDatabaseError,
    AnotherFileError,
    SourceLockedError,
    SourceMovedError,
    UnreachableError,
)

if TYPE_CHECKING:
    from gymdbd.places import Place
    from gymdbd.source.errors import GymdbdError
    from gymdbd.source.pages import Pages

SESSIONS = 4
READINGS = 4

_READ_ALL = ("full", "digests", "refine")
_BYTES_A_SECOND = 1024 * 1024
_MOST_S = 3600.0
_LEAST_S = 0.1

_NICE = 10
# ioprio_set(2) has no function in the C library, and a number of its own on each kind of processor;
# 32-bit Python may run on a 64-bit kernel, which names itself.
_IOPRIO_SET = {
    ("x86_64", 8): 251,
    ("aarch64", 8): 30,
    ("aarch64", 4): 314,
    ("armv6l", 4): 314,
    ("armv7l", 4): 314,
    ("riscv64", 8): 30,
}
_THIS_THREAD = (1, 0)
_IDLE = 3 << 13
_LAST_IN_TURN = 2 << 13 | 7
# setiopolicy_np(3) of macOS: the disk, for this process, throttled.
_DISK, _PROCESS, _THROTTLED = 0, 0, 3


class Terms:
    """The terms for one session about the database at `path`."""

    def __init__(
        self,
        path: Path,
        *,
        sessions: int = SESSIONS,
        readings: int = READINGS,
        status: Path | None = None,
    ) -> None:
        self._path = path
        self.status = status
        self._sessions = sessions
        self._readings = readings
        self._purpose = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:16]
        self._reading: Place | None = None
        self._pages: Pages | None = None

    def enter(self) -> None:
        """Take a place, until the process ends; UnreachableError if there is none."""
        if places.take(f"{self._purpose}-session", self._sessions) is None:
            raise UnreachableError(
                f"the other machine serves {self._path.name} to {self._sessions} sessions already, "
                "which is as many as it allows",
                hint="the next run tries again; if it stays so, somebody else may have the key: "
                "see in the log of its SSH server who logs in there",
            )

    def begin(self, pages: Pages) -> None:
        """Let all others go first from now on; `leave` accounts for what is read of these pages."""
        self._pages = pages
        os.nice(_NICE)
        # Who keeps the application waiting must not wait for everybody else.
        with contextlib.suppress(OSError, AttributeError):
            _lower_disk_priority(is_idle=not pages.snapshot.is_in_turns)

    def require(self, request: dict[str, Any]) -> None:
        """Raise an error if a request means another database, or may not be answered now."""
        wanted = request.get("database")
        if isinstance(wanted, str) and not self._is_served(wanted):
            raise AnotherDatabaseError(
                f"the key serves {self._path} on the other machine, and this job asks for {wanted}",
                hint="set remote_database to the one that the key serves, or make a key for the "
                "other one there (gymdbd authorize); nothing was fetched",
            )
        if request.get("op") not in _READ_ALL or self._reading:
            return
        self._reading = places.take(f"{self._purpose}-reading", self._readings)
        if self._reading is None:
            raise UnreachableError(
                f"the other machine has had all of {self._path.name} read {self._readings} times "
                "of late, and does not let it be read again yet",
                hint="the next run tries again; it takes an hour at most, less for a database of "
                "less than 4 GB (gymdbd serve --full-reads there allows more)",
            )

    def _is_served(self, wanted: str) -> bool:
        try:
            return Path(wanted).expanduser().samefile(self._path)
        except (OSError, ValueError, RuntimeError):
            return wanted == str(self._path)

    def leave(self) -> None:
        """Keep the place for reading as long as what was read weighs."""
        if self._reading and self._pages:
            seconds = min(self._pages.bytes_read / _BYTES_A_SECOND, _MOST_S)
            if seconds > _LEAST_S:
                self._reading.keep(seconds)

    def tell(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Leave out of the answer to `info` what a pull does not need."""
        without = {"host": "", "database": self._path.name, "held_by": [], "restricted": True}
        return {**facts, **without}

    def word(self, error: GymdbdError) -> GymdbdError:
        """Leave processes and other files out of an error."""
        hint = "gymdbd check on the machine of the database names it"
        if isinstance(error, AnotherFileError):
            text = "the application has another file open than {}, or another WAL"
            return AnotherFileError(text.format(self._path), hint=f"{hint}; do not restart it yet")
        if isinstance(error, SourceLockedError) and not isinstance(error, SourceMovedError):
            return SourceLockedError(f"{self._path} stayed locked by another process", hint=hint)
        return error


def _lower_disk_priority(*, is_idle: bool) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin":
        library.setiopolicy_np(_DISK, _PROCESS, _THROTTLED)
    elif number := _IOPRIO_SET.get((os.uname().machine, struct.calcsize("P"))):
        library.syscall(number, *_THIS_THREAD, _IDLE if is_idle else _LAST_IN_TURN)
