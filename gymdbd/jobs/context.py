"""What a run is given besides its configuration, and how it measures its steps."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from gymdbd.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Log(Protocol):
    """The part of a structlog logger that jobs use: an event in plain words, and its facts."""

    def debug(self, event: str, **facts: Any) -> Any:
        """Log what only a developer wants to know."""

    def info(self, event: str, **facts: Any) -> Any:
        """Log a step of the work."""

    def warning(self, event: str, **facts: Any) -> Any:
        """Log what the run survives and somebody should look at."""

    def error(self, event: str, **facts: Any) -> Any:
        """Log what makes the run fail."""


def _nothing(*_: Any) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Context:
    """How a run speaks to whoever started it; it knows no scheduler, status file or terminal.

    `progress(step, done, total)` may be called often, `tell(line)` when a step of a long work is
    done. `check()` raises StoppedError or
    DeadlineError when the run has to end: call it wherever a stop leaves nothing behind.
    """

    log: Log
    clock: Clock = field(default_factory=Clock)
    progress: Callable[[str, int, int], None] = _nothing
    check: Callable[[], None] = _nothing
    tell: Callable[[str], None] = _nothing


@dataclass
class Timings:
    """How long each step of a run took, in seconds."""

    started: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what happens in the block."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - started, 4)

    def total_s(self) -> float:
        """Return how long the run has taken so far."""
        return round(time.monotonic() - self.started, 4)
