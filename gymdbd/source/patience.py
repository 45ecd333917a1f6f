"""How long the serving side waits for a client that has vanished without a word.

Until then it holds a read transaction, and the WAL over there cannot be reset.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, TypeVar

from gymdbd.source.errors import StalledError

if TYPE_CHECKING:
    from collections.abc import Callable

# A client that copies or hashes a large replica neither sends nor reads meanwhile.
STALL_TIMEOUT_S = 15 * 60.0
_LAST_WORDS_S = 5.0

Result = TypeVar("Result")


class Patience:
    """A bound on each single wait for the client; StalledError after it.

    By the kernel's timer, because neither pipes nor sockets that somebody else has set up have a
    timeout of their own: only for the main thread of a process that does nothing else.
    """

    def __init__(self, stall_timeout_s: float) -> None:
        self._limit_s = stall_timeout_s
        signal.signal(signal.SIGALRM, self._give_up)

    def wait(self, call: Callable[..., Result], *arguments: Any) -> Result:
        """Call what may wait."""
        signal.setitimer(signal.ITIMER_REAL, self._limit_s)
        try:
            return call(*arguments)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _give_up(self, *_: Any) -> None:
        waited_s, self._limit_s = self._limit_s, min(self._limit_s, _LAST_WORDS_S)
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
