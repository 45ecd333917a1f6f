"""The daemon: its main loop, which acts on signals and starts runs until it is stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import signal
import threading
import time
from typing import TYPE_CHECKING

import gymdbd
from gymdbd import clock, lock, log
from gymdbd.config import config, state
from gymdbd.daemon import lookout
from gymdbd.daemon.absence import JUMP, Absence
from gymdbd.daemon.lookout import Lookout
from gymdbd.daemon.scheduler import Past, Scheduler
from gymdbd.daemon.systemd import Notifier
from gymdbd.daemon.watchdog import Watchdog
from gymdbd.errors import BusyError, ConfigError, NoLocksError, TimeZoneError
from gymdbd.log import logger
from gymdbd.notices.ping import Pings
from gymdbd.runs import child, status
from gymdbd.runs.entry import instant
from gymdbd.runs.runner import Run
from gymdbd.runs.status import StatusFile
from gymdbd.source.errors import GymdbdError

if TYPE_CHECKING:
    from datetime import datetime

    from gymdbd.clock import Clock
    from gymdbd.config.config import Config
    from gymdbd.config.kinds import JobConfig
    from gymdbd.runs.entry import Entry

# A run by hand appears in the status line within this time.
_TURN_S = 5.0
_STOPPING_TURN_S = 0.2
# The heartbeat comes every 20 s; if it is missing for longer than this, the scheduler hangs.
_SILENT_S = 75.0
_LOCK_WAIT_S = 600.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Daemon:
    """Runs the jobs of one configuration; only one daemon per status file.

    A run that hangs is killed `grace_s` after its timeout.
    """

    def __init__(self, settings: Config, now: Clock, *, grace_s: float = child.GRACE_S) -> None:
        self.config = settings
        self.grace_s = grace_s
        self.clock = now
        self.status = StatusFile(settings.status_file)
        self.absence = Absence(self.status, now)
        self.scheduler = Scheduler(self._run, now, self._past, self._busy)
        self.notifier = Notifier()
        self.watchdog = Watchdog(self.notifier)
        self.pings = Pings()
        self.lookout = Lookout(self.status, now)
        self.urgency = 0
        self._deadline = 0.0
        self._last_result = ""
        self._sent = ""
        self._planned: dict[str, str] | None = None
        self._at_work: dict[str, threading.Thread] = {}
        self._wake_read, self._wake_write = os.pipe()
        self._began_at = clock.to_text(now.now(), now.zone)
        self._down_since: str | None = None
        self._is_claimed = False
        self._is_in_trouble = False

    def run(self) -> int:
        """Run until SIGTERM or SIGINT and return the exit code."""
        with self.watchdog, contextlib.ExitStack() as self._claim:
            self._refuse_second_daemon()
            self._claim_status_file()
            self._start()
            while not self._done():
                self.turn()
            self.lookout.stop()
            logger().info("daemon stopped")
        return 0

    def turn(self) -> None:
        """Wait for a signal or the end of a run, and act on it."""
        for number in self._wait():
            if number == signal.SIGHUP:
                self._reload()
            elif number in (signal.SIGTERM, signal.SIGINT):
                self._stop()
        self._claim_status_file()
        self._check_clock()
        self._check_zone()
        if self.urgency and self.clock.monotonic() > self._deadline:
            self.urgency = child.KILL
        if self.scheduler.beat_age_s() < _SILENT_S or self.urgency:
            self.watchdog.beat()
        self._publish_plan()
        self.absence.record()
        if not self.urgency:
            self.lookout.turn(self.config)

    def _refuse_second_daemon(self) -> None:
        """Raise BusyError if a daemon runs that could not lock its status file."""
        is_held = False
        # A share may have no locks.
        with contextlib.suppress(OSError):
            is_held = lock.is_held(self.config.source)
        if is_held:
            raise BusyError(
                f"another daemon already uses {self.config.source}",
                hint="stop it first, or give this one a configuration of its own",
            )

    def _claim_status_file(self) -> None:
        """Lock the status file for this daemon; BusyError if another daemon holds the lock.

        If the folder is missing or cannot be written, the runs go on, and the lock is tried again
        at each turn; likewise if the folder was removed, with the lock in it, and came back.
        """
        if self._is_claimed and self.status.is_daemon_alive() is not False:
            return
        try:
            state.make(self.status.path)
            self._claim.enter_context(lock.hold([self.status.daemon_lock]))
        except BusyError as error:
            raise BusyError(
                f"another daemon already uses {self.status.path}: {error.message}",
                hint="stop it first, or give this one a status_file of its own",
            ) from error
        except GymdbdError as error:
            self._log_trouble(error)
            self._is_claimed = False
            self._lock_configuration()
        else:
            self._is_claimed = True
            self._planned = None

    def _lock_configuration(self) -> None:
        """Lock the configuration file instead, so that `status` can see that a daemon runs."""
        source = self.config.source
        # At each turn, because an editor replaces the file.
        with contextlib.suppress(OSError, BusyError, NoLocksError):
            if not lock.is_held(source):
                self._claim.enter_context(lock.hold_as_it_is(source))

    def _start(self) -> None:
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        # The handlers do nothing: Python writes the signal's number into the pipe, and the main
        # loop acts on it. Locks, logs and shutdowns inside a handler can deadlock.
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)
        logger().info(
            "daemon started",
            version=gymdbd.__version__,
            pid=os.getpid(),
            config=str(self.config.source),
            jobs=len(self.config.jobs),
        )
        if not clock.is_plausible(self.clock.now()):
            logger().warning("clock not to be trusted", now=str(self.clock.now()))
        if fault := clock.fault_of_machine():
            logger().warning("time zone unknown, using UTC", reason=fault)
        self.absence.start(self.config.jobs.values(), self.clock.zone)
        if sign := lookout.last_sign(self.status):
            self._down_since = clock.to_text(sign, self.clock.zone)
        self.scheduler.start()
        self.scheduler.set_jobs(self.config.jobs)
        self.notifier.ready(self._summary())
        self._publish_plan()

    def _wait(self) -> bytes:
        turn_s = _STOPPING_TURN_S if self.urgency else _TURN_S
        if self.notifier.watchdog_s is not None:
            turn_s = min(turn_s, self.notifier.watchdog_s / 3)
        ready, _, _ = select.select([self._wake_read], [], [], turn_s)
        return os.read(self._wake_read, 4096) if ready else b""

    def _stop(self) -> None:
        """Drain at the first signal, kill at the second."""
        if self.urgency:
            self.urgency = child.KILL
            return
        logger().info("daemon stopping", at_work=sorted(self._at_work))
        self.notifier.stopping()
        self.urgency = child.DRAIN
        self._deadline = self.clock.monotonic() + self.config.stop_timeout.total_seconds()
        self.scheduler.stop()

    def _done(self) -> bool:
        return bool(self.urgency) and not self._at_work

    def _reload(self) -> None:
        """Use the new configuration if it is valid; otherwise continue with the old one."""
        if self.urgency:
            return
        self.notifier.reloading()
        try:
            new = self._load_again()
        except ConfigError as error:
            log.refusal(error)
        else:
            self.config = new
            log.configure(new.log)
            self.scheduler.set_jobs(new.jobs)
            self.lookout.soon()
            logger().info("configuration reloaded", jobs=len(new.jobs))
        self.notifier.ready(self._summary())

    def _load_again(self) -> Config:
        new = config.load(self.config.source)
        if new.status_file != self.config.status_file:
            raise ConfigError(
                f"{new.source}: status_file cannot change while the daemon runs",
                hint="restart the daemon instead of reloading it",
            )
        return new

    def _check_clock(self) -> None:
        """Compute the next runs again if the clock was set or the machine slept."""
        jump = self.absence.check(self.config.jobs.values(), self.clock)
        if abs(jump) > JUMP and not self.urgency:
            logger().warning("clock jumped, next runs recomputed", by_s=round(jump.total_seconds()))
            self.scheduler.replan()
            self.lookout.soon()

    def _check_zone(self) -> None:
        """Compute the next runs again if the time zone of the machine was set."""
        try:
            zone = clock.local_zone()
        except TimeZoneError:
            return  # The file that TZ names is missing: keep the zone known so far.
        if zone is self.clock.zone or self.urgency:
            return
        logger().warning(
            "time zone set, next runs recomputed", before=str(self.clock.zone), now=str(zone)
        )
        time.tzset()
        self.clock = dataclasses.replace(self.clock, zone=zone)
        self.scheduler.follow(self.clock)

    def _busy(self, name: str, due: datetime) -> None:
        self.absence.busy(name, due, self.clock.zone)

    def _past(self) -> dict[str, Past]:
        jobs: dict[str, Entry] = {}
        with status.trouble_logged():
            jobs = self.status.read().jobs
        return {
            name: Past(instant(entry.last_success), instant(entry.last_due))
            for name, entry in jobs.items()
        }

    def _run(self, job: JobConfig, due: datetime, reason: str) -> None:
        """Execute a run, on a thread of the scheduler's pool."""
        self._at_work[job.name] = threading.current_thread()
        try:
            end_ping = self.pings.begin(self.config, job)
            supervisor = child.Supervisor(self.config, lambda: self.urgency, self.grace_s)
            ended = supervisor.execute(
                Run(
                    job=job,
                    reason=reason,
                    due=due,
                    status=self.status,
                    lock_wait_s=_LOCK_WAIT_S,
                    clock=self.clock,
                )
            )
            end_ping(ended.outcome)
            ended_at = clock.to_minute(clock.from_text(ended.ended_at), self.clock.zone)
            self._last_result = f"{job.name} {ended.outcome.state} at {ended_at}"
        finally:
            del self._at_work[job.name]
            with contextlib.suppress(BlockingIOError):  # Full, so the main loop wakes up anyway.
                os.write(self._wake_write, b"\0")

    def _publish_plan(self) -> None:
        """Send the next runs to systemd and to the status file, if they changed."""
        if self.urgency:
            return
        if (summary := self._summary()) != self._sent:
            self._sent = summary
            self.notifier.status(summary)
        zone, next_runs = self.clock.zone, self.scheduler.next_runs()
        plan = {name: clock.to_text(when, zone) for name, when in next_runs.items()}
        if plan == self._planned:
            return
        try:
            self.status.planned(self._began_at, plan, self._down_since)
        except GymdbdError as error:
            self._log_trouble(error)  # The next turn tries again.
        else:
            self._planned, self._is_in_trouble = plan, False

    def _log_trouble(self, error: GymdbdError) -> None:
        """Log that the status file cannot be written, once and not at every turn."""
        if not self._is_in_trouble:
            logger().warning("status not written", reason=error.message, remedy=error.hint)
        self._is_in_trouble = True

    def _summary(self) -> str:
        runs = sorted(self.scheduler.next_runs().items(), key=lambda run: run[1])
        text = "nothing is scheduled"
        if runs:
            name, moment = runs[0]
            text = f"next: {name} at {clock.to_minute(moment, self.clock.zone)}"
        return f"{text}; last: {self._newest_run() or 'no run yet'}"

    def _newest_run(self) -> str:
        """Return the newest run, including runs by hand and runs before this daemon started."""
        # An error of the file is logged when it is written.
        with contextlib.suppress(GymdbdError):
            self._last_result = status.newest_run(self.status.read()) or self._last_result
        return self._last_result
