"""How all is in one line, for prompts: by the status file, the last look, and what others told.

No archive and no database is opened: a prompt neither waits for a disk nor wakes one. What only
they show is known from the last look of the daemon, which is at most an hour old.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import bounded, words
from gymdbd.config.unit import PUBLIC_STATUS
from gymdbd.jobs.finding import Finding, Health
from gymdbd.runs import health, peers, public, verdict
from gymdbd.runs.entry import instant
from gymdbd.runs.health import Seen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gymdbd.clock import Clock
    from gymdbd.config.config import Config
    from gymdbd.runs.entry import Entry, Status
    from gymdbd.runs.public import PublicStatus

_PATIENCE_S = 0.3
_YOUNG = timedelta(hours=1)
_MOST_NAMES = 5
_MOST_BYTES = 64 * 1024
_TOLD = (Health.FAILING, Health.LATE, Health.UNKNOWN)


def take(settings: Config, now: Clock) -> tuple[Health, str]:
    """Return the worst health, and a line that says which jobs are not ok.

    Raises GymdbdError if the status file cannot be read, or does not answer at once.
    """
    looks = health.meanwhile(lambda: list(_looks(settings)))
    status, daemon = health.read(settings, _PATIENCE_S)
    found = {}
    for name, job in settings.jobs.items():
        entry = status.of(name)
        found[name] = health.judge(job, entry, lambda _: Seen([]), daemon, now).found
    try:
        known = [look for look in looks(_PATIENCE_S) if look.now > now.now() - _YOUNG]
    except TimeoutError:
        known = []
    for look in known:
        if daemon.started is None or look.now > daemon.started:
            _add(found, look, status)
    others, _ = peers.judge_all(settings, now, _PATIENCE_S)
    found |= {name: judged.found for name, judged in others.items()}
    worst = verdict.worst([finding.health for finding in found.values()])
    if worst == Health.OK:
        jobs = [*settings.jobs, *others]
        return worst, _all_is_well(len(jobs), [status.of(name) for name in settings.jobs], now)
    return worst, _line(found)


def _looks(settings: Config) -> Iterator[PublicStatus]:
    """Yield what looks have published about the jobs of this configuration."""
    for path in (settings.status_file.with_name(public.NAME), Path(PUBLIC_STATUS)):
        try:
            look = public.PublicStatus.from_json(bounded.parse(bounded.read(path, _MOST_BYTES)))
        except (*bounded.FAULTS, OSError):
            continue
        if {job.job for job in look.jobs} - {public.MACHINE} == set(settings.jobs):
            yield look


def _add(found: dict[str, Finding], look: PublicStatus, status: Status) -> None:
    """Add what a look has found, unless the job has run since."""
    for job in look.jobs:
        finding = Finding(Health[job.health.upper()], code=job.code)
        before = found.get(job.job, Finding(Health.OK))
        ran = instant(status.of(job.job).last_run)
        if (ran is None or ran < look.now) and before.health == Health.OK:
            found[job.job] = finding


def _all_is_well(jobs: int, entries: list[Entry], now: Clock) -> str:
    moments = [instant(entry.last_success) for entry in entries]
    newest = max((moment for moment in moments if moment), default=None)
    ago = words.age((now.now() - newest).total_seconds()) if newest else ""
    when = f", last success {ago} ago" if newest else ""
    return f"gymdbd: ok, {words.counted(jobs, 'job')}{when}"


def _line(found: dict[str, Finding]) -> str:
    parts = []
    for how in _TOLD:
        names = [name for name, finding in found.items() if finding.health == how]
        told = [f"{name} ({found[name].code})" for name in names[:_MOST_NAMES]]
        told += [f"{len(names) - _MOST_NAMES} more"] if len(names) > _MOST_NAMES else []
        parts += [f"{how.name.lower()}: {', '.join(told)}"] if told else []
    return f"gymdbd: {'; '.join(parts)}; see gymdbd status"
