"""A page of a gym, the same each time: for the tests, and for the pictures of the documentation.

`python -m tests.support.pages` makes the pictures.
"""

from __future__ import annotations

import dataclasses
import random
import tempfile
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from gymdbd.jobs.finding import Health
from gymdbd.notices.page import document, weeks
from gymdbd.notices.page.facts import Archive, Found, Job, Kept, Page
from gymdbd.notices.page.language import Words
from gymdbd.runs import calendar
from gymdbd.runs import line as lines
from gymdbd.runs.calendar import Day, Point
from gymdbd.runs.line import Line

SEOUL = ZoneInfo("Asia/Seoul")
AT = datetime(2026, 11, 27, 22, 40, tzinfo=UTC)  # Saturday in Seoul
_MIB = 1024**2


def a_page(language: str = "en", *, well: bool = True) -> Page:
    """Return the page of a gym's Raspberry Pi, on which all is well or much is not."""
    say = Words(language, SEOUL)
    jobs = _well() if well else _not_well(say)
    health = Health.OK if well else Health.FAILING
    return Page(
        host="raspberry-pi",
        version="0.1.0",
        language=language,
        at=AT,
        until=AT + timedelta(hours=2),
        zone=SEOUL,
        health=health,
        jobs=jobs,
        peers=(_peer(say, well=well),),
        machine=_machine(say, well=well),
        archives=(_archive(well=well),),
    )


def _at(days: int, hour: int, minute: int = 0) -> datetime:
    """Return a time of day in Seoul, so many days before or after the page was written."""
    day = AT.astimezone(SEOUL).date() + timedelta(days=days)
    return datetime.combine(day, time(hour, minute), SEOUL)


def _days(*, well: bool, weekly: bool = False) -> tuple[Day, ...]:
    """Return thirteen weeks with a few days on which something was wrong."""
    today = AT.astimezone(SEOUL).date()
    first = weeks.first_day(today)
    return tuple(
        _day(first + timedelta(days=number), (today - first).days - number, well, weekly)
        for number in range((today - first).days + 1)
    )


def _day(day: date, back: int, well: bool, weekly: bool) -> Day:
    if back > 80:
        return Day(day, calendar.UNKNOWN)
    if weekly and day.weekday() != 6:
        return Day(day, calendar.IDLE)
    if back in (33, 34):
        off = trouble("nightly", day, lines.SKIPPED, why=lines.OFF)
        return Day(day, calendar.MISSED, troubles=(off,))
    if back == 50 or (back < 3 and not well):
        error = "no space left: the backup needs 4.7 MiB, 1.2 MiB are free"
        full = trouble("nightly", day, "failed", code="disk-full", error=error)
        return Day(day, calendar.BAD, runs=1, troubles=(full,))
    if back == 12:
        error = "another program held an exclusive lock for 5 s"
        locked = trouble("nightly", day, "failed", code="source-locked", error=error)
        return Day(day, calendar.MIXED, runs=3, good=2, troubles=(locked,))
    return Day(day, calendar.GOOD, runs=1, good=1)


def trouble(job: str, day: date, state: str, **more: Any) -> Line:
    """Return a line of the ledger for a run at three o'clock."""
    moment = datetime.combine(day, time(3), SEOUL).isoformat()
    return Line(job=job, state=state, first=moment, last=moment, **more)


def _curve(what: str, start: float, growth: float, noise: float, every: int = 1) -> list[Point]:
    chance = random.Random(what)
    return [
        Point(_at(number - 81, 3), start + growth * number + chance.gauss(0, noise))
        for number in range(0, 82, every)
    ]


def _well() -> tuple[Job, ...]:
    nightly = Job(
        name="nightly-backup",
        kind="backup",
        health=Health.OK,
        last_good=_at(0, 3),
        next_run=_at(1, 3),
        days=_days(well=True),
        curves={
            calendar.SIZE: _curve(calendar.SIZE, 3.9 * _MIB, 9_000, 6_000),
            calendar.DURATION: _curve(calendar.DURATION, 1.9, 0.004, 0.12),
            calendar.ROWS: _curve(calendar.ROWS, 41_200, 63, 40),
        },
    )
    proof = Job(
        name="weekly-drill",
        kind="drill",
        health=Health.OK,
        last_good=_at(-6, 5),
        next_run=_at(1, 5),
        days=_days(well=True, weekly=True),
        curves={calendar.DURATION: _curve(calendar.DURATION, 3.1, 0.002, 0.2, every=7)},
    )
    return nightly, proof


