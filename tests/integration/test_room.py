"""A full disk whose backups are all inside the rule: which rule would make room is said."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from gymdbd import files
from gymdbd.archive.catalog import Catalog
from gymdbd.clock import Clock
from gymdbd.config.kinds import PullConfig
from gymdbd.config.parts import Keep
from gymdbd.errors import DiskFullError
from gymdbd.jobs.backup import backup, room
from gymdbd.schedule import Cron
from tests.support.command import gymdbd
from tests.support.databases import backups, make_database
from tests.support.disks import mounted
from tests.support.jobs import backup_job, context

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


def test_a_replica_without_room_names_the_rule_for_its_archive_on_the_same_disk(
    tmp_path: Path,
) -> None:
    """Old replicas lie beside the replica; those of an archive on another disk make no room."""
    with mounted(tmp_path, "tmpfs", size="4m") as disk:
        replica = make_database(disk / "gym.db", rows=1000)
        archive = disk / "old backups"
        for days in (9, 7, 5):
            backup.run(backup_job(replica, archive), context(clock=_Ago(days=days)))
        job = PullConfig(
            name="p",
            kind="pull",
            host="pi",
            remote_database="/x.db",
            replica=replica,
            archive=archive,
            schedule=Cron("0 3 * * *"),
        )
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        missing = int(free / files.SPACE_FACTOR) + 4096
        now = Clock().now()
        with pytest.raises(DiskFullError) as caught:
            room.require(job, Catalog(archive, UTC), missing, now, folder=disk)
        assert caught.value.hint.startswith(f"gymdbd prune --archive '{archive}' --keep-days 9 ")
        shutil.copytree(archive, tmp_path / "elsewhere")
        elsewhere = Catalog(tmp_path / "elsewhere", UTC)
        with pytest.raises(DiskFullError) as caught:
            room.require(job, elsewhere, missing, now, folder=disk)
        assert "prune" not in caught.value.hint
