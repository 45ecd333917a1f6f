"""Reading a backup as a whole finds what is wrong with it, and changes nothing."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
from contextlib import closing
from datetime import UTC
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.archive import manifest as manifests
from gymdbd.archive import proof
from gymdbd.archive.catalog import Catalog
from gymdbd.archive.inspection import inspect
from gymdbd.jobs.backup import backup
from tests.support.databases import make_database, tree
from tests.support.jobs import backup_job, context

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.archive.backup import Backup


def _back_up(tmp_path: Path, **changes: Any) -> Backup:
    source = make_database(tmp_path / "gym.db")
    archive = tmp_path / "archive"
    archive.mkdir()
    backup.run(backup_job(source, archive, **changes), context())
    return _only(archive)


def _only(archive: Path) -> Backup:
    (found,) = Catalog(archive, UTC).backups()
    return found


def test_a_sound_backup_has_no_problems_and_stays_as_it_is(tmp_path: Path) -> None:
    """Not a byte, and no file beside it."""
    made = _back_up(tmp_path)
    before = tree(made.path.parent)
    found = inspect(made)
    assert (found.problems, found.remarks) == ([], [])
    assert tree(made.path.parent) == before


@pytest.mark.parametrize("raw", [False, True])
def test_an_index_of_a_module_that_does_not_fit_is_found(tmp_path: Path, *, raw: bool) -> None:
    """Even if the bytes are those of the manifest, from a gymdbd that did not ask the module."""
    source, archive = tmp_path / "gym.db", tmp_path / "archive"
    with closing(sqlite3.connect(source, isolation_level=None)) as app:
        app.execute("PRAGMA journal_mode=WAL")
        app.execute("PRAGMA wal_autocheckpoint=0")
        app.execute("CREATE VIRTUAL TABLE notes USING fts5(text)")
        app.execute("INSERT INTO notes VALUES ('red wine')")
        backup.run(backup_job(source, archive, raw=raw, checkpoint="none"), context())
    made = _only(archive)
    assert inspect(made).problems == []
    with closing(sqlite3.connect(made.path, isolation_level=None)) as connection:
        connection.execute("UPDATE notes_content SET c0 = 'white wine'")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    _seal_anew(made)
    (problem,) = inspect(_only(archive)).problems
    assert "notes" in problem


def _seal_anew(made: Backup) -> None:
    """Let the manifest describe the file as it is now."""
    assert made.manifest is not None
    sums = vars(proof.checksums(made.path))
    manifests.write(dataclasses.replace(made.manifest, **sums, side_files={}), made.path)


def test_a_raw_backup_is_read_together_with_its_wal(tmp_path: Path) -> None:
    """Its rows are counted with those that are only in the WAL, and nothing is changed."""
    source = make_database(tmp_path / "gym.db")
    archive = tmp_path / "archive"
    archive.mkdir()
    with closing(sqlite3.connect(source)) as app:
        app.execute("PRAGMA wal_autocheckpoint=0")
        app.execute("CREATE TABLE late (n)")
        app.execute("INSERT INTO late VALUES (1)")
        app.commit()
        backup.run(backup_job(source, archive, raw=True, checkpoint="none"), context())
    made = _only(archive)
    assert made.manifest is not None
    assert made.manifest.tables["late"] == 1
    before = tree(archive)
    found = inspect(made)
    assert (found.problems, found.remarks) == ([], [])
    assert tree(archive) == before


@pytest.mark.parametrize("how", ["gone", "emptied", "cut"])
def test_a_raw_backup_without_the_whole_of_its_wal_is_damaged(tmp_path: Path, how: str) -> None:
    """What is left is an older state, which passes every check of its own."""
    source = make_database(tmp_path / "gym.db")
    archive = tmp_path / "archive"
    archive.mkdir()
    with closing(sqlite3.connect(source)) as app:
        app.execute("PRAGMA wal_autocheckpoint=0")
        app.execute("UPDATE t SET text = 'later' WHERE id = 1")
        app.commit()
        backup.run(backup_job(source, archive, raw=True, checkpoint="none"), context())
    wal = archive / f"{_only(archive).path.name}-wal"
    if how == "gone":
        wal.unlink()
    else:
        os.truncate(wal, 0 if how == "emptied" else wal.stat().st_size - 1)
    problems = inspect(_only(archive)).problems
    expected = "its -wal is missing" if how == "gone" else f"{wal.name}: "
    assert [expected in problem for problem in problems] == [True]


@pytest.mark.parametrize("suffix", ["-wal", "-journal", "-shm"])
def test_a_file_beside_a_backup_that_is_not_its_own_is_a_problem(
    tmp_path: Path, suffix: str
) -> None:
    """SQLite would roll it into whatever is restored."""
    made = _back_up(tmp_path)
    made.path.with_name(made.path.name + suffix).write_bytes(b"stray")
    (problem, *_) = inspect(_only(made.path.parent)).problems
    assert f"{made.path.name}{suffix} lies beside it" in problem


def test_a_violated_foreign_key_is_a_remark(tmp_path: Path) -> None:
    """The source had it too: the copy is true."""
    source = tmp_path / "gym.db"
    with closing(sqlite3.connect(source)) as app:
        app.execute("CREATE TABLE a (id INTEGER PRIMARY KEY)")
        app.execute("CREATE TABLE b (a REFERENCES a)")
        app.execute("INSERT INTO b VALUES (7)")
        app.commit()
    archive = tmp_path / "archive"
    archive.mkdir()
    backup.run(backup_job(source, archive), context())
    found = inspect(_only(archive))
    assert (found.problems, found.remarks) == ([], ["foreign keys are violated in b"])


def test_a_changed_row_is_found_by_the_checksums(tmp_path: Path) -> None:
    """Its size, integrity and row counts are what they were."""
    made = _back_up(tmp_path)
    with closing(sqlite3.connect(made.path)) as changed:
        changed.execute("PRAGMA journal_mode=DELETE")
    data = bytearray(made.path.read_bytes())
    data[-1] ^= 1
    made.path.write_bytes(data)
    assert any("sha256" in problem for problem in inspect(_only(made.path.parent)).problems)
