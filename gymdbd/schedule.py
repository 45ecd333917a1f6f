"""When a job is due: cron syntax with the meaning of Debian's cron, and wall clock intervals.

Everything here is a pure function of the text, the moment and the zone; `daemon/scheduler.py`
makes APScheduler triggers of it.
"""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol

from cronsim import CronSim, CronSimError

# cron(8): when the clock goes back by less than three hours, a job at a fixed time is not run
# again; a larger change is a correction of the clock, and the new time holds at once.
_REPEATED = timedelta(hours=3)
_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS = 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Schedule(Protocol):
    """The moments at which a job is due."""

    @property
    def fixed_time(self) -> bool:
        """Return whether it names a time of day, which cron does not repeat if clocks go back."""

    def next_after(self, moment: datetime, zone: tzinfo) -> datetime:
        """Return the first due moment later than `moment`, in UTC."""


@dataclass(frozen=True)
class Cron:
    """Five fields of cron syntax, or one of cron's @words; ValueError if they are invalid."""

    text: str

    def __post_init__(self) -> None:
        """Raise ValueError if the text is invalid, or never due."""
        if len(self._expression.split()) != _FIELDS:
            raise ValueError("expected five fields: minute hour day-of-month month day-of-week")
        try:
            next(CronSim(self._expression, datetime(2026, 1, 1, tzinfo=UTC)))
        except CronSimError as error:
            raise ValueError(f"not a cron schedule: {str(error).lower()}") from error
        except StopIteration as error:
            raise ValueError("there is no such day: the job would never run") from error

    @property
    def _expression(self) -> str:
        return _ALIASES.get(self.text.strip().lower(), self.text)

    @property
    def fixed_time(self) -> bool:
        """Return whether neither minute nor hour starts with a star, as cron distinguishes it."""
        minute, hour = self._expression.split()[:2]
        return not minute.startswith("*") and not hour.startswith("*")

    def next_after(self, moment: datetime, zone: tzinfo) -> datetime:
        """Return the first due moment later than `moment`, in UTC.

        A fixed time that is skipped when clocks go forward is due right after the change; one that
        is repeated when clocks go back is due once.
        """
        due = CronSim(self._expression, moment.astimezone(zone))
        while True:
            # In the repeated hour, the first candidates are before `moment`.
            candidate = next(due).astimezone(UTC)
            if candidate > moment:
                return candidate

    def __str__(self) -> str:
        """Return the text of the configuration."""
        return self.text


@dataclass(frozen=True)
class Interval:
    """An interval on the local wall clock: `15m` is due at :00, :15, :30 and :45.

    If clocks go forward, a moment in the skipped time is due right after the change. If they go
    back, a moment in the repeated time is due once, unless the interval fits into that time. So two
    runs are never further apart than the interval plus the change, and never closer than the
    interval minus the change.
    """

    every: timedelta
    fixed_time: bool = False

    def next_after(self, moment: datetime, zone: tzinfo) -> datetime:
        """Return the first due moment later than `moment`, in UTC."""
        due = self._first(moment, zone)
        while timedelta() < _repeated_after(due, zone) < self.every:
            due = self._first(due, zone)
        return due

    def _first(self, moment: datetime, zone: tzinfo) -> datetime:
        """Return the first moment after `moment` on the grid, or the end of a skipped time."""
        due = self._next(moment, _offset(moment, zone))
        change = _offset(due, zone) - _offset(moment, zone)
        if not change:
            return due
        changed = _moment_of_change(max(moment, due - abs(change)), due, zone)
        if due - change < changed:
            return changed
        return self._next(changed - timedelta.resolution, _offset(due, zone))

    def _next(self, moment: datetime, offset: timedelta) -> datetime:
        local = moment - _EPOCH + offset
        return _EPOCH - offset + (local // self.every + 1) * self.every

    def __str__(self) -> str:
        """Format it as in the configuration: `every 15m`."""
        seconds = int(self.every.total_seconds())
        for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
            if seconds % size == 0:
                return f"every {seconds // size}{unit}"
        return f"every {seconds}s"


def _offset(moment: datetime, zone: tzinfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def _repeated_after(moment: datetime, zone: tzinfo) -> timedelta:
    """Return how long before `moment` the clock showed the same time; zero if it did not."""
    first = moment.astimezone(zone).replace(fold=0)
    return _offset(first, zone) - _offset(moment, zone)


def _moment_of_change(start: datetime, end: datetime, zone: tzinfo) -> datetime:
    """Return the first moment from `start` on at which the offset is that of `end`."""
    seconds = range(int(start.timestamp()), int(end.timestamp()) + 1)
    offset = _offset(end, zone)

    def has_changed(second: int) -> bool:
        return _offset(_EPOCH + timedelta(seconds=second), zone) == offset

    index = bisect.bisect_left(seconds, True, key=has_changed)
    return _EPOCH + timedelta(seconds=seconds[index])


def next_run(
    schedule: Schedule, now: datetime, last_due: datetime | None, zone: tzinfo
) -> datetime:
    """Return when a job runs next, given the due moment of its last run.

    A fixed time that has had its run is not repeated if the clock goes back.
    """
    if schedule.fixed_time and last_due is not None and now < last_due <= now + _REPEATED:
        return schedule.next_after(last_due, zone)
    return schedule.next_after(now, zone)


def missed(
    schedule: Schedule, last_success: datetime | None, now: datetime, zone: tzinfo
) -> datetime | None:
    """Return the first due moment since the last success that has passed, or None.

    A job that never succeeded has missed nothing; it runs at its next due moment.
    """
    if last_success is None or last_success > now:
        return None
    due = schedule.next_after(last_success, zone)
    return due if due <= now else None


def usual_gap(schedule: Schedule, now: datetime, zone: tzinfo) -> timedelta:
    """Return the longest gap between the next few runs."""
    moments = [schedule.next_after(now, zone)]
    for _ in range(8):
        moments.append(schedule.next_after(moments[-1], zone))
    return max(later - earlier for earlier, later in itertools.pairwise(moments))
