"""A live WAL is never removed, not even that of an application that has lost its locks."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from gymdbd.errors import TargetInUseError
from gymdbd.jobs.pull.replica import Replica
from gymdbd.source import live
from gymdbd.source.format import frame_offset
from gymdbd.source.probe import is_unchanged
from gymdbd.sqlite import checkpoint, locks, opening
from gymdbd.sqlite.overwrite import overwrite
from tests.support import engine, forgetful
from tests.support.application import application
from tests.support.command import gymdbd_json
from tests.support.databases import backups, make_database, sqlite_elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Give a database in WAL mode."""
    (tmp_path / "place").mkdir()
    return make_database(tmp_path / "place" / "gym.db")


def _checkpoint(path: Path) -> None:
    assert checkpoint.checkpoint(path, "passive").complete


def _checkpoint_without_guard(path: Path) -> None:
    checkpoint.checkpoint(path, "truncate", guard=False)


def _write(path: Path) -> None:
    with opening.writing(path) as connection:
        connection.execute("INSERT INTO t (text) VALUES ('ours')")


def _fail_to_write(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), opening.writing(path):
        raise ZeroDivisionError


def _fail_to_overwrite(path: Path) -> None:
    content = make_database(path.with_name("content.db"), mode="delete", rows=3000)

    def fail(done: int, total: int) -> None:
        raise ZeroDivisionError(done, total)

    with pytest.raises(ZeroDivisionError), overwrite(content, path, fail):
        pass


def _roll_back(path: Path) -> None:
    Replica(path).roll_back()


_PLACES = [
    _checkpoint,
    _checkpoint_without_guard,
    _write,
    _fail_to_write,
    _fail_to_overwrite,
    _roll_back,
]


_CLOSED = pytest.mark.parametrize("closed", [forgetful.FILE, forgetful.FOLDER], ids=["file", "all"])


@_CLOSED
@pytest.mark.parametrize("work", _PLACES, ids=lambda work: work.__name__.strip("_"))
def test_every_commit_is_there_after_a_connection_of_ours_was_closed(
    database: Path, work: Callable[[Path], None], closed: str
) -> None:
    """SQLite takes ours for the last connection, and the application goes on until it is killed."""
    with forgetful.running(database, closed=closed) as app:
        work(database)
        app.commit_more()
        last = app.kill()
    assert forgetful.missing(database, 1, last) == []


@_CLOSED
@pytest.mark.parametrize("flags", [(), ("--skip-checkpoint",), ("--raw",)])
def test_every_commit_is_there_after_a_backup(
    database: Path, tmp_path: Path, flags: tuple[str, ...], closed: str
) -> None:
    """And the next backup holds what was committed since."""
    archive = tmp_path / "archive"
    archive.mkdir()
    words = ("backup", "--database", database, "--archive", archive)
    with forgetful.running(database, closed=closed) as app:
        assert gymdbd_json(*words, *flags)[0] == 0
        before = app.commit_more()
        code, result = gymdbd_json(*words, *flags)
        last = app.kill()
    assert (code, result["tables"]["commits"] >= before) == (0, True)
    assert forgetful.missing(database, 1, last) == []


@_CLOSED
def test_every_commit_is_there_after_a_restore_into_the_open_database(
    database: Path, tmp_path: Path, closed: str
) -> None:
    """What was committed after the restore is in the file, what came before is in its undo."""
    archive = tmp_path / "archive"
    archive.mkdir()
    assert gymdbd_json("backup", "--database", database, "--archive", archive)[0] == 0
    with forgetful.running(database, "CREATE TABLE commits (number INTEGER PRIMARY KEY)"):
        pass
    assert gymdbd_json("backup", "--database", database, "--archive", archive)[0] == 0
    backup = backups(archive)[-1]
    with forgetful.running(database, closed=closed) as app:
        code, _ = gymdbd_json("restore", backup, "--to", database)
        after = app.commit_more() + 1
        last = app.kill()
    assert code == 0
    assert forgetful.missing(database, after, last) == []


