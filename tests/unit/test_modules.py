"""Full-text indexes and R-trees are checked by their modules, and nothing is written for it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gymdbd.source import database
from gymdbd.sqlite import modules, soundness
from gymdbd.sqlite.soundness import Soundness
from tests.support.databases import tree

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


def test_a_check_that_is_stopped_kills_the_other_process(tmp_path: Path) -> None:
    """It may be in a step of hours, here because it stands still."""
    path = _make(tmp_path / "app.db", _SOUND)
    here = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    # Such as an SSH server of other tests.
    others = set(map(int, here.read_text().split()))
    started: list[int] = []

    def stop() -> None:
        started.extend(set(map(int, here.read_text().split())) - others)
        for pid in started:
            os.kill(pid, signal.SIGSTOP)
        raise InterruptedError

    def let_go() -> None:
        for pid in started:
            os.kill(pid, signal.SIGCONT)

    late = threading.Timer(10, let_go)
    late.start()
    with closing(database.open_immutable(path)) as connection:
        if sqlite3.sqlite_version_info < (3, 44):
            with pytest.raises(InterruptedError):
                modules.check(connection, path, stop)
    assert late.is_alive()
    late.cancel()


def test_a_check_that_ends_without_an_answer_is_none(tmp_path: Path) -> None:
    """A module that crashes takes its process along: the table is neither sound nor damaged."""
    path = _make(tmp_path / "app.db", _SOUND)
    other = tmp_path / "other.db"
    # A header of a database in rollback mode, and nothing that SQLite could open.
    other.write_bytes(b"\1" * 4096)
    with closing(database.open_immutable(path)) as connection:
        found = modules.check(connection, other, _go_on)
    asked = sqlite3.sqlite_version_info < (3, 44)
    assert (found.problems, len(found.unchecked)) == ((), 6 if asked else 0)


def test_a_file_with_a_wal_is_left_to_a_later_check(tmp_path: Path) -> None:
    """The check would not see what is in the WAL."""
    path = _make(tmp_path / "app.db", (*_SOUND, *_SPOILT.values()))
    with closing(database.open_immutable(path)) as connection:
        found = modules.check(connection, path, _go_on, has_wal=True)
    asked = sqlite3.sqlite_version_info < (3, 44)
    assert (found.problems, len(found.unchecked)) == ((), 6 if asked else 0)


_COUNT = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT {}) "
_WRITE = f"INSERT INTO large {_COUNT.format(9000)} SELECT randomblob(900) FROM c"


def _ask(folder: Path, does: str, seconds: int = 60) -> tuple[int, dict[str, Any]]:
    """Let the process that asks modules ask one that does what no module should.

    A table with a trigger plays it. Return the exit code and the answer.
    """
    path = _make(
        folder / "app.db",
        (
            "CREATE TABLE t (t)",
            "CREATE TABLE large (a)",
            f"CREATE TRIGGER harm AFTER INSERT ON t BEGIN {does}; END",
        ),
    )
    before = tree(folder), path.stat().st_mtime_ns
    order = {"path": os.fsencode(path).hex(), "tables": {"t": "fts5"}, "seconds": seconds}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "gymdbd.sqlite.modules"],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (tree(folder), path.stat().st_mtime_ns) == before
    return done.returncode, json.loads(done.stdout or "{}")


def test_what_a_module_changes_is_taken_back(tmp_path: Path) -> None:
    """It is not even tried to write it: that would be told."""
    assert _ask(tmp_path, "INSERT INTO large VALUES (1)") == (0, {"problems": [], "unchecked": []})


def test_a_module_that_writes_much_cannot_write_the_file(tmp_path: Path) -> None:
    """SQLite writes what its cache does not hold before the transaction ends."""
    code, told = _ask(tmp_path, _WRITE)
    assert (code, told["problems"], len(told["unchecked"])) == (0, [], 1)


def test_a_module_that_takes_too_much_memory_gets_no_more(tmp_path: Path) -> None:
    """Its table was not checked, and is not damaged for it."""
    code, told = _ask(tmp_path, "SELECT length(hex(zeroblob(300000000)))")
    assert (code, told["problems"]) == (0, [])
    assert "memory" in told["unchecked"][0]


def test_a_module_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    """By the system, on the time of the processor."""
    forever = f"INSERT INTO large {_COUNT.format(-1)} SELECT count(*) FROM c"
    code, _ = _ask(tmp_path, forever, seconds=1)
    assert code in (-signal.SIGXCPU, -signal.SIGKILL)
