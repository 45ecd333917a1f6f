"""Who holds a database: told by /proc, and by lsof where there is none."""

from __future__ import annotations

from pathlib import Path

from gymdbd.source import processes
from gymdbd.source.format import READ_LOCKS, WRITE_LOCK
from tests.support.command import require
from tests.support.databases import make_database, sqlite_elsewhere

_NO_PROC = Path("/nonexistent")


def test_proc_tells_who_has_a_database_open(tmp_path: Path) -> None:
    """The process and its command are named."""
    database = make_database(tmp_path / "gym.db")
    with sqlite_elsewhere(database, "SELECT count(*) FROM t") as holder:
        found = processes.holders(database)
    assert [one.pid for one in found] == [holder.pid]
    assert found[0].command.startswith("python")


def test_lsof_tells_who_has_a_database_open_where_there_is_no_proc(tmp_path: Path) -> None:
    """The same process is named, with its command from ps."""
    require("lsof")
    database = make_database(tmp_path / "gym.db")
    with sqlite_elsewhere(database, "SELECT count(*) FROM t") as holder:
        found = processes.holders(database, proc=_NO_PROC)
    assert [one.pid for one in found] == [holder.pid]
    assert found[0].command.startswith("python")


def test_nobody_is_named_where_nobody_has_it_open(tmp_path: Path) -> None:
    """Both ways answer with nothing."""
    database = make_database(tmp_path / "gym.db")
    assert processes.holders(database) == []
    assert processes.holders(database, proc=_NO_PROC) == []


def test_a_write_lock_is_told_from_a_read_lock(tmp_path: Path) -> None:
    """Each holder is found by the bytes that it has locked in the -shm file."""
    database = make_database(tmp_path / "gym.db")
    with (
        sqlite_elsewhere(database, "BEGIN IMMEDIATE") as writer,
        sqlite_elsewhere(database, "BEGIN", "SELECT count(*) FROM t") as reader,
    ):
        writers = processes.lock_holders(database, WRITE_LOCK)
        readers = processes.lock_holders(database, READ_LOCKS)
    assert [one.pid for one in writers] == [writer.pid]
    assert reader.pid in [one.pid for one in readers]
