"""The scheduler: what is missed counts once, and a jump of the clock plans everything anew."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
import structlog

from gymdbd.clock import Clock
from gymdbd.config.kinds import BackupConfig
from gymdbd.daemon.scheduler import Past, Scheduler, _Trigger
from gymdbd.schedule import Cron, Interval
from tests.support.clocks import NIGHT, HandClock
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gymdbd.config.kinds import JobConfig

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@dataclass
class Runs:
    """Remembers every run that was started; a run takes until `go` is set."""

    clock: Clock
    started: list[tuple[str, datetime, str]] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)

    def __call__(self, job: JobConfig, due: datetime, reason: str) -> None:
        """Take note of a run."""
        self.started.append((job.name, due, reason))
        assert self.go.wait(20)


def a_job(folder: Path, name: str = "nightly", **when: Any) -> BackupConfig:
    """Return a job at three in the morning, or at `when`."""
    return BackupConfig(
        name=name,
        kind="backup",
        database=folder / "gym.db",
        archive=folder,
        **(when or {"schedule": Cron("0 3 * * *")}),
    )


@contextlib.contextmanager
def started(clock: Clock, past: dict[str, Past] | None = None) -> Iterator[tuple[Scheduler, Runs]]:
    """Run a scheduler whose jobs end at once, and stop it; `past` is theirs, by name."""
    runs = Runs(clock)
    runs.go.set()
    scheduler = Scheduler(runs, clock, lambda: past or {})
    scheduler.start()
    try:
        yield scheduler, runs
    finally:
        runs.go.set()
        scheduler.stop()


@contextlib.contextmanager
def held(scheduler: Scheduler) -> Iterator[None]:
    """Start no run in the block: by the machine's clock one that is planned may be due at once."""
    clockwork = scheduler._scheduler  # noqa: SLF001 - it reads no clock but the machine's
    clockwork.pause()
    yield
    clockwork.resume()


@pytest.fixture
def clock() -> HandClock:
    """Return a clock at noon far ahead, so that APScheduler's own clock makes nothing due."""
    # APScheduler reads the machine's clock; what is planned for the far future stays planned.
    return HandClock(zone=UTC, shows=[datetime(2090, 1, 10, 12, tzinfo=UTC)])


def test_many_missed_moments_are_one_run_for_the_first() -> None:
    """A trigger asked days later gives the next moment after now, due for the one it fired for."""
    trigger = _Trigger(Cron("0 3 * * *"), UTC)
    first = trigger.get_next_fire_time(None, NIGHT - HOUR)
    assert first == NIGHT

    late = trigger.get_next_fire_time(first, NIGHT + 5 * DAY + HOUR)

    assert late == NIGHT + 6 * DAY
    assert trigger.due == NIGHT


def test_a_trigger_asked_by_a_clock_that_went_back_does_not_repeat_itself() -> None:
    """After a run for three o'clock, with the clock behind it, the next is the day after."""
    trigger = _Trigger(Cron("0 3 * * *"), UTC)
    assert trigger.get_next_fire_time(NIGHT, NIGHT - HOUR) == NIGHT + DAY


def test_a_job_is_planned_for_its_next_moment(clock: HandClock, tmp_path: Path) -> None:
    """A job without a past runs when it is next due, and not before."""
    with started(clock) as (scheduler, runs):
        scheduler.set_jobs({"nightly": a_job(tmp_path)})
        assert scheduler.next_runs() == {"nightly": datetime(2090, 1, 11, 3, tzinfo=UTC)}
        assert runs.started == []


def test_a_zone_that_is_set_plans_every_run_by_the_new_one(
    clock: HandClock, tmp_path: Path
) -> None:
    """At once, and at every run from then on."""
    with started(clock) as (scheduler, _):
        scheduler.set_jobs({"nightly": a_job(tmp_path)})
        seoul = dataclasses.replace(clock, zone=ZoneInfo("Asia/Seoul"))
        scheduler.follow(seoul)
        first = datetime(2090, 1, 10, 18, tzinfo=UTC)
        assert scheduler.next_runs() == {"nightly": first}
        trigger = scheduler._scheduler.get_job("nightly").trigger  # noqa: SLF001 - no run until 2090
        assert trigger.get_next_fire_time(first, first) == first + DAY


