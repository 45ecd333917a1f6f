"""What an overview shows of each thing that may be told of: jobs, other machines, this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd.jobs.finding import Finding, Health
from gymdbd.notices.policy import DAEMON, JOB, MACHINE, PEER, Seen
from gymdbd.runs.entry import instant
from gymdbd.runs.outcome import BUSY
from gymdbd.source.errors import GymdbdError

if TYPE_CHECKING:
    from datetime import datetime

    from gymdbd.notices.memory import Subject
    from gymdbd.runs.entry import Entry
    from gymdbd.runs.overview import Overview

STATUS: Subject = (DAEMON, "status")


def seen(found: Overview | GymdbdError) -> dict[Subject, Seen]:
    """Return what was found about every subject, or that the status cannot be read."""
    if isinstance(found, GymdbdError):
        problem = Finding(Health.UNKNOWN, found.message, found.hint, found.code)
        return {STATUS: Seen(problem)}
    judged = {(JOB, name): job for name, job in found.jobs.items()}
    judged |= {(PEER, name): job for name, job in found.peers.items()}
    machine = {(MACHINE, name): Seen(finding) for name, finding in found.machine.items()}
    jobs = {subject: _of(job.found, job.entry) for subject, job in judged.items()}
    return {**jobs, **machine, STATUS: Seen(Finding(Health.OK))}


def _of(finding: Finding, entry: Entry) -> Seen:
    is_of_runs = finding.code == entry.code
    return Seen(finding, _first_failure(entry) if is_of_runs else None)


def _first_failure(entry: Entry) -> datetime | None:
    """Return when the oldest run ended of those that have failed in a row, if it is known."""
    first = None
    for run in entry.runs:
        if run.outcome.is_good:
            break
        if run.outcome.state != BUSY:
            first = instant(run.ended_at) or first
    return first
