"""The health of the jobs: the status file, compared with what can be seen now.

The status file records how the last run ended. It cannot know whether the backup still exists,
whether there is room for the next one, and whether the next run will start; and the file itself
may have been impossible to write.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from gymdbd import clock, disk, files, lock
from gymdbd.errors import NotAllowedError, ReadFailedError
from gymdbd.jobs import kinds
from gymdbd.jobs.finding import Finding, Health
from gymdbd.runs import verdict
from gymdbd.runs.entry import DaemonNote, Entry, instant
from gymdbd.runs.outcome import GOOD_STATES
from gymdbd.runs.status import StatusFile
from gymdbd.source.errors import GymdbdError, SourceUnreadableError
from gymdbd.words import sandbox, service_command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gymdbd.clock import Clock
    from gymdbd.config.config import Config
    from gymdbd.config.kinds import JobConfig
    from gymdbd.runs.entry import Running, Status

# A run may wait ten minutes for another run on the same files before it appears in the file.
_START_MARGIN = timedelta(minutes=15)
# The start and the backup of the same run, both rounded to seconds, are at most this far apart.
_SAME_RUN = timedelta(minutes=1)
# A sleeping disk needs ten seconds to start.
PATIENCE_S = 15.0
_DENIED = (NotAllowedError, SourceUnreadableError)
_DEAD = "check for a dead disk or network mount (dmesg, mount)"
_ACCOUNT = "run gymdbd status as the user that the daemon runs as"

_T = TypeVar("_T")


class Seen(NamedTuple):
    """The state of a job on its disks: `newest` is the time of its newest good backup, if any."""

    findings: list[Finding]
    newest: datetime | None = None
    killed: bool = False


# Waits so many seconds for the state of a job.
Look = Callable[[float], Seen]


@dataclass(frozen=True)
class Judged:
    """What `gymdbd status` tells of a job; `interrupted` is a run that was killed."""

    entry: Entry
    found: Finding
    interrupted: Running | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as `--json` has it."""
        killed = {"interrupted": self.interrupted.to_json()} if self.interrupted else {}
        return {
            **self.entry.to_json(),
            **killed,
            "health": self.found.health.name.lower(),
            "reason": self.found.reason,
            "hint": self.found.hint or None,
            "next_run": self.entry.next_run,
        }


@dataclass(frozen=True)
class Daemon:
    """The state of the daemon: `alive` is None if this user cannot see it.

    `started` is when a daemon last started with this status file. If it is None, none ever has: the
    jobs are run by hand or by cron, and need no daemon. Before that start, none had run since
    `down_since`, if that is known. A `mute` daemon is running, but cannot write the file.
    """

    alive: bool | None
    started: datetime | None
    status_file: str
    mute: bool = False
    down_since: datetime | None = None


def read(settings: Config, patience_s: float = PATIENCE_S) -> tuple[Status, Daemon]:
    """Return the content of the status file, and the state of the daemon from it and its lock."""
    file = StatusFile(settings.status_file)

    def look() -> tuple[Status, Daemon]:
        found, alive = file.read(), file.is_daemon_alive()
        mute = not alive and _holds_configuration(settings)
        note = found.daemon or DaemonNote()
        return found, Daemon(
            mute or alive,
            instant(note.started_at),
            str(file.path),
            mute=mute,
            down_since=instant(note.down_since),
        )

    try:
        return meanwhile(look)(patience_s)
    except TimeoutError as error:
        message = f"the status file {file.path} has not answered for {patience_s:g} s"
        raise ReadFailedError(message, hint=_DEAD) from error


def _holds_configuration(settings: Config) -> bool:
    """Return whether a daemon runs that could not lock its status file."""
    try:
        return lock.is_held(settings.source)
    except OSError:
        return False


def judge_all(settings: Config, known: Status, daemon: Daemon, now: Clock) -> dict[str, Judged]:
    """Return how each job is; the disks of all of them are examined at the same time."""
    file, looks = StatusFile(settings.status_file), {}
    for name, job in settings.jobs.items():
        entry = known.jobs.get(name, Entry(kind=job.kind))
        looks[name] = entry, begin(job, entry, file, now)
    return {
        name: judge(settings.jobs[name], entry, look, daemon, now)
        for name, (entry, look) in looks.items()
    }


def begin(job: JobConfig, entry: Entry, file: StatusFile, now: Clock) -> Look:
    """Start to examine the disks of a job; `judge` waits for the result."""

    def look() -> Seen:
        seen = list(_look(job, entry, now.now(), now.zone))
        findings = [found for found in seen if isinstance(found, Finding)]
        newest = next((found for found in seen if isinstance(found, datetime)), None)
        return Seen(findings, newest, killed=file.was_killed(job, entry))

    return meanwhile(look)


