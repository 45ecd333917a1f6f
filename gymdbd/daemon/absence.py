"""Due moments that had no run, and why: found when the daemon starts and when the clock jumps.

Three clocks tell the reasons apart: the one that shows the time, which can be set; the monotonic
one, which stands still while the machine is asleep; and the one that counts from its start.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from gymdbd import clock as clocks
from gymdbd.runs.entry import instant
from gymdbd.runs.line import ASLEEP, CLOCK_SET, NO_DAEMON, OFF, STOPPED, Line, skipped
from gymdbd.runs.outcome import BUSY
from gymdbd.runs.status import trouble_logged
from gymdbd.schedule import Interval

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import tzinfo

    from gymdbd.clock import Clock
    from gymdbd.config.kinds import JobConfig
    from gymdbd.runs.entry import Entry, Status
    from gymdbd.runs.status import StatusFile
    from gymdbd.schedule import Schedule

JUMP = timedelta(seconds=5)

# A machine that starts needs so long until its daemon does.
_BOOTING = timedelta(minutes=5)
# Nobody looks for the gaps of more than this, and a job of each minute has many due moments.
_FURTHEST = timedelta(days=100)


@dataclass(frozen=True)
class Reading:
    """What the three clocks showed at one moment."""

    now: datetime
    awake_s: float
    since_boot_s: float

    @property
    def switched_on(self) -> datetime:
        """Return when this machine was started."""
        return self.now - timedelta(seconds=self.since_boot_s)

    @classmethod
    def take(cls, clock: Clock) -> Reading:
        """Read the clocks of this machine."""
        return cls(clock.now(), clock.monotonic(), clock.since_boot())

    def awake_since(self, before: Reading) -> timedelta:
        """Return how long this machine was awake between two readings."""
        return timedelta(seconds=self.awake_s - before.awake_s)

    def jump_since(self, before: Reading) -> timedelta:
        """Return how much more time the clock shows to have passed while the machine was awake."""
        return self.now - before.now - self.awake_since(before)


class Absence:
    """Finds the due moments that have no run, and records them in the ledger of `status`."""

    def __init__(self, status: StatusFile, clock: Clock) -> None:
        """Read the clocks for the first time."""
        self.status = status
        self._seen = Reading.take(clock)
        self._lines: deque[Line] = deque()

    def start(self, jobs: Collection[JobConfig], zone: tzinfo) -> None:
        """Find those since the daemon before, which the status file knows."""
        with trouble_logged():
            self._lines += at_start(jobs, self.status, self._seen, zone)

    def check(self, jobs: Collection[JobConfig], clock: Clock) -> timedelta:
        """Return how far the clock has jumped since it was last read; find those jumped over."""
        before, self._seen = self._seen, Reading.take(clock)
        jump = self._seen.jump_since(before)
        if jump > JUMP:
            with trouble_logged():
                known = self.status.read()
                self._lines += after_jump(jobs, known, before, self._seen, clock.zone)
        return jump

    def busy(self, job: str, due: datetime, zone: tzinfo) -> None:
        """Note one at which the run before was still at work; from any thread."""
        moment = clocks.to_text(due, zone)
        self._lines.append(skipped(job, BUSY, moment, moment))

    def record(self) -> None:
        """Write what was found into the ledger; if that fails, it is logged."""
        found = [self._lines.popleft() for _ in range(len(self._lines))]
        if found:
            with trouble_logged():
                self.status.skipped(found)


def at_start(
    jobs: Collection[JobConfig], status: StatusFile, now: Reading, zone: tzinfo
) -> list[Line]:
    """Return the lines of what had no run, or no end, since the daemon before started.

    By a clock that is not set yet nothing was due since; after it was set, `after_jump` is asked.
    """
    known = status.read()
    before = instant(known.daemon.started_at) if known.daemon else None
    spans = [(OFF, min(now.now, now.switched_on + _BOOTING)), (NO_DAEMON, now.now)]
    found = []
    for job in jobs:
        entry = known.of(job.name)
        began = instant(entry.running.started_at) if entry.running else None
        if began and (before is None or began > before) and status.was_killed(job, entry):
            found.append(_killed(job, entry, began, now, zone))
        since = max(before or _NEVER, _newest_due(entry))
        if since == _NEVER:
            since = instant(entry.last_success) or _NEVER
        # A job that has neither run nor was planned is new.
        is_new = entry.last_run is None and entry.next_run is None
        if job.is_scheduled and not is_new and since > _NEVER:
            found += _lines(job, since, spans, zone)
    return found


def _killed(job: JobConfig, entry: Entry, began: datetime, now: Reading, zone: tzinfo) -> Line:
    """Return the line of a run that the end of the power, or of its processes, has ended."""
    started_at = clocks.to_text(began, zone)
    return Line(
        job=job.name,
        state="failed",
        code="crashed",
        # A clock that shows less than it did was set back by the start of the machine.
        why=STOPPED if now.switched_on <= began <= now.now else OFF,
        error="the run was killed before it was done",
        due=entry.last_due,
        first=started_at,
        last=started_at,
    )


def after_jump(
    jobs: Collection[JobConfig], known: Status, before: Reading, now: Reading, zone: tzinfo
) -> list[Line]:
    """Return the lines of the due moments that the clock has jumped over, between two readings."""
    elapsed = timedelta(seconds=now.since_boot_s - before.since_boot_s)
    awake = now.awake_since(before)
    spans = [(OFF, now.switched_on), (CLOCK_SET, now.now - elapsed), (ASLEEP, now.now - awake)]
    trusted = clocks.is_plausible(before.now)
    return [
        line
        for job in jobs
        if job.is_scheduled
        and (since := before.now if trusted else _newest_due(known.of(job.name))) > _NEVER
        for line in _lines(job, since, spans, zone)
    ]


_NEVER = datetime.min.replace(tzinfo=UTC)


def _newest_due(entry: Entry) -> datetime:
    """Return up to when the due moments of a job have been accounted for by its runs."""
    # Only the daemon starts a run that was due; before, it has accounted for all before it.
    moments = [entry.last_due, *(run.started_at for run in entry.runs if run.due)]
    return max(filter(None, map(instant, moments)), default=_NEVER)


def _lines(
    job: JobConfig, since: datetime, spans: list[tuple[str, datetime]], zone: tzinfo
) -> Iterator[Line]:
    """Yield a line for each day and reason; `spans` are the reasons, and until when each holds."""
    since = max(since, spans[-1][1] - _FURTHEST)
    for why, until in spans:
        while since < until:
            midnight = (since.astimezone(zone) + timedelta(days=1)).replace(
                hour=0, minute=0, second=0, microsecond=0
            )
            end = min(until, midnight)
            first, last, count = _due(job.when, since, end, zone)
            if count:
                moments = clocks.to_text(first, zone), clocks.to_text(last, zone)
                yield skipped(job.name, why, *moments, count)
            since = end


def _due(
    when: Schedule, since: datetime, until: datetime, zone: tzinfo
) -> tuple[datetime, datetime, int]:
    """Return the first and the last due moment after `since`, and how many there are."""
    first = last = due = when.next_after(since, zone)
    if isinstance(when, Interval):
        # A day has many; those that a change of the hour moves are not worth a count one by one.
        more = (until - first) // when.every
        return first, first + more * when.every, max(0, more + 1)
    count = 0
    while due <= until:
        last, count = due, count + 1
        due = when.next_after(due, zone)
    return first, last, count
