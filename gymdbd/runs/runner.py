"""One run of a job: locks, deadline, retries, log and status."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from gymdbd import clock, disk, files, lock
from gymdbd.clock import Clock
from gymdbd.errors import DeadlineError, StoppedError, unexpected
from gymdbd.jobs import kinds
from gymdbd.jobs.context import Context
from gymdbd.log import bound, logger
from gymdbd.machine.use import Meter
from gymdbd.runs.awake import kept_awake
from gymdbd.runs.entry import Running
from gymdbd.runs.outcome import Ended, failure, success
from gymdbd.runs.status import StatusFile, trouble_logged
from gymdbd.source.errors import GymdbdError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from gymdbd.config.kinds import JobConfig
    from gymdbd.jobs.result import Result
    from gymdbd.runs.outcome import Outcome

_POLL_S = 0.2


def new_id() -> str:
    """Return an id that identifies a run in the log and the status file."""
    return secrets.token_hex(4)


@dataclass(kw_only=True)
class Run:
    """One run: its job, the reason for it, and how it is stopped.

    `due` is its scheduled moment, None for a run by hand, which is not retried because a person
    waits for the result. `lock_wait_s` is how long it may wait for another run on the same files.
    `status` is None if there is no configuration that names a status file.
    """

    job: JobConfig
    reason: str
    status: StatusFile | None = None
    due: datetime | None = None
    lock_wait_s: float = 0.0
    clock: Clock = field(default_factory=Clock)
    progress: Callable[[str, int, int], None] = lambda step, done, total: None  # noqa: ARG005
    tell: Callable[[str], None] = lambda line: None  # noqa: ARG005
    stopping: Callable[[], bool] = lambda: False
    run_id: str = field(default_factory=new_id)

    def __post_init__(self) -> None:
        """Start the clock of the deadline."""
        self._started = self.clock.monotonic()
        self._deadline = self._started + self.job.timeout.total_seconds()

    def execute(self) -> Ended:
        """Execute the run and record how it ended; raises no Exception.

        Every failure is logged as one event at level error.
        """
        started_at = self.now()
        with (
            bound(job=self.job.name, run_id=self.run_id),
            # Held until the outcome is recorded: a run that is recorded as running but holds no
            # lock was killed.
            contextlib.ExitStack() as held,
        ):
            meter = Meter(self.job)
            ended = self.ended(started_at, self._outcome(started_at, held))
            ended = replace(ended, use=meter.read(is_good=ended.outcome.is_good))
            record(self.job, ended, self.status)
        return ended

    def ended(self, started_at: str, outcome: Outcome) -> Ended:
        """Return this run as one that has ended now."""
        return Ended(
            run_id=self.run_id,
            reason=self.reason,
            due=self.due_text(),
            started_at=started_at,
            ended_at=self.now(),
            duration_s=round(self.clock.monotonic() - self._started, 3),
            outcome=outcome,
        )

    def check(self) -> None:
        """Raise StoppedError or DeadlineError if the run has to end now."""
        if self.stopping():
            raise stopped(self.job)
        if self.clock.monotonic() > self._deadline:
            raise DeadlineError(
                f"{self.job.name} took longer than its timeout of {self.job.timeout}",
                hint="raise timeout: in the configuration, or find out what slows down the disk",
            )

    def _outcome(self, started_at: str, held: contextlib.ExitStack) -> Outcome:
        """Take the locks and do the work; return how that ended."""
        try:
            for folder in self.job.folders():
                files.require_folder(folder)
            locks = lock.hold(self.job.locks(), wait_s=self.lock_wait_s, check=self.check)
            held.enter_context(locks)
            if self.status is not None:
                running = Running(run_id=self.run_id, started_at=started_at, pid=os.getpid())
                with trouble_logged():
                    self.status.run_started(self.job, running, self.due_text())
            held.enter_context(kept_awake())
            logger().info("run started", reason=self.reason)
            result = self._try_until_good()
        except GymdbdError as error:
            return failure(error)
        except OSError as error:
            logger().debug("refused by the operating system", exc_info=True)
            return failure(disk.system_error(error))
        except Exception as error:  # noqa: BLE001 - a job must never take the daemon down
            logger().debug("unexpected error", exc_info=True)
            return failure(unexpected(error))
        return success(result)

    def _try_until_good(self) -> Result:
        """Do the work, and retry it if the error is transient."""
        work = kinds.work(self.job)
        delay_s = self.job.retry.delay.total_seconds()
        attempts = self.job.retry.attempts if self.due else 1
        for attempt in range(1, attempts + 1):
            context = Context(
                log=logger(),
                clock=self.clock,
                progress=self.progress,
                check=self.check,
                tell=self.tell,
            )
            try:
                return work(self.job, context)
            except GymdbdError as error:
                if not error.transient or attempt == attempts:
                    raise
                logger().warning(
                    "attempt failed", error=error.message, attempt=attempt, next_in_s=delay_s
                )
                self._wait(delay_s)
                delay_s *= 2
        raise AssertionError

    def _wait(self, seconds: float) -> None:
        until = self.clock.monotonic() + seconds
        while self.clock.monotonic() < until:
            self.check()
            time.sleep(_POLL_S)

    def due_text(self) -> str | None:
        """Return the moment that it was due at, RFC 3339."""
        return clock.to_text(self.due, self.clock.zone) if self.due else None

    def now(self) -> str:
        """Return this moment, RFC 3339."""
        return clock.to_text(self.clock.now(), self.clock.zone)


def stopped(job: JobConfig) -> StoppedError:
    """Return the error for a run that was asked to stop."""
    return StoppedError(
        f"{job.name} was stopped before it was done",
        hint="nothing half-done is left; it is made up after the next start",
    )


def record(job: JobConfig, ended: Ended, status: StatusFile | None) -> None:
    """Log the end of a run and record it in the status file; the log is bound to the run."""
    if status is not None:
        with trouble_logged():
            status.run_ended(job, ended)
    log_end(ended.outcome, ended.duration_s)


def log_end(outcome: Outcome, duration_s: float) -> None:
    """Log the end of a run; the log is bound to the run."""
    facts = {**outcome.problem(), "duration_s": duration_s}
    if outcome.error is None:
        logger().info("run finished", state=outcome.state, duration_s=duration_s)
    else:
        logger().error("run failed", **facts)