def test_what_was_had_is_not_planned_again(clock: HandClock, tmp_path: Path) -> None:
    """With the clock set back an hour over a run that succeeded, the next is the day after."""
    clock.set(datetime(2090, 1, 10, 2, 30, tzinfo=UTC))
    past = Past(
        last_success=datetime(2090, 1, 10, 3, 1, tzinfo=UTC),
        last_due=datetime(2090, 1, 10, 3, tzinfo=UTC),
    )
    with started(clock, {"nightly": past}) as (scheduler, _):
        scheduler.set_jobs({"nightly": a_job(tmp_path)})
        assert scheduler.next_runs() == {"nightly": datetime(2090, 1, 11, 3, tzinfo=UTC)}


def test_a_job_that_missed_its_moment_runs_at_once_and_once_and_says_why(tmp_path: Path) -> None:
    """After days off one run is made up, for the first moment missed, then the plan goes on."""
    clock = Clock(zone=UTC)
    missed = Cron("0 3 * * *").next_after(clock.now() - 3 * DAY, UTC)
    past = {"nightly": Past(last_success=missed - HOUR, last_due=missed - DAY)}
    with started(clock, past) as (scheduler, runs):
        scheduler.set_jobs({"nightly": a_job(tmp_path)})
        until(lambda: runs.started, "the run made up")
        until(lambda: scheduler.next_runs()["nightly"] > Clock().now(), "the plan for later")

    ((name, due, reason),) = runs.started
    assert (name, due) == ("nightly", missed)
    assert reason == (
        f"made up: the run due at {due.isoformat(' ', 'minutes')} was missed "
        "(off, asleep or clock set)"
    )


def test_jobs_that_are_gone_are_not_run_and_known_ones_are_not_made_up_again(
    clock: HandClock, tmp_path: Path
) -> None:
    """A reload schedules exactly the jobs given; a job it knew keeps its next moment."""
    past: dict[str, Past] = {}
    with started(clock, past) as (scheduler, runs):
        scheduler.set_jobs({name: a_job(tmp_path, name) for name in ("a", "b")})
        past["b"] = Past(last_success=clock.now() - 5 * DAY)
        scheduler.set_jobs({"b": a_job(tmp_path, "b")})
        assert scheduler.next_runs() == {"b": datetime(2090, 1, 11, 3, tzinfo=UTC)}
        assert runs.started == []


def test_a_jump_back_plans_the_runs_of_the_days_that_come_again(
    clock: HandClock, tmp_path: Path
) -> None:
    """A clock that was months ahead has planned for then: set right, tonight's run comes back."""
    job = a_job(tmp_path)
    with started(clock) as (scheduler, _):
        scheduler.set_jobs({"nightly": job})
        clock.set(clock.now() - 90 * DAY)
        scheduler.replan()
        assert scheduler.next_runs() == {
            "nightly": job.when.next_after(clock.now(), UTC),
        }
        assert scheduler.next_runs()["nightly"] - clock.now() < DAY


def test_a_jump_forward_leaves_the_moment_that_was_jumped_over_due(
    clock: HandClock, tmp_path: Path
) -> None:
    """What is planned and now lies behind is due: planning anew does not push it to tomorrow."""
    with started(clock) as (scheduler, _):
        scheduler.set_jobs({"nightly": a_job(tmp_path)})
        planned = scheduler.next_runs()
        clock.set(clock.now() + 5 * DAY)
        scheduler.replan()
        assert scheduler.next_runs() == planned