def judge(
    job: JobConfig,
    entry: Entry,
    look: Look,
    daemon: Daemon,
    now: Clock,
    patience_s: float = PATIENCE_S,
) -> Judged:
    """Return how a job is: the worst finding, and of several equally bad ones the first.

    Its disks have `patience_s` to answer, counted from `begin`. The hint of the last run stays with
    that run's own failure.
    """
    moment, seen = now.now(), _seen(look, patience_s)
    if seen.newest is not None:
        entry = _up_to_date(entry, seen.newest, now.zone)
    findings = seen.findings or [Finding(Health.OK)]
    if job.is_scheduled:
        # Of a job that never runs, neither its entry nor the daemon says anything.
        told = verdict.health(job, entry, moment, now.zone)
        findings = [told, *seen.findings, *_next_run(entry, daemon, moment, told.health)]
    worst = verdict.worst([finding.health for finding in findings])
    found = next(finding for finding in findings if finding.health == worst)
    if daemon.alive is False or daemon.mute:
        entry = replace(entry, next_run=None)
    if seen.killed:
        return Judged(replace(entry, running=None), found, interrupted=entry.running)
    return Judged(entry, found)


def _seen(look: Look, patience_s: float) -> Seen:
    try:
        return look(patience_s)
    except TimeoutError:
        reason = f"its folders have not answered for {patience_s:g} s"
        return Seen([Finding(Health.UNKNOWN, reason, _DEAD, "not-answering")])


def meanwhile(work: Callable[[], _T]) -> Callable[[float], _T]:
    """Start `work` in a thread; call the result to get its value, or TimeoutError if it is late.

    The time is counted from now. So a dead network mount does not block `gymdbd status`.
    """
    began, done = time.monotonic(), threading.Event()
    values: list[_T] = []
    errors: list[Exception] = []

    def do() -> None:
        try:
            values.append(work())
        except Exception as error:  # noqa: BLE001 - it is raised by `answer`
            errors.append(error)
        done.set()

    threading.Thread(target=do, daemon=True).start()

    def answer(patience_s: float) -> _T:
        if not done.wait(max(0.0, began + patience_s - time.monotonic())):
            raise TimeoutError
        if errors:
            raise errors[0]
        return values[0]

    return answer


def _up_to_date(entry: Entry, newest: datetime, zone: tzinfo) -> Entry:
    """Return an entry that tells of the archive's newest backup too, if its last run was good.

    A backup that is missing in the status file was made while that could not be written.
    """
    if entry.state not in (None, *GOOD_STATES):
        return entry
    success, started = instant(entry.last_success), instant(entry.last_run)
    if success and started and newest >= started - _SAME_RUN:
        newest = max(newest, success)
    return replace(entry, state=entry.state or "ok", last_success=clock.to_text(newest, zone))


def _look(
    job: JobConfig, entry: Entry, now: datetime, zone: tzinfo
) -> Iterator[Finding | datetime]:
    """Examine the disk: yield findings, and the time of the newest good backup."""
    try:
        _require_places(job)
        was_good = entry.state in GOOD_STATES
        yield from kinds.outlook(job).look(job, now, zone, was_good=was_good)
    except _DENIED as error:
        yield Finding(Health.UNKNOWN, error.message, _ACCOUNT, error.code)
    except GymdbdError as error:
        yield Finding(Health.FAILING, error.message, error.hint, error.code)
    except OSError as error:
        translated = disk.system_error(error)
        yield Finding(Health.UNKNOWN, translated.message, translated.hint, translated.code)


def _require_places(job: JobConfig) -> None:
    for folder in job.folders():
        files.require_folder(folder)
        if job.backups is not None:
            disk.require_writable_disk(folder)


def _next_run(entry: Entry, daemon: Daemon, now: datetime, health: Health) -> Iterator[Finding]:
    """Yield why the next run will not start, if it will not."""
    if daemon.mute:
        yield Finding(
            Health.UNKNOWN,
            f"the daemon cannot write {daemon.status_file}: the outcome of its runs is unknown",
            f"read the daemon's log, and let its user write to that folder{sandbox()}",
            "status-not-written",
        )
    elif daemon.started is None:
        return
    elif daemon.alive is None:
        reason = "this user cannot see whether the daemon is running"
        yield Finding(Health.UNKNOWN, reason, _ACCOUNT, "daemon-unseen")
    elif not daemon.alive:
        # While the last success is recent enough, there is time to start the daemon.
        yield Finding(
            Health.LATE if health in (Health.OK, Health.UNKNOWN) else Health.FAILING,
            "the daemon is not running, so the next run will not happen",
            f"start it ({service_command('start')}, or gymdbd run); if something else runs the "
            f"jobs now, remove {daemon.status_file}; the next run creates it again",
            "daemon-down",
        )
    elif now - daemon.started > _START_MARGIN:
        yield from _unplanned(entry, now)


def _unplanned(entry: Entry, now: datetime) -> Iterator[Finding]:
    planned = instant(entry.next_run)
    if planned is None:
        reason = "the daemon has not scheduled it"
        hint = f"let it reload the configuration: {service_command('reload')}"
        yield Finding(Health.LATE, reason, hint, "not-scheduled")
    elif entry.running is None and now - planned > _START_MARGIN:
        reason = f"its run of {entry.next_run} is not known to have started"
        hint = "read the daemon's log, and check that it can write the status file"
        yield Finding(Health.LATE, reason, hint, "not-started")