def _not_well(say: Words) -> tuple[Job, ...]:
    nightly, drill = _well()
    failing = Job(
        name=nightly.name,
        kind=nightly.kind,
        health=Health.FAILING,
        code="disk-full",
        what=say.what("disk-full"),
        reason="the disk of /home/pi/gym-controller/data/backups/database is full: the backup "
        "needs 4.7 MiB, 1.2 MiB are free",
        hint=say.hint(
            "disk-full",
            nightly.name,
            "free some space there, or set keep: to fewer backups; then run gymdbd backup "
            "nightly-backup",
        ),
        last_good=_at(-3, 3),
        next_run=nightly.next_run,
        failures=3,
        days=_days(well=False),
        curves=nightly.curves,
    )
    return failing, drill


def _peer(say: Words, *, well: bool) -> Job:
    peer = Job(name="mac-office/pull-from-pi", kind="pull", health=Health.OK, last_good=_at(-1, 9))
    if well:
        return peer
    code, hint = "too-old", "check that the Mac is on, and that the job is scheduled"
    return dataclasses.replace(
        peer,
        health=Health.LATE,
        code=code,
        what=say.what(code),
        reason="the newest good state is 3 d old, allowed are 26 h",
        hint=say.hint(code, "pull-from-pi", hint),
        last_good=_at(-3, 9),
    )


def _machine(say: Words, *, well: bool) -> tuple[Found, ...]:
    daemon = Found(about="daemon", health=Health.OK, reason=say("daemon-running"))
    power = Found(about="power", health=Health.OK, code="ok")
    disk = "disk /home/pi/gym-controller"
    if well:
        room = "21.4 GiB of 29.1 GiB free, full in 410 days"
        return daemon, Found(about=disk, health=Health.OK, code="ok", reason=room), power
    code, hint = "disk-full-soon", "remove what nobody needs, or use a larger card"
    full = Found(
        about=disk,
        health=Health.LATE,
        code=code,
        what=say.what(code),
        reason="the disk of /home/pi/gym-controller has 1.2 MiB of 29.1 GiB free, full in 3 days",
        hint=say.hint(code, "", hint),
    )
    return daemon, full, power


def _archive(*, well: bool) -> Archive:
    last = 0 if well else -3
    kept = [
        Kept(
            f"gym_system_backup_{_at(last - number, 3):%Y%m%d_%H%M%S}.db",
            _at(last - number, 3),
            int(4.61 * _MIB - 9_000 * number),
            "suspicious" if number == 2 and not well else "verified",
            "rentals: 1,204 rows, 310 fewer than before" if number == 2 and not well else "",
        )
        for number in range(5)
    ]
    return Archive("/home/pi/gym-controller/data/backups/database", tuple(kept), more=12)


# HTML, characters that reverse text, control characters, and what is no Unicode.
HOSTILE = (
    "<script>alert(1)</script>\"'&lt;--> \u202egnp.exe \x1b[31m\x00\x7f \udcff \u2066 ]]> {x} %s"
)


def hostile_page(text: str, language: str = "en") -> Page:
    """Return a page on which everything that others may have written is `text`."""
    page = a_page(language, well=False)
    days = tuple(
        dataclasses.replace(day, troubles=(trouble(text, day.day, "failed", error=text),))
        for day in page.jobs[0].days
    )
    jobs = tuple(
        dataclasses.replace(job, kind=text, reason=text, hint=text, remarks=(text,), days=days)
        for job in page.jobs
    )
    peers = tuple(dataclasses.replace(job, name=text, reason=text) for job in page.peers)
    found = Found(about=text, health=Health.LATE, reason=text, hint=text)
    kept = Kept(text, AT, 1, "damaged", text)
    archives = (Archive(text, (kept,)), Archive(text, problem=text))
    return dataclasses.replace(
        page,
        host=text,
        jobs=jobs,
        peers=peers,
        machine=(found,),
        remarks=(found,),
        archives=archives,
    )


def main() -> None:
    """Write the pictures of the documentation; they need fonts-inter and fonts-nanum."""
    from tests.support import browser  # noqa: PLC0415 - the page itself needs no browser

    folder = Path(__file__).parents[2] / "deploy" / "docs"
    with tempfile.TemporaryDirectory() as scratch, browser.running() as running:
        for name, language in (("report.png", "en"), ("report.ko.png", "ko")):
            page = Path(scratch) / f"{language}.html"
            page.write_text(document.render(a_page(language)), encoding="utf-8")
            browser.picture(running, page, folder / name)


if __name__ == "__main__":
    main()
