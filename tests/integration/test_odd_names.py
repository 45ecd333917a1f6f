"""Names at the edge: no UTF-8 in files and tables, too long for their file system, a full disk."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.command import GYMDBD, environment, gymdbd_json, require
from tests.support.databases import backups, make_database, query
from tests.support.disks import mounted

if TYPE_CHECKING:
    from pathlib import Path

_TABLE = b"Gr\xf6\xdfe"


def _run(folder: Path, *words: str | bytes) -> bytes:
    """Run gymdbd with words that are bytes; return its standard output."""
    done = subprocess.run(
        [*GYMDBD, *words],
        cwd=folder,
        env=environment(),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done
    return done.stdout


def _read(folder: Path, *words: str | bytes) -> dict[str, Any]:
    return dict(json.loads(_run(folder, *words, "--json").decode("utf-8")))


def _latin1_database(path: bytes, statements: bytes = b"") -> None:
    script = (
        b'CREATE TABLE IF NOT EXISTS "Gr\xf6\xdfe" ("L\xe4nge" INTEGER PRIMARY KEY, "n\xe9" TEXT);'
        b'CREATE INDEX IF NOT EXISTS "i\xe9" ON "Gr\xf6\xdfe" ("n\xe9");' + statements
    )
    subprocess.run([require("sqlite3"), path], input=script, check=True, timeout=30)


def test_every_verb_takes_names_in_latin_1(tmp_path: Path) -> None:
    """Of the database, its archive, tables and columns; JSON gives each back as its bytes."""
    database, archive = os.fsencode(tmp_path) + b"/gym\xe9.db", b"archiv\xfc"
    _latin1_database(database, b'INSERT INTO "Gr\xf6\xdfe" VALUES (1, "a"), (2, "\xfc");')
    where = ("--archive", archive)
    made = _read(tmp_path, "backup", "--database", database, *where)
    assert os.fsencode(made["path"]).startswith(
        os.fsencode(tmp_path) + b"/archiv\xfc/gym\xe9_backup"
    )
    assert {os.fsencode(name): rows for name, rows in made["tables"].items()} == {_TABLE: 2}
    _latin1_database(database, b'DELETE FROM "Gr\xf6\xdfe" WHERE "L\xe4nge" = 2;')
    backup = os.fsencode(made["path"])
    assert [one["verdict"] for one in _read(tmp_path, "list", *where)["backups"]] == ["verified"]
    assert _read(tmp_path, "verify", backup)["state"] == "ok"
    live = ("--database", database)
    (row,) = _read(tmp_path, "diff", backup, *live, "--rows", _TABLE)["rows"]
    assert {os.fsencode(name): value for name, value in row["before"].items()} == {
        b"L\xe4nge": 2,
        b"n\xe9": "\udcfc",
    }
    assert _read(tmp_path, "drill", *where)["state"] == "ok"
    copy = os.fsencode(tmp_path) + b"/r\xe9scued.db"
    wanted = ("rescue", backup, "--table", _TABLE)
    _run(tmp_path, *wanted, "--as", "db", "--to", copy)
    dump = subprocess.run(
        [require("sqlite3"), copy, ".dump"], capture_output=True, check=True, timeout=30
    ).stdout
    assert b'"Gr\xf6\xdfe" ("L\xe4nge" INTEGER PRIMARY KEY, "n\xe9" TEXT)' in dump
    assert b'CREATE INDEX "i\xe9" ON "Gr\xf6\xdfe" ("n\xe9")' in dump
    assert b"INSERT INTO \"Gr\xf6\xdfe\" VALUES(2,'\xfc')" in dump
    script = _run(tmp_path, *wanted, *live, "--where", b'"L\xe4nge" > 0')
    subprocess.run([require("sqlite3"), "-bail", database], input=script, check=True, timeout=30)
    assert _read(tmp_path, "diff", backup, *live)["state"] == "unchanged"
    _latin1_database(database, b'DELETE FROM "Gr\xf6\xdfe";')
    restored = _read(tmp_path, "restore", backup, "--to", database)
    assert {os.fsencode(name): rows for name, rows in restored["tables"].items()} == {_TABLE: 2}
    with closing(sqlite3.connect(os.fsdecode(copy))) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("name", ["a" * 220, "a" * 235, "한" * 80])
def test_a_name_too_long_for_ours_is_refused_before_any_work(tmp_path: Path, name: str) -> None:
    """The error says by how much and what helps; through a link with a shorter name it works."""
    database = tmp_path / f"{name}.db"
    make_database(tmp_path / "x.db", mode="delete").rename(database)
    archive = tmp_path / "archive"
    archive.mkdir(mode=0o700)
    code, answer = gymdbd_json("backup", "--database", database, "--archive", archive)
    assert (code, answer["code"]) == (1, "name-too-long")
    assert "takes 255" in answer["error"]
    assert "ln -s" in answer["hint"]
    assert backups(archive) == []
    (tmp_path / "short.db").symlink_to(database)
    assert gymdbd_json("backup", "--database", tmp_path / "short.db", "--archive", archive)[0] == 0


def test_the_longest_name_that_fits_is_backed_up_and_restored(tmp_path: Path) -> None:
    """One byte more is refused: the limit is what the file system takes, not a guess."""
    archive = tmp_path / "archive"
    archive.mkdir(mode=0o700)
    codes = {}
    for length in (215, 216):
        database = make_database(tmp_path / "x.db", mode="delete")
        database = database.rename(tmp_path / ("a" * length + ".db"))
        codes[length] = gymdbd_json("backup", "--database", database, "--archive", archive)[0]
    assert codes == {215: 0, 216: 1}
    (backup,) = backups(archive)
    assert gymdbd_json("restore", backup, "--to", tmp_path / ("b" * 242))[0] == 0
    code, answer = gymdbd_json("restore", backup, "--to", tmp_path / ("b" * 243))
    assert (code, answer["code"]) == (1, "name-too-long")
    restored = tmp_path / ("b" * 242)
    assert query(restored, "SELECT count(*) FROM t") == [(100,)]
    code, answer = gymdbd_json("undo", "--database", restored)
    assert (code, answer["code"]) == (1, "backup-missing")
    assert "has overwritten nothing" in answer["error"]


@pytest.mark.parametrize("state", ["idle", "crashed"])
def test_a_full_disk_of_the_source_is_named_and_not_that_of_the_archive(
    tmp_path: Path, state: str
) -> None:
    """SQLite says no more than "disk I/O error"; or the backup is made all the same."""
    archive = tmp_path / "archive"
    archive.mkdir(mode=0o700)
    crash = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "c.execute('INSERT INTO t (text) VALUES (1)'); os._exit(0)"
    )
    with mounted(tmp_path, "tmpfs", size="1m") as disk:
        database = make_database(disk / "gym.db")
        if state == "crashed":
            subprocess.run([sys.executable, "-c", crash, database], check=True, timeout=30)
            (disk / "gym.db-shm").unlink()
        with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(4096)):
                pass
        code, answer = gymdbd_json("backup", "--database", database, "--archive", archive)
        if code == 0:
            assert answer["tables"] == {"t": 100 + (state == "crashed")}
        else:
            assert "the disk that it lies on is full" in answer["error"]
            assert f"df -h {disk}" in answer["hint"]
            assert str(archive) not in answer["error"] + answer["hint"]
            assert "dmesg" not in answer["hint"]
        (disk / "filler").unlink()
        assert gymdbd_json("backup", "--database", database, "--archive", archive)[0] == 0
