"""A run with a real job: whatever happens, one entry, at most one error event, no exception."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from structlog.testing import LogCapture

from gymdbd import lock
from gymdbd.config import config
from gymdbd.config.parts import Retry
from gymdbd.errors import ConfigError
from gymdbd.runs import ledger
from gymdbd.runs.runner import Run
from gymdbd.runs.status import StatusFile
from tests.support.clocks import HandClock
from tests.support.databases import backups, make_database
from tests.support.jobs import backup_job, write_config
from tests.support.waiting import Contended, times_open, until

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping
    from pathlib import Path

    from gymdbd.config.kinds import BackupConfig
    from gymdbd.runs.outcome import Ended

_DUE = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
_KEYS = {
    "run_id",
    "state",
    "reason",
    "due",
    "started_at",
    "ended_at",
    "duration_s",
    "result",
    "error",
    "hint",
    "code",
    "exit_code",
    "use",
}


@pytest.fixture(autouse=True)
def events() -> Iterator[list[MutableMapping[str, Any]]]:
    """Give the log's events of this test, with what is bound to them."""
    capture = LogCapture()
    # An earlier test of this process may have left a level that drops events.
    structlog.reset_defaults()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, capture])
    yield capture.entries
    structlog.reset_defaults()


def _job(folder: Path, *, mode: str = "wal", **changes: Any) -> BackupConfig:
    """Make a tiny database and return the job that backs it up; it is tried thrice, at once."""
    make_database(folder / "gym.db", rows=3, mode=mode)
    settings: dict[str, Any] = {
        "retry": Retry(attempts=3, delay=timedelta(milliseconds=1)),
        "busy_timeout": timedelta(milliseconds=10),
        **changes,
    }
    return backup_job(folder / "gym.db", folder / "archive", **settings)


def _status(folder: Path) -> StatusFile:
    return StatusFile(folder / "status.json")


def _named(events: list[MutableMapping[str, Any]], name: str) -> list[MutableMapping[str, Any]]:
    return [one for one in events if one["event"] == name]


def _expect_failure(
    folder: Path, events: list[MutableMapping[str, Any]], ended: Ended, code: str
) -> None:
    """See one event at level error, the same in the status file, and nothing half-done."""
    entry = ended.to_json()
    assert entry.keys() == _KEYS
    assert (entry["state"], entry["code"], entry["exit_code"]) == ("failed", code, 1)
    assert (entry["result"], bool(entry["hint"])) == (None, True)
    (error,) = [one for one in events if one["log_level"] == "error"]
    assert {name: error[name] for name in ("error", "hint", "code", "run_id", "job")} == {
        **{name: entry[name] for name in ("error", "hint", "code", "run_id")},
        "job": "backup",
    }
    noted = _status(folder).read().to_json()["jobs"]["backup"]
    assert (noted["state"], noted["error"], noted["code"]) == ("failed", entry["error"], code)
    assert noted["consecutive_failures"] == 1
    assert "running" not in noted
    assert [one.name for one in (folder / "archive").iterdir() if "partial" in one.name] == []
    assert backups(folder / "archive") == []
    assert lock.is_held(lock.archive_lock(folder / "archive")) is False


def test_a_good_run_returns_its_entry_and_writes_it_down(
    tmp_path: Path, events: list[MutableMapping[str, Any]]
) -> None:
    """The backup is there, the status says so, and every event has the job and the run's id."""
    entry = Run(job=_job(tmp_path), reason="by hand", status=_status(tmp_path)).execute()
    assert entry.to_json().keys() == _KEYS
    assert (entry.outcome.state, entry.outcome.exit_code, entry.outcome.error) == ("ok", 0, None)
    assert [str(path) for path in backups(tmp_path / "archive")] == [
        entry.to_json()["result"]["path"]
    ]
    noted = _status(tmp_path).read().to_json()["jobs"]["backup"]
    assert (noted["state"], noted["last_success"]) == ("ok", entry.ended_at)
    assert noted["runs"][0]["run_id"] == entry.run_id
    assert {(one["job"], one["run_id"]) for one in events} == {("backup", entry.run_id)}
    assert [events[0]["event"], events[-1]["event"]] == ["run started", "run finished"]
    assert [one for one in events if one["log_level"] == "error"] == []


