"""The condition of this machine: its disks as they are now, and as the ledger knows them."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from gymdbd.errors import DiskFailingError
from gymdbd.machine import disks, findings, forecast, hardware
from gymdbd.machine.forecast import Sample
from gymdbd.runs import health, ledger
from gymdbd.runs.status import StatusFile
from gymdbd.source.errors import GymdbdError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from gymdbd.config.config import Config
    from gymdbd.jobs.finding import Finding
    from gymdbd.machine.disks import Disk
    from gymdbd.machine.forecast import Forecast
    from gymdbd.runs.entry import Status
    from gymdbd.runs.line import Line

_PATIENCE_S = 15.0
_RECENT = timedelta(days=1)

_T = TypeVar("_T")


def begin(
    settings: Config,
    status: Status,
    now: datetime,
    *,
    root: Path = hardware.ROOT,
    patience_s: float = _PATIENCE_S,
) -> Callable[[], dict[str, Finding]]:
    """Start to look at this machine; call the result for the findings, by what they are about.

    What does not answer within `patience_s`, or cannot be seen, is in none of them: the jobs tell
    of it.
    """
    places = [health.meanwhile(partial(disks.look, place)) for place in disks.places(settings)]
    lines = health.meanwhile(lambda: _lines(settings, now))

    def answer() -> dict[str, Finding]:
        seen = [disk for place in places if (disk := _seen(place, patience_s))]
        known, least_days = _seen(lines, patience_s) or [], settings.machine.min_free_days
        found = {}
        for disk in disks.merged(seen, _failed(settings, status)):
            expected = _forecast(settings, disk, known, now)
            found[f"disk {disk.name}"] = findings.of_disk(disk, expected, least_days)
        return {**found, **findings.of_hardware(root, _last_weak(known, now))}

    return answer


def _seen(look: Callable[[float], _T], patience_s: float) -> _T | None:
    try:
        return look(patience_s)
    except (OSError, TimeoutError):
        return None


def _lines(settings: Config, now: datetime) -> list[tuple[Line, int]]:
    try:
        return ledger.hourly(StatusFile(settings.status_file).ledger, now - forecast.WINDOW)
    except GymdbdError:
        # Without it there is no forecast.
        return []


def _failed(settings: Config, status: Status) -> set[Path]:
    """Return the archives whose disk has failed in the last run, whether or not it shows now."""
    return {
        job.backups.archive
        for name, job in settings.jobs.items()
        if job.backups and status.of(name).code == DiskFailingError.code
    }


def _last_weak(lines: list[tuple[Line, int]], now: datetime) -> datetime | None:
    """Return when a run of the last day last saw too low a voltage."""
    weak = (line.ended for line, _ in lines if line.under_voltage)
    return max((at for at in weak if now - _RECENT < at <= now), default=None)


def _forecast(
    settings: Config, disk: Disk, lines: list[tuple[Line, int]], now: datetime
) -> Forecast | None:
    folders = [place.folder for place in disk.places]
    jobs = {
        name: job
        for name, job in settings.jobs.items()
        if job.backups and job.backups.archive in folders
    }
    known = (_sample(line, count) for line, count in lines if line.job in jobs)
    samples = sorted(filter(None, known), key=lambda sample: sample.at)
    keep = {name: getattr(job, "keep", None) for name, job in jobs.items()}
    return forecast.of(samples, keep, now)


def _sample(line: Line, count: int) -> Sample | None:
    """Return what a run has seen of the disk, None if the line does not tell."""
    if line.disk_free is None or line.disk_size is None or line.disk_held is None:
        return None
    return Sample(
        at=line.ended,
        job=line.job,
        free=line.disk_free,
        size=line.disk_size,
        held=line.disk_held,
        made=line.size,
        runs=count,
    )
