"""Limits on a process that speaks with a receiver, which may hang, lie, or answer without end."""

from __future__ import annotations

import contextlib
import resource
import signal
from typing import TYPE_CHECKING, Any

from gymdbd.errors import ReceiverAwayError

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_S = 15.0
_AGAIN_S = 1.0
# Far more than apprise needs, and far less than a machine has that must go on with its backups.
_MOST_MEMORY = 256 * 1024 * 1024


def too_slow(seconds: float) -> ReceiverAwayError:
    """Return the error for a receiver that took too long."""
    return ReceiverAwayError(
        f"the message was not taken within {seconds:.0f} s",
        hint="look whether the receiver works; gymdbd notify --test tries it",
    )


@contextlib.contextmanager
def limited(timeout_s: float = TIMEOUT_S) -> Iterator[None]:
    """Raise ReceiverAwayError in the block if it takes too long, or too much memory.

    It is for the main thread of a process of its own: the limit on memory stays. A look-up of a
    name ends only by itself.
    """

    def stop(*_: Any) -> None:
        raise too_slow(timeout_s)

    # macOS bounds no memory so.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (_MOST_MEMORY, _MOST_MEMORY))
    signal.signal(signal.SIGALRM, stop)
    # Again and again, because a plugin may catch whatever is raised in it.
    signal.setitimer(signal.ITIMER_REAL, timeout_s, _AGAIN_S)
    try:
        yield
    except MemoryError as error:
        raise ReceiverAwayError(
            "the receiver answers without end", hint="look whether it is the one that you mean"
        ) from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
