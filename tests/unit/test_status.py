"""The status file under two writers, damaged, and what it says about a job's health."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from gymdbd import lock
from gymdbd.config.kinds import BackupConfig, VerifyConfig
from gymdbd.config.parts import Newest
from gymdbd.errors import BusyError, FormatError
from gymdbd.jobs.finding import Health
from gymdbd.runs import ledger
from gymdbd.runs.entry import Entry, Running, Status, instant
from gymdbd.runs.outcome import Ended, Outcome
from gymdbd.runs.status import StatusFile, trouble_logged
from gymdbd.runs.verdict import health, max_age, worst
from gymdbd.schedule import Cron, Interval
from gymdbd.source.errors import GymdbdError
from tests.support.command import environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from gymdbd.config.kinds import JobConfig

_NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
_EMPTY: dict[str, Any] = {"schema": 1, "daemon": None, "jobs": {}}


def _job(**changes: Any) -> BackupConfig:
    when = {} if "every" in changes else {"schedule": Cron("0 3 * * *")}
    settings: dict[str, Any] = {"name": "nightly", "kind": "backup", **when, **changes}
    return BackupConfig(database=Path("gym.db"), archive=Path("archive"), **settings)


def _run(number: int, **changes: Any) -> Ended:
    """Return a run that went well."""
    facts = {
        "run_id": f"{number:08x}",
        "state": "ok",
        "reason": "scheduled",
        "due": None,
        "started_at": (_NOW + timedelta(minutes=number)).isoformat(),
        "ended_at": (_NOW + timedelta(minutes=number, seconds=9)).isoformat(),
        "duration_s": 9.0,
        "result": {"path": f"{number}.db"},
        "error": None,
        "hint": None,
        "code": None,
        "exit_code": 0,
    }
    return Ended.from_json({**facts, **changes})


def _failed(number: int, state: str = "failed", **changes: Any) -> Ended:
    failure = {"result": None, "error": "it broke", "hint": "mend it", "code": "x", **changes}
    return _run(number, state=state, **failure)


def _entry(file: StatusFile) -> dict[str, Any]:
    return file.read().jobs["nightly"].to_json()


@pytest.fixture
def file(tmp_path: Path) -> StatusFile:
    """Give a status file that nobody has written yet."""
    return StatusFile(tmp_path / "status.json")


def test_a_missing_status_file_is_an_empty_status(file: StatusFile) -> None:
    """Before the first run there is nothing to say; reading creates nothing."""
    assert file.read().to_json() == _EMPTY
    assert list(file.path.parent.iterdir()) == []


def test_what_is_written_is_read_again_with_any_text(file: StatusFile) -> None:
    """Hangul stands as it is, and bytes that are no text survive as lone surrogates."""
    file.update(lambda found: found.but("nightly", Entry(error="회원 \udcff")))
    assert _entry(file) == {"error": "회원 \udcff"}
    assert "회원".encode() in file.path.read_bytes()
    assert file.path.stat().st_mode & 0o777 == 0o600


def _at_work(file: StatusFile, job: JobConfig, pid: int) -> Entry:
    """Note a run, and return its entry as somebody reads it now."""
    file.run_started(job, Running(run_id="1", started_at="then", pid=pid), None)
    return file.read().jobs[job.name]


def test_a_run_without_locks_is_at_work_as_long_as_its_process_is(file: StatusFile) -> None:
    """A verification takes none; one that an older release noted is left alone."""
    job = VerifyConfig(name="verify", kind="verify", archive=file.path.parent)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        entry = _at_work(file, job, process.pid)
        assert not file.was_killed(job, entry)
    assert file.was_killed(job, entry)
    for other in ({}, {"running": {"run_id": "1"}}, {"running": {"pid": "7"}}):
        assert not file.was_killed(job, Entry.from_json(other))


def test_a_run_that_ends_while_somebody_looks_was_not_killed(
    file: StatusFile, tmp_path: Path
) -> None:
    """Its entry was read before, its lock is looked at afterwards."""
    job = dataclasses.replace(_job(), archive=tmp_path)
    with lock.hold(job.locks()):
        entry = _at_work(file, job, 1)
        assert not file.was_killed(job, entry)
    assert file.was_killed(job, entry)
    file.run_ended(job, _run(1, run_id="1"))
    assert not file.was_killed(job, entry)


def test_two_processes_that_update_at_once_lose_nothing(file: StatusFile) -> None:
    """Each adds forty runs of its own; all eighty are there, and every look saw a whole file."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from gymdbd.runs.entry import Entry\n"
        "from gymdbd.runs.status import StatusFile\n"
        "file = StatusFile(Path(sys.argv[1]))\n"
        "sys.stdin.readline()\n"
        "for number in range(40):\n"
        "    key = f'{sys.argv[2]}{number}'\n"
        "    file.update(lambda found: found.but(key, Entry(kind=str(number))))\n"
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(file.path), letter],
            env=environment(),
            stdin=subprocess.PIPE,
            text=True,
        )
        for letter in "ab"
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.close()
    counts = [0]
    while any(writer.poll() is None for writer in writers):
        counts.append(len(file.read().jobs))
    assert [writer.wait() for writer in writers] == [0, 0]
    assert counts == sorted(counts)
    expected = {
        f"{letter}{number}": Entry(kind=str(number)) for letter in "ab" for number in range(40)
    }
    assert file.read().jobs == expected


