"""The checks of `gymdbd check`: everything that a configuration names, without changing it."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from gymdbd import clock, files
from gymdbd.config import state
from gymdbd.config.kinds import BackupConfig
from gymdbd.errors import TimeZoneError
from gymdbd.jobs import kinds, wal_reset
from gymdbd.jobs.backup import outlook
from gymdbd.jobs.finding import ERROR, OK, WARNING, Check, Health, not_writable
from gymdbd.runs import as_owner, clouds, condition, provisions, status
from gymdbd.runs.entry import Status
from gymdbd.source.errors import GymdbdError
from gymdbd.words import counted, service_command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gymdbd.clock import Clock
    from gymdbd.config.config import Config
    from gymdbd.config.kinds import JobConfig


def examine(settings: Config, now: Clock) -> list[Check]:
    """Run all checks of a configuration; whatever they find, nothing is raised."""
    checks = [
        Check("config", OK, f"{settings.source}, {counted(len(settings.jobs), 'job')}"),
        _clock(now),
        *_zone(),
        wal_reset.here(),
        _status(settings),
        *_written("log", settings.log.file),
        *_written("metrics", settings.metrics.textfile if settings.metrics else None),
        *_written("report", settings.report.file if settings.report else None),
    ]
    for job in settings.jobs.values():
        checks += [_next_run(job, now)] if job.is_scheduled else []
        for places, examine_part in _parts(job, now):
            checks += as_owner.examined(job.name, places, examine_part)
    archives = (folder for job in settings.jobs.values() for folder in job.archives())
    return [
        *wal_reset.told_once(checks),
        *_machine(settings, now),
        *provisions.examine(settings),
        *clouds.examine(archives),
    ]


def _machine(settings: Config, now: Clock) -> list[Check]:
    """Check this machine itself."""
    try:
        known = status.StatusFile(settings.status_file).read()
    except GymdbdError:
        known = Status()
    states = {Health.OK: OK, Health.LATE: WARNING}
    return [
        Check(name, states.get(found.health, ERROR), found.reason, found.hint)
        for name, found in condition.begin(settings, known, now.now())().items()
    ]


def _parts(job: JobConfig, now: Clock) -> list[tuple[Sequence[Path], Callable[[], list[Check]]]]:
    """Return what is to be checked of a job, each with the places that one user has to own."""
    if not isinstance(job, BackupConfig):
        return [(job.places(), partial(kinds.outlook(job).examine, job, now))]
    # Root may keep another user's database in an archive of its own.
    return [
        ([job.database], partial(outlook.examine_database, job)),
        ([job.archive], partial(outlook.examine_archive, job, now)),
    ]


def _clock(now: Clock) -> Check:
    text = f"{clock.to_text(now.now(), now.zone)} ({now.zone})"
    if clock.is_plausible(now.now()):
        return Check("clock", OK, text)
    hint = "set the clock, and synchronize it with the network (systemd-timesyncd)"
    return Check("clock", ERROR, f"{text} is wrong", hint)


def _zone() -> list[Check]:
    """Check that the time zone is known; if it is, the check of the clock shows it."""
    try:
        clock.local_zone()
    except TimeZoneError as error:
        return [Check("time zone", ERROR, f"{error.message}; times are shown in UTC", error.hint)]
    fault = clock.fault_of_machine()
    hint = "set it, for example timedatectl set-timezone Europe/Berlin; install the package tzdata"
    return [Check("time zone", WARNING, f"{fault}: using UTC", hint)] if fault else []


def _status(settings: Config) -> Check:
    file = status.StatusFile(settings.status_file)
    try:
        file.read()
        state.require(file.path)
    except GymdbdError as error:
        return Check("status", ERROR, error.message, error.hint)
    # A usual folder is made by the first run.
    if files.is_there(file.path.parent) and not os.access(file.path.parent, os.W_OK):
        return not_writable("status", settings.status_file.parent)
    if file.is_daemon_alive():
        return Check("status", OK, f"{settings.status_file}; the daemon is running")
    return Check(
        "status",
        WARNING,
        f"{settings.status_file}; the daemon is not running",
        f"{service_command('start')}, or gymdbd run",
    )


def _written(name: str, path: Path | None) -> list[Check]:
    """Check that a file which is written all along can be, if one is configured."""
    if path is None:
        return []
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return [not_writable(name, path.parent)]
    return [Check(name, OK, str(path))]


def _next_run(job: JobConfig, now: Clock) -> Check:
    moment = job.when.next_after(now.now(), now.zone)
    seconds = (moment - now.now()).total_seconds()
    hours, minutes = divmod(int(seconds) // 60, 60)
    text = f"runs in {hours} h {minutes} min, at {clock.to_text(moment, now.zone)}"
    return Check(f"{job.name} schedule", OK, text)
