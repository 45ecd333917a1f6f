"""Small curves, as SVG: how size, duration and rows went."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd.notices.page.markup import Html, tag

if TYPE_CHECKING:
    from gymdbd.notices.page.facts import Curve
    from gymdbd.notices.page.language import Words

_WIDTH, _HEIGHT = 200, 40


def figure(curve: Curve, name: str, say: Words) -> Html:
    """Return a curve with its newest value; `name` is that of its job, for the ids."""
    values = [value for _, value in curve.points]
    (first_at, first), (last_at, last) = curve.points[0], curve.points[-1]
    least, most = (say.number(curve.what, value) for value in (min(values), max(values)))
    told = say(
        "curve",
        what=say(curve.what),
        first=say.number(curve.what, first),
        from_day=say.day(first_at.astimezone(say.zone).date()),
        last=say.number(curve.what, last),
        to_day=say.day(last_at.astimezone(say.zone).date()),
        least=least,
        most=most,
    )
    ids = f"{name}-{curve.what}", f"{name}-{curve.what}-more"
    line = _line(curve)
    drawing = tag(
        "svg",
        tag("title", say(curve.what), id=ids[0]),
        tag("desc", told, id=ids[1]),
        tag("path", d=f"{line}V{_HEIGHT}H0Z", class_="area"),
        tag("path", d=line, class_="line"),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_labelledby=" ".join(ids),
    )
    value = tag("b", say.number(curve.what, last))
    scale = tag("p", say("range", least=least, most=most), class_="soft", aria_hidden="true")
    return tag("figure", tag("figcaption", say(curve.what), value), drawing, scale)


def _line(curve: Curve) -> Html:
    """Return the path through the points, from the first at the left to the last at the right."""
    values = [value for _, value in curve.points]
    start = curve.points[0][0]
    span = (curve.points[-1][0] - start).total_seconds() or 1.0
    least, most = min(values), max(values)
    places = [
        f"{_WIDTH * (at - start).total_seconds() / span:.0f} "
        f"{_HEIGHT - 3 - (_HEIGHT - 6) * ((value - least) / (most - least or 1)):.0f}"
        for at, value in curve.points
    ]
    return Html(f"M{'L'.join(places)}")
