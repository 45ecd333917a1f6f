"""The log file, which the daemon and the command line both write and rotate."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from concurrent_log_handler import ConcurrentRotatingFileHandler

from gymdbd import bounded
from gymdbd.files import hand_over

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator
    from io import TextIOWrapper

# Writing an event takes less than a millisecond, a rotation a few milliseconds.
_LOCK_WAIT_S = 2.0
_LOCK_POLL_S = 0.01


class LogFile(ConcurrentRotatingFileHandler):
    """A log file that waits for its lock only for a limited time, and raises its errors."""

    def _lock_stream_lock(self, file: TextIO) -> None:
        # The library would wait for ever if a process that writes is stopped or hangs.
        deadline = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_LOCK_POLL_S)

    def do_open(self, mode: str | None = None) -> TextIOWrapper:
        """Open the file, so that the daemon's user can write it even if root has created it."""
        stream = super().do_open(mode)
        hand_over(Path(self.baseFilename), Path(self.baseFilename).parent)
        return stream

    def _open_lockfile(self) -> None:
        # The library would follow a link that somebody else has put there, and write through it.
        if self.stream_lock is None or self.stream_lock.closed:
            path = Path(self.lockFilename)
            descriptor = bounded.opened(path, os.O_RDWR | os.O_CREAT)
            self.stream_lock = os.fdopen(descriptor, "r+")
            hand_over(descriptor, path.parent)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Raise the error; the library would print a traceback."""
        del record
        error = sys.exc_info()[1]
        raise error if isinstance(error, OSError) else OSError(f"{self.lockFilename}: {error}")


@contextlib.contextmanager
def named(file: str) -> Iterator[None]:
    """Name the log file in errors about the lock files beside it, which users do not know."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, file) from error
