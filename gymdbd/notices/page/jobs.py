"""The card of a job: how it is, what to do, its calendar and its curves."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from gymdbd.jobs.finding import Health
from gymdbd.notices.page import curves, weeks
from gymdbd.notices.page.markup import Html, foreign, join, tag

if TYPE_CHECKING:
    from datetime import datetime

    from gymdbd.notices.page.facts import Found, Job
    from gymdbd.notices.page.language import Words

_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")


def badge(health: Health, say: Words) -> Html:
    """Return a health as shape, colour and word."""
    kind = health.name.lower()
    return tag("span", icon(health), say.health(health), class_=f"badge {kind}")


def icon(health: Health) -> Html:
    """Return the shape of a health, for eyes only."""
    use = tag("use", href=f"#{health.name.lower()}")
    return tag("svg", use, class_="icon", aria_hidden="true")


def when(
    moment: datetime | None, say: Words, *, now: datetime | None = None, otherwise: str = ""
) -> Html:
    """Return a moment, for people and programs; `otherwise` if there is none.

    If it is in the same year as `now`, without the year.
    """
    if moment is None:
        return join(otherwise)
    return tag("time", say.moment(moment, now), datetime=moment.isoformat(timespec="minutes"))


def advice(found: Job | Found, say: Words) -> Html:
    """Return what is wrong and what to do about it; nothing if all is well."""
    if found.health == Health.OK:
        return tag("p", foreign(found.reason), class_="soft") if found.reason else Html()
    if not found.reason and not found.hint:
        return Html()
    what = tag("p", found.what) if found.what else None
    reason = tag("p", foreign(found.reason)) if found.reason else None
    label = tag("b", f"{say('what-to-do')}: ")
    hint = tag("p", label, foreign(found.hint)) if found.hint else None
    return tag("div", what, reason, hint, class_=f"advice {found.health.name.lower()}")


def anchor(name: str, of: str = "job") -> str:
    """Return the id of a job's card, or of a part of the machine: for a link within the page."""
    if not _PLAIN.fullmatch(name):
        name = hashlib.sha256(name.encode("utf-8", "backslashreplace")).hexdigest()[:12]
    return f"{of}-{name}"


def card(job: Job, say: Words, now: datetime) -> Html:
    """Return the card of a job."""
    name = tag("h3", foreign(job.name), " ", tag("span", say.kind(job.kind), class_="soft"))
    told = [
        (say("last-good"), when(job.last_good, say, now=now, otherwise=say("never"))),
        *([(say("next"), when(job.next_run, say, now=now))] if job.next_run else []),
        *([(say("failures"), join(job.failures))] if job.failures else []),
    ]
    listed = [join(tag("dt", what), tag("dd", value)) for what, value in told]
    drawn = [
        curves.figure(what, points, anchor(job.name), say) for what, points in job.curves.items()
    ]
    return tag(
        "article",
        tag("div", name, badge(job.health, say), class_="head"),
        advice(job, say),
        *(tag("p", foreign(remark), class_="soft") for remark in job.remarks),
        tag("dl", *listed),
        weeks.calendar(job.days, say) if job.days else None,
        tag("div", *drawn, class_="curves") if drawn else None,
        class_="card",
        id=anchor(job.name),
    )
