"""The ledger as a calendar and as curves."""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest

from gymdbd.runs import calendar
from gymdbd.runs import line as lines
from gymdbd.runs.calendar import Day
from gymdbd.runs.line import Line
from gymdbd.schedule import Cron

_SEOUL = ZoneInfo("Asia/Seoul")
_FRIDAY = date(2026, 11, 20)
_NIGHT = "2026-11-20T03:00:00+09:00"


def _line(state: str, first: str = _NIGHT, **more: object) -> Line:
    return Line(job="nightly", state=state, first=first, last=first, **more)  # type: ignore[arg-type]


def _days(*found: Line) -> dict[date, Day]:
    """Return thirteen weeks of a job of each Friday; the ledger begins on the 10th of November."""
    at, began = (datetime(2026, 11, day, 12, tzinfo=_SEOUL) for day in (28, 10))
    listed = calendar.days(Cron("0 3 * * 5"), list(found), date(2026, 8, 31), at, began)
    return {day.day: day for day in listed}


_FAILED = _line("failed", error="no room")
_OFF = _line(lines.SKIPPED, why=lines.OFF)
_BUSY = _line("busy", why="busy")
_STATES = [
    ([_line("ok")], Day(_FRIDAY, calendar.GOOD, 1, 1)),
    ([_line("ok", made_up=True)], Day(_FRIDAY, calendar.GOOD, 1, 1, made_up=1)),
    ([_line("unchanged", count=60)], Day(_FRIDAY, calendar.GOOD, 60, 60)),
    ([_FAILED], Day(_FRIDAY, calendar.BAD, 1, 0, troubles=(_FAILED,))),
    ([_FAILED, _line("ok")], Day(_FRIDAY, calendar.MIXED, 2, 1, troubles=(_FAILED,))),
    ([_OFF], Day(_FRIDAY, calendar.MISSED, troubles=(_OFF,))),
    ([_BUSY], Day(_FRIDAY, calendar.MISSED, troubles=(_BUSY,))),
    # What is Thursday evening in UTC is Friday where the machine is.
    ([_line("ok", "2026-11-19T15:30:00+00:00")], Day(_FRIDAY, calendar.GOOD, 1, 1)),
]


@pytest.mark.parametrize(("found", "expected"), _STATES)
def test_a_day_is_what_its_runs_were(found: list[Line], expected: Day) -> None:
    """In the time of the machine, with the lines of what was not good."""
    assert _days(*found)[_FRIDAY] == expected


def test_a_day_without_a_run_tells_whether_one_was_due() -> None:
    """A Friday without a line is unknown, another day had nothing due; before all is unknown."""
    days = _days()
    assert (min(days), max(days)) == (date(2026, 8, 31), date(2026, 11, 28))
    after = {day: found.state for day, found in days.items() if day >= date(2026, 11, 10)}
    fridays = {day for day in after if day.weekday() == 4}
    assert {after[day] for day in fridays} == {calendar.UNKNOWN}
    assert {after[day] for day in after.keys() - fridays} == {calendar.IDLE}
    before = [found.state for day, found in days.items() if day not in after]
    assert set(before) == {calendar.UNKNOWN}


@pytest.mark.parametrize(
    ("what", "expected"),
    [(calendar.SIZE, [12, 14]), (calendar.DURATION, [9.0, 2.0]), (calendar.ROWS, [4])],
)
def test_a_curve_has_a_point_for_each_day(what: str, expected: list[float]) -> None:
    """Of the size and rows the last, of the duration the longest; failed runs have none."""
    noon, next_night = "2026-11-20T12:00:00+09:00", "2026-11-21T03:00:00+09:00"
    found = [
        _line("ok", size=10, rows={"a": 1, "b": 2}, longest_s=9.0),
        _line("ok", noon, size=12, rows={"a": 4}, longest_s=1.0),
        _line("failed", noon, longest_s=99.0),
        _line("ok", next_night, size=14, longest_s=2.0),
    ]
    assert [point.value for point in calendar.curve(what, found, _SEOUL)] == expected
