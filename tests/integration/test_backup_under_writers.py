"""Backups of a database that a Flask application is writing to."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

from gymdbd.jobs.backup import backup
from tests.support import samples
from tests.support.command import gymdbd_json
from tests.support.databases import backups, broken_promises, query, tree
from tests.support.gym import App, running_app
from tests.support.jobs import backup_job, context
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

_NEVER = 0
_RAW_ROUNDS = samples.count(15, of=60)


def _rent_over_http(app: App, stop: threading.Event, rented: list[int]) -> None:
    while not stop.is_set():
        rented.append(app.ask("POST", "/rentals", {"fee": 3})["id"])


def test_every_backup_under_requests_and_a_full_rate_writer_is_whole_and_fresh(
    tmp_path: Path,
) -> None:
    """Each backup is sound, adds up, and holds every row committed before it began."""
    stop = threading.Event()
    rented: list[int] = []
    with running_app(tmp_path / "gym_system.db") as app:
        visitor = threading.Thread(target=_rent_over_http, args=(app, stop, rented))
        app.ask("POST", "/writer")
        visitor.start()
        try:
            until(lambda: len(rented) > 3, "visitors rent lockers")
            app.wait_for_commits(500)
            job = backup_job(app.database, tmp_path / "archive")
            verdicts = []
            for _ in range(6):
                before = app.ask("GET", "/totals")["rentals"]
                result = backup.run(job, context())
                after = app.ask("GET", "/totals")["rentals"]
                verdicts.append((broken_promises(result.path), result.tables["rentals"]))
                assert before <= result.tables["rentals"] <= after
                assert query(result.path, "SELECT count(*) FROM rentals") == [
                    (result.tables["rentals"],)
                ]
        finally:
            stop.set()
            visitor.join()
        writer = app.ask("DELETE", "/writer")
    assert [found for found, _ in verdicts] == [[]] * 6
    assert len({rentals for _, rentals in verdicts}) == 6
    assert len(backups(tmp_path / "archive")) == 6
    assert writer["trouble"] == ""


def test_a_backup_without_a_checkpoint_does_not_block_the_writer(tmp_path: Path) -> None:
    """The writer goes on committing during the backup, and no commit waits for half a second."""
    during: list[int] = []
    with running_app(tmp_path / "gym_system.db") as app:
        app.ask("POST", "/writer")
        app.wait_for_commits(5000)
        app.ask("DELETE", "/writer")
        app.ask("POST", "/writer")
        app.wait_for_commits(50)
        job = backup_job(app.database, tmp_path / "archive", checkpoint="none")

        def progress(step: str, done: int, total: int) -> None:
            del step, done, total
            now = app.ask("GET", "/writer")["commits"]
            app.wait_for_commits(now + 20)
            during.append(now)

        backup.run(job, context(progress=progress))
        writer = app.ask("DELETE", "/writer")
    assert during, "the snapshot told no progress"
    assert (writer["trouble"], writer["slowest_s"] < 0.5) == ("", True), writer


def test_a_checkpointing_backup_holds_the_writer_up_for_less_than_the_busy_timeout(
    tmp_path: Path,
) -> None:
    """No commit fails, and none waits as long as the busy timeout of five seconds."""
    with running_app(tmp_path / "gym_system.db") as app:
        app.ask("POST", "/writer")
        app.wait_for_commits(1000)
        result = backup.run(backup_job(app.database, tmp_path / "archive"), context())
        writer = app.ask("DELETE", "/writer")
    assert result.checkpoint.busy == 0
    assert (writer["trouble"], writer["slowest_s"] < 5) == ("", True), writer


def test_a_backup_holds_the_rows_that_are_only_in_the_wal(tmp_path: Path) -> None:
    """With no checkpoint at all the main file lacks the rows, and the backup has them."""
    with running_app(tmp_path / "gym_system.db", autocheckpoint=_NEVER) as app:
        backup.run(backup_job(app.database, tmp_path / "earlier"), context())  # Checkpoints.
        for _ in range(7):
            app.ask("POST", "/rentals", {"fee": 5})
        shutil.copyfile(app.database, tmp_path / "copy.db")
        exit_code, result = gymdbd_json(
            "backup",
            *("--database", app.database),
            *("--archive", tmp_path / "archive"),
            "--skip-checkpoint",
        )
    count = "SELECT count(*) FROM rentals"
    assert query(tmp_path / "copy.db", count) == [(0,)]
    assert exit_code == 0
    assert query(result["path"], count) == [(7,)]
    assert broken_promises(result["path"]) == []


def test_skip_checkpoint_leaves_the_source_byte_for_byte_as_it_was(tmp_path: Path) -> None:
    """Neither the main file nor the WAL changes, also when gymdbd closes last."""
    with running_app(tmp_path / "gym_system.db", autocheckpoint=_NEVER) as app:
        for _ in range(20):
            app.ask("POST", "/rentals", {"fee": 1})
        wal = tmp_path / "gym_system.db-wal"
        before = _digests(app.database, wal)
        exit_code, result = gymdbd_json(
            "backup",
            *("--database", app.database),
            *("--archive", tmp_path / "archive"),
            "--skip-checkpoint",
        )
        after = _digests(app.database, wal)
    assert exit_code == 0
    assert result["checkpoint"]["busy"] is None
    assert after == before


def test_a_source_that_nobody_has_open_keeps_its_wal(tmp_path: Path) -> None:
    """A crash left a WAL; a backup that skips the checkpoint reads it and leaves it there."""
    live = tmp_path / "live.db"
    (tmp_path / "crashed").mkdir()
    crashed = tmp_path / "crashed" / "gym_system.db"
    with running_app(live, autocheckpoint=_NEVER) as app:
        for _ in range(9):
            app.ask("POST", "/rentals", {"fee": 1})
        shutil.copyfile(live, crashed)
        shutil.copyfile(f"{live}-wal", f"{crashed}-wal")
    before = _digests(crashed, crashed.with_name("gym_system.db-wal"))
    job = backup_job(crashed, tmp_path / "archive", checkpoint="none")
    result = backup.run(job, context())
    assert result.tables["rentals"] == 9
    assert _digests(crashed, crashed.with_name("gym_system.db-wal")) == before


def test_raw_backups_under_a_full_rate_writer_are_whole_snapshots(tmp_path: Path) -> None:
    """The three files belong together: opened as a database they are sound and add up."""
    with running_app(tmp_path / "gym_system.db") as app:
        app.ask("POST", "/writer")
        app.wait_for_commits(500)
        job = backup_job(app.database, tmp_path / "archive", raw=True, checkpoint="none")
        befores, results = [], []
        for _ in range(_RAW_ROUNDS):
            befores.append(app.ask("GET", "/totals")["rentals"])
            results.append(backup.run(job, context()))
        writer = app.ask("DELETE", "/writer")
    assert writer["trouble"] == ""
    for before, result in zip(befores, results, strict=True):
        opened = _copy_with_side_files(result.path, tmp_path)
        assert broken_promises(opened) == []
        assert query(opened, "SELECT count(*) FROM rentals") == [(result.tables["rentals"],)]
        assert result.tables["rentals"] >= before


def test_a_raw_backup_keeps_the_three_files_and_names_them_after_the_backup(
    tmp_path: Path,
) -> None:
    """The rows that were only in the WAL are in the raw backup's WAL, and only there."""
    with running_app(tmp_path / "gym_system.db", autocheckpoint=_NEVER) as app:
        backup.run(backup_job(app.database, tmp_path / "earlier"), context())  # Checkpoints.
        for _ in range(7):
            app.ask("POST", "/rentals", {"fee": 5})
        job = backup_job(app.database, tmp_path / "archive", raw=True, checkpoint="none")
        result = backup.run(job, context())
    (path,) = backups(tmp_path / "archive")
    names = {path.name + suffix for suffix in ("", "-wal", "-shm", ".json")}
    assert set(tree(tmp_path / "archive")) == names
    assert query(path, "SELECT count(*) FROM rentals") == [(0,)]
    opened = _copy_with_side_files(result.path, tmp_path)
    assert query(opened, "SELECT count(*) FROM rentals") == [(7,)]


def _copy_with_side_files(backup_path: str, tmp_path: Path) -> str:
    """Open a copy of a raw backup as a user would, so that its WAL is folded in."""
    target = str(tmp_path / "opened.db")
    for suffix in ("", "-wal"):
        shutil.copyfile(backup_path + suffix, target + suffix)
    with closing(sqlite3.connect(target)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return target


def _digests(*paths: Path) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
