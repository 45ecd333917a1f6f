"""Publishing how this machine's jobs are, for those who pull from it.

The file lies in the folder of the unit for what is public (RuntimeDirectory=, /run/gymdbd), which
others may enter and which is no disk, or beside the status file if there is no unit. The group of
the database's owner may read it: the account that serves the database.
"""

from __future__ import annotations

import os
import pwd
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import files
from gymdbd.config.kinds import BackupConfig
from gymdbd.jobs.finding import Finding, Health
from gymdbd.runs import public
from gymdbd.runs.entry import Entry
from gymdbd.runs.public import PublicJob, PublicStatus

if TYPE_CHECKING:
    from gymdbd.config.config import Config
    from gymdbd.runs.health import Judged
    from gymdbd.runs.overview import Overview

# Who reads it takes it for old after three hours.
_FRESH = timedelta(minutes=30)
_WORST_FIRST = (Health.FAILING, Health.LATE, Health.UNKNOWN, Health.OK)


def write(settings: Config, seen: Overview) -> datetime | None:
    """Write the public status; return when it must be written again.

    None if no database of this machine is backed up: then nobody pulls from it. Raises GymdbdError
    if it cannot be written.
    """
    databases = [job.database for job in settings.jobs.values() if isinstance(job, BackupConfig)]
    if not databases:
        return None
    data = of(seen).to_json()
    files.write_atomically(place(settings), data, group=_group(databases[0]))
    return seen.at + _FRESH


def place(settings: Config) -> Path:
    """Return the path of the public status of this machine."""
    folders = os.environ.get("RUNTIME_DIRECTORY", "").split(":")
    return (
        Path(folders[0]) / public.NAME
        if folders[0]
        else settings.status_file.with_name(public.NAME)
    )


def of(seen: Overview) -> PublicStatus:
    """Return what an overview tells in public: its jobs and its machine, the worst first."""
    jobs = [_public(name, judged) for name, judged in seen.jobs.items()]
    if seen.machine and public.MACHINE not in seen.jobs:
        worst = min(seen.machine.values(), key=lambda found: _WORST_FIRST.index(found.health))
        jobs.append(_job(public.MACHINE, public.MACHINE, worst, Entry()))
    jobs.sort(key=lambda job: _WORST_FIRST.index(public.HEALTHS[job.health]))
    return PublicStatus(machine=public.word(seen.host), now=seen.at, jobs=jobs)


def _public(name: str, judged: Judged) -> PublicJob:
    return _job(name, judged.entry.kind or "", judged.found, judged.entry)


def _job(name: str, kind: str, found: Finding, entry: Entry) -> PublicJob:
    return PublicJob(
        job=name,
        kind=kind,
        health=found.health.name.lower(),
        code=found.code,
        last_run=entry.last_run,
        last_success=entry.last_success,
        next_run=entry.next_run,
    )


def _group(database: Path) -> int | None:
    """Return the group of the owner of a database, or of its folder if it is gone."""
    for path in (database, *database.parents):
        try:
            found = path.stat()
        except OSError:
            continue
        try:
            return pwd.getpwuid(found.st_uid).pw_gid
        except KeyError:
            return found.st_gid
    return None