def test_an_update_holds_the_lock_of_the_file(file: StatusFile) -> None:
    """So that nobody else can read the old content before the new one is there."""
    seen: list[bool] = []
    path = lock.file_lock(file.path)

    def look(found: Status) -> Status:
        seen.append(lock.is_held(path))
        return found

    file.update(look)
    assert (seen, lock.is_held(path)) == ([True], False)


def test_an_update_that_fails_leaves_the_file_as_it_was(file: StatusFile) -> None:
    """No half of a change is written, no partial stays."""
    file.update(lambda found: found.but("nightly", Entry(state="ok")))
    before = file.path.read_bytes()

    def change(found: Status) -> Status:
        del found
        raise BusyError("not now")

    with pytest.raises(BusyError):
        file.update(change)
    assert file.path.read_bytes() == before
    names = {one.name for one in file.path.parent.iterdir()}
    assert names == {"status.json", ".status.json.lock", ".status.json.reserve"}


_DAMAGED = [
    "",
    "{",
    "[]",
    "null",
    '{"schema": 1}',
    '{"schema": 2, "jobs": {}}',
    '{"schema": 1, "jobs": []}',
    '{"schema": 1, "jobs": {"nightly": 3}}',
    '{"schema": 1, "jobs": {"nightly": {"runs": 3}}}',
    '{"schema": 1, "jobs": {"nightly": {"running": "yes"}}}',
    '{"schema": 1, "jobs": {"nightly": {"consecutive_failures": "many"}}}',
    "[" * 100_000,
]


@pytest.mark.parametrize("text", _DAMAGED, ids=range(len(_DAMAGED)))
def test_a_damaged_status_file_is_reported_by_reading_and_replaced_by_a_run(
    file: StatusFile, text: str
) -> None:
    """Whoever asks is told; the next run goes on without it."""
    file.path.write_text(text)
    with pytest.raises(FormatError, match="is damaged") as caught:
        file.read()
    assert "remove it" in caught.value.hint
    file.run_ended(_job(), _run(1))
    assert _entry(file)["state"] == "ok"


def _large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(4 * 1024**4)


@pytest.mark.parametrize(
    "spoil",
    [
        _large,
        os.mkfifo,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.write_text('{"schema": 1, "jobs": {}, "x": %s}' % ("9" * 5000)),
    ],
    ids=["terabytes", "pipe", "device", "number"],
)
def test_what_is_no_status_file_is_neither_waited_for_nor_read_whole(
    file: StatusFile, spoil: Callable[[Path], object]
) -> None:
    """It is damaged like any other, and the next run goes on without it."""
    spoil(file.path)
    with pytest.raises(FormatError, match="is damaged"):
        file.read()
    file.run_ended(_job(), _run(1))
    assert _entry(file)["state"] == "ok"


