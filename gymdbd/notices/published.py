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
from gymdbd.runs import public

if TYPE_CHECKING:
    from gymdbd.config.config import Config
    from gymdbd.runs.overview import Overview

# Who reads it takes it for old after three hours.
_FRESH = timedelta(minutes=30)


def write(settings: Config, seen: Overview) -> datetime | None:
    """Write the public status; return when it must be written again.

    None if no database of this machine is backed up: then nobody pulls from it. Raises GymdbdError
    if it cannot be written.
    """
    databases = [job.database for job in settings.jobs.values() if isinstance(job, BackupConfig)]
    if not databases:
        return None
    data = public.of(seen).to_json()
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
