"""Small curves, as SVG: how size, duration and rows went."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd.notices.page.markup import Html, tag

if TYPE_CHECKING:
    from gymdbd.notices.page.language import Words
    from gymdbd.runs.calendar import Point

_WIDTH, _HEIGHT = 200, 40


def figure(what: str, points: list[Point], name: str, say: Words) -> Html:
    """Return a curve with its newest value; `name` is that of its job, for the ids."""
    values = [point.value for point in points]
    least, most = (say.number(what, value) for value in (min(values), max(values)))
    ids = f"{name}-{what}", f"{name}-{what}-more"
    line = _line(points)
    drawing = tag(
        "svg",
        tag("title", say(what), id=ids[0]),
        tag("desc", _told(what, points, say, least=least, most=most), id=ids[1]),
        tag("path", d=f"{line}V{_HEIGHT}H0Z", class_="area"),
        tag("path", d=line, class_="line"),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_labelledby=" ".join(ids),
    )
    value = tag("b", say.number(what, points[-1].value))
    scale = tag("p", say("range", least=least, most=most), class_="soft", aria_hidden="true")
    return tag("figure", tag("figcaption", say(what), value), drawing, scale)


def _told(what: str, points: list[Point], say: Words, **ends: str) -> str:
    """Return in words what a curve shows."""
    first, last = points[0], points[-1]
    return say(
        "curve",
        what=say(what),
        first=say.number(what, first.value),
        from_day=say.day(first.at.astimezone(say.zone).date()),
        last=say.number(what, last.value),
        to_day=say.day(last.at.astimezone(say.zone).date()),
        **ends,
    )


def _line(points: list[Point]) -> Html:
    """Return the path through the points, from the first at the left to the last at the right."""
    values = [point.value for point in points]
    start = points[0].at
    span = (points[-1].at - start).total_seconds() or 1.0
    least, most = min(values), max(values)
    places = [
        f"{_WIDTH * (point.at - start).total_seconds() / span:.0f} "
        f"{_HEIGHT - 3 - (_HEIGHT - 6) * ((point.value - least) / (most - least or 1)):.0f}"
        for point in points
    ]
    return Html(f"M{'L'.join(places)}")
