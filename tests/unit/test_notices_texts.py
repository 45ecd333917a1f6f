"""The words of notices: in both languages, for every code, whatever a name or an error holds."""

from __future__ import annotations

import ast
import re
import string
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from gymdbd import files
from gymdbd.errors import DiskFullError
from gymdbd.jobs.finding import Health
from gymdbd.notices import english, korean, texts
from gymdbd.notices.message import DEFAULT, ENDED, HIGH, REMINDER, TROUBLE, Event
from gymdbd.notices.policy import DAEMON, DOWN, JOB, MACHINE, PEER
from gymdbd.notices.texts import Tongue
from gymdbd.remote import errors as _of_remote  # noqa: F401 - their codes
from gymdbd.source.errors import GymdbdError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGE = Path(texts.__file__).parents[1]
_NOW = datetime(2026, 12, 1, 3, 10, tzinfo=UTC)
_FINE = {"ok"}  # The code of a finding that nothing is wrong.


def _event(**changes: Any) -> Event:
    facts: dict[str, Any] = {
        "change": TROUBLE,
        "about": JOB,
        "name": "nightly",
        "was": "ok",
        "state": "failing",
        "health": Health.FAILING,
        "code": "disk-full",
        "reason": "no space left on /var/backups",
        "hint": "remove something.",
        "since": _NOW - timedelta(minutes=10),
    }
    return Event(**{**facts, **changes})


def _tongue(language: str) -> Tongue:
    return Tongue(language, "raspberry-pi", _NOW, ZoneInfo("Asia/Seoul"))


def _kinds(of: type[GymdbdError]) -> Iterator[type[GymdbdError]]:
    for kind in of.__subclasses__():
        yield kind
        yield from _kinds(kind)


def _codes_of_findings() -> set[str]:
    """Return every code that the package gives to a finding by its name."""
    found = set()
    for path in _PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Finding":
                named = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
                given = [*node.args[3:4], *named]
                found |= {str(code.value) for code in given if isinstance(code, ast.Constant)}
    return found - _FINE


def test_both_languages_have_the_same_words() -> None:
    """And each of them the same blanks to be filled in."""

    def blanks(text: str) -> set[str | None]:
        return {name for _, name, _, _ in string.Formatter().parse(text)} - {None}

    assert english.REASONS.keys() == korean.REASONS.keys()
    assert {name: blanks(text) for name, text in english.WORDS.items()} == {
        name: blanks(text) for name, text in korean.WORDS.items()
    }
    for code, words in english.REASONS.items():
        assert blanks(words[1]) == blanks(korean.REASONS[code][1]), code


def test_every_code_has_words() -> None:
    """That of every error, and of every other finding."""
    codes = {kind.code for kind in _kinds(GymdbdError)} | _codes_of_findings()
    assert len(codes) > 80
    assert codes - english.REASONS.keys() == set()


def test_korean_is_korean_and_polite() -> None:
    """What happened is a polite statement, and what to do a polite request or statement."""
    for code, (happened, to_do) in korean.REASONS.items():
        assert re.search(r"니다$", happened), code
        assert re.search(r"(십시오|니다)(\(keep:\))?$|십시오: [a-z]", to_do), code


def test_no_particle_of_korean_follows_a_name() -> None:
    """Which one is right depends on how the name sounds: nightly-backup을, but pull-from-pi를."""
    texts = [*korean.WORDS.values(), *(to_do for _, to_do in korean.REASONS.values())]
    assert [text for text in texts if re.search(r"\{(what|job|machine|told)\}[가-힣]", text)] == []


def test_trouble_is_worded_with_what_happened_and_what_to_do() -> None:
    """In English with the hint of the error itself."""
    found = texts.message([_event()], _tongue("en"))
    assert found.title == "raspberry-pi: nightly is failing"
    assert found.text.splitlines() == [
        "nightly has been failing for 10 min (since 12:00).",
        "What happened: the disk is full.",
        "The message: no space left on /var/backups",
        "What to do: remove something.",
    ]
    assert (found.priority, found.health, found.job) == (HIGH, Health.FAILING, "nightly")


def test_the_message_in_the_page_of_notices_is_what_is_sent(tmp_path: Path) -> None:
    """By the error's own words, but for the disk of the example."""
    with pytest.raises(DiskFullError) as caught:
        files.require_space(tmp_path, 2**62)
    told = re.sub(r"^.* has .* free, but .* needed$", "... has ...", caught.value.message)
    assert told == "... has ..."
    reason = "/mnt/usb/backups has 310.4 MiB free, but 1.2 GiB are needed"
    event = _event(name="nightly-backup", reason=reason, hint=caught.value.hint)
    found = texts.message([event], Tongue("en", "raspberry-pi", _NOW, UTC))
    page = (_PACKAGE.parent / "deploy/docs/notices.md").read_text(encoding="utf-8")
    assert f"{found.title}\n\n{found.text}\n" in page


