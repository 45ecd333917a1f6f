"""A full disk whose backups are all inside the rule: which rule would make room is said."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from gymdbd.clock import Clock
from gymdbd.errors import DiskFullError
from gymdbd.job_config import Keep
from gymdbd.jobs import backup
from gymdbd.schedule import Cron
from tests.disks import mounted
from tests.support import backup_job, backups, context, gymdbd, make_database

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class _Ago(Clock):
    """A clock that is some days behind."""

    days: int = 0

    def now(self) -> datetime:
        """Return the instant as many days ago."""
        return super().now() - timedelta(days=self.days, hours=1)


@pytest.mark.parametrize("name", ["nightly", ""])
def test_a_full_disk_names_the_rule_that_would_make_room(name: str, tmp_path: Path) -> None:
    """It keeps as much as it can, and typed as it stands it lets the next backup succeed."""
    database = make_database(tmp_path / "gym.db", rows=1000)
    with mounted(tmp_path, "tmpfs", size="4m") as disk:
        when = {"name": name, "schedule": Cron("0 3 * * *")} if name else {}
        job = backup_job(database, disk / "archive", keep=Keep(days=30), **when)
        for days in (9, 7, 5, 3, 1):
            backup.run(job, context(clock=_Ago(days=days)))
        size = backups(job.archive)[0].stat().st_size
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        (disk / "filler").write_bytes(bytes(free - size // 2))

        with pytest.raises(DiskFullError) as caught:
            backup.run(job, context())

        # Half a backup is free, and one and a tenth are needed: the oldest has to go.
        command, _, told = caught.value.hint.partition(" would free ")
        what = name or f"--archive {job.archive}"
        assert command == f"gymdbd prune {what} --keep-days 9"
        assert told.endswith("(1 backup); or use another disk")
        if not name:
            assert gymdbd(*command.split()[1:]).returncode == 0
            backup.run(job, context())