@pytest.mark.parametrize("took", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 400, '"x"'])
def test_a_duration_that_is_no_number_of_seconds_is_not_passed_on(
    file: StatusFile, took: str
) -> None:
    """`--json` would no longer be JSON, and a text with it fails."""
    run = json.dumps({**_run(1).to_json(), "duration_s": "TOOK"}).replace('"TOOK"', took)
    file.path.write_text(
        f'{{"schema": 1, "jobs": {{"nightly": {{"duration_s": {took}, "runs": [{run}]}}}}}}'
    )
    found = file.read().of("nightly")
    assert [found.duration_s, found.runs[0].duration_s] == [None, 0.0]


def test_a_status_file_that_cannot_be_read_is_reported(file: StatusFile) -> None:
    """The hint is about the user, not about damage, and no run replaces what is there."""
    file.path.mkdir()
    (file.path / "kept").touch()
    for use in (file.read, lambda: file.run_ended(_job(), _run(1))):
        with pytest.raises(GymdbdError, match=r"status file .* cannot be read") as caught:
            use()
        assert caught.value.hint.startswith("find out who put it there")
    assert (file.path / "kept").exists()


def test_trouble_with_the_status_does_not_stop_the_work(tmp_path: Path) -> None:
    """A folder that cannot be there costs the entry and a warning, not the run."""
    (tmp_path / "gone").touch()
    file = StatusFile(tmp_path / "gone" / "status.json")
    with pytest.raises(GymdbdError) as caught:
        file.run_ended(_job(), _run(1))
    with capture_logs() as events, trouble_logged():
        file.run_ended(_job(), _run(1))
    assert events == [
        {
            "event": "status not written",
            "log_level": "warning",
            "reason": caught.value.message,
            "remedy": caught.value.hint,
        }
    ]


def test_a_good_run_is_noted_with_its_result(file: StatusFile) -> None:
    """The entry says what the last run and the last success were."""
    file.run_started(_job(), Running(run_id="00000001", started_at="x"), "2026-11-23T03:00:00Z")
    assert _entry(file)["running"] == {"run_id": "00000001", "started_at": "x"}
    file.run_ended(_job(), _run(1))
    entry = _entry(file)
    assert entry["last_due"] == "2026-11-23T03:00:00Z"
    assert entry["last_success"] == _run(1).ended_at
    assert (entry["kind"], entry["result"], "running" in entry) == (
        "backup",
        {"path": "1.db"},
        False,
    )


def test_failures_are_counted_and_keep_the_last_success(file: StatusFile) -> None:
    """Two failures after a success are two; a success starts from nought."""
    file.run_ended(_job(), _run(1))
    for number in (2, 3):
        file.run_ended(_job(), _failed(number))
    entry = _entry(file)
    assert (entry["consecutive_failures"], entry["error"], entry["hint"]) == (
        2,
        "it broke",
        "mend it",
    )
    assert entry["last_success"] == _run(1).ended_at
    assert entry["result"] == {"path": "1.db"}
    file.run_ended(_job(), _run(4, state="unchanged"))
    assert (_entry(file)["consecutive_failures"], _entry(file)["error"]) == (0, None)


def test_a_busy_run_leaves_the_outcome_alone(file: StatusFile) -> None:
    """It is in the history; the run that is at work decides how the job is."""
    file.run_ended(_job(), _run(1))
    file.run_started(_job(), Running(run_id="00000002"), None)
    before = {name: one for name, one in _entry(file).items() if name != "runs"}
    file.run_ended(_job(), _failed(3, "busy"))
    after = _entry(file)
    assert [one["state"] for one in after.pop("runs")] == ["busy", "ok"]
    assert after == before


def test_an_accepted_run_is_the_last_success_with_its_own_result(file: StatusFile) -> None:
    """Also where a run that found the archive busy came after it; a later failure stays one."""
    suspicious = _failed(2, "suspicious", result={"path": "2.db"})
    file.run_ended(_job(), _run(1))
    file.run_ended(_job(), suspicious)
    assert _entry(file)["last_success"] == _run(1).ended_at
    file.run_ended(_job(), _failed(3, "busy"))
    file.accepted(_job())
    entry = _entry(file)
    assert (entry["state"], entry["error"], entry["consecutive_failures"]) == ("ok", None, 0)
    assert (entry["last_success"], entry["result"]) == (_run(2).ended_at, {"path": "2.db"})
    file.run_ended(_job(), suspicious)
    file.run_ended(_job(), _failed(4))
    before = _entry(file)
    file.accepted(_job())
    assert _entry(file) == before


