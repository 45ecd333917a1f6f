"""The days and curves of a job, from its lines of the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd.notices.page import weeks
from gymdbd.notices.page.facts import Curve, Day
from gymdbd.runs import calendar

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from gymdbd.config.kinds import JobConfig
    from gymdbd.notices.page.language import Words
    from gymdbd.runs.line import Line
    from gymdbd.runs.overview import Overview

_MOST_REASONS = 3


def start(seen: Overview) -> datetime:
    """Return the moment with which the calendar begins."""
    first = weeks.first_day(seen.at.astimezone(seen.zone).date())
    return calendar.midnight(first, seen.zone)


def days(
    job: JobConfig, mine: list[Line], seen: Overview, began: datetime, say: Words
) -> tuple[Day, ...]:
    """Return each day of the calendar; the ledger has been kept since `began`."""
    at = seen.at.astimezone(seen.zone)
    when = job.when if job.is_scheduled else None
    found = calendar.days(when, mine, weeks.first_day(at.date()), at, began)
    return tuple(
        Day(day.day, day.state, day.runs, day.good, _reasons(day.troubles, say)) for day in found
    )


def _reasons(troubles: tuple[Line, ...], say: Words) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_reason(line, say) for line in troubles))[:_MOST_REASONS]


def _reason(line: Line, say: Words) -> str:
    told = say.what(line.code) if line.code else ""
    return told or line.error or (say.why(line.why) if line.why else line.state)


def curves(mine: list[Line], zone: tzinfo) -> tuple[Curve, ...]:
    """Return how size, duration and rows went, with a point for each day."""
    found = ((what, calendar.curve(what, mine, zone)) for what in calendar.CURVES)
    return tuple(
        Curve(what, tuple((point.at, point.value) for point in points))
        for what, points in found
        if len(points) > 1
    )
