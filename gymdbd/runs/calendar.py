"""The ledger as a calendar, and as curves: pure functions of the lines of one job."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING

from gymdbd.runs.line import SKIPPED
from gymdbd.runs.outcome import BUSY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo

    from gymdbd.runs.line import Line
    from gymdbd.schedule import Schedule

# How a day was: all runs good, not all, none; not run, nothing due, nothing on record.
GOOD, MIXED, BAD, MISSED, IDLE, UNKNOWN = "good", "mixed", "bad", "missed", "idle", "unknown"
# What a curve shows.
CURVES = SIZE, DURATION, ROWS = "size", "duration", "rows"

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Day:
    """A day of a job: `runs` have ended, `good` of them well, and `troubles` are all other lines.

    `made_up` of the good ones came late, for a due moment that was missed.
    """

    day: date
    state: str
    runs: int = 0
    good: int = 0
    made_up: int = 0
    troubles: tuple[Line, ...] = ()

    @property
    def skipped(self) -> int:
        """Return how many due moments had no run."""
        return sum(line.count for line in self.troubles if line.state == SKIPPED)


@dataclass(frozen=True)
class Point:
    """What a run has measured, at an instant."""

    at: datetime
    value: float


def midnight(day: date, zone: tzinfo) -> datetime:
    """Return the instant at which a day begins."""
    return datetime.combine(day, time(), zone)


def days(
    when: Schedule | None, mine: list[Line], first: date, at: datetime, began: datetime | None
) -> list[Day]:
    """Return each day from `first` to the one of `at`, in the time zone of `at`.

    The ledger has been kept since `began`. A day without a line is idle if nothing was due then.
    """
    zone = at.tzinfo
    assert zone is not None  # noqa: S101 - an instant has one
    by_day: dict[date, list[Line]] = {}
    for line in believable(mine):
        by_day.setdefault(line.began.astimezone(zone).date(), []).append(line)
    found = []
    for day in (first + number * _DAY for number in range((at.date() - first).days + 1)):
        if day in by_day:
            found.append(_day(day, by_day[day]))
        else:
            # Of the last day more is known when it is over.
            is_known = day == at.date() or (
                began is not None
                and day >= began.astimezone(zone).date()
                and not _was_due(when, day, zone)
            )
            found.append(Day(day, IDLE if is_known else UNKNOWN))
    return found


def believable(mine: list[Line]) -> list[Line]:
    """Leave out the due moments that a clock which was ahead has skipped: they were yet to come.

    What was written after them has happened before them.
    """
    found: list[Line] = []
    earliest: datetime | None = None
    for line in reversed(mine):
        if line.state == SKIPPED and earliest is not None and line.ended > earliest:
            continue
        found.append(line)
        earliest = line.ended if earliest is None else min(earliest, line.ended)
    return found[::-1]


def _was_due(when: Schedule | None, day: date, zone: tzinfo) -> bool:
    """Return whether a run was due on a day, so that the ledger should tell of it."""
    if when is None:
        return False
    before, end = midnight(day, zone) - timedelta(seconds=1), midnight(day + _DAY, zone)
    return when.next_after(before, zone) < end


def _day(day: date, those: list[Line]) -> Day:
    ran = [line for line in those if line.state not in (SKIPPED, BUSY)]
    runs = sum(line.count for line in ran)
    good = sum(line.count for line in ran if line.is_good)
    troubles = tuple(line for line in those if not line.is_good)
    if not runs:
        state = MISSED
    elif not good:
        state = BAD
    else:
        state = MIXED if troubles else GOOD
    made_up = sum(line.made_up and line.is_good for line in ran)
    return Day(day, state, runs, good, made_up, troubles)


def curve(what: str, mine: list[Line], zone: tzinfo) -> list[Point]:
    """Return how size, duration or rows went: of each day the last, and the longest of it."""
    found: dict[date, Point] = {}
    for line in mine:
        value = _value(what, line)
        if value is None:
            continue
        day = line.began.astimezone(zone).date()
        if what == DURATION and day in found:
            value = max(value, found[day].value)
        found[day] = Point(line.began, value)
    return [*found.values()]


def _value(what: str, line: Line) -> float | None:
    if not line.is_good:
        return None
    if what == ROWS:
        return sum(line.rows.values()) if line.rows else None
    return line.size if what == SIZE else line.longest_s


def gaps(found: list[Day]) -> Iterator[list[Day]]:
    """Yield the days that were not good, newest first; those in a row with one reason together."""
    together: list[Day] = []
    for day in reversed(found):
        if together and not (_reasons(day) == _reasons(together[-1]) and _follow(day, together)):
            yield together[::-1]
            together = []
        if day.troubles:
            together.append(day)
    if together:
        yield together[::-1]


def _follow(day: Day, together: list[Day]) -> bool:
    return day.day + _DAY == together[-1].day


def _reasons(day: Day) -> tuple[str, set[tuple[str | None, ...]]]:
    return day.state, {(line.state, line.why, line.code) for line in day.troubles}
