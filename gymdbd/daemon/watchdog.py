"""A daemon that hangs is ended: by systemd, or by a thread, so that launchd starts it again."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING

from gymdbd.log import logger

if TYPE_CHECKING:
    from gymdbd.daemon.systemd import Notifier

# As WatchdogSec of the unit. It is looked at this often within it.
_LIMIT_S = 120.0
_LOOKS = 8
# The log may be what hangs. The kernel ends the process then.
_LAST_WORDS_S = 5
_FAILED = 1


class Watchdog:
    """Within the block, `beat` has to be called: by the thread that entered it.

    If systemd does not watch the process, and there was no beat for two minutes (WATCHDOG_USEC, if
    that is set) in which it ran, it ends with exit code 1. Time in which the machine slept or the
    process was stopped does not count: the limit has to pass on the monotonic clock, and the
    watching thread has to run as often as it would in that time.
    """

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._limit_s = notifier.watchdog_s or _LIMIT_S
        self._beats = 0
        self._is_over = threading.Event()

    def __enter__(self) -> None:
        """Begin to watch this thread."""
        if not self._notifier.is_there:
            watched = (threading.get_ident(),)
            threading.Thread(target=self._watch, args=watched, name="watchdog", daemon=True).start()

    def __exit__(self, *_: object) -> None:
        """Stop watching."""
        self._is_over.set()

    def beat(self) -> None:
        """Report that the daemon and its scheduler are alive."""
        self._notifier.watchdog()
        self._beats += 1

    def _watch(self, watched: int) -> None:
        seen, since, looks = -1, 0.0, 0
        while not self._is_over.wait(self._limit_s / _LOOKS):
            if seen != self._beats:
                seen, since, looks = self._beats, time.monotonic(), 0
                continue
            looks += 1
            if looks >= _LOOKS and time.monotonic() - since >= self._limit_s:
                self._end(watched)

    def _end(self, watched: int) -> None:
        """End the process; its runs notice that and stop at a safe point."""
        signal.alarm(_LAST_WORDS_S)
        frame = sys._current_frames().get(watched)  # noqa: SLF001 - the only way to see where it hangs
        at = traceback.extract_stack(frame)[-1] if frame else None
        logger().error(
            "daemon hung",
            silent_s=round(self._limit_s),
            where=f"{at.filename}:{at.lineno} {at.name}" if at else "",
            remedy="it ends, and launchd starts it again; look at the disk that holds the status "
            "file and at the log",
        )
        os._exit(_FAILED)
