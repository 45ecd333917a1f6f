"""Sources that cannot be backed up: each has its own error, and costs no earlier backup."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.archive.catalog import Catalog
from gymdbd.errors import StoppedError
from gymdbd.jobs.backup import backup
from gymdbd.source import live, snapshot
from gymdbd.source.errors import SourceLockedError
from tests.support.command import ORDINARY_USER, gymdbd, gymdbd_json
from tests.support.databases import backups, make_database, query, sqlite_elsewhere, tree
from tests.support.disks import mounted
from tests.support.jobs import backup_job, context, write_config
from tests.support.pulling import crash_after

if TYPE_CHECKING:
    from pathlib import Path

# Says that nothing is pruned.
_FROZEN = ".frozen.json"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Give a folder with a good database `gym.db` and an archive with two good backups of it."""
    make_database(tmp_path / "gym.db", rows=2000)
    (tmp_path / "archive").mkdir(mode=0o700)
    for _ in range(2):
        assert _back_up(tmp_path)[0] == 0
    return tmp_path


def _back_up(
    place: Path, *flags: str, prefix: list[str] | None = None
) -> tuple[int, dict[str, Any]]:
    return gymdbd_json(
        "backup",
        *("--database", place / "gym.db"),
        *("--archive", place / "archive"),
        *flags,
        prefix=prefix,
    )


def _expect(place: Path, code: str, *, prefix: list[str] | None = None) -> dict[str, Any]:
    """Back up, see it fail with `code`, exit code 1 and a hint, and no backup changed."""
    before = tree(place / "archive")
    exit_code, answer = _back_up(place, prefix=prefix)
    assert (exit_code, answer["state"], answer["code"]) == (1, "failed", code), answer
    assert answer["hint"] != ""
    after = tree(place / "archive")
    assert {name: sum_ for name, sum_ in after.items() if not name.endswith(_FROZEN)} == before
    return answer


def test_a_missing_source_is_an_error_and_is_not_created(place: Path) -> None:
    """SQLite would create it; gymdbd says that it is missing."""
    (place / "gym.db").unlink()
    before = sorted(place.iterdir())
    _expect(place, "source-missing")
    assert sorted(place.iterdir()) == before


def test_a_missing_source_creates_no_archive_either(tmp_path: Path) -> None:
    """A mistyped path leaves nothing behind."""
    exit_code, answer = gymdbd_json("backup", "--database", "instance/gym.db", cwd=tmp_path)
    assert (exit_code, answer["code"]) == (1, "source-missing")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_source_is_an_error(place: Path) -> None:
    """A file of zero bytes passes SQLite's integrity check; it is no database."""
    (place / "gym.db").write_bytes(b"")
    _expect(place, "source-empty")


@pytest.mark.parametrize("size", [0, 1])
def test_the_wal_of_an_emptied_source_is_left_alone(place: Path, size: int) -> None:
    """SQLite would remove it at the first look; it may be all that is left of the last changes."""
    source, wal = place / "gym.db", place / "gym.db-wal"
    crash_after(source, "PRAGMA wal_autocheckpoint=0", "INSERT INTO t (text) VALUES ('new')")
    before = wal.read_bytes()
    os.truncate(source, size)
    assert "gym.db-wal" in _expect(place, "source-empty")["hint"]
    assert wal.read_bytes() == before


def test_a_folder_is_an_error(place: Path) -> None:
    """The path of a folder is named as such."""
    (place / "gym.db").unlink()
    (place / "gym.db").mkdir()
    assert "folder" in _expect(place, "source-not-a-file")["error"]


def test_a_pipe_is_an_error_and_returns_at_once(place: Path) -> None:
    """Opening a pipe would wait for its other end for ever."""
    (place / "gym.db").unlink()
    os.mkfifo(place / "gym.db")
    started = time.monotonic()
    assert "pipe" in _expect(place, "source-not-a-file")["error"]
    assert time.monotonic() - started < 5


def test_a_symbolic_link_to_a_database_is_followed(place: Path) -> None:
    """The backup holds what the link leads to, its WAL included, and is named after the link."""
    (place / "elsewhere").mkdir()
    (place / "gym.db").rename(place / "elsewhere" / "real.db")
    (place / "gym.db").symlink_to("elsewhere/real.db")
    with closing(sqlite3.connect(place / "elsewhere" / "real.db")) as connection:
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("INSERT INTO t (text) VALUES ('in the WAL')")
        connection.commit()
        exit_code, result = _back_up(place, "--skip-checkpoint")
    assert exit_code == 0
    assert query(result["path"], "SELECT count(*) FROM t") == [(2001,)]
    assert len(backups(place / "archive")) == 3


