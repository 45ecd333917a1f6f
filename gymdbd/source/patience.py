"""How long the serving side waits for a client, and how long it holds a snapshot meanwhile.

While it holds one, the WAL over there cannot be reset, whether the client is slow, has vanished
without a word, or means harm.
"""

from __future__ import annotations

import contextlib
import signal
import time
from typing import TYPE_CHECKING, Any, Optional, TypeVar

from gymdbd.source.errors import StalledError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A client that copies or hashes a large replica neither sends nor reads meanwhile.
STALL_TIMEOUT_S = 15 * 60.0
# A message that has begun has at most some kilobytes: enough for the worst of lines.
_MESSAGE_S = 60.0
_LAST_WORDS_S = 5.0
_AT_ONCE_S = 0.001

Result = TypeVar("Result")


class Patience:
    """A bound on each single wait for the client, and on each message; StalledError after it.

    By the kernel's timer, because neither pipes nor sockets that somebody else has set up have a
    timeout of their own: only for the main thread of a process that does nothing else.
    """

    def __init__(self, stall_timeout_s: float) -> None:
        self._limit_s = stall_timeout_s
        self._message_end: Optional[float] = None
        self._give_up_at = self._let_go_at = 0.0
        self._let_go: Optional[Callable[[], None]] = None
        signal.signal(signal.SIGALRM, self._alarm)

    def hold(self, seconds: float, let_go: Callable[[], None]) -> None:
        """Call `let_go` when this time has passed, as soon as the client is waited for.

        Other threads may be at work then: it may not touch what they use.
        """
        self._let_go_at, self._let_go = time.monotonic() + seconds, let_go

    @contextlib.contextmanager
    def message(self) -> Iterator[None]:
        """Let all waits of the block, for the rest of a message, share one limit."""
        self._message_end = time.monotonic() + min(self._limit_s, _MESSAGE_S)
        try:
            yield
        finally:
            self._message_end = None

    def wait(self, call: Callable[..., Result], *arguments: Any) -> Result:
        """Call what may wait."""
        now = time.monotonic()
        self._give_up_at = self._message_end or now + self._limit_s
        self._let_go_if_due(now)
        self._set_timer()
        try:
            return call(*arguments)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _set_timer(self) -> None:
        until = min(self._give_up_at, self._let_go_at) if self._let_go else self._give_up_at
        signal.setitimer(signal.ITIMER_REAL, max(until - time.monotonic(), _AT_ONCE_S))

    def _let_go_if_due(self, now: float) -> None:
        if self._let_go and now >= self._let_go_at:
            let_go, self._let_go = self._let_go, None
            let_go()

    def _alarm(self, *_: Any) -> None:
        # If only the snapshot is due, the message that is under way is still sent to its end.
        now = time.monotonic()
        self._let_go_if_due(now)
        if now >= self._give_up_at:
            self._give_up()
        self._set_timer()

    def _give_up(self) -> None:
        waited_s, self._limit_s = self._limit_s, min(self._limit_s, _LAST_WORDS_S)
        if self._message_end is not None:
            waited_s, self._message_end = min(waited_s, _MESSAGE_S), None
        raise StalledError(
            f"the serving side has waited {waited_s:g} s for this one and given it up",
            hint="the next pull goes on where this one stopped; if it happens again, look at what "
            "slows the disk of the machine that pulls",
        )


class PatientStream:
    """A binary stream that waits for the client only as long as there is patience."""

    def __init__(self, stream: Any, patience: Patience) -> None:
        self._stream = stream
        self._patience = patience

    def read(self, size: int) -> bytes:
        """Read the available bytes, at least one except at the end."""
        data: bytes = self._patience.wait(self._stream.read1, size)
        return data

    def write(self, data: bytes | bytearray) -> None:
        """Write all of `data`."""
        self._patience.wait(self._stream.write, data)

    def flush(self) -> None:
        """Pass on what was written."""
        self._patience.wait(self._stream.flush)
