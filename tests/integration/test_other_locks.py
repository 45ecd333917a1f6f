"""Journals that stay, locks that SQLite does not see by default, disks that are read-only."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from gymdbd.source.errors import SourceLockedError
from gymdbd.source.snapshot import Snapshot
from gymdbd.sqlite import opening
from tests.support.command import gymdbd_json, require
from tests.support.databases import backups, make_database, query, sqlite_elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LARGE = "UPDATE t SET text = upper(text) || 'x'"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Give an empty archive."""
    folder = tmp_path / "archive"
    folder.mkdir()
    return folder


def _change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement).fetchall()


@pytest.mark.parametrize("mode", ["persist", "truncate"])
def test_a_journal_that_is_kept_after_its_transaction_hinders_no_restore(
    tmp_path: Path, archive: Path, mode: str
) -> None:
    """It lies beside the database, and holds nothing that SQLite would roll back."""
    path = make_database(tmp_path / "gym.db", mode=mode)
    assert gymdbd_json("backup", "--database", path, "--archive", archive)[0] == 0
    (backup,) = backups(archive)
    for flags in (("--replace",), ()):
        _change(path, f"PRAGMA journal_mode={mode}", "DELETE FROM t")
        assert path.with_name("gym.db-journal").exists()
        code, result = gymdbd_json("restore", backup, "--to", path, *flags)
        assert (code, result.get("error")) == (0, None)
        assert query(path, "SELECT count(*) FROM t") == [(100,)]
    # Through SQLite it stays the application's.
    assert path.with_name("gym.db-journal").exists()


@contextlib.contextmanager
def _in_a_transaction(path: Path, vfs: str) -> Iterator[subprocess.Popen[str]]:
    """Hold a transaction that has spilled into the database, under the locks of another VFS."""
    uri = f"{path.as_uri()}?{vfs}"
    with sqlite_elsewhere(uri, "PRAGMA cache_size=5", "BEGIN", _LARGE) as process:
        assert opening.has_hot_journal(path)
        yield process


def test_the_lock_folder_of_the_dotfile_vfs_is_waited_for_and_named(tmp_path: Path) -> None:
    """Neither reading nor writing begins beside it; a lock file of the application's is none."""
    path = make_database(tmp_path / "gym.db", rows=2000, mode="delete")
    before = path.read_bytes()
    with _in_a_transaction(path, "vfs=unix-dotfile") as process:
        journal = path.with_name("gym.db-journal").read_bytes()
        for opened in (Snapshot, lambda path, **how: opening.writing(path, **how).__enter__()):
            with pytest.raises(SourceLockedError, match=rf"gym\.db\.lock.*pid {process.pid}"):
                opened(path, busy_timeout_s=0.1)
        assert path.with_name("gym.db-journal").read_bytes() == journal
        process.communicate("\n", timeout=30)
    path.with_name("gym.db.lock").touch()
    with Snapshot(path, busy_timeout_s=0.1) as snapshot:
        assert snapshot.count_rows() == {"t": 2000}
    assert path.read_bytes() == before


def test_the_journal_of_somebody_without_locks_is_left_alone(tmp_path: Path) -> None:
    """It looks like that of a crash, and rolling it back would damage what is being written."""
    path = make_database(tmp_path / "gym.db", rows=2000, mode="delete")
    with _in_a_transaction(path, "nolock=1") as process:
        written, journal = path.read_bytes(), path.with_name("gym.db-journal").read_bytes()
        with (
            pytest.raises(SourceLockedError, match=rf"transaction of .*pid {process.pid}"),
            opening.writing(path),
        ):
            pass
        assert path.read_bytes() == written
        assert path.with_name("gym.db-journal").read_bytes() == journal


def test_a_journal_of_a_crash_is_still_rolled_back(tmp_path: Path) -> None:
    """Nobody has the database open any more."""
    path = make_database(tmp_path / "gym.db", rows=2000, mode="delete")
    with _in_a_transaction(path, "mode=rw") as process:
        process.kill()
    with opening.writing(path) as connection:
        rows = connection.execute("SELECT count(*) FROM t WHERE text LIKE 'row%'").fetchone()
    assert (rows, path.with_name("gym.db-journal").exists()) == ((2000,), False)


def test_a_database_that_is_written_without_locks_while_it_is_read_is_no_snapshot(
    tmp_path: Path,
) -> None:
    """Its reader is told, and its next one is not."""
    path = make_database(tmp_path / "gym.db", rows=2000, mode="delete")
    snapshot = Snapshot(path)
    with snapshot.__class__(path) as whole:
        assert whole.count_rows() == {"t": 2000}
    script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], uri=True); "
    script += f'c.execute("{_LARGE}"); c.commit()'
    subprocess.run([sys.executable, "-c", script, f"{path.as_uri()}?nolock=1"], check=True)
    with pytest.raises(SourceLockedError, match="was written while it was being read"):
        snapshot.confirm()
    snapshot.close()


@pytest.mark.parametrize("flags", [(), ("--raw",)])
def test_an_idle_database_on_a_disk_that_cannot_be_written_is_backed_up(
    tmp_path: Path, archive: Path, flags: tuple[str, ...]
) -> None:
    """In WAL mode, with nothing beside it."""
    (tmp_path / "place").mkdir()
    path = make_database(tmp_path / "place" / "gym.db")
    inside = f"mount --bind {path.parent} {path.parent} && "
    inside += f'mount -o remount,bind,ro {path.parent} && exec "$@"'
    namespace = [require("unshare"), "--mount", "sh", "-c", inside, "sh"]
    code, result = gymdbd_json(
        "backup", "--database", path, "--archive", archive, *flags, prefix=namespace
    )
    assert (code, result.get("error"), result.get("tables")) == (0, None, {"t": 100})
