"""When a job is due: cron text as Debian's cron means it, and intervals on the wall clock.

Everything here is a pure function of the text, the moment and the zone; `scheduler.py` turns the
answers into APScheduler triggers.
"""

from __future__ import annotations

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
        """Say whether it names a time of day, which cron does not repeat when clocks go back."""

    def next_after(self, moment: datetime, zone: tzinfo) -> datetime:
        """Return the first due moment later than `moment`, in UTC."""


@dataclass(frozen=True)
class Cron:
    """Five fields of cron text, or one of cron's @words; ValueError where they cannot be."""

    text: str

    def __post_init__(self) -> None:
        """Refuse text that is not cron's, or that never comes true."""
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
        """Say whether neither minute nor hour starts with a star, which cron treats apart."""
        minute, hour = self._expression.split()[:2]
        return not minute.startswith("*") and not hour.startswith("*")

    def next_after(self, moment: datetime, zone: tzinfo) -> datetime:
        """Return the first due moment later than `moment`, in UTC.

        A fixed time that the spring change leaves out is due right after it, one that the autumn
        change repeats is due once.
        """
        due = CronSim(self._expression, moment.astimezone(zone))
        while True:
            # In the repeated hour the first answers lie before `moment`.
            candidate = next(due).astimezone(UTC)
            if candidate > moment:
                return candidate

    def __str__(self) -> str:
        """Return the text as it stands in the configuration."""
        return self.text


@dataclass(frozen=True)
class Interval:
    """Every so often on the local wall clock: `15m` is at :00, :15, :30 and :45."""

    every: timedelta
    fixed_time: bool = False

    def next_after(self, moment: datetime, zone: tzinfo) -> datetime:
        """Return the first due moment later than `moment`, in UTC."""
        due = self._next(moment, _offset(moment, zone))
        if self._on_grid(due, zone):
            return due
        # The clocks change before it is due, and what comes up the old way is off by the change.
        changed = self._next(moment, _offset(due, zone))
        candidates = (changed, changed + self.every, due)
        return next(one for one in candidates if self._on_grid(one, zone) or one == due)

    def _next(self, moment: datetime, offset: timedelta) -> datetime:
        local = moment - _EPOCH + offset
        return _EPOCH - offset + (local // self.every + 1) * self.every

    def _on_grid(self, moment: datetime, zone: tzinfo) -> bool:
        return not (moment - _EPOCH + _offset(moment, zone)) % self.every

    def __str__(self) -> str:
        """Write it as in the configuration: `every 15m`."""
        seconds = int(self.every.total_seconds())
        for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
            if seconds % size == 0:
                return f"every {seconds // size}{unit}"
        return f"every {seconds}s"


def _offset(moment: datetime, zone: tzinfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def next_run(
    schedule: Schedule, now: datetime, last_due: datetime | None, zone: tzinfo
) -> datetime:
    """Return when a job runs next, given the due moment that its last run was for.

    A fixed time that has had its run is not repeated when the clock goes back over it.
    """
    if schedule.fixed_time and last_due is not None and now < last_due <= now + _REPEATED:
        return schedule.next_after(last_due, zone)
    return schedule.next_after(now, zone)


def missed(
    schedule: Schedule, last_success: datetime | None, now: datetime, zone: tzinfo
) -> datetime | None:
    """Return the first due moment since the last success that has passed, or None.

    A job that never succeeded has missed nothing: its first run is the next one due.
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
