"""A database that was removed while its application runs is saved from the application."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from gymdbd.config.kinds import RestoreConfig
from gymdbd.errors import TargetInUseError
from gymdbd.jobs.backup import backup
from gymdbd.jobs.restore import restore
from gymdbd.source import identity, uses
from gymdbd.source.errors import AnotherFileError, GymdbdError, SourceMissingError
from gymdbd.sqlite import salvage
from tests.integration.test_emergency import Pi, members, pi
from tests.support.application import application
from tests.support.command import ROOT, environment, gymdbd_json
from tests.support.databases import backups, make_database, query
from tests.support.jobs import backup_job, context

__all__ = ["pi"]

# The log is begun anew after every few commits; each of them adds two rows.
_AT_FULL_RATE = (
    "python print('going', flush=True); connection.execute('PRAGMA wal_autocheckpoint=20'); "
    "insert = 'INSERT INTO t (text) VALUES (1)'; "
    "[connection.execute(one) for _ in iter(int, 1) for one in ('BEGIN', insert, insert, 'COMMIT')]"
)


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """Give a database of 100 rows in a folder of its own."""
    (tmp_path / "live").mkdir()
    return make_database(tmp_path / "live" / "gym.db")


def _remove(live: Path) -> None:
    for path in live.parent.iterdir():
        path.unlink()


def _back_up(
    live: Path, *words: str, prefix: list[str] | None = None
) -> tuple[int, dict[str, object]]:
    archive = live.parent.parent / "archive"
    return gymdbd_json("backup", "--database", live, "--archive", archive, *words, prefix=prefix)


def test_a_removed_database_is_saved_from_its_application(live: Path) -> None:
    """The backup has every row that was committed, and the run fails all the same."""
    with application(live) as app:
        app.write(50)
        for path in live.parent.iterdir():
            path.unlink()
        app.write()
        archive = live.parent.parent / "archive"
        exit_code, answer = gymdbd_json("backup", "--database", live, "--archive", archive)
        assert (exit_code, answer["code"], answer["tables"]) == (1, "another-file", {"t": 151})
        assert f"(pid {app.pid})" in answer["error"]
        assert "gymdbd restore" in answer["hint"]
        assert query(answer["path"], "SELECT count(*) FROM t") == [(151,)]
        exit_code, verified = gymdbd_json("verify", answer["path"], "--archive", archive)
        assert exit_code == 0, verified
        assert [path for path in archive.iterdir() if "partial" in path.name] == []


def test_a_restore_saves_what_it_cannot_overwrite_and_says_who_must_restart(live: Path) -> None:
    """The application goes on in the removed file, and backups fail until it has the new one."""
    _, made = _back_up(live)
    with application(live) as app:
        app.write(50)
        _remove(live)
        exit_code, result = gymdbd_json("restore", str(made["path"]), "--to", live)
        assert exit_code == 0, result
        assert [f"(pid {app.pid})" in who for who in result["restart"]] == [True]
        assert query(result["undo"], "SELECT count(*) FROM t") == [(150,)]
        assert query(live, "SELECT count(*) FROM t") == [(100,)]
        app.write()
        exit_code, answer = _back_up(live)
        assert (exit_code, answer["code"]) == (1, "another-file")
        assert "--deleted" in str(answer["hint"])
        assert _back_up(live, "--deleted")[1]["tables"] == {"t": 151}
    with application(live) as app:
        app.write()
        backup.run(backup_job(live, live.parent.parent / "archive", gates=None), context())


def test_a_removed_database_with_a_rollback_journal_is_saved(tmp_path: Path) -> None:
    """A transaction that is open then is not in the backup."""
    (tmp_path / "live").mkdir()
    live = make_database(tmp_path / "live" / "gym.db", mode="delete")
    with application(live) as app:
        app.run("INSERT INTO t (text) VALUES ('new')")
        _remove(live)
        with pytest.raises(AnotherFileError) as caught:
            backup.run(backup_job(live, tmp_path / "archive"), context())
        assert caught.value.result is not None
        assert caught.value.result.to_json()["tables"] == {"t": 101}
        assert f"(pid {app.pid})" in caught.value.message


def test_a_removed_database_is_saved_under_a_writer_at_full_rate(live: Path) -> None:
    """Every copy is one committed state, though its WAL begins anew all the time."""
    archive = live.parent.parent / "archive"
    job = backup_job(live, archive, deleted=True, gates=None, count_changes=False)
    with application(live) as app:
        app.write()
        _remove(live)
        assert app.run(_AT_FULL_RATE) == "going"
        seen = [backup.run(job, context()).tables["t"] for _ in range(5)]
    assert seen == sorted(set(seen))
    assert [count % 2 for count in seen] == [1] * 5


@pytest.mark.parametrize("index", ["found", "missing"])
def test_a_log_that_would_begin_anew_is_kept_or_copied_again(live: Path, index: str) -> None:
    """What was checkpointed behind the copy of the main file would be in neither copy."""
    target = live.parent.parent / "copy.db"
    with application(live) as app:
        app.write(50)
        _remove(live)
        (use,) = identity.former(uses.look(live))
        assert use.log is not None
        if index == "missing":
            use = dataclasses.replace(use, log=dataclasses.replace(use.log, name="/other-wal"))
        copied: list[int] = []

        def progress(done: int, total: int) -> None:
            copied.append(total)
            if done and len(copied) == 1:
                app.run("PRAGMA wal_checkpoint(PASSIVE)")
                app.write()

        salvage.copy(use, target, progress, busy_timeout_s=1.0)
        with closing(sqlite3.connect(target)) as copy:
            assert copy.execute("SELECT count(*) FROM t").fetchall() == [(app.rows(),)]
        assert len(copied) == (2 if index == "found" else 4)


def test_a_journal_whose_database_cannot_be_saved_is_left_to_its_application(
    tmp_path: Path,
) -> None:
    """It is in the middle of a transaction: nothing takes the place of the removed file."""
    (tmp_path / "live").mkdir()
    live = make_database(tmp_path / "live" / "gym.db", mode="delete")
    _, made = _back_up(live)
    job = RestoreConfig(
        name="restore",
        kind="restore",
        backup=Path(str(made["path"])),
        target=live,
        busy_timeout=timedelta(seconds=0.1),
    )
    with application(live) as app:
        app.run("BEGIN EXCLUSIVE")
        app.run("INSERT INTO t (text) VALUES ('new')")
        live.unlink()
        with pytest.raises(TargetInUseError, match=rf"\(pid {app.pid}\)"):
            restore.run(job, context())
        assert [path.name for path in live.parent.iterdir()] == ["gym.db-journal"]


def test_what_was_copied_is_let_go_of_if_no_backup_comes_of_it(tmp_path: Path) -> None:
    """A daemon would keep the room of each such copy until it ends."""
    (tmp_path / "live").mkdir()
    live = make_database(tmp_path / "live" / f"{'g' * 225}.db")
    with application(live) as app:
        app.write()
        _remove(live)
        with pytest.raises(GymdbdError, match="too long"):
            backup.run(backup_job(live, tmp_path / "archive"), context())
    with os.scandir("/proc/self/fd") as own:
        open_now = [str(Path(one.path).readlink()) for one in own]
    assert [name for name in open_now if name.startswith(str(tmp_path / "archive"))] == []


_AS_NOBODY = """
import os, sys
from pathlib import Path
from gymdbd.source.errors import GymdbdError
from gymdbd.jobs.backup import deleted
from tests.support.jobs import backup_job, context
job = backup_job(Path(sys.argv[1]), Path(sys.argv[2]), deleted=True)
os.setuid(65534)
try:
    deleted.find(job, context())
