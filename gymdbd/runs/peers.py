"""How the jobs of other machines are, by what those machines told when they were last asked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from gymdbd import bounded, clock
from gymdbd.config.kinds import PullConfig
from gymdbd.jobs.finding import Finding, Health
from gymdbd.jobs.pull import told as asking
from gymdbd.runs import verdict
from gymdbd.runs.entry import Entry, instant
from gymdbd.runs.health import PATIENCE_S, Judged, meanwhile
from gymdbd.runs.public import HEALTHS, PublicStatus
from gymdbd.words import age, counted

if TYPE_CHECKING:
    from gymdbd.clock import Clock
    from gymdbd.config.config import Config
    from gymdbd.jobs.pull.told import Told
    from gymdbd.runs.public import PublicJob

# The daemon over there writes its status every half an hour, and is asked every hour.
_SILENT = timedelta(hours=3)
_BETWEEN = timedelta(hours=1)
_CLOCKS_DIFFER = timedelta(minutes=10)
_WHY = {
    "too-old": "its gymdbd knows no such request",
    "not-allowed": "the command of the key has no --status",
    "missing": "there is no public status: its daemon writes one",
    "denied": "its account may not read the public status",
    "odd": "what lies there is no public status",
}
_STATES = {"ok": "ok", "failing": "failed"}
_HOW = (
    "let the daemon run there, and the key tell its status (gymdbd authorize --status FILE); or do "
    "not ask (remote_status: none)"
)


@dataclass(frozen=True)
class _Heard:
    """An answer, and when it came; `ahead` is how far the clock over there is before ours."""

    job: PullConfig
    status: PublicStatus
    at: datetime
    ahead: timedelta


def judge_all(
    settings: Config, now: Clock, patience_s: float = PATIENCE_S
) -> tuple[dict[str, Judged], dict[str, Finding]]:
    """Return the jobs of the hosts that are pulled from, by `HOST/JOB`, and remarks on hosts.

    Of several pulls from one host the newest answer counts.
    """
    pulls = [job for job in settings.jobs.values() if isinstance(job, PullConfig)]
    looks = [
        (job, meanwhile(lambda job=job: asking.read(job)))  # type: ignore[misc]
        for job in pulls
        if job.remote_status != asking.NOT_ASKED
    ]
    heard: dict[str, _Heard] = {}
    remarks: dict[str, Finding] = {}
    for job, look in looks:
        try:
            found = look(patience_s)
        except TimeoutError:
            # The pull itself tells of its folder.
            continue
        answer = _heard(job, found) if found else None
        if found and answer is None:
            why = _WHY.get(found.refused or "odd", "it did not answer")
            reason = f"{job.host} does not tell how its jobs are ({why})"
            remarks[job.host] = Finding(Health.UNKNOWN, reason, _HOW, "peer-untold")
        elif answer and (job.host not in heard or heard[job.host].at < answer.at):
            heard[job.host] = answer
    judged: dict[str, Judged] = {}
    for host, answer in heard.items():
        remarks.pop(host, None)
        judged |= _judged(answer, now)
        if left_out := answer.status.left_out:
            reason = f"{host} has {counted(left_out, 'more job')} than it tells of"
            remarks[host] = Finding(Health.OK, reason, code="peer-more")
    return judged, remarks


def _heard(job: PullConfig, found: Told) -> _Heard | None:
    """Read an answer; None if there is none that can be read."""
    try:
        status = PublicStatus.from_json(bounded.parse(found.text.encode()))
        at = clock.from_text(found.told_at)
        return _Heard(job, status, at, datetime.fromtimestamp(found.their_now, UTC) - at)
    except (*bounded.FAULTS, OverflowError):
        return None


def _judged(heard: _Heard, now: Clock) -> dict[str, Judged]:
    host, aged = heard.job.host, _aged(heard, now)
    judged = {}
    for job in heard.status.jobs:
        found = aged
        if found is None or HEALTHS[job.health] == Health.FAILING:
            found = _as_told(host, job)
        judged[f"{host}/{job.job}"] = Judged(_entry(job, heard.ahead, now), found)
    return judged


def _as_told(host: str, job: PublicJob) -> Finding:
    health = HEALTHS[job.health]
    if health == Health.OK:
        return Finding(health)
    reason = f"{host} says {job.health}" + (f": {job.code}" if job.code else "")
    return Finding(health, reason, f"run gymdbd status on {host}", job.code)


def _aged(heard: _Heard, now: Clock) -> Finding | None:
    """Return why an answer says nothing of today, None if it does.

    How old the status was is judged by the clock over there alone, and how long ago it came by ours
    alone: the two may differ by years.
    """
    host, moment = heard.job.host, now.now()
    since = moment - heard.at
    if since < -_CLOCKS_DIFFER:
        reason = f"{host} told how its jobs are in the future"
        return Finding(Health.UNKNOWN, reason, "check the clock of this machine", "clock-wrong")
    limit = verdict.max_age(heard.job, moment, now.zone) + _BETWEEN
    if since > limit:
        reason = f"{host} last told how its jobs are {age(since.total_seconds())} ago"
        hint = f"see whether it can be reached, and whether it still tells; {_HOW}"
        return Finding(Health.LATE, reason, hint, "peer-unheard")
    written = heard.at + heard.ahead - heard.status.now
    if written < -_CLOCKS_DIFFER:
        reason = f"the clock of {host} was set back since it noted how its jobs are"
        return Finding(Health.UNKNOWN, reason, f"check the clock of {host}", "clock-wrong")
    if written > _SILENT:
        reason = f"the daemon of {host} had not noted for {age(written.total_seconds())} how its "
        hint = f"see whether it is running there: gymdbd status on {host}"
        return Finding(Health.LATE, f"{reason}jobs are", hint, "peer-silent")
    return None


def _entry(job: PublicJob, ahead: timedelta, now: Clock) -> Entry:
    """Return what is known of a job, its moments by our clock."""

    def ours(text: str | None) -> str | None:
        moment = instant(text)
        try:
            return clock.to_text(moment - ahead, now.zone) if moment else None
        except (OverflowError, ValueError):
            return None

    return Entry(
        kind=job.kind or None,
        state=_STATES.get(job.health),
        last_run=ours(job.last_run),
        last_success=ours(job.last_success),
        next_run=ours(job.next_run),
        code=job.code or None,
    )
