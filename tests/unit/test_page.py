"""The page to look at: what it shows, in which words, and that it is made of our HTML alone."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
import string
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from gymdbd.notices.page import document, language, weeks
from tests.support.pages import AT, HOSTILE, SEOUL, a_page, hostile_page

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


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("en", ["Sun 25 Oct to Mon 26 Oct: not run; the machine was off", "made up after"]),
        ("ko", ["10월 25일 (일) ~ 10월 26일 (월): 실행 안 됨; 기기가 꺼져 있었습니다", "나중에"]),
    ],
)
def test_the_days_that_were_not_good_are_a_list_with_the_reason(
    name: str, texts: list[str]
) -> None:
    """Days in a row with one reason are one entry; a run that came late is told in its cell."""
    first, *others = a_page().jobs[0].days
    days = [dataclasses.replace(first, state="good", made_up=1), *others]
    read = _Read(str(weeks.calendar(days, language.Words(name, SEOUL))))
    assert [text for text in texts if text not in read.text.replace(" : ", ": ")] == []


def test_moments_are_told_in_the_zone_of_the_machine() -> None:
    """With the year if it is another one than that of the page."""
    say, moment = language.Words("en", SEOUL), datetime(2026, 12, 31, 15, 30, tzinfo=UTC)
    assert say.moment(moment) == "Fri 1 Jan 2027, 00:30"
    assert say.moment(moment, moment) == "Fri 1 Jan, 00:30"
    assert say.moment(moment, AT) == "Fri 1 Jan 2027, 00:30"
    assert language.Words("ko", SEOUL).moment(moment) == "2027년 1월 1일 (금) 00:30"
