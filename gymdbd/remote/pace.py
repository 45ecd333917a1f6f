"""The pace of a transfer: what arrives is read no faster than a limit, to leave the line to others.

Only the reader waits. What it does not read fills a small window of the connection, and then the
other side waits as well, while what keeps a connection alive still passes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# So much time without a byte is made up at once, so that a source that hesitates costs nothing.
BURST_S = 0.25
# How long one sleep lasts at most.
_SLICE_S = 0.25
# The most that is read at once.
PIECE_BYTES = 32 * 1024


def _unlimited() -> None:
    """Return that there is no limit."""


class Pace:
    """Holds a reader to `rate()` bytes a second, whenever that is not None.

    In no time t is more read than t x rate, a quarter of a second's worth and one piece. Count what
    was read, and `wait` before the next read. `waited_s` tells how long it has waited in all.
    """

    def __init__(
        self,
        rate: Callable[[], int | None] = _unlimited,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = rate
        self._monotonic = monotonic
        self._sleep = sleep
        self._due = 0.0
        self.waited_s = 0.0

    @property
    def rate(self) -> int | None:
        """Return the limit now, in bytes a second."""
        return self._rate()

    def count(self, size: int) -> None:
        """Count bytes that have been read."""
        rate = self._rate()
        if rate is not None:
            self._due = max(self._due, self._monotonic() - BURST_S) + size / rate

    def wait(self, check: Callable[[], None]) -> float:
        """Wait until the next piece may be read; return how long that took, in seconds.

        `check` is called four times a second, and may raise to end it.
        """
        begun = self._monotonic()
        while (left := self._due - self._monotonic()) > 0 and self._rate() is not None:
            check()
            self._sleep(min(left, _SLICE_S))
        took = self._monotonic() - begun
        self.waited_s += took
        return took
