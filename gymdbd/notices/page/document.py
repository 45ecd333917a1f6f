"""The whole page, and what it says first: is all well, and when was that."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from gymdbd.jobs.finding import Health
from gymdbd.notices.page import jobs, style, tables, weeks
from gymdbd.notices.page.jobs import icon, when
from gymdbd.notices.page.language import Words
from gymdbd.notices.page.markup import Html, foreign, join, tag

if TYPE_CHECKING:
    from gymdbd.notices.page.facts import Found, Job, Page

# Nothing is loaded, sent or run; the icon of the tab is in the page.
_POLICY = (
    "default-src 'none'; style-src 'sha256-{}'; img-src data:; base-uri 'none'; form-action 'none'"
)


def render(page: Page) -> str:
    """Return the page as HTML."""
    say = Words(page.language, page.zone)
    body = tag("body", _shapes(), _header(page, say), _main(page, say), _footer(page, say))
    return f"<!doctype html>\n{tag('html', _head(page, say), body, lang=page.language)}\n"


def _head(page: Page, say: Words) -> Html:
    """Return what a browser, and the next writing, are told of the page."""
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="gymdbd-page", content=f"{page.fingerprint} {page.at.isoformat()}"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY.format(style.digest())),
        tag("meta", name="viewport", content="width=device-width,initial-scale=1"),
        tag("meta", name="robots", content="noindex"),
        tag("link", rel="icon", href=_icon(page.health)),
        tag("title", f"{say.headline(page.health)} · {say('title', host=page.host)}"),
        tag("style", Html(style.STYLE)),
    )


def _icon(health: Health) -> Html:
    """Return the icon of the browser's tab, as a data URL."""
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24">'
        f'<path fill="{style.COLOURS[health]}" d="{style.SHAPES[health]}"/></svg>'
    )
    return Html(f"data:image/svg+xml,{quote(drawing)}")


def _shapes() -> Html:
    """Return the shapes of all states, which icons refer to."""
    symbols = [
        tag("symbol", tag("path", d=Html(shape)), id=health.name.lower(), viewBox="0 0 24 24")
        for health, shape in style.SHAPES.items()
    ]
    return tag("svg", *symbols, width="0", height="0", class_="unseen", aria_hidden="true")


def _header(page: Page, say: Words) -> Html:
    every = (*page.jobs, *page.peers)
    good = sum(job.health == Health.OK for job in every)
    until = tag("p", say("until", time=say.moment(page.until), host=page.host), class_="until soft")
    hero = tag(
        "div",
        tag(
            "div",
            tag("h1", icon(page.health), say.headline(page.health), class_=_kind(page.health)),
            tag("p", say("of-all", good=good, all=len(every)), class_="soft"),
        ),
        _troubles(page, say),
        tag("div", tag("p", say("written"), " ", when(page.at, say), class_="written"), until),
        class_=f"card hero {_kind(page.health)}",
    )
    return tag("header", tag("p", foreign(say("title", host=page.host)), class_="from"), hero)


def _troubles(page: Page, say: Words) -> Html:
    """Return what is not well in a line each, which leads to what to do about it."""
    found: list[tuple[str, str, Job | Found]]
    found = [(jobs.anchor(job.name), job.name, job) for job in (*page.jobs, *page.peers)]
    for part in page.machine:
        found.append((jobs.anchor(part.about, "part"), say.part(part.about), part))
    lines = [
        tag(
            "li",
            jobs.badge(part.health, say),
            " ",
            tag("a", foreign(name), href=f"#{place}"),
            join(": ", foreign(told)) if (told := part.what or part.reason) else None,
        )
        for place, name, part in found
        if part.health != Health.OK
    ]
    return tag("ul", *lines, class_="troubles") if lines else Html()


def _kind(health: Health) -> str:
    return health.name.lower()


def _main(page: Page, say: Words) -> Html:
    cards = [jobs.card(job, say, page.at) for job in page.jobs]
    return tag(
        "main",
        tag("h2", say("jobs")),
        _legend(say) if any(job.days for job in page.jobs) else None,
        tag("div", *cards, class_="grid"),
        tag("h2", say("archives")),
        tables.archives(page, say),
        tag("h2", say("machines")),
        tables.machines(page, say),
    )


def _legend(say: Words) -> Html:
    """Return what the signs of the calendars mean."""
    entries = [
        tag("li", tag("b", sign, class_=kind, aria_hidden="true"), say(state))
        for state, (sign, kind) in weeks.SIGNS.items()
    ]
    return tag("ul", *entries, class_="key", aria_label=say("legend"))


def _footer(page: Page, say: Words) -> Html:
    text = say("footer", version=page.version, zone=say.zone_at(page.at))
    return tag("footer", join(tag("p", text)))
