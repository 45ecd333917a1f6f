"""Quiet hours: from one time of day to another, on the machine's clock, also over midnight."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, tzinfo

Hours = tuple[time, time]


def is_quiet(hours: Hours | None, now: datetime, zone: tzinfo) -> bool:
    """Return whether the local time is from the first of `hours` on, and before the second."""
    if hours is None:
        return False
    start, end = hours
    local = now.astimezone(zone).time()
    if start <= end:
        return start <= local < end
    return local >= start or local < end


def end(hours: Hours, now: datetime, zone: tzinfo) -> datetime:
    """Return the next moment at which quiet hours end; one that is skipped is as much later."""
    today = now.astimezone(zone).date()
    days = (datetime.combine(today + timedelta(days=day), hours[1], zone) for day in range(3))
    return min(moment for day in days if (moment := day.astimezone(UTC)) > now)
