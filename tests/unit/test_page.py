"""The page to look at: what it shows, in which words, and that it is made of our HTML alone."""

from __future__ import annotations

import base64
import hashlib
import re
import string
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from gymdbd.config import config
from gymdbd.notices.page import document, facts, history, language, weeks
from gymdbd.notices.page.facts import Day
from gymdbd.runs import line as lines
from gymdbd.runs.entry import Status
from gymdbd.runs.health import Daemon
from gymdbd.runs.line import Line
from gymdbd.runs.overview import Overview
from tests.support.pages import AT, HOSTILE, SEOUL, a_page, hostile_page

if TYPE_CHECKING:
    from pathlib import Path

_LANGUAGES = sorted(language.TEXTS)


class _Read(HTMLParser):
    """What a browser would see: the elements, and the texts with those of attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.names: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element and its attributes."""
        self.tags.append(tag)
        self.names |= {name for name, _ in attrs}
        self.texts += [value or "" for _, value in attrs]

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.texts.append(data)

    @property
    def text(self) -> str:
        """All texts, in one line."""
        return " ".join(" ".join(self.texts).split())


@pytest.mark.parametrize("name", _LANGUAGES)
@pytest.mark.parametrize("well", [True, False])
def test_the_page_shows_how_each_job_is_and_when_that_was(name: str, *, well: bool) -> None:
    """Of all that it is given, and with the words of its language."""
    page, say = a_page(name, well=well), language.Words(name, SEOUL)
    read = _Read(document.render(page))
    for job in (*page.jobs, *page.peers):
        assert job.last_good is not None
        shown = [job.name, say.health(job.health), job.reason, job.hint]
        shown += [say.moment(job.last_good, AT)]
        assert [text for text in shown if text not in read.text] == []
    assert say.headline(page.health) in read.text
    assert say.moment(page.at) in read.text
    assert say("until", time=say.moment(page.until), host=page.host) in read.text
    assert sum(tag == "time" for tag in read.tags) > 5


def test_every_language_has_the_same_texts_with_the_same_values() -> None:
    """A text that is missing in one language would fail when it is needed."""
    fields = {
        name: {
            key: sorted(field for _, field, _, _ in string.Formatter().parse(text) if field)
            for key, text in texts.items()
            if not key.startswith(("day", "moment"))
        }
        for name, texts in language.TEXTS.items()
    }
    assert all(found == fields["en"] for found in fields.values())
    keys = {name: texts.keys() for name, texts in language.TEXTS.items()}
    assert all(found == keys["en"] for found in keys.values())


@pytest.mark.parametrize("name", _LANGUAGES)
def test_no_text_of_others_becomes_a_part_of_the_page(name: str) -> None:
    """Names, errors and paths that are HTML, reverse text or are no Unicode are shown, escaped."""
    page = document.render(hostile_page(HOSTILE, name))
    usual = _Read(document.render(a_page(name, well=False)))
    read = _Read(page)
    assert set(read.tags) - set(usual.tags) == set()
    assert read.names - usual.names == set()
    assert page.replace("\n", "").isprintable()
    assert page.encode()
    assert "<script>alert(1)</script>" in read.text


def test_a_long_text_is_cut() -> None:
    """A megabyte in the name of a table does not make a page of a megabyte."""
    page = document.render(hostile_page("x" * 1_000_000))
    assert len(page) < 100_000


def test_the_policy_allows_the_style_and_nothing_else() -> None:
    """The hash is that of the style, and there is no script, link, or style of an element."""
    page = document.render(a_page())
    style = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style[0].encode()).digest()).decode()
    assert f"default-src &#x27;none&#x27;; style-src &#x27;sha256-{digest}&#x27;;" in page
    read = _Read(page)
    assert {"script", "img", "iframe", "object"} & set(read.tags) == set()
    assert {"style", "onclick", "onload", "src"} & read.names == set()
    assert re.findall(r"url\(|@import|//(?!www\.w3\.org)", page) == []


def test_the_page_of_a_gym_is_small() -> None:
    """Two jobs with thirteen weeks and curves, of which the half is style and cells."""
    assert len(document.render(a_page("ko")).encode()) < 36 * 1024


def _overview(at: datetime) -> Overview:
    daemon = Daemon(alive=True, started=None, status_file="s")
    return Overview(
        at=at, zone=SEOUL, host="pi", status=Status(), daemon=daemon, jobs={}, peers={}, machine={}
    )


def _line(state: str, first: str, **more: object) -> Line:
    return Line(job="nightly", state=state, first=first, last=first, **more)  # type: ignore[arg-type]


