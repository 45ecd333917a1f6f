"""The jobs of other machines: judged by what these told, however their clocks differ."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.config import config
from gymdbd.jobs.finding import Health
from gymdbd.jobs.pull import told
from gymdbd.runs import brief, peers
from tests.support.clocks import HandClock
from tests.support.jobs import write_config

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.config.config import Config
    from gymdbd.jobs.finding import Finding
    from gymdbd.runs.health import Judged

_NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
_GOOD = {"job": "nightly", "kind": "backup", "health": "ok", "code": ""}
_FAILING = {**_GOOD, "health": "failing", "code": "disk-full"}


def _settings(folder: Path, **changes: Any) -> Config:
    pull = {
        "kind": "pull",
        "every": "1d",
        "host": "pi",
        "remote_database": "/srv/gym.db",
        "replica": str(folder / "replica.db"),
    }
    return config.load(write_config(folder, {"pull": {**pull, **changes}}))


def _told(
    settings: Config,
    *jobs: Any,
    ago: timedelta = timedelta(),
    written: timedelta = timedelta(),
    ahead: timedelta = timedelta(),
    pull: str = "pull",
    **changes: Any,
) -> None:
    """Keep an answer that came so long ago, of a status that was then `written` so long before.

    The clock over there is `ahead` of this one.
    """
    there = _NOW - ago + ahead
    status = {"schema": 1, "now": (there - written).isoformat(), "jobs": list(jobs or [_GOOD])}
    content = {
        "host": "pi",
        "asked_at": _NOW.isoformat(),
        "told_at": (_NOW - ago).isoformat(),
        "their_now": there.timestamp(),
        "text": json.dumps({**status, **changes.pop("status", {})}),
        **changes,
    }
    told.path(settings.jobs[pull]).write_text(json.dumps(content))  # type: ignore[arg-type]


def _judge(settings: Config) -> tuple[dict[str, Judged], dict[str, Finding]]:
    return peers.judge_all(settings, HandClock(UTC, [_NOW]))


def _found(settings: Config) -> tuple[Health, str]:
    found = _judge(settings)[0]["pi/nightly"].found
    return found.health, found.code


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(days=-9000), timedelta(days=9000)])
def test_ages_are_right_however_far_the_clocks_are_apart(tmp_path: Path, ahead: timedelta) -> None:
    """A Raspberry Pi without a network may be decades behind; moments are shown by our clock."""
    settings = _settings(tmp_path)
    success = (_NOW + ahead - timedelta(hours=9)).isoformat()
    _told(settings, {**_GOOD, "last_success": success}, ahead=ahead)
    judged = _judge(settings)[0]["pi/nightly"]
    assert (judged.found.health, judged.entry.kind) == (Health.OK, "backup")
    assert judged.entry.last_success == (_NOW - timedelta(hours=9)).isoformat()
    _told(settings, ahead=ahead, written=timedelta(hours=4))
    assert _found(settings) == (Health.LATE, "peer-silent")


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        ({"ago": timedelta(hours=26, minutes=30)}, (Health.OK, "")),
        ({"ago": timedelta(minutes=-5)}, (Health.OK, "")),
        ({"written": timedelta(minutes=-5)}, (Health.OK, "")),
        ({"ago": timedelta(hours=28)}, (Health.LATE, "peer-unheard")),
        ({"ago": timedelta(hours=-1)}, (Health.UNKNOWN, "clock-wrong")),
        ({"written": timedelta(hours=2)}, (Health.OK, "")),
        ({"written": timedelta(hours=-1)}, (Health.UNKNOWN, "clock-wrong")),
    ],
)
def test_a_status_that_has_grown_old_is_late(
    tmp_path: Path, age: dict[str, Any], expected: tuple[Health, str]
) -> None:
    """Whether nobody over there writes it any more, or none came for longer than a pull may be."""
    settings = _settings(tmp_path)
    _told(settings, **age)
    assert _found(settings) == expected
    _told(settings, _FAILING, **age)
    assert _found(settings) == (Health.FAILING, "disk-full")


@pytest.mark.parametrize(
    "changes",
    [
        {"text": ""},
        {"text": "[" * 4000},
        {"text": "\x1b[2J"},
        {"status": {"now": "9999-12-31T23:59:59Z"}},
        {"status": {"jobs": "nightly"}},
        {"refused": "too-old", "text": ""},
    ],
)
def test_an_answer_that_is_none_is_a_remark(tmp_path: Path, changes: dict[str, Any]) -> None:
    """It makes no health worse, and steers no terminal."""
    settings = _settings(tmp_path)
    _told(settings, **changes)
    found, remarks = _judge(settings)
    assert (found, list(remarks)) == ({}, ["pi"])
    assert remarks["pi"].reason.startswith("pi does not tell how its jobs are (")
    assert remarks["pi"].reason.isprintable()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": "pi"}', '{"host": 1}', "\x00"])
def test_an_answer_that_was_not_kept_whole_is_none(tmp_path: Path, content: str) -> None:
    """The next pull asks again."""
    settings = _settings(tmp_path)
    told.path(settings.jobs["pull"]).write_text(content)  # type: ignore[arg-type]
    assert _judge(settings) == ({}, {})


def test_moments_outside_the_calendar_are_left_out(tmp_path: Path) -> None:
    """In the difference of two clocks, too."""
    settings = _settings(tmp_path)
    job = {**_GOOD, "last_success": "9998-12-31T00:00:00Z", "last_run": "0002-01-01T00:00:00Z"}
    for ahead in (timedelta(days=-20_000), timedelta(days=20_000)):
        _told(settings, job, ahead=ahead)
        entry = _judge(settings)[0]["pi/nightly"].entry
        assert None in (entry.last_success, entry.last_run)
    _told(settings, their_now=250_000_000_000.0)
    assert _judge(settings)[0].keys() == {"pi/nightly"}
    _told(settings, their_now=1e300)
    assert _judge(settings)[0] == {}


def test_a_pull_that_does_not_ask_and_one_from_another_host_know_nothing(tmp_path: Path) -> None:
    """remote_status: none turns it off, and the answer of a former host is not that of this one."""
    _told(_settings(tmp_path))
    assert _judge(_settings(tmp_path, remote_status="none")) == ({}, {})
    assert _judge(_settings(tmp_path, host="other")) == ({}, {})


def test_of_two_pulls_from_one_machine_the_newest_answer_counts(tmp_path: Path) -> None:
    """Whichever of them had it; that the other had none is no remark."""
    pull = {"kind": "pull", "every": "1d", "host": "pi", "remote_database": "/srv/gym.db"}
    names = ("first", "second")
    jobs = {name: {**pull, "replica": str(tmp_path / f"{name}.db")} for name in names}
    settings = config.load(write_config(tmp_path, jobs))
    for order in (names, names[::-1]):
        for name, job, ago in zip(order, (_GOOD, _FAILING), (1, 9), strict=True):
            _told(settings, job, ago=timedelta(hours=ago), pull=name)
        assert _found(settings) == (Health.OK, "")
        _told(settings, text="", pull=order[0])
        found, remarks = _judge(settings)
        assert (set(found), remarks) == ({"pi/nightly"}, {})


def test_jobs_that_found_no_room_are_remarked(tmp_path: Path) -> None:
    """The worst were told."""
    settings = _settings(tmp_path)
    _told(settings, status={"left_out": 12})
    found, remarks = _judge(settings)
    assert (list(found), remarks["pi"].reason) == (
        ["pi/nightly"],
        "pi has 12 more jobs than it tells of",
    )


def test_a_line_for_a_prompt_tells_of_them_too(tmp_path: Path) -> None:
    """By the kept answer, without asking."""
    settings = _settings(tmp_path)
    _told(settings, _FAILING)
    health, line = brief.take(settings, HandClock(UTC, [_NOW]))
    assert health == Health.FAILING
    assert line.startswith("gymdbd: failing: pi/nightly (disk-full); unknown: pull (not-run-yet)")
