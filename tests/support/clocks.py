"""Clocks for tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from gymdbd.clock import Clock

NIGHT = datetime(2027, 1, 10, 3, tzinfo=UTC)


@dataclass(frozen=True)
class HandClock(Clock):
    """A clock that is moved by hand."""

    shows: list[datetime] = field(default_factory=lambda: [NIGHT])
    runs: list[float] = field(default_factory=lambda: [0.0])

    def now(self) -> datetime:
        """Return the instant it was set to."""
        return self.shows[0]

    def monotonic(self) -> float:
        """Return the seconds it was moved by."""
        return self.runs[0]

    def since_boot(self) -> float:
        """Return the same."""
        return self.runs[0]

    def set(self, moment: datetime) -> None:
        """Set it."""
        self.shows[0] = moment