_KOREAN_NIGHT = "2026-11-{:02}T03:00:00+09:00".format
_STATES = [
    ([_line("ok", _KOREAN_NIGHT(20))], facts.GOOD, 1, 1, ()),
    ([_line("unchanged", _KOREAN_NIGHT(20), count=60)], facts.GOOD, 60, 60, ()),
    ([_line("failed", _KOREAN_NIGHT(20), error="no room")], facts.BAD, 1, 0, ("no room",)),
    (
        [_line("failed", _KOREAN_NIGHT(20), error="no room"), _line("ok", _KOREAN_NIGHT(20))],
        facts.MIXED,
        2,
        1,
        ("no room",),
    ),
    (
        [_line(lines.SKIPPED, _KOREAN_NIGHT(20), why=lines.OFF)],
        facts.MISSED,
        0,
        0,
        ("the machine was off",),
    ),
    (
        [_line("busy", _KOREAN_NIGHT(20), why="busy")],
        facts.MISSED,
        0,
        0,
        ("another run was at work",),
    ),
    # What is Friday evening in UTC is Saturday where the machine is.
    ([_line("ok", "2026-11-19T15:30:00+00:00")], facts.GOOD, 1, 1, ()),
]


@pytest.mark.parametrize(("found", "state", "runs", "good", "reasons"), _STATES)
def test_a_day_of_the_calendar_is_what_its_runs_were(
    found: list[Line], state: str, runs: int, good: int, reasons: tuple[str, ...], tmp_path: Path
) -> None:
    """In the time of the machine, with the reason of what was not good."""
    days = _calendar(found, tmp_path)
    friday = date(2026, 11, 20)
    assert days[friday] == Day(friday, state, runs, good, reasons)


def _calendar(found: list[Line], folder: Path) -> dict[date, Day]:
    """Return the calendar of a weekly job, whose ledger begins on the 10th of November."""
    text = (
        "status_file: s\njobs: {nightly: {kind: backup, schedule: '0 3 * * 5',"
        f" database: {folder}/d, archive: {folder}}}}}\n"
    )
    job = config.parse(text, folder / "c.yaml").jobs["nightly"]
    seen, began = _overview(AT), datetime(2026, 11, 10, tzinfo=SEOUL)
    say = language.Words("en", SEOUL)
    return {day.day: day for day in history.days(job, found, seen, began, say)}


def test_a_day_without_a_run_tells_whether_one_was_due(tmp_path: Path) -> None:
    """A Friday without a line is unknown, another day had nothing due; before all is unknown."""
    days = _calendar([], tmp_path)
    assert min(days) == date(2026, 8, 31)
    assert max(days) == date(2026, 11, 28)
    after = {day: found.state for day, found in days.items() if day >= date(2026, 11, 10)}
    fridays = {day for day in after if day.weekday() == 4}
    assert {after[day] for day in fridays} == {facts.UNKNOWN}
    assert {after[day] for day in after.keys() - fridays} == {facts.IDLE}
    before = [found.state for day, found in days.items() if day not in after]
    assert set(before) == {facts.UNKNOWN}


def test_curves_have_a_point_for_each_day() -> None:
    """Of the size and rows the last, of the duration the longest; failed runs have none."""
    night, noon = _KOREAN_NIGHT(20), "2026-11-20T12:00:00+09:00"
    found = history.curves(
        [
            _line("ok", night, size=10, rows={"a": 1, "b": 2}, longest_s=9.0),
            _line("ok", noon, size=12, rows={"a": 4}, longest_s=1.0),
            _line("failed", noon, longest_s=99.0),
            _line("ok", _KOREAN_NIGHT(21), size=14, longest_s=2.0),
        ],
        SEOUL,
    )
    values = {curve.what: [value for _, value in curve.points] for curve in found}
    assert values == {facts.SIZE: [12, 14], facts.DURATION: [9.0, 2.0]}


def test_the_calendar_is_a_table_with_a_header_for_each_row_and_column() -> None:
    """Thirteen weeks of seven days; each day has a sign and says how it was."""
    page = a_page()
    table = str(weeks.calendar(page.jobs[0].days, language.Words("en", SEOUL)))
    assert table.count('scope="row"') == 7
    assert table.count('scope="col"') == 13
    titles = re.findall(r'title="(.*?)"', table)
    assert len(titles) == len(page.jobs[0].days) == 90
    assert titles[0] == "Mon 31 Aug: no record"
    assert "Fri 9 Oct: failed; no space left: the backup needs 4.7 MiB, 1.2 MiB are free" in titles


def test_moments_are_told_in_the_zone_of_the_machine() -> None:
    """With the year if it is another one than that of the page."""
    say, moment = language.Words("en", SEOUL), datetime(2026, 12, 31, 15, 30, tzinfo=UTC)
    assert say.moment(moment) == "Fri 1 Jan 2027, 00:30"
    assert say.moment(moment, moment) == "Fri 1 Jan, 00:30"
    assert say.moment(moment, AT) == "Fri 1 Jan 2027, 00:30"
    assert language.Words("ko", SEOUL).moment(moment) == "2027년 1월 1일 (금) 00:30"
