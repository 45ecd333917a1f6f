"""Due moments without a run: which they are, and why, by the three clocks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd import lock
from gymdbd.config.kinds import BackupConfig, WatchConfig
from gymdbd.daemon import lookout
from gymdbd.daemon.absence import Absence
from gymdbd.notices import store
from gymdbd.notices.memory import Memory
from gymdbd.runs import ledger
from gymdbd.runs.entry import DaemonNote, Entry, Running, Status
from gymdbd.runs.line import ASLEEP, CLOCK_SET, NO_DAEMON, OFF, STOPPED
from gymdbd.runs.outcome import BUSY, Ended, Outcome
from gymdbd.runs.status import StatusFile
from gymdbd.schedule import Cron, Interval
from tests.support.clocks import NIGHT, HandClock

if TYPE_CHECKING:
    from gymdbd.config.kinds import JobConfig

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True)
class _Clock(HandClock):
    """A clock of a machine that was started at the beginning, unless `off` says otherwise."""

    zone: Any = UTC
    off: list[float] = field(default_factory=lambda: [1e9])

    def since_boot(self) -> float:
        """Return the seconds since the machine was started."""
        return self.off[0]

    def passes(self, real: timedelta, *, awake: timedelta, set_by: timedelta = timedelta()) -> None:
        """Let time pass, some of it awake, and set the clock."""
        self.set(self.now() + real + set_by)
        self.runs[0] += awake.total_seconds()
        self.off[0] += real.total_seconds()


def _job(name: str = "nightly", **when: Any) -> BackupConfig:
    when = when or {"schedule": Cron("0 3 * * *")}
    return BackupConfig(name=name, kind="backup", database=Path("d"), archive=Path("a"), **when)


def _status(folder: Path, began: datetime | None = None, **entry: Any) -> StatusFile:
    """Return the status file of a daemon that began at a moment and knew the job."""
    file = StatusFile(folder / "status.json")
    note = DaemonNote(started_at=began.isoformat()) if began else None
    known = Entry(kind="backup", next_run=NIGHT.isoformat(), **entry)
    file.update(lambda _: Status(note, {"nightly": known} if entry or began else {}))
    return file


def _skipped(file: StatusFile) -> list[tuple[str, str | None, str, int]]:
    return [(line.job, line.why, line.first, line.count) for line in ledger.read(file.ledger)]


def _jumps(file: StatusFile, clock: _Clock, job: JobConfig, **passes: Any) -> None:
    absence = Absence(file, clock)
    clock.passes(**passes)
    absence.check([job], clock)
    absence.record()


def test_a_night_in_which_the_machine_slept_was_slept_through(tmp_path: Path) -> None:
    """The clock that counts from the start has moved, and the monotonic one has not."""
    file, clock = _status(tmp_path), _Clock(shows=[NIGHT - 3 * _HOUR])

    _jumps(file, clock, _job(), real=8 * _HOUR, awake=timedelta(seconds=2))

    assert _skipped(file) == [("nightly", ASLEEP, NIGHT.isoformat(), 1)]


def test_a_moment_over_which_the_clock_was_set_is_no_night_asleep(tmp_path: Path) -> None:
    """Neither the monotonic clock nor the one that counts from the start knows of it."""
    file, clock = _status(tmp_path), _Clock(shows=[NIGHT - 3 * _HOUR])

    _jumps(file, clock, _job(), real=5 * _HOUR / 3600, awake=5 * _HOUR / 3600, set_by=8 * _HOUR)

    assert _skipped(file) == [("nightly", CLOCK_SET, NIGHT.isoformat(), 1)]


def test_a_machine_without_a_clock_was_off_until_it_was_started(tmp_path: Path) -> None:
    """It starts with the time of its end, and the network tells it the right one later."""
    file, clock = _status(tmp_path), _Clock(shows=[NIGHT - 3 * _HOUR], off=[0.0])
    a_moment = timedelta(seconds=10)

    _jumps(file, clock, _job(), real=a_moment, awake=a_moment, set_by=2 * _DAY)

    days = [(NIGHT + number * _DAY).isoformat() for number in range(2)]
    assert _skipped(file) == [("nightly", OFF, day, 1) for day in days]


def test_a_machine_that_starts_in_1970_was_off_since_its_last_run(tmp_path: Path) -> None:
    """Not since 1970: the status file knows the last due moment."""
    file = _status(tmp_path, datetime(1970, 1, 1, tzinfo=UTC), last_due=NIGHT.isoformat())
    clock = _Clock(shows=[datetime(1970, 1, 1, tzinfo=UTC)], off=[0.0])
    absence = Absence(file, clock)
    absence.start([_job()], UTC)

    clock.passes(_HOUR / 60, awake=_HOUR / 60)
    clock.set(NIGHT + _DAY + _HOUR)
    absence.check([_job()], clock)
    absence.record()

    assert _skipped(file) == [("nightly", OFF, (NIGHT + _DAY).isoformat(), 1)]


def test_a_clock_that_is_set_back_has_skipped_nothing(tmp_path: Path) -> None:
    """Its due moments come again."""
    file, clock = _status(tmp_path), _Clock(shows=[NIGHT + _HOUR])

    _jumps(file, clock, _job(), real=_HOUR / 60, awake=_HOUR / 60, set_by=-3 * _DAY)

    assert _skipped(file) == []


def test_what_no_daemon_did_is_told_from_what_no_machine_did(tmp_path: Path) -> None:
    """The machine was started between two due moments, the daemon after the second."""
    file = _status(tmp_path, NIGHT - _DAY, last_due=NIGHT.isoformat())
    clock = _Clock(shows=[NIGHT + 2 * _DAY + _HOUR], off=[(_DAY / 2).total_seconds()])
    absence = Absence(file, clock)

    absence.start([_job()], UTC)
    absence.record()

    assert _skipped(file) == [
        ("nightly", OFF, (NIGHT + _DAY).isoformat(), 1),
        ("nightly", NO_DAEMON, (NIGHT + 2 * _DAY).isoformat(), 1),
    ]


def test_a_daemon_that_is_started_again_finds_nothing_twice(tmp_path: Path) -> None:
    """Not even if the run that was made up is due for an earlier moment than the others."""
    due = (NIGHT + _DAY).isoformat()
    file = _status(tmp_path, NIGHT - _DAY, last_due=NIGHT.isoformat())
    clock = _Clock(shows=[NIGHT + 3 * _DAY + _HOUR])
    for _ in range(2):
        absence = Absence(file, clock)
        absence.start([_job()], UTC)
        absence.record()
        began = clock.now().isoformat()
        file.planned(began, {"nightly": began})
        file.run_started(_job(), Running(run_id="1", started_at=began), due)

    assert [count for *_, count in _skipped(file)] == [1, 1, 1]


def test_a_new_job_and_one_that_never_runs_have_skipped_nothing(tmp_path: Path) -> None:
    """The daemon before did not know the one; the other is a watch."""
    file = _status(tmp_path, NIGHT - 9 * _DAY)
    jobs = [_job("new"), WatchConfig(name="nightly", kind="watch", peer="mac", max_age=_DAY)]
    absence = Absence(file, _Clock())

    file.planned((NIGHT - 9 * _DAY - _HOUR).isoformat(), {"known": NIGHT.isoformat()})
    known, clock = _job("known"), _Clock(shows=[NIGHT - _HOUR])
    absence = Absence(file, clock)
    absence.start([*jobs, known], UTC)
    clock.passes(2 * _DAY, awake=_HOUR)
    absence.check([*jobs[1:], known], clock)
    absence.record()

    assert [name for name, *_ in _skipped(file)] == ["known"] * (9 + 2)


@pytest.mark.parametrize(
    ("due_h", "started_h", "state", "skipped_h"),
    [(24, 24, BUSY, [48]), (24, 48.5, "ok", []), (None, 36, "ok", [24, 48])],
)
def test_what_a_run_has_accounted_for_is_not_told_again(
    tmp_path: Path, due_h: float | None, started_h: float, state: str, skipped_h: list[float]
) -> None:
    """One that was busy is in the ledger; one that was made up told of all before; no other did."""
    started_at = (NIGHT + started_h * _HOUR).isoformat()
    run = Ended(
        run_id="1",
        reason="scheduled",
        due=None if due_h is None else (NIGHT + due_h * _HOUR).isoformat(),
        started_at=started_at,
        ended_at=started_at,
        duration_s=0.0,
        outcome=Outcome(state=state),
    )
    file = _status(tmp_path, NIGHT - _DAY, last_due=NIGHT.isoformat(), runs=(run,))
    absence = Absence(file, _Clock(shows=[NIGHT + 49 * _HOUR]))
    absence.start([_job()], UTC)
    absence.record()

    assert [first for _, _, first, _ in _skipped(file)] == [
        (NIGHT + hour * _HOUR).isoformat() for hour in skipped_h
    ]


@pytest.mark.parametrize(("success", "count"), [(NIGHT - 50 * _HOUR, 2), (None, 0)])
def test_the_first_daemon_tells_what_was_missed_since_the_last_success(
    tmp_path: Path, success: datetime | None, count: int
) -> None:
    """Of a job that was run by hand; one that never succeeded has missed nothing."""
    file = StatusFile(tmp_path / "status.json")
    last = success.isoformat() if success else None
    entry = Entry(kind="backup", state="ok", last_run=last or NIGHT.isoformat(), last_success=last)
    file.update(lambda _: Status(None, {"nightly": entry}))
    absence = Absence(file, _Clock(shows=[NIGHT - _HOUR]))
    absence.start([_job()], UTC)
    absence.record()

    assert len(_skipped(file)) == count


@pytest.mark.parametrize(("set_by_s", "whys"), [(4, []), (-4, []), (7, [CLOCK_SET])])
def test_a_clock_that_is_set_by_a_few_seconds_has_skipped_nothing(
    tmp_path: Path, set_by_s: float, whys: list[str]
) -> None:
    """As it is by the network all the time: the scheduler still runs what is due."""
    second = _HOUR / 3600
    file, clock = _status(tmp_path), _Clock(shows=[NIGHT - 2 * second])

    _jumps(file, clock, _job(), real=second, awake=second, set_by=set_by_s * second)

    assert [why for _, why, *_ in _skipped(file)] == whys


@pytest.mark.parametrize(("on_min", "why"), [(-2, OFF), (4, OFF), (6, NO_DAEMON)])
def test_a_machine_that_starts_was_off_until_its_daemon_could_start(
    tmp_path: Path, on_min: float, why: str
) -> None:
    """What was due within the first minutes no daemon could have done; later one could."""
    minute = _HOUR / 60
    file = _status(tmp_path, NIGHT - _DAY, last_due=(NIGHT - _DAY).isoformat())
    since_boot = (on_min + 4) * minute
    clock = _Clock(shows=[NIGHT + 4 * minute], off=[since_boot.total_seconds()])
    absence = Absence(file, clock)
    absence.start([_job()], UTC)
    absence.record()

    assert [found for _, found, *_ in _skipped(file)] == [why]


def test_a_moment_at_midnight_is_counted_once(tmp_path: Path) -> None:
    """It is the end of one day and the beginning of the next; and nobody looks back for years."""
    file = _status(tmp_path, NIGHT - 1000 * _DAY, last_due=(NIGHT - 1000 * _DAY).isoformat())
    absence = Absence(file, _Clock())
    absence.start([_job(schedule=Cron("0 0 * * *"))], UTC)
    absence.record()

    midnight = NIGHT.replace(hour=0)
    expected = [(midnight - number * _DAY).isoformat() for number in reversed(range(100))]
    assert [first for _, _, first, _ in _skipped(file)] == expected


def test_a_run_that_was_still_at_work_is_noted_once(tmp_path: Path) -> None:
    """In the zone of the machine, as all times are; the next turn has nothing to write."""
    file, zone = _status(tmp_path), timezone(9 * _HOUR)
    absence = Absence(file, _Clock())
    absence.busy("nightly", NIGHT, zone)
    for _ in range(2):
        absence.record()

    assert _skipped(file) == [("nightly", BUSY, NIGHT.astimezone(zone).isoformat(), 1)]


def test_a_frequent_job_has_one_line_a_day_for_all_that_it_skipped(tmp_path: Path) -> None:
    """Each of its due moments is counted once, in the local day."""
    file = _status(tmp_path, NIGHT, last_due=(NIGHT + _HOUR).isoformat())
    clock = _Clock(shows=[NIGHT + 30 * _DAY])
    absence = Absence(file, clock)

    absence.start([_job(every=Interval(timedelta(seconds=5)))], UTC)
    absence.record()

    counts = [count for *_, count in _skipped(file)]
    assert counts == [20 * 720, *[24 * 720] * 29, 3 * 720]


def test_a_run_that_the_power_ended_has_a_line(tmp_path: Path) -> None:
    """It is the one that a daemon which starts finds recorded as at work, without its locks."""
    began = (NIGHT + _HOUR / 60).isoformat()
    running = Running(run_id="1", started_at=began, pid=1)
    file = _status(tmp_path, NIGHT - _DAY, last_due=NIGHT.isoformat(), running=running)
    job = dataclasses.replace(_job(), database=tmp_path / "d", archive=tmp_path)
    found = []
    clocks = [(NIGHT + 2 * _HOUR, 10 * _HOUR), (NIGHT + 2 * _HOUR, _HOUR)]
    # Without a clock of its own, it starts with the time of an hour before, or in 1970.
    clocks += [(NIGHT - _HOUR, _HOUR), (datetime(1970, 1, 1, tzinfo=UTC), _HOUR)]
    for now, off in clocks:
        absence = Absence(file, _Clock(shows=[now], off=[off.total_seconds()]))
        absence.start([job], UTC)
        absence.record()
        found.append(ledger.read(file.ledger)[-1])
    absence = Absence(file, _Clock(shows=[NIGHT + 2 * _HOUR]))
    with lock.hold(job.locks()):
        absence.start([job], UTC)
        absence.record()

    assert [(line.state, line.why, line.first) for line in found] == [
        ("failed", STOPPED, began),
        *[("failed", OFF, began)] * 3,
    ]
    assert len(ledger.read(file.ledger)) == 4


def test_a_daemon_was_last_alive_when_it_last_looked_started_or_ended_a_run_of_its_own(
    tmp_path: Path,
) -> None:
    """A run by hand is no sign of it; before the first look nobody knows of an absence."""

    def ended(hours: float, due: str | None) -> Ended:
        at = (NIGHT + hours * _HOUR).isoformat()
        return Ended(
            run_id="1",
            reason="",
            due=due,
            started_at=at,
            ended_at=at,
            duration_s=0.0,
            outcome=Outcome(),
        )

    signs = []
    for runs in ((), (ended(2, NIGHT.isoformat()),), (ended(3, None), ended(2, NIGHT.isoformat()))):
        file = _status(tmp_path, NIGHT + _HOUR, runs=runs)
        for alive in (None, NIGHT, NIGHT + 5 * _HOUR):
            store.write(file.path, Memory(alive=alive))
            sign = lookout.last_sign(file)
            signs.append(sign and (sign - NIGHT) / _HOUR)

    assert signs == [None, 1, 5, None, 2, 5, None, 2, 5]