def test_a_loop_of_symbolic_links_is_an_error(place: Path) -> None:
    """It is told apart from a missing file."""
    (place / "gym.db").unlink()
    (place / "gym.db").symlink_to("gym2.db")
    (place / "gym2.db").symlink_to("gym.db")
    _expect(place, "source-not-a-file")


def test_a_source_that_may_not_be_read_is_an_error(place: Path) -> None:
    """An ordinary user without permission is told so, with the user's number."""
    (place / "gym.db").chmod(0)
    answer = _expect(place, "source-unreadable", prefix=ORDINARY_USER)
    assert f"uid {os.geteuid()}" in answer["error"]


def test_a_source_in_a_folder_that_may_not_be_entered_is_an_error(place: Path) -> None:
    """It is not taken for missing."""
    hidden = place / "hidden"
    hidden.mkdir()
    (place / "gym.db").rename(hidden / "real.db")
    (place / "gym.db").symlink_to("hidden/real.db")
    hidden.chmod(0)
    try:
        _expect(place, "source-unreadable", prefix=ORDINARY_USER)
    finally:
        hidden.chmod(0o700)


def test_a_file_that_is_not_sqlite_is_an_error(place: Path) -> None:
    """Text is not a database, however long."""
    (place / "gym.db").write_text("once upon a time\n" * 1000)
    _expect(place, "source-not-a-database")


@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_truncated_source_is_corrupt(place: Path, kept: float) -> None:
    """A database whose end is missing is damaged, and pruning is frozen."""
    size = (place / "gym.db").stat().st_size
    os.truncate(place / "gym.db", int(size * kept))
    _expect(place, "source-corrupt")
    assert len(list((place / "archive").glob(f".gym.*{_FROZEN}"))) == 1


def test_a_flipped_page_is_corrupt(place: Path) -> None:
    """Damage inside a page that reading does not stumble over is found by the check."""
    _flip_a_page(place / "gym.db")
    _expect(place, "source-corrupt")


def test_a_schema_that_is_no_text_is_corrupt(place: Path) -> None:
    """SQLite quotes what it found there, and its words are shown though they are no UTF-8."""
    path = place / "gym.db"
    data = path.read_bytes()
    assert data.count(b"CREATE TABLE t (") == 1
    path.write_bytes(data.replace(b"CREATE TABLE t (", b"CREATE TABLE\xf4t ("))
    assert "malformed database schema (t)" in _expect(place, "source-corrupt")["error"]


def test_pruning_stays_frozen_until_a_backup_has_been_made(place: Path) -> None:
    """One that was begun and stopped proves nothing about the source."""
    good = (place / "gym.db").read_bytes()
    _flip_a_page(place / "gym.db")
    assert _back_up(place)[0] == 1
    (place / "gym.db").write_bytes(good)
    job = backup_job(place / "gym.db", place / "archive")
    catalog = Catalog(place / "archive", UTC)

    def stop() -> None:
        raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        backup.run(job, context(check=stop))
    assert "damaged" in catalog.frozen(job.origin)
    backup.run(job, context())
    assert catalog.frozen(job.origin) == ""


def test_a_corrupt_source_freezes_pruning_until_a_good_backup(place: Path) -> None:
    """Nothing is removed and prune says why; the next good backup lets pruning go on."""
    good = (place / "gym.db").read_bytes()
    _flip_a_page(place / "gym.db")
    assert _back_up(place, "--cleanup", "--keep-days=0", "--keep-count=1")[0] == 1
    prune = ("prune", "--archive", place / "archive", "--keep-count", "1")
    exit_code, answer = gymdbd_json(*prune, "--dry-run")
    assert exit_code == 0
    assert [one["stays"] for one in answer["backups"]] == [True, True]
    assert all("pruning is frozen" in one["reason"] for one in answer["backups"])
    assert gymdbd_json(*prune)[1]["pruned"] == []
    assert len(backups(place / "archive")) == 2

    (place / "gym.db").write_bytes(good)
    exit_code, result = _back_up(place, "--cleanup", "--keep-days=0", "--keep-count=1")
    assert exit_code == 0
    assert len(result["pruned"]) == 2
    assert [str(path) for path in backups(place / "archive")] == [result["path"]]


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_source_under_an_exclusive_lock_is_reported_with_its_holder(
    tmp_path: Path, mode: str
) -> None:
    """After the busy timeout, not for ever, the error names the process that holds the lock."""
    database = make_database(tmp_path / "gym.db", mode=mode)
    (tmp_path / "archive").mkdir()
    path = write_config(
        tmp_path,
        {
            "nightly": {
                "every": "1h",
                "database": str(database),
                "archive": "archive",
                "busy_timeout": "1s",
                "retry": {"attempts": 1},
            }
        },
    )
    started = time.monotonic()
    with sqlite_elsewhere(
        database,
        "PRAGMA locking_mode=EXCLUSIVE",
        "BEGIN EXCLUSIVE",
        "INSERT INTO t (text) VALUES ('x')",
    ) as holder:
        exit_code, answer = gymdbd_json("-c", path, "backup", "nightly")
    assert (exit_code, answer["code"]) == (1, "source-locked")
    assert f"(pid {holder.pid})" in answer["error"]
    assert time.monotonic() - started < 10
    assert backups(tmp_path / "archive") == []


