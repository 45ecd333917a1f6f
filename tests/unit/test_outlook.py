"""How a job is judged by what is there: the parts that need no daemon and no other machine."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gymdbd.archive.catalog import Catalog
from gymdbd.clock import Clock
from gymdbd.config import config
from gymdbd.config.kinds import BackupConfig, DrillConfig, JobConfig, PullConfig, VerifyConfig
from gymdbd.errors import ReadFailedError
from gymdbd.jobs import kinds
from gymdbd.jobs.finding import Finding, Health
from gymdbd.runs.entry import Entry, Running
from gymdbd.runs.health import Daemon, Judged, begin, judge, read
from gymdbd.runs.status import StatusFile
from gymdbd.schedule import Cron
from tests.support.archives import add_backup
from tests.support.databases import make_database
from tests.support.disks import dead, may_mount, mounted
from tests.support.jobs import write_config

_NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
_MANUAL = Daemon(alive=False, started=None, status_file="status.json")


@dataclass(frozen=True)
class _FixedClock(Clock):
    def now(self) -> datetime:
        return _NOW


_CLOCK = _FixedClock(zone=UTC)

_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


def _ago(**span: float) -> datetime:
    return _NOW - timedelta(**span)


def _alive(**since: float) -> Daemon:
    return Daemon(alive=True, started=_ago(**since), status_file="status.json")


def _verify(folder: Path) -> VerifyConfig:
    schedule = Cron("0 3 * * *")
    return VerifyConfig(name="v", kind="verify", archive=folder, schedule=schedule)


def _good(**changes: Any) -> dict[str, Any]:
    moment = _ago(hours=6).isoformat()
    return {"state": "ok", "last_success": moment, "last_run": moment, **changes}


def _judge(
    job: JobConfig, entry: dict[str, Any], daemon: Daemon = _MANUAL, patience_s: float = 15
) -> Finding:
    return _judged(job, entry, daemon, patience_s).found


def _judged(
    job: JobConfig, content: dict[str, Any], daemon: Daemon = _MANUAL, patience_s: float = 15
) -> Judged:
    entry = Entry.from_json(content)
    look = begin(job, entry, StatusFile(Path("/nowhere/status.json")), _CLOCK)
    return judge(job, entry, look, daemon, _CLOCK, patience_s)


def _health(job: JobConfig, entry: dict[str, Any], daemon: Daemon) -> tuple[Health, str]:
    found = _judge(job, entry, daemon)
    assert (bool(found.reason), bool(found.code)) == (found.health != Health.OK,) * 2
    return found.health, found.reason


@pytest.mark.parametrize(
    ("entry", "since_min", "expected", "told"),
    [
        ({"next_run": _ago(hours=-18).isoformat()}, 600, Health.OK, ""),
        ({"next_run": _ago(minutes=10).isoformat()}, 600, Health.OK, ""),
        (
            {"next_run": _ago(minutes=20).isoformat()},
            600,
            Health.LATE,
            "is not known to have started",
        ),
        ({"next_run": _ago(minutes=20).isoformat(), "running": {}}, 600, Health.OK, ""),
        ({"next_run": _ago(minutes=20).isoformat()}, 10, Health.OK, ""),
        ({}, 600, Health.LATE, "the daemon has not scheduled it"),
        ({}, 10, Health.OK, ""),
    ],
)
def test_a_daemon_that_lives_has_to_begin_the_runs_that_it_planned(
    tmp_path: Path, entry: dict[str, Any], since_min: int, expected: Health, told: str
) -> None:
    """A run may wait for a lock, and a daemon that has just started may still be planning."""
    health, reason = _health(_verify(tmp_path), _good(**entry), _alive(minutes=since_min))
    assert (health, told in reason) == (expected, True)


@pytest.mark.parametrize(
    ("alive", "entry", "expected"),
    [
        (False, _good(), Health.LATE),
        (False, _good(last_success=_ago(days=3).isoformat()), Health.FAILING),
        (False, {"state": "failed", "error": "it broke"}, Health.FAILING),
        (False, {}, Health.LATE),
        (None, _good(), Health.UNKNOWN),
        (None, {"state": "failed", "error": "it broke"}, Health.FAILING),
    ],
)
def test_a_daemon_that_is_not_there_starts_nothing(
    tmp_path: Path,
    alive: bool | None,
    entry: dict[str, Any],
    expected: Health,
) -> None:
    """What the last run said stays, if it is worse; what nobody may look at is not known."""
    daemon = Daemon(alive=alive, started=_ago(days=1), status_file="status.json")
    assert _health(_verify(tmp_path), entry, daemon)[0] == expected
    assert _health(_verify(tmp_path), _good(), _MANUAL) == (Health.OK, "")


def test_the_failure_of_the_last_run_is_told_before_what_else_is_wrong(tmp_path: Path) -> None:
    """With its own hint."""
    entry = {"state": "failed", "error": "it broke", "hint": "mend it"}
    found = _judge(_verify(tmp_path / "gone"), entry)
    assert found == Finding(Health.FAILING, "it broke", "mend it", "failed")


@_ROOT
def test_a_folder_that_does_not_answer_is_unknown_and_holds_nobody_up(tmp_path: Path) -> None:
    """It lies on a dead mount."""
    with dead(tmp_path) as place:
        found = _judge(_verify(place), _good(), patience_s=0.1)
    assert (found.health, found.reason) == (
        Health.UNKNOWN,
        "its folders have not answered for 0.1 s",
    )


@_ROOT
def test_a_lock_that_does_not_answer_is_unknown_and_holds_nobody_up(tmp_path: Path) -> None:
    """Whether a run is still at work is looked at on the same dead mount."""
    running = {"run_id": "1", "started_at": _ago(hours=1).isoformat(), "pid": os.getpid()}
    entry = _good(running=running)
    with dead(tmp_path) as place:
        job = replace(_backup(tmp_path), archive=place)
        judged = _judged(job, entry, patience_s=0.1)
    found = judged.found
    assert (found.health, found.reason) == (
        Health.UNKNOWN,
        "its folders have not answered for 0.1 s",
    )
    assert judged.entry.running == Running.from_json(running)


@_ROOT
def test_a_status_file_that_does_not_answer_is_told(tmp_path: Path) -> None:
    """It may lie on the dead mount as well."""
    job = {"database": "gym.db", "archive": ".", "every": "1h"}
    place = tmp_path / "dead" / "status.json"
    settings = config.load(write_config(tmp_path, {"nightly": job}, status_file=str(place)))
    with (
        dead(tmp_path),
        pytest.raises(ReadFailedError, match=r"status\.json has not answered for 0\.1 s"),
    ):
        read(settings, 0.1)


@_ROOT
def test_dead_disks_of_several_jobs_are_waited_for_at_the_same_time(tmp_path: Path) -> None:
    """The patience is that of the whole answer."""
    file = StatusFile(tmp_path / "status.json")
    began = time.monotonic()
    good = Entry.from_json(_good())
    with dead(tmp_path) as place:
        looks = [begin(_verify(place), good, file, _CLOCK) for _ in range(10)]
        for look in looks:
            judged = judge(_verify(place), good, look, _MANUAL, _CLOCK, 0.5)
            assert judged.found.health == Health.UNKNOWN
    assert time.monotonic() - began < 10 * 0.5


def _backup(folder: Path) -> BackupConfig:
    return BackupConfig(
        name="b",
        kind="backup",
        database=make_database(folder / "gym.db"),
        archive=folder,
        schedule=Cron("0 3 * * *"),
    )


def _pull(folder: Path, **changes: Any) -> PullConfig:
    return PullConfig(
        name="p",
        kind="pull",
        schedule=Cron("0 3 * * *"),
        host="pi",
        remote_database="/x.db",
        replica=folder / "replica.db",
        **changes,
    )


def test_a_replica_that_is_gone_is_failing_and_one_never_fetched_is_unknown(
    tmp_path: Path,
) -> None:
    """Its last pull was good all the same."""
    job = _pull(tmp_path)
    assert _health(job, {}, _MANUAL)[0] == Health.UNKNOWN
    health, reason = _health(job, _good(), _MANUAL)
    assert (health, reason) == (Health.FAILING, f"the replica {job.replica} no longer exists")
    make_database(job.replica)
    assert _health(job, _good(), _MANUAL)[0] == Health.OK


@pytest.mark.skipif(not may_mount(), reason="file systems cannot be mounted here")
def test_a_replica_without_room_for_another_is_late(tmp_path: Path) -> None:
    """None is needed as long as nothing changes over there."""
    with mounted(tmp_path, "tmpfs", size="1m") as disk:
        job = _pull(disk)
        make_database(job.replica, rows=1000)
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        (disk / "filler").write_bytes(bytes(free - job.replica.stat().st_size // 2))
        health, reason = _health(job, _good(), _MANUAL)
        assert (health, str(disk) in reason) == (Health.LATE, True)


@pytest.mark.skipif(not may_mount(), reason="file systems cannot be mounted here")
def test_a_check_tells_that_a_drill_has_no_room_for_what_it_would_restore(tmp_path: Path) -> None:
    """On the disk of its scratch folder, which need not be that of the archive."""
    add_backup(tmp_path / "gym_backup_20261123_030000.db")
    with mounted(tmp_path, "tmpfs", size="64k") as disk:
        job = DrillConfig(name="d", kind="drill", archive=tmp_path, scratch_folder=disk)
        assert [check.state for check in kinds.outlook(job).examine(job, _CLOCK)] == ["ok"]
        (disk / "filler").write_bytes(bytes(56 * 1024))
        (found,) = kinds.outlook(job).examine(job, _CLOCK)
        assert (found.state, str(disk) in found.message) == ("error", True)


def test_a_folder_that_a_job_needs_and_that_is_gone_is_failing(tmp_path: Path) -> None:
    """That of an archive, of the replica, and of the archive of a pull."""
    gone = tmp_path / "gone"
    make_database(tmp_path / "replica.db")
    for job in (_verify(gone), _pull(gone), _pull(tmp_path, archive=gone)):
        assert _health(job, _good(), _MANUAL) == (Health.FAILING, f"there is no folder {gone}")


def test_a_replica_that_waits_for_an_answer_is_failing_whatever_the_file_says(
    tmp_path: Path,
) -> None:
    """The archive of the pull tells of it."""
    make_database(tmp_path / "replica.db")
    job = _pull(tmp_path, archive=tmp_path)
    assert _health(job, _good(), _MANUAL)[0] == Health.OK
    Catalog(tmp_path, UTC).await_answer(job.origin, "the replica is suspicious", _NOW)
    found = _judge(job, _good())
    assert (found.health, "the replica is suspicious" in found.reason) == (Health.FAILING, True)
    assert "gymdbd accept p" in found.hint
