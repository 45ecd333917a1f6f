"""Whether the next verification can read the archive, and reach the one to repair from."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gymdbd.archive.backup import DAMAGED
from gymdbd.archive.catalog import Catalog
from gymdbd.jobs.context import Context
from gymdbd.jobs.finding import ERROR, OK, WARNING, Check, Finding, not_writable
from gymdbd.log import logger
from gymdbd.source.errors import GymdbdError
from gymdbd.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, tzinfo

    from gymdbd.clock import Clock
    from gymdbd.config.kinds import VerifyConfig
    from gymdbd.config.parts import RepairConfig


def look(
    job: VerifyConfig, now: datetime, zone: tzinfo, *, was_good: bool
) -> Iterator[Finding | datetime]:
    """Yield nothing; raise if the archive cannot be read."""
    del now, was_good
    Catalog(job.archive, zone).backups()
    yield from ()


def examine(job: VerifyConfig, now: Clock) -> list[Check]:
    """Check the archive, and the archive to repair from."""
    found = [_verified_archive(job, now)]
    if job.repair_from is not None:
        found.append(_copies(f"{job.name} repair_from", job.repair_from, now))
    return found


def _verified_archive(job: VerifyConfig, now: Clock) -> Check:
    name = f"{job.name} archive"
    try:
        backups = Catalog(job.archive, now.zone).backups()
    except GymdbdError as error:
        return Check(name, ERROR, error.message, error.hint)
    damaged = [backup.path.name for backup in backups if backup.verdict == DAMAGED]
    if damaged:
        hint = "gymdbd verify reads them again; gymdbd verify --repair fetches good copies"
        return Check(name, ERROR, f"{job.archive}: damaged: {', '.join(damaged)}", hint)
    if not backups:
        return Check(name, WARNING, f"{job.archive} holds no backup yet", "gymdbd backup makes one")
    if not os.access(job.archive, os.W_OK | os.X_OK):
        found = not_writable(name, job.archive)
        return Check(name, WARNING, f"{found.message}, so verdicts are not stored", found.hint)
    share = f", {job.sample}% of them at a time" if job.sample else ""
    return Check(
        name, OK, f"{job.archive}: {counted(len(backups), 'backup')}{share}, none known damaged"
    )


def _copies(name: str, place: RepairConfig, now: Clock) -> Check:
    from gymdbd.jobs.verify import repair  # noqa: PLC0415 - few need it

    try:
        with repair.reach(place, Context(log=logger(), clock=now)) as there:
            count = len(there.names())
    except GymdbdError as error:
        return Check(name, ERROR, error.message, error.hint)
    if count == 0:
        message = f"{there.name} holds no backup with a manifest"
        return Check(name, WARNING, message, "check the path: nothing can be repaired from there")
    return Check(name, OK, f"{there.name} answers and holds {counted(count, 'backup')}")