def test_a_jump_over_a_moment_is_made_up_once_by_the_running_scheduler(tmp_path: Path) -> None:
    """A job planned by a clock that was behind runs once when the clock is set right."""
    clock = HandClock(zone=UTC, shows=[Clock().now() - 5 * DAY])
    first = Cron("0 3 * * *").next_after(clock.now(), UTC)
    with started(clock) as (scheduler, runs):
        with held(scheduler):
            scheduler.set_jobs({"nightly": a_job(tmp_path)})
            clock.set(Clock().now())
        scheduler.replan()
        until(lambda: runs.started, "the run that was jumped over")
        until(lambda: scheduler.next_runs()["nightly"] > Clock().now(), "the plan for later")

    ((_, due, reason),) = runs.started
    assert due == first
    assert reason.startswith("made up: the run due at ")


def test_what_a_clock_planned_that_was_months_behind_is_told_as_what_was_missed(
    tmp_path: Path,
) -> None:
    """The run made up is for the first moment since the last success, not for one of that clock."""
    now = Clock().now()
    missed = Cron("0 3 * * *").next_after(now - 2 * DAY, UTC)
    clock = HandClock(zone=UTC, shows=[now - 90 * DAY])
    past = {"nightly": Past(last_success=missed - HOUR, last_due=missed - DAY)}
    with started(clock, past) as (scheduler, runs):
        with held(scheduler):
            scheduler.set_jobs({"nightly": a_job(tmp_path)})
            clock.set(now)
        scheduler.replan()
        until(lambda: runs.started, "the run that was jumped over")

    ((_, due, reason),) = runs.started
    assert due == missed
    assert f" due at {missed.isoformat(' ', 'minutes')} " in reason


def test_a_due_job_runs_again_and_again(tmp_path: Path) -> None:
    """With the machine's own clock a job for every second runs every second, as scheduled."""
    clock = Clock(zone=UTC)
    with started(clock) as (scheduler, runs):
        second = a_job(tmp_path, "second", every=Interval(timedelta(seconds=1)))
        scheduler.set_jobs({"second": second})
        until(lambda: len(runs.started) >= 3, "three runs")

    (_, first, reason), (_, then, _), (_, third, _) = runs.started[:3]
    assert [then - first, third - then] == [timedelta(seconds=1)] * 2
    assert first.microsecond == 0
    assert reason == "scheduled"


def test_a_run_that_is_still_at_work_is_not_joined_by_the_next(tmp_path: Path) -> None:
    """While a run takes its time the next is skipped, and a warning says so."""
    events: list[tuple[str, str]] = []

    def keep(_: Any, level: str, event: structlog.typing.EventDict) -> str:
        events.append((level, str(event["event"])))
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    try:
        with started(Clock(zone=UTC)) as (scheduler, runs):
            runs.go.clear()
            second = a_job(tmp_path, "second", every=Interval(timedelta(seconds=1)))
            scheduler.set_jobs({"second": second})
            skipped = ("warning", "run skipped: the previous one is still running")
            until(lambda: skipped in events, "a run skipped")
            assert len(runs.started) == 1
    finally:
        structlog.reset_defaults()


def test_the_heartbeat_shows_that_the_scheduler_is_alive(clock: HandClock, tmp_path: Path) -> None:
    """The age of the last beat grows while nothing beats, and planning anew makes it beat."""
    with started(clock) as (scheduler, _):
        scheduler.set_jobs({"nightly": a_job(tmp_path)})
        clock.runs[0] = 500.0
        assert scheduler.beat_age_s() == 500.0
        clock.set(Clock().now())
        scheduler.replan()
        # Unplanned, the next one comes 20 s after the start.
        until(lambda: scheduler.beat_age_s() == 0.0, "a beat", within_s=10)


def test_stopping_does_not_wait_for_the_run_at_work(tmp_path: Path) -> None:
    """`stop` returns at once; the run goes on and no other starts."""
    runs = Runs(Clock(zone=UTC))
    scheduler = Scheduler(runs, Clock(zone=UTC), dict)
    scheduler.start()
    scheduler.set_jobs({"second": a_job(tmp_path, "second", every=Interval(timedelta(seconds=1)))})
    until(lambda: runs.started, "a run")
    begun = time.monotonic()
    scheduler.stop()
    assert time.monotonic() - begun < 1
    assert len(runs.started) == 1
    runs.go.set()
