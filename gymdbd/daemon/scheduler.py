"""The scheduler: starts runs when they are due by means of APScheduler, and proves it is alive.

APScheduler's defaults would drop a run that is two seconds late, miss a jump of the clock and
run an hour twice in autumn. Therefore lateness is unlimited, and every due moment comes from
`schedule.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_MAX_INSTANCES,
    JobExecutionEvent,
    JobSubmissionEvent,
)
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from gymdbd import clock as clocks
from gymdbd import schedule
from gymdbd.log import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from gymdbd.clock import Clock
    from gymdbd.config.kinds import JobConfig
    from gymdbd.schedule import Schedule

_BEAT = "heartbeat"
_BEAT_S = 20
_MANY = 16
_LATE = timedelta(seconds=60)


@dataclass(frozen=True)
class Past:
    """The earlier runs of a job, from the status file."""

    last_success: datetime | None = None
    last_due: datetime | None = None


class _Trigger(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """A schedule as an APScheduler trigger; `due` is the due moment of the current run."""

    def __init__(self, when: Schedule, zone: tzinfo) -> None:
        self.when = when
        self.zone = zone
        self.due: datetime | None = None

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """Return the next due moment after now; moments missed meanwhile count as one."""
        if previous is None:
            return self.when.next_after(now, self.zone)
        self.due = previous
        return self.when.next_after(max(previous, now), self.zone)


class Scheduler:
    """Calls `run(job, due, reason)` in a thread when a job is due.

    `past()` returns the earlier runs of each job; it is called again before each decision.
    `skipped(name, due)` is called for a due moment at which the run before was still at work.
    """

    def __init__(
        self,
        run: Callable[[JobConfig, datetime, str], None],
        clock: Clock,
        past: Callable[[], dict[str, Past]],
        skipped: Callable[[str, datetime], None] = lambda name, due: None,  # noqa: ARG005
    ) -> None:
        """Prepare the scheduler; nothing runs before `start`."""
        self._run = run
        self._clock = clock
        self._past = past
        self._skipped = skipped
        self._jobs: dict[str, JobConfig] = {}
        self._made_up: dict[str, datetime] = {}
        self._beat_at = clock.monotonic()
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(_MANY), _BEAT: ThreadPoolExecutor(1)},
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
            timezone=UTC,
        )
        self._scheduler.add_listener(self._report, EVENT_JOB_ERROR | EVENT_JOB_MAX_INSTANCES)

    def start(self) -> None:
        """Start the scheduler and its heartbeat."""
        self._scheduler.add_job(self._beat, "interval", seconds=_BEAT_S, id=_BEAT, executor=_BEAT)
        self._scheduler.start()

    def stop(self) -> None:
        """Start no more runs; those in progress continue."""
        self._scheduler.shutdown(wait=False)

    def beat_age_s(self) -> float:
        """Return the age of the last heartbeat."""
        return self._clock.monotonic() - self._beat_at

    def set_jobs(self, jobs: dict[str, JobConfig]) -> None:
        """Schedule exactly these jobs, as far as they ever run.

        A job that has missed its due moment runs now.
        """
        jobs = {name: job for name, job in jobs.items() if job.is_scheduled}
        for name in self._jobs.keys() - jobs.keys():
            self._scheduler.remove_job(name)
        known = set(self._jobs)
        past = self._past()
        self._jobs = jobs
        for name, job in jobs.items():
            trigger = _Trigger(job.when, self._clock.zone)
            self._scheduler.add_job(
                self._fire,
                trigger,
                args=[name, trigger],
                id=name,
                replace_existing=True,
                next_run_time=self._first_run(job, past.get(name, Past()), new=name not in known),
            )

    def follow(self, clock: Clock) -> None:
        """Compute every next run again in the time zone of this clock."""
        self._clock = clock
        for name in self._jobs:
            self._scheduler.get_job(name).trigger.zone = clock.zone
        self.replan()

    def replan(self) -> None:
        """Compute every next run again after the clock jumped forwards or backwards.

        A due moment that was jumped over is run at once, in place of all the runs it missed.
        """
        now, past = self._clock.now(), self._past()
        for name, job in self._jobs.items():
            planned = self._scheduler.get_job(name).next_run_time
            if planned is None or planned > now:
                moment = self._first_run(job, past.get(name, Past()), new=True)
                self._scheduler.modify_job(name, next_run_time=moment)
        # The heartbeat is scheduled by the same clock.
        self._scheduler.modify_job(_BEAT, next_run_time=now)
        self._scheduler.wakeup()

    def next_runs(self) -> dict[str, datetime]:
        """Return when each job runs next."""
        found = {name: self._scheduler.get_job(name) for name in self._jobs}
        return {name: job.next_run_time for name, job in found.items() if job}

    def _first_run(self, job: JobConfig, past: Past, *, new: bool) -> datetime:
        now = self._clock.now()
        due = self._missed(job, past) if new else None
        if due is None:
            return schedule.next_run(job.when, now, past.last_due, self._clock.zone)
        self._made_up[job.name] = due
        return now

    def _missed(self, job: JobConfig, past: Past) -> datetime | None:
        return schedule.missed(job.when, past.last_success, self._clock.now(), self._clock.zone)

    def _fire(self, name: str, trigger: _Trigger) -> None:
        job = self._jobs.get(name)
        if job is None:
            return
        now = self._clock.now()
        due, reason = trigger.due or now, "scheduled"
        missed = self._made_up.pop(name, None)
        if missed is None and now - due > _LATE:
            # The clock by which it was planned may have been months behind.
            missed = max(due, self._missed(job, self._past().get(name, Past())) or due)
        if missed is not None:
            due = missed
            moment = clocks.to_minute(due, self._clock.zone)
            reason = f"made up: the run due at {moment} was missed (off, asleep or clock set)"
        self._run(job, due, reason)

    def _beat(self) -> None:
        self._beat_at = self._clock.monotonic()

    def _report(self, event: JobExecutionEvent | JobSubmissionEvent) -> None:
        """Report events that APScheduler would not report."""
        facts: dict[str, Any] = {"job": event.job_id}
        if event.code == EVENT_JOB_MAX_INSTANCES:
            logger().warning("run skipped: the previous one is still running", **facts)
            if event.job_id in self._jobs:
                self._skipped(event.job_id, event.scheduled_run_times[-1])
        else:
            logger().error(
                "run not started", error=str(event.exception), hint="report this bug", **facts
            )