def test_a_rejected_run_is_well_and_no_success(file: StatusFile) -> None:
    """The last success is the one before it."""
    suspicious = _failed(2, "suspicious", result={"path": "2.db", "waiting": "2.db"})
    file.run_ended(_job(), _run(1))
    file.run_ended(_job(), suspicious)
    file.rejected(_job())
    entry = _entry(file)
    assert (entry["state"], entry["error"], entry["consecutive_failures"]) == ("ok", None, 0)
    assert (entry["last_success"], entry["result"]["waiting"]) == (_run(1).ended_at, None)


def test_what_waits_for_an_answer_is_failing_whatever_comes_after_it(file: StatusFile) -> None:
    """Neither a peer that cannot be reached nor a good run hides it; an answer ends it."""
    waiting = {"waiting": "2.db"}
    reason = "2.db waits for accept or reject; pruning is stopped"
    file.run_ended(_job(), _failed(2, "suspicious", result=waiting))
    for run in (_failed(3, "unreachable"), _run(4, result=waiting)):
        file.run_ended(_job(), run)
        found = health(_job(), file.read().jobs["nightly"], _NOW, UTC)
        assert (found.health, found.reason, found.code) == (Health.FAILING, reason, "suspicious")
    file.accepted(_job(), "1.db")
    assert "1.db waits" in health(_job(), file.read().jobs["nightly"], _NOW, UTC).reason
    file.accepted(_job())
    assert health(_job(), file.read().jobs["nightly"], _NOW, UTC).reason == ""


def test_the_end_of_one_run_does_not_end_another(file: StatusFile) -> None:
    """Only the run that is noted as running takes the note away."""
    file.run_started(_job(), Running(run_id="00000002"), None)
    file.run_ended(_job(), _run(1))
    assert _entry(file)["running"] == {"run_id": "00000002"}


def test_the_history_is_bounded_and_newest_first(file: StatusFile) -> None:
    """Twenty runs are kept, without their results."""
    for number in range(25):
        file.run_ended(_job(), _run(number))
    runs = _entry(file)["runs"]
    assert [one["run_id"] for one in runs] == [f"{n:08x}" for n in range(24, 4, -1)]
    assert {"result" in one for one in runs} == {False}


def test_the_daemon_and_its_plans_are_noted_beside_the_outcomes(file: StatusFile) -> None:
    """Neither touches what a run has left."""
    file.run_ended(_job(), _run(1))
    plan = {"nightly": "2026-11-24T03:00:00+00:00", "pull": "2026-11-24T04:00:00+00:00"}
    file.planned("2026-11-23T09:00:00+00:00", plan)
    content = file.read().to_json()
    assert content["daemon"]["started_at"] == "2026-11-23T09:00:00+00:00"
    assert _entry(file)["next_run"] == "2026-11-24T03:00:00+00:00"
    assert _entry(file)["state"] == "ok"
    assert content["jobs"]["pull"] == {"next_run": plan["pull"]}
    json.dumps(content)


@pytest.mark.parametrize(
    ("state", "age_h", "expected"),
    [
        (None, None, Health.UNKNOWN),
        ("ok", 25, Health.OK),
        ("unchanged", 25, Health.OK),
        ("ok", 27, Health.LATE),
        ("unchanged", 27, Health.LATE),
        ("ok", -1, Health.UNKNOWN),
        ("failed", 1, Health.FAILING),
        ("failed", 27, Health.FAILING),
        ("failed", None, Health.FAILING),
        ("suspicious", 1, Health.FAILING),
        ("unreachable", 25, Health.LATE),
        ("unreachable", 27, Health.FAILING),
        ("unreachable", None, Health.FAILING),
        ("ok", None, Health.LATE),
    ],
)
def test_the_health_of_a_job(state: str | None, age_h: int | None, expected: Health) -> None:
    """By the state of its last run and the age of its success; what is bad has words and a code."""
    entry: dict[str, Any] = {"state": state, "error": "it broke"} if state else {}
    if age_h is not None:
        entry["last_success"] = (_NOW - timedelta(hours=age_h)).isoformat()
    found = health(_job(max_age=timedelta(hours=26)), Entry.from_json(entry), _NOW, UTC)
    assert found.health == expected
    assert (bool(found.reason), bool(found.code)) == (expected != Health.OK,) * 2


