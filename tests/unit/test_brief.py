"""`gymdbd status --brief`: one line, which is true as far as it goes, and is there at once."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd import lock
from gymdbd.config import config
from gymdbd.errors import ReadFailedError
from gymdbd.jobs.finding import Health
from gymdbd.runs import brief
from gymdbd.runs.public import PublicJob, PublicStatus
from gymdbd.runs.status import StatusFile
from tests.support.clocks import HandClock
from tests.support.disks import dead
from tests.support.jobs import write_config

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.config.config import Config

_NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")


def _ago(**time: float) -> str:
    return (_NOW - timedelta(**time)).isoformat()


def _entry(state: str = "ok", **facts: Any) -> dict[str, Any]:
    known = {"last_run": _ago(minutes=5), "last_success": _ago(minutes=5)}
    return {"kind": "backup", "state": state, **known, **facts}


def _settings(folder: Path, jobs: dict[str, Any], daemon: dict[str, Any] | None = None) -> Config:
    """Return a configuration with a status file that says this of its jobs."""
    content = {"schema": 1, "daemon": daemon, "jobs": {k: v for k, v in jobs.items() if v}}
    (folder / "status.json").write_text(json.dumps(content))
    job = {"every": "1h", "database": "gone/gym.db", "archive": "gone"}
    return config.load(write_config(folder, dict.fromkeys(jobs, job)))


def _take(settings: Config) -> tuple[Health, str]:
    return brief.take(settings, HandClock(zone=UTC, shows=[_NOW]))


def _publish(folder: Path, now: datetime, **healths: str) -> None:
    """Write what a look has found of each job."""
    jobs = [PublicJob(job=k, kind="backup", health=v, code="no-room") for k, v in healths.items()]
    look = PublicStatus(machine="pi", now=now, jobs=jobs)
    (folder / "status.public.json").write_bytes(look.to_json())


def test_if_all_is_well_the_line_says_since_when(tmp_path: Path) -> None:
    """The archive is not there; only a look at the disk would find that out."""
    settings = _settings(
        tmp_path, {"hourly": _entry(), "other": _entry(last_success=_ago(hours=1))}
    )
    assert _take(settings) == (Health.OK, "gymdbd: ok, 2 jobs, last success 5 min ago")


def test_what_is_well_is_counted_by_the_jobs_of_the_configuration(tmp_path: Path) -> None:
    """The machine, of which a look has told, is no job; nor is a job that was removed."""
    content = {"hourly": _entry(), "removed": _entry(last_success=_ago(seconds=9))}
    settings = _settings(tmp_path, content)
    del settings.jobs["removed"]
    _publish(tmp_path, _NOW - timedelta(minutes=1), hourly="ok", machine="ok")
    assert _take(settings) == (Health.OK, "gymdbd: ok, 1 job, last success 5 min ago")


def test_what_is_not_well_is_named_with_its_code_the_worst_first(tmp_path: Path) -> None:
    """No text of an error, which may be long."""
    settings = _settings(
        tmp_path,
        {
            "new": None,
            "old": _entry(last_success=_ago(hours=7)),
            "full": _entry("failed", error="there is no room", code="disk-full"),
            "good": _entry(),
        },
    )
    line = "failing: full (disk-full); late: old (too-old); unknown: new (not-run-yet)"
    assert _take(settings) == (Health.FAILING, f"gymdbd: {line}; see gymdbd status")


def test_a_line_stays_short_however_many_jobs_fail(tmp_path: Path) -> None:
    """Five names, and how many more there are."""
    bad = _entry("failed", code="x")
    _, line = _take(_settings(tmp_path, {f"job-{number}": bad for number in range(40)}))
    assert line.endswith("job-4 (x), 35 more; see gymdbd status")
    assert line.count("job-") == 5


def test_a_daemon_that_is_down_is_told(tmp_path: Path) -> None:
    """No run will happen; with one that runs all is well."""
    note = {"pid": 1, "started_at": _ago(minutes=10)}
    settings = _settings(tmp_path, {"hourly": _entry(next_run=_ago(minutes=-50))}, note)
    assert _take(settings)[0] == Health.LATE
    with lock.hold([StatusFile(settings.status_file).daemon_lock]):
        assert _take(settings)[0] == Health.OK


def test_what_the_last_look_at_the_disks_has_found_counts(tmp_path: Path) -> None:
    """Of the jobs, and of the machine."""
    settings = _settings(tmp_path, {"hourly": _entry()})
    _publish(tmp_path, _NOW - timedelta(minutes=1), hourly="failing", machine="late")
    line = "gymdbd: failing: hourly (no-room); late: machine (no-room); see gymdbd status"
    assert _take(settings) == (Health.FAILING, line)


@pytest.mark.parametrize("why", ["old", "before the run", "before the daemon", "of others", "none"])
def test_a_look_that_says_nothing_about_now_does_not_count(tmp_path: Path, why: str) -> None:
    """It is too old, a run has come since, or it is about the jobs of another configuration."""
    note = {"pid": 1, "started_at": _ago(minutes=2)} if why == "before the daemon" else None
    entry = _entry(last_run=_ago(hours=2), last_success=_ago(minutes=1), next_run=_ago(minutes=-9))
    if why == "before the run":
        entry["last_run"] = _ago(minutes=1)
    settings = _settings(tmp_path, {"hourly": entry}, note)
    before = _NOW - timedelta(minutes=61 if why == "old" else 3)
    others = {"pull": "failing"} if why == "of others" else {}
    _publish(tmp_path, before, hourly="failing", **others)
    if why == "none":
        (tmp_path / "status.public.json").write_text("[")
    with lock.hold([StatusFile(settings.status_file).daemon_lock]):
        assert _take(settings)[0] == Health.OK


@_ROOT
def test_a_status_file_on_a_dead_mount_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Who waits for a prompt is told so."""
    job = {"every": "1h", "database": "gym.db", "archive": "."}
    path = write_config(tmp_path, {"hourly": job}, status_file="dead/status.json")
    with dead(tmp_path), pytest.raises(ReadFailedError, match=r"has not answered for 0\.3 s"):
        _take(config.load(path))


@_ROOT
def test_an_archive_on_a_dead_mount_is_not_opened(tmp_path: Path) -> None:
    """A look at it would wait."""
    settings = _settings(tmp_path, {"hourly": _entry()})
    with dead(tmp_path) as place:
        (tmp_path / "gone").symlink_to(place)
        assert _take(settings)[0] == Health.OK
