"""The days and curves of a job, from its lines of the ledger."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING

from gymdbd.notices.page import facts, weeks
from gymdbd.notices.page.facts import Curve, Day
from gymdbd.runs import line as lines
from gymdbd.runs.outcome import BUSY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date, tzinfo

    from gymdbd.config.kinds import JobConfig
    from gymdbd.notices.page.language import Words
    from gymdbd.runs.line import Line
    from gymdbd.runs.overview import Overview

_MOST_REASONS = 3


def start(seen: Overview) -> datetime:
    """Return the moment with which the calendar begins."""
    return _midnight(weeks.first_day(seen.at.astimezone(seen.zone).date()), seen.zone)


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime.combine(day, time(), zone)


def days(
    job: JobConfig, mine: list[Line], seen: Overview, began: datetime, say: Words
) -> tuple[Day, ...]:
    """Return each day of the calendar; the ledger has been kept since `began`."""
    by_day: dict[date, list[Line]] = {}
    began = began.astimezone(seen.zone)
    for line in mine:
        by_day.setdefault(line.began.astimezone(seen.zone).date(), []).append(line)
    today = seen.at.astimezone(seen.zone).date()
    first = weeks.first_day(today)
    found = []
    for day in (first + timedelta(days=number) for number in range((today - first).days + 1)):
        if day in by_day:
            found.append(_day(day, by_day[day], say))
        else:
            # Of today more is known when it is over.
            known = day == today or (day >= began.date() and not _due(job, day, seen.zone))
            found.append(Day(day, facts.IDLE if known else facts.UNKNOWN))
    return tuple(found)


def _due(job: JobConfig, day: date, zone: tzinfo) -> bool:
    """Return whether a run was due on a day, so that the ledger should tell of it."""
    when, end = job.schedule or job.every, _midnight(day + timedelta(days=1), zone)
    if when is None:
        return False
    return when.next_after(_midnight(day, zone) - timedelta(seconds=1), zone) < end


def _day(day: date, those: list[Line], say: Words) -> Day:
    """Return how a day was on which there were runs, or runs were missing."""
    ran = [line for line in those if line.state not in (lines.SKIPPED, BUSY)]
    runs = sum(line.count for line in ran)
    good = sum(line.count for line in ran if line.is_good)
    reasons = tuple(dict.fromkeys(_reason(line, say) for line in those if not line.is_good))
    if not runs:
        state = facts.MISSED
    elif not good:
        state = facts.BAD
    else:
        state = facts.MIXED if reasons else facts.GOOD
    return Day(day, state, runs, good, reasons[:_MOST_REASONS])


def _reason(line: Line, say: Words) -> str:
    told = say.what(line.code) if line.code else ""
    return told or line.error or (say.why(line.why) if line.why else line.state)


def curves(mine: list[Line], zone: tzinfo) -> tuple[Curve, ...]:
    """Return how size, duration and rows went, with a point for each day."""
    values: dict[str, dict[date, tuple[datetime, float]]] = {}
    for line in mine:
        day = line.began.astimezone(zone).date()
        for what, value in _values(line):
            of_day = values.setdefault(what, {})
            before = of_day[day][1] if what == facts.DURATION and day in of_day else value
            of_day[day] = line.began, max(before, value) if what == facts.DURATION else value
    found = (Curve(what, tuple(values.get(what, {}).values())) for what in facts.CURVES)
    return tuple(curve for curve in found if len(curve.points) > 1)


def _values(line: Line) -> Iterator[tuple[str, float]]:
    if not line.is_good:
        return
    if line.size is not None:
        yield facts.SIZE, line.size
    if line.longest_s is not None:
        yield facts.DURATION, line.longest_s
    if line.rows:
        yield facts.ROWS, sum(line.rows.values())
