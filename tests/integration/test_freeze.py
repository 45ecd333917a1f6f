"""Nothing is pruned while the database cannot be read as one, whatever the reason."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from gymdbd.archive.catalog import Catalog
from gymdbd.config.parts import Keep
from gymdbd.jobs.backup import backup
from gymdbd.jobs.prune import prune
from gymdbd.source.errors import UNSOUND, SourceLockedError, SourceUnreadError
from tests.integration.test_damaged import SPOIL
from tests.support import samples
from tests.support.application import application
from tests.support.command import ORDINARY_USER, gymdbd
from tests.support.databases import backups, make_database
from tests.support.jobs import backup_job, context

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.config.kinds import BackupConfig, PullConfig
    from tests.support.pulling import Peer

_ONE = Keep(days=0, count=1)


def _three_backups(tmp_path: Path, **changes: object) -> BackupConfig:
    job = backup_job(make_database(tmp_path / "gym.db"), tmp_path / "archive", keep=None, **changes)
    for _ in range(3):
        backup.run(job, context())
    return job


def _pruned(job: BackupConfig | PullConfig, archive: Path) -> int:
    """Prune by a rule that keeps one backup; return how many went."""
    catalog = Catalog(archive, context().clock.zone)
    return sum(not decision.stays for decision in prune(catalog, job.origin, _ONE, context()))


@pytest.mark.parametrize("how", sorted(SPOIL))
def test_a_source_that_is_no_database_freezes_pruning_until_it_is_one(
    tmp_path: Path, how: str
) -> None:
    """Each older backup may be the last good one; a new one shows that they are not needed."""
    job = _three_backups(tmp_path)
    before = job.database.read_bytes()
    SPOIL[how](job.database)
    with pytest.raises(UNSOUND):
        backup.run(job, context())
    assert _pruned(job, job.archive) == 0
    for side in tmp_path.glob("gym.db-*"):
        side.unlink()
    job.database.write_bytes(before)
    backup.run(job, context())
    assert _pruned(job, job.archive) == 3


def test_a_wal_that_was_cut_under_the_application_freezes_pruning(tmp_path: Path) -> None:
    """It is not said to be damaged: its pages are missing, and it is saved as it is."""
    job = _three_backups(tmp_path, checkpoint="none")
    with application(job.database) as app:
        app.write(2000)
        wal = job.database.with_name("gym.db-wal")
        os.truncate(wal, wal.stat().st_size // 2)
        with pytest.raises(SourceUnreadError) as caught:
            backup.run(job, context())
    assert "damaged" not in caught.value.message
    assert "-wal" in caught.value.hint
    assert _pruned(job, job.archive) == 0
    (copy,) = (job.archive / "gym.damaged").glob("*.db")
    assert copy.with_name(copy.name + "-wal").exists()


def test_a_source_that_is_locked_freezes_nothing(tmp_path: Path) -> None:
    """Its application is at work: that says nothing about the database."""
    job = _three_backups(tmp_path, busy_timeout=timedelta(0), checkpoint="none")
    with closing(sqlite3.connect(job.database, isolation_level=None)) as app:
        app.execute("PRAGMA locking_mode=EXCLUSIVE")
        app.execute("DELETE FROM t")
        with pytest.raises(SourceLockedError):
            backup.run(job, context())
    assert _pruned(job, job.archive) == 2


def test_a_backup_that_is_not_made_thaws_nothing(tmp_path: Path) -> None:
    """Only a new backup shows that the older ones are not needed."""
    job = _three_backups(tmp_path, busy_timeout=timedelta(0), checkpoint="none")
    Catalog(job.archive, context().clock.zone).freeze(job.origin, "damaged", context().clock.now())
    with closing(sqlite3.connect(job.database, isolation_level=None)) as app:
        app.execute("PRAGMA locking_mode=EXCLUSIVE")
        app.execute("DELETE FROM t")
        with pytest.raises(SourceLockedError):
            backup.run(job, context())
    assert _pruned(job, job.archive) == 0


@pytest.mark.parametrize("how", ["missing", "denied"])
def test_a_source_that_cannot_be_reached_is_not_called_damaged(tmp_path: Path, how: str) -> None:
    """A file that is not there, or not ours to read, freezes nothing."""
    job = _three_backups(tmp_path)
    if how == "missing":
        job.database.unlink()
    else:
        job.database.chmod(0)
    words = ("--database", job.database, "--archive", job.archive)
    done = gymdbd("backup", *words, prefix=ORDINARY_USER)
    assert done.returncode == 1
    assert "damaged" not in done.stderr
    assert not (job.archive / "gym.damaged").exists()
    assert _pruned(job, job.archive) == 2


@pytest.mark.parametrize("how", samples.sample(sorted(SPOIL), "freeze", size=1))
def test_a_remote_database_that_is_none_freezes_the_old_replicas(peer: Peer, how: str) -> None:
    """Until a pull succeeds, each of them may be the last good state."""
    peer.database.unlink()
    make_database(peer.database, mode="delete")
    for number in range(4):
        with closing(sqlite3.connect(peer.database, isolation_level=None)) as app:
            app.execute(f"PRAGMA user_version={number}")
        peer.pull(verify="full")
    held = backups(peer.archive)
    assert len(held) == 3
    before = peer.database.read_bytes()
    SPOIL[how](peer.database)
    with pytest.raises(UNSOUND):
        peer.pull(verify="full")
    assert _pruned(peer.job(), peer.archive) == 0
    assert backups(peer.archive) == held
    for side in peer.database.parent.glob(f"{peer.database.name}-*"):
        side.unlink()
    peer.database.write_bytes(before)
    peer.pull(verify="full")
    # A pull of the same content may keep the replica before it, or find nothing to replace.
    assert _pruned(peer.job(), peer.archive) in (2, 3)