def test_a_run_has_a_line_in_the_ledger_with_what_it_cost(on_disk: Path) -> None:
    """How long it took, how large the backup is, its rows, and what the disk had to write."""
    job, status = _job(on_disk), _status(on_disk)
    ended = Run(job=job, reason="made up: asleep", due=_DUE, status=status).execute()
    result = ended.to_json()["result"]

    (line,) = ledger.read(on_disk / "ledger.jsonl")

    assert (line.job, line.state, line.made_up, line.why) == ("backup", "ok", True, None)
    assert (line.first, line.last, line.due) == (ended.started_at, ended.ended_at, ended.due)
    assert (line.longest_s, line.size) == (ended.duration_s, result["size"])
    assert line.rows == result["tables"]
    assert line.written == ended.use.bytes_written
    assert line.written is None or line.written >= result["size"]


def test_a_ledger_that_cannot_be_written_fails_no_run_and_no_status(
    tmp_path: Path, events: list[MutableMapping[str, Any]]
) -> None:
    """A link in its place is not followed: what it leads to stays as it is."""
    other = tmp_path / "other"
    other.write_text("mine\n")
    (tmp_path / "ledger.jsonl").symlink_to(other)

    ended = Run(job=_job(tmp_path), reason="by hand", status=_status(tmp_path)).execute()

    assert (ended.outcome.state, other.read_text()) == ("ok", "mine\n")
    assert _status(tmp_path).read().of("backup").state == "ok"
    (event,) = _named(events, "status not written")
    assert "ledger.jsonl" in event["reason"]


def test_a_run_needs_no_status_file(tmp_path: Path) -> None:
    """A backup without a configuration has none."""
    assert Run(job=_job(tmp_path), reason="by hand").execute().outcome.state == "ok"
    assert list(tmp_path.glob("*status*")) == []


def test_a_status_file_that_cannot_be_written_does_not_fail_the_run(
    tmp_path: Path, events: list[MutableMapping[str, Any]]
) -> None:
    """The backup counts; the trouble is a warning."""
    status = StatusFile(tmp_path / "gone" / "status.json")
    entry = Run(job=_job(tmp_path), reason="by hand", status=status).execute()
    assert (entry.outcome.state, len(backups(tmp_path / "archive"))) == ("ok", 1)
    assert {one["log_level"] for one in _named(events, "status not written")} == {"warning"}


def test_a_run_of_a_schedule_notes_what_it_was_due_for(tmp_path: Path) -> None:
    """The instant has an offset, in the entry and in the status file."""
    job = _job(tmp_path)
    entry = Run(job=job, reason="scheduled", status=_status(tmp_path), due=_DUE).execute()
    assert datetime.fromisoformat(entry.due or "") == _DUE
    noted = _status(tmp_path).read().to_json()["jobs"]["backup"]
    assert datetime.fromisoformat(noted["last_due"]) == _DUE


def test_a_failure_is_one_error_event_and_one_entry(
    tmp_path: Path, events: list[MutableMapping[str, Any]]
) -> None:
    """With its hint and code, and not tried again: a missing database stays missing."""
    job = _job(tmp_path)
    job.database.unlink()
    entry = Run(job=job, reason="scheduled", status=_status(tmp_path), due=_DUE).execute()
    _expect_failure(tmp_path, events, entry, "source-missing")
    assert _named(events, "attempt failed") == []


def test_an_unexpected_exception_becomes_an_entry(
    tmp_path: Path, events: list[MutableMapping[str, Any]]
) -> None:
    """Nothing that a job raises takes the daemon down; the entry names the class."""

    def progress(*_: object) -> None:
        raise ZeroDivisionError("nobody foresaw this")

    job = _job(tmp_path)
    run = Run(job=job, reason="by hand", status=_status(tmp_path), progress=progress)
    entry = run.execute()
    _expect_failure(tmp_path, events, entry, "unexpected")
    assert entry.outcome.error == "unexpected ZeroDivisionError: nobody foresaw this"


def test_a_run_that_outlives_its_timeout_ends(
    tmp_path: Path, events: list[MutableMapping[str, Any]]
) -> None:
    """At the next safe point, leaving nothing."""
    job = _job(tmp_path, timeout=timedelta(microseconds=1))
    entry = Run(job=job, reason="scheduled", status=_status(tmp_path), due=_DUE).execute()
    _expect_failure(tmp_path, events, entry, "deadline")