def test_an_application_without_any_lock_is_served_and_goes_on(database: Path) -> None:
    """Neither the probe nor the serving side makes the index anew that it has in its memory."""
    with forgetful.running(database, closed=forgetful.FOLDER) as app:
        for _ in range(3):
            with engine.session(database) as remote:
                known, before = remote.fingerprint, app.committed
                assert remote.count_rows()["commits"] <= before + 1
            file = (known.device, known.inode, known.ctime_ns, known.size)
            frame = (known.frames, known.checksum_one, known.checksum_two)
            salts = bytes.fromhex(known.salts)
            place = frame_offset(known.frames, known.page_size)
            assert not is_unchanged(str(database), file, frame, salts, place)
            app.commit_more()
        last = app.kill()
    assert forgetful.missing(database, 1, last) == []


def test_an_index_that_a_crash_left_is_made_anew(database: Path) -> None:
    """A program that merely reads it is no user: it has not got it in its memory."""
    with forgetful.running(database) as app:
        last = app.kill()
    index = database.with_name(database.name + "-shm")
    index.write_bytes(b"\1" * index.stat().st_size)
    with application(":memory:") as copier:
        copier.run(f"python file = open({str(index)!r}, 'r+b')")
        with opening.reading_live(database) as connection:
            assert connection.execute(
                "SELECT max(number) >= ? FROM commits", (last,)
            ).fetchone() == (1,)


def test_a_database_is_not_replaced_under_an_application_without_locks(
    database: Path, tmp_path: Path
) -> None:
    """It is named, and nothing is removed."""
    archive = tmp_path / "archive"
    archive.mkdir()
    assert gymdbd_json("backup", "--database", database, "--archive", archive)[0] == 0
    (backup,) = backups(archive)
    with forgetful.running(database) as app:
        code, result = gymdbd_json("restore", backup, "--to", database, "--replace")
        app.commit_more()
        last = app.kill()
    assert (code, result["code"], f"(pid {app.pid})" in result["error"]) == (
        1,
        "target-in-use",
        True,
    )
    assert forgetful.missing(database, 1, last) == []


def test_an_application_without_locks_on_the_database_is_told_by_those_on_its_wal(
    database: Path,
) -> None:
    """Also to a user who may not see that process."""
    assert locks.is_held(database) is False
    with forgetful.running(database):
        assert locks.is_held(database) is True
        with pytest.raises(TargetInUseError, match="is open in"):
            locks.require_free(database)


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_whoever_reads_a_database_is_told_by_the_lock(tmp_path: Path, mode: str) -> None:
    """An application that has kept its locks, in either mode; and nobody afterwards."""
    path = make_database(tmp_path / "gym.db", mode=mode)
    with sqlite_elsewhere(path, "BEGIN", "SELECT count(*) FROM t"):
        assert locks.is_held(path) is True
    assert locks.is_held(path) is False


def test_an_application_that_turns_to_wal_mode_meanwhile_keeps_its_wal(tmp_path: Path) -> None:
    """The connection that keeps it looks again before the writer is closed."""
    path = make_database(tmp_path / "gym.db", mode="delete")
    with ExitStack() as stack:
        with opening.writing(path) as connection:
            app = stack.enter_context(forgetful.running(path, "PRAGMA journal_mode=WAL"))
            assert connection.execute("SELECT count(*) > 0 FROM commits").fetchone() == (1,)
        app.commit_more()
        last = app.kill()
    assert forgetful.missing(path, 1, last) == []


def test_whoever_reads_an_idle_database_without_locks_holds_nobody_up(database: Path) -> None:
    """An application that comes meanwhile may do what takes the whole database."""
    reader = live.LiveConnection(database, leave_nothing=True)
    try:
        assert reader.idle
        with application(database) as app:
            assert app.run("PRAGMA journal_mode=DELETE") == "[('delete',)]"
    finally:
        reader.close()
