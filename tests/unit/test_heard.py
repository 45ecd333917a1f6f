"""The runs of another machine's jobs in this one's ledger: each once, and never too many."""

from __future__ import annotations

import dataclasses
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

import pytest

from gymdbd.clock import Clock
from gymdbd.config import config
from gymdbd.jobs.finding import Finding, Health
from gymdbd.notices import heard
from gymdbd.runs import ledger
from gymdbd.runs.entry import Entry, Status
from gymdbd.runs.health import Daemon, Judged
from gymdbd.runs.overview import Overview
from gymdbd.runs.status import StatusFile
from tests.support.command import gymdbd
from tests.support.jobs import write_config

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from gymdbd.config.config import Config

_AT = Clock().now()


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    """Give a configuration with a pull from the other machine."""
    pull = {
        "kind": "pull",
        "every": "1h",
        "host": "pi",
        "remote_database": "/srv/gym.db",
        "replica": str(tmp_path / "replica.db"),
    }
    return config.load(write_config(tmp_path, {"pull": pull}))


def _hear(
    settings: Config, began: datetime, *, is_good: bool = True, names: Sequence[str] = ("nightly",)
) -> list[tuple[str, str, str]]:
    """Look once at what the machine tells of its last run; return the ledger."""
    success = began + timedelta(seconds=9 if is_good else -86400)
    entry = Entry(
        kind="backup",
        last_run=began.isoformat(),
        last_success=success.isoformat(),
        code=None if is_good else "disk-full",
    )
    health = Health.OK if is_good else Health.FAILING
    seen = Overview(
        at=_AT,
        zone=UTC,
        host="mac",
        status=Status(),
        daemon=Daemon(alive=True, started=_AT, status_file="status.json"),
        jobs={},
        peers={f"pi/{name}": Judged(entry, Finding(health)) for name in names},
    )
    heard.write(settings, seen)
    heard.write(settings, dataclasses.replace(seen, peers={}))
    lines = ledger.read(StatusFile(settings.status_file).ledger)
    return [(line.job, line.state, line.code or "") for line in lines]


def test_each_run_is_noted_once_with_how_it_ended(settings: Config) -> None:
    """However often it is told, and although the clocks never differ by quite the same."""
    good, failed = ("pi/nightly", "ok", ""), ("pi/nightly", "failed", "disk-full")
    night = _AT - timedelta(days=1, hours=9)
    assert _hear(settings, night) == [good]
    assert _hear(settings, night + timedelta(seconds=2)) == [good]
    assert _hear(settings, night - timedelta(seconds=2)) == [good]
    assert _hear(settings, night + timedelta(days=1), is_good=False) == [good, failed]
    shown = gymdbd("-c", settings.source, "runs", "pi/nightly").stdout
    assert shown.startswith("pi/nightly (as that machine told, once an hour)")
    assert "2 runs: 1 good, 1 not" in shown


@pytest.mark.parametrize("ago", [timedelta(days=-1), timedelta(days=40)])
def test_a_run_that_cannot_be_of_late_is_not_noted(settings: Config, ago: timedelta) -> None:
    """Such a line would stand before, or after, all others for ever."""
    assert _hear(settings, _AT - ago) == []


def test_a_machine_that_tells_of_a_new_run_at_each_question_does_not_fill_the_ledger(
    settings: Config,
) -> None:
    """A line an hour is all that one job gets."""
    found = [_hear(settings, _AT - timedelta(minutes=ago)) for ago in range(120, 0, -5)]
    assert 1 < len(found[-1]) <= 3


def test_a_machine_that_tells_of_other_jobs_at_each_question_does_not_fill_the_ledger(
    settings: Config,
) -> None:
    """What it has told of once goes on; and the ledger is kept for the jobs of this machine."""
    for day in range(5, 1, -1):
        _hear(settings, _AT - timedelta(days=day), names=[f"{day}-{i}" for i in range(90)])
    found = _hear(settings, _AT - timedelta(days=1), names=["5-0", "new"])
    assert (len(found), found[-1][0]) == (201, "pi/5-0")
