"""How a job is, by what the status file says of it alone."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

from gymdbd.jobs.finding import Health
from gymdbd.runs.entry import instant
from gymdbd.runs.outcome import GOOD_STATES, UNREACHABLE
from gymdbd.schedule import usual_gap

if TYPE_CHECKING:
    from gymdbd.config.kinds import JobConfig
    from gymdbd.runs.entry import Entry

_LEAST_MARGIN = timedelta(minutes=10)


def max_age(job: JobConfig, now: datetime, zone: tzinfo) -> timedelta:
    """Return how old the last success may be: as configured, or the usual gap plus a twelfth."""
    if job.max_age is not None:
        return job.max_age
    gap = usual_gap(job.when, now, zone)
    return gap + max(gap / 12, _LEAST_MARGIN)


def health(job: JobConfig, entry: Entry, now: datetime, zone: tzinfo) -> tuple[Health, str]:
    """Return the health of a job according to its entry in the status file, and the reason.

    An unreachable peer is late until `max_age` has passed, then failing. Any other failure is
    failing at once, and so is a backup that waits for accept or reject.
    """
    success = instant(entry.last_success)
    limit = max_age(job, now, zone)
    too_old = success is None or now - success > limit
    if entry.state is None:
        return Health.UNKNOWN, "it has not run yet"
    if trouble := _trouble(entry):
        return Health.FAILING, trouble
    if entry.state == UNREACHABLE:
        return (Health.FAILING if too_old else Health.LATE), str(entry.error)
    if success is not None and success > now + _LEAST_MARGIN:
        return Health.UNKNOWN, "its last success is in the future: check the clock"
    if too_old:
        return Health.LATE, f"its last success is older than {limit}"
    return _freshness(job, entry, now)


def _trouble(entry: Entry) -> str:
    """Return what makes a job fail even if its last success is recent, or ""."""
    if entry.state not in (*GOOD_STATES, UNREACHABLE):
        return str(entry.error)
    waiting = entry.result.waiting if entry.result else None
    return f"{waiting} waits for accept or reject; pruning is stopped" if waiting else ""


def _freshness(job: JobConfig, entry: Entry, now: datetime) -> tuple[Health, str]:
    """Return the health according to the age of the newest row in the last backup."""
    wanted = job.newest
    found = entry.result.newest if entry.result else None
    if wanted is None or found is None:
        return Health.OK, ""
    place = f"the newest row of {wanted.table}"
    moment = instant(found.get("at"))
    if moment is None:
        return Health.FAILING, f"{place} cannot be dated by {wanted.column}: {found.get('problem')}"
    if wanted.max_age is not None and now - moment > wanted.max_age:
        return Health.LATE, f"{place} is from {found['at']}, older than {wanted.max_age}"
    return Health.OK, ""


def worst(healths: list[Health]) -> Health:
    """Return the health of all jobs together: failing, then late, then unknown, then ok."""
    for candidate in (Health.FAILING, Health.LATE, Health.UNKNOWN):
        if candidate in healths:
            return candidate
    return Health.OK
