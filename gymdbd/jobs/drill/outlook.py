"""Whether the next drill has a backup, the room and its command."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from gymdbd import files
from gymdbd.archive.catalog import LATEST, Catalog
from gymdbd.jobs.finding import ERROR, OK, Check, Finding, not_writable
from gymdbd.source.errors import GymdbdError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, tzinfo

    from gymdbd.clock import Clock
    from gymdbd.config.kinds import DrillConfig


def look(
    job: DrillConfig, now: datetime, zone: tzinfo, *, was_good: bool
) -> Iterator[Finding | datetime]:
    """Yield nothing; raise if the archive cannot be read."""
    del now, was_good
    Catalog(job.archive, zone).backups()
    yield from ()


def examine(job: DrillConfig, now: Clock) -> list[Check]:
    """Check that there is a backup to restore, room for it, and the command."""
    name = f"{job.name} backup"
    try:
        backup = Catalog(job.archive, now.zone).find(LATEST, job.origin)
        files.require_space(job.folder.parent, backup.size)
        checks = [Check(name, OK, str(backup.path))]
    except GymdbdError as error:
        checks = [Check(name, ERROR, error.message, error.hint)]
    if not os.access(job.folder.parent, os.W_OK | os.X_OK):
        checks.append(not_writable(name, job.folder.parent))
    if job.command:
        found = shutil.which(job.command[0])
        message = found or f"there is no program {job.command[0]}"
        hint = "" if found else "correct command: in the configuration"
        checks.append(Check(f"{job.name} command", OK if found else ERROR, message, hint))
    return checks
