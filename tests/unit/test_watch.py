"""A watch: how a job is that never runs, by the time of a file in somebody else's folder."""

from __future__ import annotations

import os
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.clock import Clock
from gymdbd.config import config
from gymdbd.errors import ConfigError
from gymdbd.jobs.finding import ERROR, OK, WARNING, Health
from gymdbd.jobs.watch import outlook
from gymdbd.notices import look
from gymdbd.runs import overview
from tests.support.command import gymdbd_json
from tests.support.jobs import write_config

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.config.config import Config

_HOUR = timedelta(hours=1)


def _settings(folder: Path, **changes: Any) -> Config:
    watch = {"kind": "watch", "peer": "mac", "max_age": "26h", "folder": str(folder / "peers")}
    return config.load(write_config(folder, {"office": {**watch, **changes}}))


def _told(settings: Config) -> tuple[Health, str, str]:
    """Return how the watch is, and what check says of it."""
    found = overview.take(settings, Clock(UTC)).jobs["office"].found
    (check,) = outlook.examine(settings.jobs["office"], Clock(UTC))  # type: ignore[arg-type]
    return found.health, found.code, check.state


@pytest.mark.parametrize(
    ("ago", "expected"),
    [
        (25 * _HOUR, (Health.OK, "", OK)),
        (27 * _HOUR, (Health.LATE, "peer-away", OK)),
        (-9 * _HOUR, (Health.UNKNOWN, "clock-wrong", OK)),
        (timedelta(days=20_000), (Health.LATE, "peer-away", OK)),
    ],
)
def test_the_age_of_the_mark_is_the_health(
    tmp_path: Path, ago: timedelta, expected: tuple[Health, str, str]
) -> None:
    """Without a run, a schedule or a daemon."""
    settings = _settings(tmp_path)
    (tmp_path / "peers").mkdir()
    mark = tmp_path / "peers" / "mac"
    mark.touch()
    os.utime(mark, ((Clock().now() - ago).timestamp(),) * 2)
    assert _told(settings) == expected


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ("nothing", (Health.UNKNOWN, "never-came", WARNING)),
        ("no folder", (Health.UNKNOWN, "peer-unseen", ERROR)),
        ("a file as its folder", (Health.UNKNOWN, "peer-unseen", ERROR)),
        ("link", (Health.UNKNOWN, "peer-unseen", ERROR)),
        ("pipe", (Health.UNKNOWN, "peer-unseen", ERROR)),
        ("folder", (Health.UNKNOWN, "peer-unseen", ERROR)),
    ],
)
def test_what_is_no_mark_is_unknown(
    tmp_path: Path, there: str, expected: tuple[Health, str, str]
) -> None:
    """Its folder is another account's, who may have put anything there."""
    settings = _settings(tmp_path)
    mark = tmp_path / "peers" / "mac"
    if there == "a file as its folder":
        mark.parent.touch()
    elif there != "no folder":
        mark.parent.mkdir()
    if there == "link":
        (tmp_path / "recent").touch()
        mark.symlink_to(tmp_path / "recent")
    elif there == "pipe":
        os.mkfifo(mark)
    elif there == "folder":
        mark.mkdir()
    assert _told(settings) == expected


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"schedule": "0 3 * * *"}, "a watch has no schedule"),
        ({"every": "1h"}, "a watch has no schedule"),
        ({"peer": ".."}, "expected a name"),
        ({"peer": "a/b"}, "expected a name"),
    ],
)
def test_a_watch_that_means_something_else_is_refused(
    tmp_path: Path, changes: dict[str, Any], fault: str
) -> None:
    """The name of a peer becomes that of a file."""
    with pytest.raises(ConfigError) as caught:
        _settings(tmp_path, **changes)
    assert fault in "\n".join(caught.value.faults)


def test_the_verbs_cope_with_a_job_that_never_runs(tmp_path: Path) -> None:
    """It has no next run, and its last good one is when the peer came."""
    settings = _settings(tmp_path)
    (tmp_path / "peers").mkdir()
    (tmp_path / "peers" / "mac").touch()
    assert gymdbd_json("-c", settings.source, "schedule")[1]["jobs"] == {"office": []}
    code, found = gymdbd_json("-c", settings.source, "status")
    assert (code, found["jobs"]["office"]["next_run"]) == (0, None)
    assert gymdbd_json("-c", settings.source, "check")[0] == 0
    assert gymdbd_json("-c", settings.source, "runs")[0] == 0


def test_a_look_is_taken_when_the_watch_turns_late(tmp_path: Path) -> None:
    """No run tells the daemon that the peer has not come in time."""
    settings = _settings(tmp_path)
    (tmp_path / "peers").mkdir()
    mark = tmp_path / "peers" / "mac"
    mark.touch()
    came = Clock().now().replace(microsecond=0) - 25 * _HOUR
    os.utime(mark, (came.timestamp(),) * 2)
    looked = look.look(settings, Clock(UTC))
    assert looked.next == came + 26 * _HOUR + timedelta(seconds=1)
