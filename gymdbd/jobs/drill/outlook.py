"""Whether the next drill has a backup, the room and its command."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from gymdbd import files
from gymdbd.archive.catalog import LATEST, Catalog
from gymdbd.jobs.drill import command as commands
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
        files.require_space(job.scratch_in, backup.size)
        checks = [Check(name, OK, str(backup.path))]
    except GymdbdError as error:
        checks = [Check(name, ERROR, error.message, error.hint)]
    if not os.access(job.scratch_in, os.W_OK | os.X_OK):
        checks.append(not_writable(name, job.scratch_in))
    if job.command:
        checks.append(_examine_command(f"{job.name} command", job.command))
    return checks


def _examine_command(name: str, command: tuple[str, ...]) -> Check:
    found = shutil.which(command[0])
    if found is None:
        hint = "correct command: in the configuration"
        return Check(name, ERROR, f"there is no program {command[0]}", hint)
    try:
        commands.refuse_untrusted(command)
    except GymdbdError as error:
        return Check(name, ERROR, error.message, error.hint)
    return Check(name, OK, found)
