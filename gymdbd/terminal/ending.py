"""Ending by SIGINT or SIGTERM: at the next safe point, or at once if that is out of reach.

Python runs a signal's handler between two of its own steps. One step of SQLite over a database that
somebody made to do harm may take hours, and no interrupt of SQLite's ends it. The kernel still
tells a thread, which then ends the process. That is no worse than a power cut: the next run removes
what was half done.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

# How long the main thread may be deaf to a signal, and how long it may take to a safe point.
_DEAF_S = 3.0
_GRACE_S = 15.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def caught(within_s: float | None = None) -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in this block; whoever works in it ends at a safe point.

    The process ends with 128 and the signal's number if the work does not even hear the signal, at
    a later second one, or if it takes too long; and with 1 if the block takes longer than
    `within_s`. Call it in the main thread.
    """
    found: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: found.append(number)) for number in _SIGNALS
    }
    ear, mouth = socket.socketpair()
    mouth.setblocking(False)
    former = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=[ear, found, within_s], daemon=True).start()
    try:
        yield found
    finally:
        signal.set_wakeup_fd(former)
        # The thread reads the end of the stream, and ends.
        mouth.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(ear: socket.socket, found: list[int], within_s: float | None) -> None:
    """End the process unless the block ends in time after the first signal."""
    with ear:
        first = _heard(ear, within_s and min(within_s, threading.TIMEOUT_MAX))
        if first is None:
            _end(1, "by its timeout")
        if not first:
            return
        more: int | None = first
        deaf_until = time.monotonic() + _DEAF_S
        # One key may send the signal twice: sudo passes on what the terminal has sent as well.
        while more and (left := deaf_until - time.monotonic()) > 0:
            more = _heard(ear, left)
        if more != 0 and found:
            more = _heard(ear, _GRACE_S)
    if more != 0:
        _end(128 + first, f"by {signal.Signals(first).name}")


def _end(code: int, why: str) -> NoReturn:
    with contextlib.suppress(OSError):
        os.write(2, f"gymdbd: ended {why} in the middle of a step\n".encode())
    os._exit(code)


def _heard(ear: socket.socket, within_s: float | None = None) -> int | None:
    """Return the next of the two signals, 0 at the end of the block, None if there is none."""
    deadline = time.monotonic() + (within_s or 0.0)
    while True:
        ear.settimeout(None if within_s is None else max(0.001, deadline - time.monotonic()))
        try:
            data = ear.recv(1)
        except TimeoutError:
            return None
        if not data or data[0] in _SIGNALS:
            return data[0] if data else 0
