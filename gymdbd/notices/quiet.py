"""Quiet hours: from one time of day to another, on the machine's clock, also over midnight."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gymdbd.config.hours import Hours


def is_quiet(hours: Hours | None, now: datetime, zone: tzinfo) -> bool:
    """Return whether the local time is within quiet hours."""
    return hours is not None and hours.has(now.astimezone(zone).time())


def end(hours: Hours, now: datetime, zone: tzinfo) -> datetime:
    """Return the next moment at which quiet hours end; one that is skipped is as much later."""
    today = now.astimezone(zone).date()
    days = (datetime.combine(today + timedelta(days=day), hours.end, zone) for day in range(3))
    return min(moment for day in days if (moment := day.astimezone(UTC)) > now)
