"""The time: instants are aware UTC datetimes, intervals are monotonic seconds.

A Raspberry Pi has no clock that survives a power cut, so an instant may be wrong by decades;
`is_plausible` is the one place that says when not to trust it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo

import tzlocal

# No machine that runs this release has a right clock that shows an earlier time.
RELEASED = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Clock:
    """The clock of this machine; tests pass one that they move by hand."""

    zone: tzinfo = field(default_factory=tzlocal.get_localzone)

    def now(self) -> datetime:
        """Return this instant, aware and in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never go back, counted from an arbitrary start."""
        return time.monotonic()


def is_plausible(now: datetime) -> bool:
    """Say whether `now` can be right: not before this release was made."""
    return now >= RELEASED


def to_text(moment: datetime, zone: tzinfo) -> str:
    """Write an instant as RFC 3339 with the offset of `zone`, to the second."""
    return moment.astimezone(zone).isoformat(timespec="seconds")


def from_text(text: str) -> datetime:
    """Read RFC 3339 with an offset into an aware UTC instant; ValueError where it is none."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r} lies outside the calendar") from error
