"""What the page shows: from the overview, the ledger and the archives."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import gymdbd
from gymdbd import disk
from gymdbd.archive.catalog import Catalog
from gymdbd.jobs.finding import Finding, Health
from gymdbd.notices.page import weeks
from gymdbd.notices.page.facts import Archive, Found, Job, Kept, Page
from gymdbd.notices.page.language import Words
from gymdbd.runs import calendar, health, ledger, verdict
from gymdbd.runs.entry import instant
from gymdbd.runs.outcome import Recorded
from gymdbd.runs.status import StatusFile
from gymdbd.source.errors import GymdbdError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date, datetime, tzinfo
    from pathlib import Path

    from gymdbd.archive.backup import Backup
    from gymdbd.config.config import Config
    from gymdbd.config.kinds import JobConfig
    from gymdbd.runs.calendar import Day, Point
    from gymdbd.runs.health import Daemon, Judged
    from gymdbd.runs.line import Line
    from gymdbd.runs.overview import Overview

_BACKUPS = 5
# An archive on a network that is gone must not keep the page waiting.
_PATIENCE_S = 10.0


class _Ledger(NamedTuple):
    """The lines of each job since the calendar begins, and since when there is a ledger."""

    lines: dict[str, list[Line]]
    began: datetime | None = None
    trouble: tuple[Found, ...] = ()


def page(settings: Config, seen: Overview, language: str, *, until: datetime) -> Page:
    """Return the facts of the page of one overview."""
    say = Words(language, seen.zone)
    found = _read_ledger(settings, seen, say)
    machine = (
        *_daemon(seen.daemon, say),
        *(_found(about, part, say) for about, part in seen.machine.items()),
        *found.trouble,
    )
    return Page(
        host=seen.host,
        version=gymdbd.__version__,
        language=language,
        at=seen.at,
        until=until,
        zone=seen.zone,
        # A page that lacks something does not say that all is well.
        health=verdict.worst([seen.health, *(part.health for part in machine)]),
        jobs=tuple(_jobs(settings, seen, found, say)),
        peers=tuple(_peers(seen, found, say)),
        remarks=tuple(_found(host, remark, say) for host, remark in seen.remarks.items()),
        machine=machine,
        archives=tuple(_archives(settings, seen)),
    )


def _read_ledger(settings: Config, seen: Overview, say: Words) -> _Ledger:
    """Read the ledger; if that fails, it says so as a part of the machine."""
    path = StatusFile(settings.status_file).ledger
    lines: dict[str, list[Line]] = {}
    since = calendar.midnight(_first(seen), seen.zone)
    try:
        for line in ledger.read(path, since):
            lines.setdefault(line.job, []).append(line)
        return _Ledger(lines, ledger.began(path))
    except GymdbdError as error:
        found = Finding(Health.UNKNOWN, error.message, error.hint, error.code)
        return _Ledger({}, trouble=(_found("ledger", found, say),))


def _first(seen: Overview) -> date:
    """Return the day with which the calendar begins."""
    return weeks.first_day(seen.at.astimezone(seen.zone).date())


def _jobs(settings: Config, seen: Overview, found: _Ledger, say: Words) -> Iterator[Job]:
    """Yield the jobs of this machine, with their calendars and curves."""
    at = seen.at.astimezone(seen.zone)
    for name, judged in seen.jobs.items():
        job, mine = settings.jobs[name], found.lines.get(name, [])
        when = job.when if job.is_scheduled else None
        days = calendar.days(when, mine, _first(seen), at, found.began)
        drawn = {what: calendar.curve(what, mine, seen.zone) for what in calendar.CURVES}
        curves = {what: points for what, points in drawn.items() if len(points) > 1}
        yield _job(name, judged, say, kind=job.kind, days=tuple(days), curves=curves)


def _peers(seen: Overview, found: _Ledger, say: Words) -> Iterator[Job]:
    """Yield the jobs of other machines, with a calendar of what those told of their runs."""
    at = seen.at.astimezone(seen.zone)
    for name, judged in seen.peers.items():
        mine = found.lines.get(name)
        # When they are due is not known here, nor what was not told.
        days = calendar.days(None, mine, _first(seen), at, None) if mine else []
        yield _job(name, judged, say, days=tuple(days))


def _job(
    name: str,
    judged: Judged,
    say: Words,
    *,
    kind: str = "",
    days: tuple[Day, ...] = (),
    curves: dict[str, list[Point]] | None = None,
) -> Job:
    entry, found = judged.entry, _found(name.rpartition("/")[2], judged.found, say)
    return Job(
        name=name,
        kind=kind or entry.kind or "",
        health=found.health,
        code=found.code,
        what=found.what,
        reason=found.reason,
        hint=found.hint,
        last_good=instant(entry.last_success),
        next_run=instant(entry.next_run),
        failures=entry.consecutive_failures,
        remarks=tuple(_remarks(judged, say)),
        days=days,
        curves=curves or {},
    )


def _remarks(judged: Judged, say: Words) -> Iterator[str]:
    result = judged.entry.result or Recorded({})
    yield from result.remarks
    if result.waiting and not judged.found.hint:
        yield say("waits", name=result.waiting)
    if judged.interrupted and (began := instant(judged.interrupted.started_at)):
        yield say("killed", time=say.moment(began))


def _found(about: str, found: Finding, say: Words) -> Found:
    """Return a finding in the words of the language."""
    well = found.health == Health.OK
    return Found(
        about=about,
        health=found.health,
        code=found.code,
        what="" if well else say.what(found.code),
        reason=found.reason,
        hint=found.hint if well else say.hint(found.code, about, found.hint),
    )


def _daemon(daemon: Daemon, say: Words) -> Iterator[Found]:
    """Yield how the daemon is, if there has ever been one."""
    if daemon.mute:
        state, how = "daemon-mute", Health.UNKNOWN
    elif daemon.alive:
        state, how = "daemon-running", Health.OK
    elif daemon.started is None:
        return
    elif daemon.alive is None:
        state, how = "daemon-unseen", Health.UNKNOWN
    else:
        state, how = "daemon-down", Health.LATE
    yield Found(about="daemon", health=how, code=state, reason=say(state))


def _archives(settings: Config, seen: Overview) -> Iterator[Archive]:
    """Yield the newest backups of each archive; all are read at the same time."""
    reads = {name: _begin(job, seen.zone) for name, job in settings.jobs.items()}
    known = set()
    for name, read in reads.items():
        try:
            found = read(_PATIENCE_S)
        except TimeoutError:
            found = [Archive(name, problem=f"it has not answered for {_PATIENCE_S:g} s")]
        except OSError as error:
            found = [Archive(name, problem=disk.system_error(error).message)]
        for archive in found:
            if archive.folder not in known:
                known.add(archive.folder)
                yield archive


def _begin(job: JobConfig, zone: tzinfo) -> Callable[[float], list[Archive]]:
    return health.meanwhile(lambda: [_archive(folder, zone) for folder in job.archives()])


def _archive(folder: Path, zone: tzinfo) -> Archive:
    try:
        backups, count = Catalog(folder, zone).newest(_BACKUPS)
    except GymdbdError as error:
        return Archive(str(folder), problem=error.message)
    return Archive(str(folder), tuple(map(_kept, backups)), more=max(0, count - _BACKUPS))


def _kept(backup: Backup) -> Kept:
    suspicious = backup.manifest.suspicious if backup.manifest else []
    said = [backup.marks.note, backup.note, backup.unknown, *backup.marks.problems, *suspicious]
    note = "; ".join(filter(None, said))
    return Kept(backup.path.name, backup.created, backup.size, backup.verdict, note)