def test_who_is_told_that_a_backup_is_too_old_learns_what_to_do() -> None:
    """The limit is told as it was written: 26h, and not "1 day, 2:00:00"."""
    entry = Entry.from_json({"state": "ok", "last_success": (_NOW - timedelta(days=2)).isoformat()})
    job = _job(max_age=timedelta(hours=26))
    found = health(job, entry, _NOW, UTC)
    assert found.reason == "its last success is older than 26h"
    assert found.hint == f"gymdbd runs {job.name} shows why; the job can be run by hand"


@pytest.mark.parametrize("value", ["yesterday", 3, "2026-11-23T03:00:00", "0001-01-01T00:00+09:00"])
def test_a_last_success_that_is_no_instant_is_none(value: object) -> None:
    """A file edited by hand does not break the answer."""
    assert instant(value) is None
    entry = Entry.from_json({"state": "ok", "last_success": value})
    assert health(_job(), entry, _NOW, UTC).health == Health.LATE


@pytest.mark.parametrize(
    ("age_h", "expected"),
    [(0, Health.OK), (10, Health.OK), (10.1, Health.LATE), (15, Health.LATE), (40, Health.LATE)],
)
def test_a_newest_row_that_is_older_than_its_limit_is_late(age_h: float, expected: Health) -> None:
    """By a minute, and whatever the age of the backup: the application may have stopped."""
    job = _job(newest=Newest(table="t", column="at", max_age=timedelta(hours=10)))
    at = (_NOW - timedelta(hours=age_h)).isoformat()
    entry = {"state": "ok", "last_success": _NOW.isoformat(), "result": {"newest": {"at": at}}}
    found = health(job, Entry.from_json(entry), _NOW, UTC)
    assert (found.health, bool(found.reason)) == (expected, expected != Health.OK)


def test_the_numbers_of_health_are_exit_codes_of_monitoring_plugins() -> None:
    """0 ok, 1 late, 2 failing, 3 unknown."""
    assert [int(one) for one in Health] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("healths", "expected"),
    [
        ([], Health.OK),
        ([Health.OK, Health.OK], Health.OK),
        ([Health.OK, Health.UNKNOWN], Health.UNKNOWN),
        ([Health.UNKNOWN, Health.LATE], Health.LATE),
        ([Health.LATE, Health.FAILING, Health.UNKNOWN, Health.OK], Health.FAILING),
    ],
)
def test_the_worst_of_all_jobs_decides(healths: list[Health], expected: Health) -> None:
    """What certainly fails comes before what is only unknown."""
    assert worst(healths) == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, timedelta(hours=26)),
        ({"every": Interval(timedelta(minutes=15))}, timedelta(minutes=25)),
        ({"schedule": Cron("0 9 * * 1-5")}, timedelta(days=3) * 13 / 12),
        ({"max_age": timedelta(hours=30)}, timedelta(hours=30)),
    ],
)
def test_the_greatest_age_follows_the_schedule(
    settings: dict[str, Any], expected: timedelta
) -> None:
    """The longest usual gap and a twelfth, at least ten minutes; what is configured holds."""
    assert max_age(_job(**settings), _NOW, UTC) == expected


def test_a_run_is_in_the_ledger_although_the_status_cannot_be_written(
    file: StatusFile, tmp_path: Path
) -> None:
    """One of them is better than none; both are written by one process at a time."""
    moment = "2026-11-28T03:00:00+00:00"
    ended = Ended(
        run_id="1",
        reason="scheduled",
        due=moment,
        started_at=moment,
        ended_at=moment,
        duration_s=1.0,
        outcome=Outcome(),
    )
    job = BackupConfig(name="nightly", kind="backup", database=tmp_path / "d", archive=tmp_path)
    file.path.mkdir()
    with pytest.raises((GymdbdError, OSError)):
        file.run_ended(job, ended)
    (line,) = ledger.read(file.ledger)
    assert (line.job, line.first) == ("nightly", moment)
    waiting = StatusFile(file.path, lock_wait_s=0.1)
    with lock.hold([lock.file_lock(file.path)]), pytest.raises(BusyError):
        waiting.skipped([line])
    assert len(ledger.read(file.ledger)) == 1
