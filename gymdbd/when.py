"""A moment as people name it: `14:00`, `yesterday`, `Tue 14:00`, `3d`; pure functions.

A date is the moment at which that day begins, as ISO 8601 has it. `yesterday` and `tuesday` are a
whole day: what was there then is what was there at its end, and what has come since is what has
come since its beginning. `tuesday` is the last one before today; a time of day, and `Tue 14:00`, is
the last one that has passed. `3d` is 72 hours ago, also if the clocks changed meanwhile.

Of a time that the clocks showed twice, the first is meant, so that nothing later is taken. A time
that they skipped is counted from before the change: 02:30 is then half an hour after it. An offset
says it exactly: `2026-10-25T02:30+01:00`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from gymdbd import clock, words
from gymdbd.errors import MomentError

EXAMPLES = (
    '14:00, yesterday, "yesterday 14:00", "Tue 14:00", 3d, 2h, 30m, 2026-11-20, '
    '"2026-11-20 14:00" or 2026-11-20T14:00:00+09:00'
)

_AGO = re.compile(r"([0-9]{1,6}) ?(s|seconds?|m|min|minutes?|h|hours?|d|days?|w|weeks?)(?: ago)?")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_TIME = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?")
# No backup is dated more exactly.
_SECOND = timedelta(seconds=1)
_WEEK = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True)
class _Span:
    """The first and the last moment of what was named; the same one, unless it is a day."""

    first: datetime
    last: datetime


def parse(text: str, now: datetime, zone: tzinfo) -> datetime:
    """Return the moment that `text` names, aware and in UTC, for what was there then.

    MomentError if it names none, or one after `now`.
    """
    return min(_named(text, now, zone).last, now.astimezone(UTC))


def since(text: str, now: datetime, zone: tzinfo) -> datetime:
    """Return the moment that `text` names, aware and in UTC, for what has come since.

    It differs from `parse` for a whole day only. MomentError if it names none, or one after `now`.
    """
    return _named(text, now, zone).first


def _named(text: str, now: datetime, zone: tzinfo) -> _Span:
    try:
        span = _span(" ".join(text.split()), now.astimezone(UTC), zone)
        # What is printed of it must be within the calendar there, too.
        span.first.astimezone(zone)
    except (ValueError, OverflowError) as error:
        raise MomentError(
            f"no time is called {text!r}", hint=f"name it as one of these: {EXAMPLES}"
        ) from error
    if span.first > now:
        raise MomentError(
            f"{words.printable(text)} is {clock.to_minute(span.first, zone)}, which has not come "
            f"yet: it is {clock.to_minute(now, zone)} now",
            hint="name a time that has passed, or `now`; if the clock of this machine is wrong, "
            "set it first",
        )
    return span


def _span(text: str, now: datetime, zone: tzinfo) -> _Span:
    """Return what `text` names; ValueError if that is nothing."""
    lower = text.lower()
    if lower == "now":
        return _Span(now, now)
    if ago := _AGO.fullmatch(lower):
        then = now - timedelta(**{_UNITS[ago[2][0]]: int(ago[1])})
        return _Span(then, then)
    name, _, rest = lower.rpartition(" ") if _TIME.fullmatch(lower) else lower.partition(" ")
    days = _days(name, now.astimezone(zone).date())
    if days is None:
        then = _utc(datetime.fromisoformat(text), zone)
        return _Span(then, then)
    if name and not rest:
        day = days[-1]
        following = _at(day + timedelta(days=1), time(), zone)
        return _Span(_at(day, time(), zone), following - _SECOND)
    # Today, if the time has passed; otherwise the day before, or a week before.
    moments = [_at(day, _time(rest), zone) for day in days]
    then = next((moment for moment in moments if moment <= now), moments[0])
    return _Span(then, then)


def _days(name: str, today: date) -> list[date] | None:
    """Return the days that `name` may mean, the newest first; None if it is not a day's name."""
    if name in ("", "today", "yesterday"):
        days = [today, today - timedelta(days=1)]
        return days if not name else [days[name == "yesterday"]]
    names = [day for day in _WEEK if name in (day, day[:3])]
    if not names:
        return None
    back = (today.weekday() - _WEEK.index(names[0])) % len(_WEEK)
    last = today - timedelta(days=back or len(_WEEK))
    return [last] if back else [today, last]


def _time(text: str) -> time:
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text} is not a time of day")
    return time(int(match[1]), int(match[2]), int(match[3] or 0))


def _at(day: date, clock_time: time, zone: tzinfo) -> datetime:
    return _utc(datetime.combine(day, clock_time), zone)


def _utc(moment: datetime, zone: tzinfo) -> datetime:
    """Return it in UTC; without an offset, it is what the clocks of `zone` showed."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
