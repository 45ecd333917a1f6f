"""What a pull keeps of the other machine's answer, and when it asks again."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.clock import Clock
from gymdbd.config.kinds import PullConfig
from gymdbd.jobs.pull import told
from tests.support.jobs import context

if TYPE_CHECKING:
    from pathlib import Path


def _job(folder: Path, host: str = "pi") -> PullConfig:
    replica = folder / "replica.db"
    return PullConfig(
        name="pull", kind="pull", host=host, remote_database="/gym.db", replica=replica
    )


def _keep(job: PullConfig, *, age: timedelta = timedelta(), **changes: Any) -> None:
    """Keep an answer to a question of so long ago."""
    asked_at = (Clock().now() - age).isoformat()
    answer = told.Told(host=job.host, asked_at=asked_at, text="{}")
    told.path(job).write_text(json.dumps({**dataclasses.asdict(answer), **changes}))


@pytest.mark.parametrize(
    ("age", "text", "is_due"),
    [
        (timedelta(minutes=59), "{}", False),
        (timedelta(minutes=61), "{}", True),
        (timedelta(minutes=-5), "{}", True),
        (timedelta(days=9), "", False),
    ],
    ids=["asked lately", "long ago", "before the clock was set back", "never answered"],
)
def test_a_pull_that_finds_nothing_new_asks_seldom(
    tmp_path: Path, age: timedelta, text: str, *, is_due: bool
) -> None:
    """Once an hour, and never a machine that has not answered yet."""
    job = _job(tmp_path)
    _keep(job, age=age, text=text)
    assert told.Question(job, context()).is_due == is_due


def test_an_answer_is_read_as_it_was_kept(tmp_path: Path) -> None:
    """And before there was a question, there is none."""
    job = _job(tmp_path)
    assert told.read(job) is None
    _keep(job, their_now=3.5, refused="missing")
    kept = told.read(job)
    assert kept is not None
    assert (kept.host, kept.text, kept.their_now, kept.refused) == ("pi", "{}", 3.5, "missing")


@pytest.mark.parametrize(
    "change",
    [
        {"host": "another"},
        {"asked_at": "noon", "told_at": "2026-11-28T12:00:00+00:00"},
        {"told_at": "noon"},
        {"text": 3},
        {"padding": " " * 64 * 1024},
    ],
    ids=["another host", "no time", "no time of the answer", "no text", "large"],
)
def test_a_kept_answer_that_is_none_is_asked_for_anew(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    """The job has another host now, or somebody has written the file."""
    job = _job(tmp_path)
    _keep(job, **change)
    assert told.read(job) is None