def test_a_run_that_is_stopped_ends(tmp_path: Path, events: list[MutableMapping[str, Any]]) -> None:
    """At the next safe point, leaving nothing."""
    job = _job(tmp_path)
    run = Run(job=job, reason="by hand", status=_status(tmp_path), stopping=lambda: True)
    _expect_failure(tmp_path, events, run.execute(), "stopped")


def test_a_scheduled_run_tries_again_where_that_can_help(
    tmp_path: Path, events: list[MutableMapping[str, Any]]
) -> None:
    """Each attempt that failed is a warning, only the last one an error."""
    job = _job(tmp_path, mode="delete")
    with closing(sqlite3.connect(job.database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        entry = Run(job=job, reason="scheduled", status=_status(tmp_path), due=_DUE).execute()
    _expect_failure(tmp_path, events, entry, "source-locked")
    tried = _named(events, "attempt failed")
    assert [(one["attempt"], one["log_level"]) for one in tried] == [(1, "warning"), (2, "warning")]
    assert [one["next_in_s"] for one in tried] == [0.001, 0.002]


def test_a_scheduled_run_succeeds_when_a_later_attempt_does(
    tmp_path: Path, events: list[MutableMapping[str, Any]]
) -> None:
    """The lock goes after the first attempt; no error is logged."""
    job = _job(tmp_path, mode="delete")
    with closing(sqlite3.connect(job.database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")

        def stopping() -> bool:
            if _named(events, "attempt failed") and other.in_transaction:
                other.execute("ROLLBACK")
            return False

        entry = Run(job=job, reason="scheduled", due=_DUE, stopping=stopping).execute()
    assert entry.outcome.state == "ok"
    assert len(_named(events, "attempt failed")) == 1
    assert [one for one in events if one["log_level"] == "error"] == []


def test_a_run_by_hand_is_tried_once(
    tmp_path: Path, events: list[MutableMapping[str, Any]]
) -> None:
    """Whoever typed it wants to know at once."""
    job = _job(tmp_path, mode="delete")
    with closing(sqlite3.connect(job.database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        entry = Run(job=job, reason="by hand", status=_status(tmp_path)).execute()
    _expect_failure(tmp_path, events, entry, "source-locked")
    assert _named(events, "attempt failed") == []


@pytest.mark.parametrize("how", ["stopped", "deadline"])
def test_a_stop_and_the_deadline_end_the_wait_for_the_next_attempt(
    tmp_path: Path, events: list[MutableMapping[str, Any]], how: str
) -> None:
    """However long the delay, it keeps neither the daemon from stopping nor the run from ending."""
    retry = Retry(attempts=2, delay=timedelta(seconds=30))
    clock = HandClock()
    job = _job(tmp_path, mode="delete", retry=retry)

    def stopping() -> bool:
        waits = bool(_named(events, "attempt failed"))
        if waits and how == "deadline":
            clock.runs[0] = job.timeout.total_seconds() + 1
        return waits and how == "stopped"

    run = Run(job=job, reason="scheduled", due=_DUE, stopping=stopping, clock=clock)
    begun = time.monotonic()
    with closing(sqlite3.connect(job.database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        entry = run.execute()
    assert (entry.outcome.state, entry.outcome.code) == ("failed", how)
    assert time.monotonic() - begun < 20
    assert len(_named(events, "attempt failed")) == 1


def test_the_delay_before_an_attempt_is_waited_for_and_doubles(
    tmp_path: Path, events: list[MutableMapping[str, Any]]
) -> None:
    """A lock that is held for a minute costs no attempt a second after the other."""
    clock = HandClock()
    retry = Retry(attempts=3, delay=timedelta(seconds=40))
    job = _job(tmp_path, mode="delete", retry=retry)
    tried: list[float] = []

    def stopping() -> bool:
        failed = _named(events, "attempt failed")
        if len(failed) > len(tried):
            tried.append(clock.runs[0])
        elif failed:
            # It looks every fifth of a second of the true time.
            clock.runs[0] += 20
        return False

    run = Run(job=job, reason="scheduled", due=_DUE, stopping=stopping, clock=clock)
    with closing(sqlite3.connect(job.database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        entry = run.execute()
    assert entry.outcome.code == "source-locked"
    assert [one["next_in_s"] for one in _named(events, "attempt failed")] == [40, 80]
    assert tried[1] - tried[0] >= 40
    assert clock.runs[0] - tried[1] >= 80


def test_a_busy_run_has_exit_code_3_and_leaves_the_outcome_alone(
    tmp_path: Path, events: list[MutableMapping[str, Any]]
) -> None:
    """The run at work decides how the job is; this one is in the history only."""
    job = _job(tmp_path)
    assert Run(job=job, reason="by hand", status=_status(tmp_path)).execute().outcome.state == "ok"
    events.clear()
    with lock.hold(job.locks()):
        entry = Run(job=job, reason="by hand", status=_status(tmp_path)).execute()
    assert (entry.outcome.state, entry.outcome.code, entry.outcome.exit_code) == ("busy", "busy", 3)
    noted = _status(tmp_path).read().to_json()["jobs"]["backup"]
    assert (noted["state"], noted["consecutive_failures"]) == ("ok", 0)
    assert [one["state"] for one in noted["runs"]] == ["busy", "ok"]
    assert [one["event"] for one in events if one["log_level"] == "error"] == ["run failed"]
    assert len(backups(tmp_path / "archive")) == 1


def test_a_run_may_wait_for_the_run_before_it(tmp_path: Path) -> None:
    """As long as `lock_wait_s` says."""
    job = _job(tmp_path)
    with Contended(lock.archive_lock(job.archive), lambda: backups(job.archive)) as held:

        def stopping() -> bool:
            held.check()
            return False

        entry = Run(job=job, reason="scheduled", lock_wait_s=60, stopping=stopping).execute()
    assert held.seen == [[]] * 5
    assert entry.outcome.state == "ok"


def test_a_run_that_waits_for_the_run_before_it_can_be_stopped(tmp_path: Path) -> None:
    """It does not wait to its end first."""
    job = _job(tmp_path)
    with lock.hold(job.locks()):
        run = Run(job=job, reason="scheduled", lock_wait_s=60, stopping=lambda: True)
        assert run.execute().outcome.code == "stopped"


def test_the_outcome_is_written_down_before_the_locks_are_free(tmp_path: Path) -> None:
    """Whoever finds a run noted as at work, and its lock free, takes it for killed."""
    job, status = _job(tmp_path), _status(tmp_path)
    archive_lock, status_lock = lock.archive_lock(job.archive), lock.file_lock(status.path)
    with contextlib.ExitStack() as held:
        steps: list[str] = []

        def progress(step: str, done: int, total: int) -> None:
            del done, total
            if not steps:
                held.enter_context(lock.hold([status_lock]))
            steps.append(step)

        run = Run(job=job, reason="by hand", status=status, progress=progress)
        worker = threading.Thread(target=run.execute)
        worker.start()
        try:
            until(lambda: steps and times_open(status_lock) > 1, "it writes the outcome down")
            assert lock.is_held(archive_lock)
            assert "running" in status.read().to_json()["jobs"]["backup"]
        finally:
            held.close()
            worker.join(20)
    assert status.read().to_json()["jobs"]["backup"]["state"] == "ok"
    assert not lock.is_held(archive_lock)


def test_a_run_at_work_is_noted_with_its_process_and_what_it_is_due_for(tmp_path: Path) -> None:
    """From the moment it has its locks: by that a killed one is found."""
    job, status = _job(tmp_path), _status(tmp_path)
    noted: list[dict[str, Any]] = []

    def progress(step: str, done: int, total: int) -> None:
        del step, done, total
        noted.append(status.read().to_json()["jobs"]["backup"])

    run = Run(job=job, reason="scheduled", due=_DUE, status=status, progress=progress)
    entry = run.execute()
    assert {name: noted[0]["running"][name] for name in ("run_id", "started_at", "pid")} == {
        "run_id": run.run_id,
        "started_at": entry.started_at,
        "pid": os.getpid(),
    }
    assert noted[0]["last_due"] == entry.due


def test_every_run_has_an_id_of_its_own(tmp_path: Path) -> None:
    """By which its events are found in the log."""
    job = _job(tmp_path)
    ids = {Run(job=job, reason="by hand").run_id for _ in range(20)}
    assert len(ids) == 20


def test_a_schedule_of_no_attempts_is_refused(tmp_path: Path) -> None:
    """A job that is never tried would fail every night for a reason nobody can read."""
    job = {"every": "1h", "database": "gym.db", "archive": ".", "retry": {"attempts": 0}}
    with pytest.raises(ConfigError) as caught:
        config.load(write_config(tmp_path, {"nightly": job}))
    (fault,) = caught.value.faults
    assert fault.endswith("jobs.nightly.retry: expected attempts above zero: 1 means no retry")
