"""A calendar of thirteen weeks: a column for each week, a row for each weekday."""

from __future__ import annotations

from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING

from gymdbd.notices.page.markup import Html, foreign, join, tag
from gymdbd.runs import calendar as calendars

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from gymdbd.notices.page.language import Words
    from gymdbd.runs.calendar import Day

WEEKS = 13
_DAYS = 7
_MOST_LETTERS = 200
_MOST_REASONS = 3
# The sign in a cell, which tells states apart without colour, and its class.
SIGNS = {
    calendars.GOOD: ("✓", "good"),
    calendars.MIXED: ("!", "mixed"),
    calendars.BAD: ("✗", "bad"),
    calendars.MISSED: ("○", "missed"),
    calendars.IDLE: ("·", "idle"),
    calendars.UNKNOWN: ("", "none"),
}


def first_day(today: date) -> date:
    """Return the Monday with which the calendar begins whose last week is that of `today`."""
    return today - timedelta(days=today.weekday() + _DAYS * (WEEKS - 1))


def calendar(days: Sequence[Day], say: Words) -> Html:
    """Return the calendar of a job; its days are those since `first_day`, one after the other."""
    columns = [days[start : start + _DAYS] for start in range(0, len(days), _DAYS)]
    mondays = [column[0].day for column in columns]
    rows = [
        tag(
            "tr",
            tag("th", say.weekday(number), scope="row"),
            *(_cell(column[number : number + 1], say) for column in columns),
        )
        for number in range(_DAYS)
    ]
    caption = tag("caption", say("calendar", weeks=len(columns)))
    return join(
        tag(
            "table",
            caption,
            tag("thead", *_head(mondays, say)),
            tag("tbody", *rows),
            class_="weeks",
        ),
        _reasons(days, say),
    )


def _head(mondays: Sequence[date], say: Words) -> tuple[Html, Html]:
    """Return the row of the months, and that of the Mondays."""
    months = [list(group) for _, group in groupby(mondays, lambda day: (day.year, day.month))]
    above = [
        # A column is too narrow for the name of a month, which is then only read aloud.
        tag("th", _unseen(name) if len(group) == 1 else name, scope="colgroup", colspan=len(group))
        for group in months
        for name in [say.month(group[0])]
    ]
    days = [tag("th", monday.day, scope="col") for monday in mondays]
    return tag("tr", tag("td"), *above), tag("tr", tag("td"), *days)


def _unseen(text: str) -> Html:
    return tag("span", text, class_="unseen")


def _cell(found: Sequence[Day], say: Words) -> Html:
    if not found:
        return tag("td")
    day = found[0]
    sign, kind = SIGNS[day.state]
    return tag("td", sign, class_=kind, title=f"{say.day(day.day)}: {_text(day, say)}")


def _text(day: Day, say: Words) -> str:
    """Return how a day was, with the reasons."""
    counted = say("runs", good=day.good, runs=day.runs) if day.runs > 1 else ""
    reasons = dict.fromkeys(say.trouble(line)[:_MOST_LETTERS] for line in day.troubles)
    late = say("made-up") if day.made_up else ""
    return "; ".join(filter(None, [say(day.state), counted, late, *list(reasons)[:_MOST_REASONS]]))


def _reasons(days: Sequence[Day], say: Words) -> Html:
    """Return the days that were not good as a list: a title is not for keyboards and fingers."""
    gaps = list(calendars.gaps(list(days)))
    if not gaps:
        return Html()
    entries = [tag("li", _days(gap, say), ": ", foreign(_text(gap[-1], say))) for gap in gaps]
    summary = tag("summary", say("days-not-good", count=sum(map(len, gaps))))
    return tag("details", summary, tag("ul", *entries))


def _days(gap: Sequence[Day], say: Words) -> str:
    """Return the days of a gap: the only one, or the first and the last."""
    first, last = say.day(gap[0].day), say.day(gap[-1].day)
    return first if len(gap) == 1 else say("range", least=first, most=last)
