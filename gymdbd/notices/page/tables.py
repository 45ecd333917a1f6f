"""The two machines, and the newest backups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd.archive import backup
from gymdbd.jobs.finding import Health
from gymdbd.notices.page import jobs
from gymdbd.notices.page.markup import Html, foreign, join, tag

if TYPE_CHECKING:
    from datetime import datetime

    from gymdbd.notices.page.facts import Archive, Found, Kept, Page
    from gymdbd.notices.page.language import Words

# The shape of a verdict is that of the health that it means.
_MEANS = {
    backup.VERIFIED: Health.OK,
    backup.UNVERIFIED: Health.UNKNOWN,
    backup.SUSPICIOUS: Health.LATE,
    backup.REJECTED: Health.LATE,
    backup.DAMAGED: Health.FAILING,
}


def machines(page: Page, say: Words) -> Html:
    """Return what is known of this machine, and how the jobs of the others are."""
    here = tag("h3", foreign(say("this-machine", host=page.host)))
    mine = tag("ul", *(_part(found, say) for found in page.machine), class_="parts")
    others = [jobs.card(job, say, page.at) for job in page.peers]
    if page.remarks:
        told = tag("ul", *(_part(found, say) for found in page.remarks), class_="parts")
        others.append(tag("article", tag("h3", say("other-machines")), told, class_="card"))
    if not others:
        others = [tag("p", say("no-peers"), class_="card soft")]
    return tag("div", tag("article", here, mine, class_="card"), *others, class_="grid")


def _part(found: Found, say: Words) -> Html:
    head = tag(
        "div",
        tag("b", foreign(say.part(found.about))),
        jobs.badge(found.health, say),
        class_="head",
    )
    return tag("li", head, jobs.advice(found, say), id=jobs.anchor(found.about, "part"))


def _table(names: list[str], rows: list[Html]) -> Html:
    head = tag("tr", *(tag("th", name, scope="col") for name in names))
    return tag("table", tag("thead", head), tag("tbody", *rows), class_="list")


def archives(page: Page, say: Words) -> Html:
    """Return the newest backups of each archive."""
    if not page.archives:
        return tag("p", say("no-archives"), class_="soft")
    return tag(
        "div", *(_archive(archive, say, page.at) for archive in page.archives), class_="grid"
    )


def _archive(archive: Archive, say: Words, now: datetime) -> Html:
    names = [say("made"), say("size"), say("verdict")]
    if archive.problem:
        content = tag("p", foreign(archive.problem), class_="advice unknown")
    elif not archive.backups:
        content = tag("p", say("no-backups"), class_="soft")
    else:
        content = _table(names, [_kept(kept, say, now) for kept in archive.backups])
    more = say("more", count=f"{archive.more:,}")
    return tag(
        "article",
        tag("h3", foreign(archive.folder)),
        content,
        tag("p", more, class_="soft") if archive.more else None,
        class_="card",
    )


def _kept(kept: Kept, say: Words, now: datetime) -> Html:
    health = _MEANS.get(kept.verdict, Health.UNKNOWN)
    verdict = tag(
        "span", jobs.icon(health), say(kept.verdict), class_=f"badge {health.name.lower()}"
    )
    note = tag("div", foreign(kept.note), class_="soft") if kept.note else None
    return tag(
        "tr",
        tag("th", jobs.when(kept.made, say, now=now), scope="row", title=kept.name),
        tag("td", say.number("size", kept.size), class_="size"),
        tag("td", join(verdict, note)),
    )
