"""Waiting for a condition, and processes that wait for a lock."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymdbd import lock

if TYPE_CHECKING:
    from collections.abc import Callable

_POLL_S = 0.01


def until(condition: Callable[[], Any], what: str, *, within_s: float = 20.0) -> Any:
    """Wait until `condition()` is true and return its value; fail naming `what` otherwise."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what}")
        time.sleep(_POLL_S)


def times_open(path: Path, pid: int | str = "self") -> int:
    """Count how often a process has a file open: this one, or another of Linux."""
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(entry.readlink())
    return links.count(path)


@dataclass
class Contended:
    """A lock that is held until whoever wants it, in this process, has asked for it five times.

    Give `check` to the work; each time that it is called by the one who waits, `seen` gets what
    `look()` returns. A work that does without the lock leaves it empty; one that does not wait
    gives up before the fifth time. The lock is taken by `take`, or from the beginning.
    """

    path: Path
    look: Callable[[], Any]
    at_once: bool = True
    seen: list[Any] = field(default_factory=list)
    _held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Contended:
        """Take the lock, if it is to be taken at once."""
        if self.at_once:
            self.take()
        return self

    def __exit__(self, *_: object) -> None:
        """Give it up."""
        self._held.close()

    def take(self) -> None:
        """Take the lock."""
        self._held.enter_context(lock.hold([self.path]))

    def check(self) -> None:
        """Look around if somebody waits, and let the fifth time be the last."""
        if times_open(self.path) > 1:
            self.seen.append(self.look())
        if len(self.seen) == 5:
            self._held.close()