except GymdbdError as error:
    print(error.code, error.hint)
"""


def test_without_the_right_to_look_the_error_says_who_can(live: Path) -> None:
    """Another user's processes are seen by that user and root only; root is told the truth."""
    archive = live.parent.parent / "archive"
    command = [sys.executable, "-c", _AS_NOBODY, str(live), str(archive)]
    with application(live) as app:
        app.write()
        _remove(live)
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment(), check=True, cwd=ROOT
        )
    assert done.stdout.startswith("not-allowed run this as the user that the app"), done.stderr
    with pytest.raises(SourceMissingError):
        backup.run(backup_job(live, archive, deleted=True), context())


def test_an_emergency_saves_a_removed_database_over_there(pi: Pi) -> None:
    """What the application has is in the archive of that machine; the pull says what is wrong."""
    pi.install()
    with application(pi.database) as app:
        app.run("CREATE TABLE new (x)")
        app.run("INSERT INTO new VALUES (1)")
        pi.database.unlink()
        for suffix in ("-wal", "-shm"):
            pi.database.with_name(pi.database.name + suffix).unlink()
        code, result = pi.emergency()
        (there,) = backups(pi.archive)
        assert (code, result["code"]) == (1, "another-file"), result
        assert f"127.0.0.1:{there}" in [
            f"{one['host'] or ''}:{one['path']}" for one in result["safe_copies"]
        ]
        assert query(there, "SELECT count(*) FROM new") == [(1,)]
        assert members(str(there)) > 1