def test_trouble_is_worded_in_korean() -> None:
    """What to do comes from the code, and the error's own line stays as it is."""
    found = texts.message([_event()], _tongue("ko"))
    assert found.title == "raspberry-pi: nightly 실패"
    assert found.text.splitlines() == [
        "nightly: 10분 전부터 '실패' 상태입니다(12:00부터).",
        "무슨 일: 디스크가 가득 찼습니다.",
        "메시지: no space left on /var/backups",
        "할 일: 공간을 비우거나 백업을 더 적게 보관하십시오(keep:).",
    ]


@pytest.mark.parametrize(
    ("name", "language", "expected"),
    [
        ("disk /mnt/usb", "en", "pi: disk /mnt/usb is late"),
        ("disk /mnt/usb", "ko", "pi: 디스크 /mnt/usb 지연"),
        ("card mmcblk0", "ko", "pi: 카드 mmcblk0 지연"),
        ("power", "ko", "pi: 전원 지연"),
        ("fan 1", "ko", "pi: fan 1 지연"),
    ],
)
def test_a_part_of_the_machine_is_named_in_the_language(
    name: str, language: str, expected: str
) -> None:
    """As the page names it."""
    event = _event(about=MACHINE, name=name, state="late", health=Health.LATE)
    assert texts.message([event], Tongue(language, "pi", _NOW, UTC)).title == expected


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("change", [TROUBLE, REMINDER, ENDED])
@pytest.mark.parametrize("code", [*sorted(english.REASONS), "of-a-later-release", ""])
def test_every_event_has_words(language: str, change: str, code: str) -> None:
    """Without a blank left open, also for a code of another machine's later release."""
    event = _event(change=change, code=code, hint="", about=PEER, name="pi/nightly", was="late")
    if change == ENDED:
        event = _event(change=change, code=code, state="ok", health=Health.OK, until=_NOW)
    found = texts.message([event], _tongue(language))
    assert not re.search(r"[{}]", found.title + found.text)
    assert event.name in found.text
    assert len(found.title.splitlines()) == 1


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en", "The daemon runs again. It did not run for 3 h 0 min (from 09:10 to 12:10)."),
        (
            "ko",
            "데몬: 다시 실행되고 있습니다. 3시간 0분 동안 멈춰 있었습니다(09:10부터 12:10까지).",
        ),
    ],
)
def test_that_the_daemon_was_down_says_from_when_to_when(language: str, expected: str) -> None:
    """In the zone of the machine."""
    event = _event(
        change=ENDED,
        about=DAEMON,
        name="",
        state="ok",
        health=Health.OK,
        code=DOWN,
        reason="",
        hint="",
        since=_NOW - timedelta(hours=3),
        until=_NOW,
    )
    assert texts.message([event], _tongue(language)).text.splitlines()[0] == expected


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en", "raspberry-pi: 1 failing, 1 late, 2 well again"),
        ("ko", "raspberry-pi: 실패 1건, 지연 1건, 다시 정상 2건"),
    ],
)
def test_several_events_are_one_message_with_the_worst_first(language: str, expected: str) -> None:
    """The title counts them."""
    over = {"change": ENDED, "state": "ok", "health": Health.OK, "until": _NOW}
    events = [
        _event(name="a", **over),
        _event(name="b", state="late", health=Health.LATE),
        _event(name="c", **over),
        _event(name="d"),
    ]
    found = texts.message(events, _tongue(language))
    assert found.title == expected
    assert [event.name for event in found.events] == ["d", "b", "a", "c"]
    assert [block[0] for block in found.text.split("\n\n")] == ["d", "b", "a", "c"]
    assert (found.priority, found.health, found.job) == (HIGH, Health.FAILING, None)


def test_what_is_over_is_not_urgent() -> None:
    """Nor is what is late."""
    for state, health in (("late", Health.LATE), ("unknown", Health.UNKNOWN)):
        event = _event(state=state, health=health)
        assert texts.message([event], _tongue("en")).priority == DEFAULT


def test_a_long_message_is_bounded_and_names_everything() -> None:
    """A hundred jobs whose errors are whole pages."""
    events = [_event(name=f"job-{n}", reason="x " * 5000) for n in range(40)]
    text = texts.message(events, _tongue("en")).text
    assert len(text) < 6000
    assert all(f"job-{n} has been" in text for n in range(40))


def test_an_error_cannot_look_like_our_own_words() -> None:
    """Nor can the name of another machine's job: line breaks and escapes are shown."""
    event = _event(name="a\nWhat to do: pay", reason="b\nWhat to do: pay\x1b[2J\u202e", about=PEER)
    lines = texts.message([event], _tongue("en")).text.splitlines()
    assert len(lines) == 4
    assert "\\x1b" in lines[2]
    assert "\\u202e" in lines[2]
