"""A database without a WAL in turns: who may write between them, and what is counted in them."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from gymdbd.source.errors import SourceMovedError
from gymdbd.source.snapshot import TURN_S, Snapshot
from gymdbd.source.turns import count_in_turns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ROWS = 45_000


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Give tables that cannot be counted at once if a turn has no time at all."""
    path = tmp_path / "gym.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as app:
        app.execute("CREATE TABLE few (a)")
        app.execute("INSERT INTO few VALUES (1)")
        app.execute("CREATE TABLE many (a)")
        app.execute("CREATE TABLE hidden (a, rowid, _rowid_)")
        app.execute("CREATE TABLE numberless (a PRIMARY KEY) WITHOUT ROWID")
        app.execute("BEGIN")
        for name in ("many (a)", "hidden (a)", "numberless (a)"):
            values = ((number,) for number in range(_ROWS))
            app.executemany(f"INSERT INTO {name} VALUES (?)", values)
        app.execute("DELETE FROM many WHERE a % 3 = 0")
        app.execute("UPDATE many SET rowid = -rowid WHERE a % 2 = 0")
        app.execute("COMMIT")
    return path


def test_a_large_table_is_counted_in_several_turns(database: Path) -> None:
    """Its rows are those that SQLite counts at once, whatever numbers they have."""
    with closing(Snapshot(database)) as held:
        expected = held.count_rows()
        held.rest()
        found = count_in_turns(held, 0.0)
        # Counting at once may take longer than no time at all.
        assert {**found, "numberless": _ROWS} == expected
        assert count_in_turns(held) == expected


@pytest.mark.parametrize("kind", ["", " WITHOUT ROWID"])
def test_a_table_whose_name_is_not_utf_8_is_counted_in_turns(tmp_path: Path, kind: str) -> None:
    """A pull asks for the rows of every table."""
    path = tmp_path / "gym.db"
    with closing(sqlite3.connect(path)) as app:
        app.execute(f"CREATE TABLE zimmer (a PRIMARY KEY){kind}")
        app.execute("INSERT INTO zimmer VALUES (1), (2)")
        app.commit()
        app.execute("PRAGMA writable_schema=ON")
        change = "UPDATE sqlite_schema SET name=CAST(? AS TEXT), tbl_name=CAST(? AS TEXT)"
        app.execute(change, ("zimm\xe9r".encode("latin-1"),) * 2)
        change = (
            "UPDATE sqlite_schema SET sql=CAST(replace(sql, 'zimmer', CAST(? AS TEXT)) AS TEXT)"
        )
        app.execute(change, ("zimm\xe9r".encode("latin-1"),))
        app.execute(
            "UPDATE sqlite_schema SET name='sqlite_autoindex_' || tbl_name || '_1' "
            "WHERE type='index'"
        )
        app.commit()
    with closing(Snapshot(path)) as held:
        held.rest()
        assert count_in_turns(held) == {"zimm\udce9r": 2}


def test_the_application_may_write_between_two_turns_and_that_is_noticed(database: Path) -> None:
    """Its commit waits for nobody, and the next turn has nothing to go on with."""
    snapshot = Snapshot(database)
    with closing(snapshot), closing(sqlite3.connect(database, timeout=0)) as app:
        snapshot.rest()
        with snapshot.turn(), pytest.raises(sqlite3.OperationalError, match="locked"):
            app.execute("INSERT INTO few VALUES (2)").connection.commit()
        app.rollback()
        with snapshot.turn():
            pass
        app.execute("INSERT INTO few VALUES (3)")
        app.commit()
        with pytest.raises(SourceMovedError, match="it has no WAL"), snapshot.turn():
            pass


class _Counted(Snapshot):
    """A snapshot that counts its turns."""

    turns = 0

    @contextmanager
    def turn(self, turn_s: float = TURN_S) -> Iterator[float]:
        """Count it, and begin it."""
        self.turns += 1
        with super().turn(turn_s) as end:
            yield end


def test_a_turn_ends_in_time_and_a_pause_as_long_comes_before_the_next(database: Path) -> None:
    """So an application that tries again every now and then may write."""
    with closing(_Counted(database)) as held:
        held.rest()
        with held.turn(0.2) as end:
            begun = end - 0.2
            while time.monotonic() < end:
                pass
        ended = time.monotonic()
        with held.turn() as end:
            assert end - TURN_S - ended >= ended - begun - 0.01
        held.turns = 0
        count_in_turns(held, 60.0)
        few, held.turns = held.turns, 0
        count_in_turns(held, 0.0)
        # Of four tables, one has too many rows for a turn without any time.
        assert held.turns > few
