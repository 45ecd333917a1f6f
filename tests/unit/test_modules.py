"""Full-text indexes and R-trees are checked by their modules, and nothing is written for it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from gymdbd.source import database
from gymdbd.sqlite import modules, soundness
from gymdbd.sqlite.soundness import Soundness
from tests.support.databases import tree

if TYPE_CHECKING:
    from pathlib import Path

_SOUND = (
    "CREATE VIRTUAL TABLE three USING fts3(a)",
    "CREATE VIRTUAL TABLE four USING FTS4(a, prefix='2', tokenize=porter)",
    "CREATE VIRTUAL TABLE five USING fts5(a, detail=column)",
    'CREATE VIRTUAL TABLE "it\'s ""five""" USING "fts5"(a)',
    *(f"INSERT INTO {name} VALUES ('red wine'), ('tea')" for name in ("three", "four", "five")),
    "CREATE VIRTUAL TABLE six USING fts5(a, content='')",
    "INSERT INTO six(rowid, a) VALUES (1, 'tea')",
    "CREATE VIRTUAL TABLE boxes USING rtree(id, low, high, +name)",
    "INSERT INTO boxes VALUES (1, 2, 3, 'a'), (2, 3, 4, 'b')",
)
# Indexes of texts in a table of the application, which is allowed to be ahead.
_BEHIND = (
    "CREATE TABLE texts(a)",
    "INSERT INTO texts VALUES ('red wine'), ('tea')",
    "CREATE VIRTUAL TABLE behind4 USING fts4(a, content='texts')",
    "CREATE VIRTUAL TABLE behind5 USING fts5(a, content=texts)",
    "INSERT INTO behind4(behind4) VALUES ('rebuild')",
    "INSERT INTO behind5(behind5) VALUES ('rebuild')",
    "UPDATE texts SET a = 'beer'",
)
_SPOILT = {
    "three": "UPDATE three_content SET c0a = 'beer'",
    "four": "DELETE FROM four_content",
    "five": "UPDATE five_content SET c0 = 'beer' WHERE id = 2",
    "six": "DELETE FROM six_data WHERE id > 10",
    "boxes": "DELETE FROM boxes_rowid WHERE rowid = 1",
}


def _make(path: Path, statements: tuple[str, ...], *, wal: bool = False) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode={'WAL' if wal else 'DELETE'}")
        for sql in statements:
            connection.execute(sql)
    return path


def _go_on() -> None:
    """Let it go on."""


def _check(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what SQLite and the modules find together."""
    with closing(database.open_immutable(path)) as connection:
        found = soundness.check(connection)
        told = modules.check(connection, path, _go_on)
    return (*found.problems, *told.problems), (*found.unchecked, *told.unchecked)


@pytest.mark.parametrize("wal", [False, True])
def test_sound_tables_stay_as_they_are(tmp_path: Path, *, wal: bool) -> None:
    """No byte of them changes, no time, and no file appears beside them."""
    path = _make(tmp_path / "app.db", (*_SOUND, *_BEHIND), wal=wal)
    before = tree(tmp_path), path.stat().st_mtime_ns
    problems, _ = _check(path)
    assert problems == ()
    assert (tree(tmp_path), path.stat().st_mtime_ns) == before


@pytest.mark.parametrize("wal", [False, True])
def test_an_index_that_does_not_fit_is_damage(tmp_path: Path, *, wal: bool) -> None:
    """Every page is sound, so that SQLite before 3.44 finds nothing of itself."""
    path = _make(tmp_path / "app.db", (*_SOUND, *_SPOILT.values()), wal=wal)
    before = tree(tmp_path), path.stat().st_mtime_ns
    problems, unchecked = _check(path)
    assert [name for name in _SPOILT if not any(name in line for line in problems)] == []
    assert unchecked == ()
    assert (tree(tmp_path), path.stat().st_mtime_ns) == before


def test_the_check_of_an_index_ends_when_the_run_has_to(tmp_path: Path) -> None:
    """The other process is not awaited."""
    path = _make(tmp_path / "app.db", _SOUND)

    def stop() -> None:
        raise InterruptedError

    with closing(database.open_immutable(path)) as connection:
        if sqlite3.sqlite_version_info < (3, 44):
            with pytest.raises(InterruptedError):
                modules.check(connection, path, stop)
        else:
            assert modules.check(connection, path, stop) == Soundness()
