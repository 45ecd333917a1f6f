"""How a job is, by what the status file says of it alone."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

from gymdbd import words
from gymdbd.jobs.finding import Finding, Health
from gymdbd.runs.entry import instant
from gymdbd.runs.outcome import GOOD_STATES, SUSPICIOUS, UNREACHABLE
from gymdbd.schedule import usual_gap

if TYPE_CHECKING:
    from gymdbd.config.kinds import JobConfig
    from gymdbd.runs.entry import Entry

# The code of a job that is new, which is no trouble.
NOT_RUN_YET = "not-run-yet"

_LEAST_MARGIN = timedelta(minutes=10)


def max_age(job: JobConfig, now: datetime, zone: tzinfo) -> timedelta:
    """Return how old the last success may be: as configured, or the usual gap plus a twelfth."""
    if job.max_age is not None:
        return job.max_age
    gap = usual_gap(job.when, now, zone)
    return gap + max(gap / 12, _LEAST_MARGIN)


def health(job: JobConfig, entry: Entry, now: datetime, zone: tzinfo) -> Finding:
    """Return the health of a job according to its entry in the status file, and the reason.

    An unreachable peer is late until `max_age` has passed, then failing. Any other failure is
    failing at once, and so is a backup that waits for accept or reject.
    """
    success, hint = instant(entry.last_success), entry.hint or ""
    limit = max_age(job, now, zone)
    too_old = success is None or now - success > limit
    if entry.state is None:
        return Finding(Health.UNKNOWN, "it has not run yet", hint, NOT_RUN_YET)
    if trouble := _trouble(entry):
        return trouble
    if entry.state == UNREACHABLE:
        how = Health.FAILING if too_old else Health.LATE
        return Finding(how, str(entry.error), hint, entry.code or UNREACHABLE)
    if success is not None and success > now + _LEAST_MARGIN:
        reason = "its last success is in the future: check the clock"
        return Finding(Health.UNKNOWN, reason, hint, "in-future")
    if too_old:
        reason = f"its last success is older than {words.limit(limit)}"
        hint = hint or f"gymdbd runs {job.name} shows why; the job can be run by hand"
        return Finding(Health.LATE, reason, hint, "too-old")
    return _freshness(job, entry, now)


def _trouble(entry: Entry) -> Finding | None:
    """Return what makes a job fail even if its last success is recent."""
    hint = entry.hint or ""
    if entry.state not in (*GOOD_STATES, UNREACHABLE):
        code = entry.code or str(entry.state)
        return Finding(Health.FAILING, str(entry.error), hint, code)
    waiting = entry.result.waiting if entry.result else None
    if not waiting:
        return None
    reason = f"{waiting} waits for accept or reject; pruning is stopped"
    return Finding(Health.FAILING, reason, hint, SUSPICIOUS)


def _freshness(job: JobConfig, entry: Entry, now: datetime) -> Finding:
    """Return the health according to the age of the newest row in the last backup."""
    wanted, hint = job.newest, entry.hint or ""
    found = entry.result.newest if entry.result else None
    if wanted is None or found is None:
        return Finding(Health.OK, "", hint)
    place = f"the newest row of {wanted.table}"
    moment = instant(found.get("at"))
    if moment is None:
        reason = f"{place} cannot be dated by {wanted.column}: {found.get('problem')}"
        return Finding(Health.FAILING, reason, hint, "newest-undated")
    if wanted.max_age is not None and now - moment > wanted.max_age:
        reason = f"{place} is from {found['at']}, older than {words.limit(wanted.max_age)}"
        return Finding(Health.LATE, reason, hint, "newest-too-old")
    return Finding(Health.OK, "", hint)


def worst(healths: list[Health]) -> Health:
    """Return the health of all jobs together: failing, then late, then unknown, then ok."""
    for candidate in (Health.FAILING, Health.LATE, Health.UNKNOWN):
        if candidate in healths:
            return candidate
    return Health.OK