def test_a_hot_journal_is_not_rolled_back_behind_the_applications_back(place: Path) -> None:
    """A crash in rollback-journal mode left a journal that a reader may not touch: it is told."""
    _crash_in_mid_transaction(place / "gym.db")
    before = (place / "gym.db").read_bytes()
    exit_code, answer = _back_up(place, "--skip-checkpoint")
    assert (exit_code, answer["code"]) == (1, "source-unreadable"), answer
    assert "journal" in answer["hint"]
    assert (place / "gym.db").read_bytes() == before
    assert (place / "gym.db-journal").exists()
    assert len(backups(place / "archive")) == 2


def test_a_failure_is_text_with_a_hint_for_people(place: Path) -> None:
    """Without --json the error and what to do are on stderr, and stdout is empty."""
    (place / "gym.db").unlink()
    done = gymdbd("backup", "--database", place / "gym.db", "--archive", place / "archive")
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no database at" in done.stderr
    assert "What to do:" in done.stderr


def _flip_a_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096 * 5)
        page = bytes(byte ^ 0xFF for byte in file.read(4096))
        file.seek(4096 * 5)
        file.write(page)


def _crash_in_mid_transaction(path: Path) -> None:
    """Kill a process that has spilled a transaction of its own into the database."""
    script = (
        "import os, signal, sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('PRAGMA journal_mode=DELETE')\n"
        "connection.execute('PRAGMA cache_size=5')\n"
        "connection.execute('BEGIN')\n"
        "connection.execute(\"UPDATE t SET text = upper(text) || 'x'\")\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.with_name(path.name + "-journal").stat().st_size > 0


def test_a_database_that_is_replaced_while_it_is_opened_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its main file would be read without its WAL, which is found by its name; the new one is read.

    One that is replaced each time is refused.
    """
    source = tmp_path / "gym.db"
    opened = live.LiveConnection
    replacements: list[int] = []

    def replace(path: Path, **options: Any) -> live.LiveConnection:
        reader = opened(path, **options)
        if replacements:
            new = make_database(tmp_path / "new.db", rows=replacements.pop(), mode="delete")
            new.replace(path)
        return reader

    monkeypatch.setattr(live, "LiveConnection", replace)
    make_database(source, rows=10)
    replacements[:] = [25]
    with snapshot.Snapshot(source) as held:
        assert held.count_rows() == {"t": 25}
    replacements[:] = [30] * 9
    with pytest.raises(SourceLockedError, match=r"gym\.db was replaced by another file"):
        snapshot.Snapshot(source)


def test_the_pages_of_a_database_that_replaced_it_are_not_read(tmp_path: Path) -> None:
    """The snapshot is of the file that it began with."""
    source = make_database(tmp_path / "gym.db", rows=10)
    with snapshot.Snapshot(source) as held:
        make_database(tmp_path / "new.db", rows=25).replace(source)
        with pytest.raises(SourceLockedError, match="was replaced by another file"):
            held.open_file("")
        assert held.count_rows() == {"t": 10}


def test_a_full_disk_under_the_source_is_named_and_not_taken_for_a_failing_one(
    tmp_path: Path,
) -> None:
    """SQLite needs a few KiB beside a database in WAL mode to read it."""
    (tmp_path / "archive").mkdir(mode=0o700)
    with mounted(tmp_path, "tmpfs", size="256k") as disk:
        make_database(disk / "gym.db", rows=10)
        with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        code, told = gymdbd_json(
            "backup", "--database", disk / "gym.db", "--archive", tmp_path / "archive"
        )
        assert (code, told["hint"]) == (
            1,
            f"free some space (df -h {disk}): SQLite needs some for its -shm file",
        )
