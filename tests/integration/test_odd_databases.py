"""Databases of every kind that SQLite makes, each backed up by the real job."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from gymdbd.jobs.backup import backup
from gymdbd.source.errors import SourceCorruptError
from tests.support.command import ORDINARY_USER, gymdbd_json, require
from tests.support.databases import backups, make_database, query, tree
from tests.support.jobs import backup_job, context

if TYPE_CHECKING:
    from pathlib import Path

_HABITS = {
    "WITHOUT ROWID": ["CREATE TABLE t (key TEXT PRIMARY KEY, n INT) WITHOUT ROWID"],
    "FTS5": [
        "CREATE VIRTUAL TABLE notes USING fts5(body)",
        "INSERT INTO notes VALUES ('the quick fox'), ('갈색 여우')",
    ],
    "generated columns": [
        "CREATE TABLE t (a INT, b INT AS (a * 2) STORED, c INT AS (a + 1) VIRTUAL)",
        "INSERT INTO t (a) VALUES (1), (2)",
        "CREATE INDEX by_c ON t (c)",
    ],
    "AUTOINCREMENT and statistics": [
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, n INT)",
        "INSERT INTO t (n) VALUES (1), (2)",
        "CREATE INDEX by_n ON t (n)",
        "ANALYZE",
    ],
    "triggers and views": [
        "CREATE TABLE t (n INT)",
        "CREATE VIEW v AS SELECT n FROM t",
        "CREATE TRIGGER tr AFTER INSERT ON t BEGIN SELECT 1; END",
        "INSERT INTO t VALUES (1)",
    ],
    "no tables": [],
}

_NAMES = [
    "two words",
    "it's",
    'say "hi"',
    "회원 명부",
    "semi;colon",
    "new\nline",
    "100%",
    "[brackets]",
    "select",
]


def _create(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    return path


def _dump(path: Path | str) -> list[str]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return list(connection.iterdump())


@pytest.mark.parametrize("page_size", [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536])
@pytest.mark.parametrize("raw", [False, True])
def test_every_page_size_is_backed_up(tmp_path: Path, page_size: int, raw: bool) -> None:
    """The backup has the source's page size and all of its rows, in either form."""
    source = tmp_path / "source.db"
    with closing(sqlite3.connect(source, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size={page_size}")
        connection.execute("PRAGMA journal_mode=WAL")
        make_database(source)
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("INSERT INTO t (text) VALUES ('only in the WAL')")
        job = backup_job(source, tmp_path / "archive", checkpoint="none", raw=raw)
        result = backup.run(job, context())
    assert result.tables == {"t": 101}
    if not raw:
        assert query(result.path, "PRAGMA page_size") == [(page_size,)]
        assert query(result.path, "SELECT count(*) FROM t") == [(101,)]


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
@pytest.mark.parametrize("auto_vacuum", [0, 1, 2])
def test_what_the_header_says_survives(tmp_path: Path, encoding: str, auto_vacuum: int) -> None:
    """Encoding, auto_vacuum, user_version, application_id and page size are the source's."""
    source = _create(
        tmp_path / "source.db",
        "PRAGMA page_size=8192",
        f"PRAGMA encoding='{encoding}'",
        f"PRAGMA auto_vacuum={auto_vacuum}",
        "PRAGMA journal_mode=WAL",
        "PRAGMA user_version=77",
        "PRAGMA application_id=1195985220",
        "CREATE TABLE t (text TEXT)",
        "INSERT INTO t VALUES ('삼성역 헬스장')",
    )
    result = backup.run(backup_job(source, tmp_path / "archive"), context())
    facts = {
        name: query(result.path, f"PRAGMA {name}")[0][0]
        for name in ("page_size", "encoding", "auto_vacuum", "user_version", "application_id")
    }
    assert facts == {
        "page_size": 8192,
        "encoding": encoding,
        "auto_vacuum": auto_vacuum,
        "user_version": 77,
        "application_id": 1195985220,
    }
    assert query(result.path, "SELECT text FROM t") == [("삼성역 헬스장",)]


@pytest.mark.parametrize("habit", _HABITS)
@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_every_kind_of_table_is_backed_up(tmp_path: Path, habit: str, mode: str) -> None:
    """The backup's dump is the source's dump, whatever the tables and the journal mode are."""
    source = _create(
        tmp_path / "source.db",
        f"PRAGMA journal_mode={mode}",
        "PRAGMA user_version=1",  # Without tables too there is something in the file.
        *_HABITS[habit],
    )
    result = backup.run(backup_job(source, tmp_path / "archive"), context())
    assert _dump(result.path) == _dump(source)
    assert query(result.path, "PRAGMA integrity_check") == [("ok",)]


def test_tables_with_any_name_are_counted_and_backed_up(tmp_path: Path) -> None:
    """Spaces, quotes, Hangul and a line break in a table's name are nothing special."""
    quoted = ['"' + name.replace('"', '""') + '"' for name in _NAMES]
    source = _create(
        tmp_path / "source.db",
        *(f"CREATE TABLE {name} (n INT)" for name in quoted),
        *(f"INSERT INTO {name} VALUES (1), (2)" for name in quoted),
    )
    exit_code, result = gymdbd_json(
        "backup", "--database", source, "--archive", tmp_path / "archive"
    )
    assert (exit_code, result["tables"]) == (0, dict.fromkeys(_NAMES, 2))


@pytest.mark.parametrize(
    "name", ["with space", "it's", 'a "quoted"', "헬스장", "100%?x=1#y", "a\nb"]
)
def test_a_database_with_any_file_name_is_backed_up(tmp_path: Path, name: str) -> None:
    """The file's name is not taken for a URI, a pattern or a piece of shell."""
    source = make_database(tmp_path / f"{name}.db", rows=3)
    result = backup.run(backup_job(source, tmp_path / "archive"), context())
    assert result.tables == {"t": 3}
    assert [path.name.startswith(f"{name}_backup_") for path in backups(tmp_path / "archive")] == [
        True
    ]


@pytest.mark.parametrize("check", ["", "integrity"])
def test_a_database_with_a_collation_of_its_application_is_backed_up(
    tmp_path: Path, check: str
) -> None:
    """SQLite cannot even count without it; that is no damage, and damage is still found."""
    source = tmp_path / "source.db"
    with closing(sqlite3.connect(source, isolation_level=None)) as app:
        app.create_collation("korean", lambda one, other: (one < other) - (one > other))
        app.execute("CREATE TABLE t (name TEXT COLLATE korean PRIMARY KEY)")
        app.execute("CREATE INDEX again ON t (name COLLATE korean)")
        app.executemany("INSERT INTO t VALUES (?)", [("가",), ("나",), ("다",)])
        page = app.execute("SELECT rootpage FROM sqlite_master WHERE name = 't'").fetchone()[0]
    job = backup_job(source, tmp_path / "archive")
    if check:
        data = bytearray(source.read_bytes())
        data[(page - 1) * 4096 + 3] ^= 0x40  # The number of cells of the table's root page.
        source.write_bytes(data)
        with pytest.raises(SourceCorruptError):
            backup.run(job, context())
    else:
        result = backup.run(job, context())
        assert result.tables == {"t": 3}
        assert gymdbd_json("verify", result.path)[0] == 0


def test_a_backup_opens_from_a_read_only_folder_and_verifying_leaves_nothing(
    tmp_path: Path,
) -> None:
    """An ordinary user reads it with mode=ro where nothing can be written, and no file appears."""
    source = make_database(tmp_path / "source.db")
    archive = tmp_path / "archive"
    result = backup.run(backup_job(source, archive), context())
    names = set(tree(archive))
    assert {name.rpartition(".")[2] for name in names} == {"db", "json"}
    archive.chmod(0o500)
    try:
        output = _run_sqlite(result.path, "SELECT count(*) FROM t")
    finally:
        archive.chmod(0o700)
    assert output == "100\n"
    assert set(tree(archive)) == names


def _run_sqlite(path: str, sql: str) -> str:
    """Query with SQLite's mode=ro, as a user who may not write into the folder."""
    script = (
        "import os, sqlite3, sys\n"
        "assert not os.access(os.path.dirname(sys.argv[1]), os.W_OK)\n"
        "connection = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True)\n"
        "print(connection.execute(sys.argv[2]).fetchone()[0])\n"
    )
    if ORDINARY_USER:
        require(ORDINARY_USER[0])
    return subprocess.run(
        [*ORDINARY_USER, sys.executable, "-c", script, path, sql],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
