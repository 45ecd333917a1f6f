"""Rows put back into databases that have moved on in any way: nobody's row is lost or spoiled."""

from __future__ import annotations

import io
import random
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from gymdbd.rows import forms
from gymdbd.rows.rescue import Rescue
from gymdbd.sqlite.sides import Side
from tests.faults import table
from tests.support import samples

if TYPE_CHECKING:
    from pathlib import Path

_BACK = table.row(
    "rows put back into a database that has moved on",
    "rows deleted, changed, ids and unique values reused at random, with triggers that keep a "
    "full-text index and a counter",
    "what was missing is there, every other row as it was, index and counter right",
)
_TRIES = samples.count(10, of=200)
_SCHEMA = """
CREATE TABLE teams (id INTEGER PRIMARY KEY, n INTEGER NOT NULL DEFAULT 0);
CREATE TABLE members (id INTEGER PRIMARY KEY, email TEXT UNIQUE, team REFERENCES teams (id));
CREATE VIRTUAL TABLE found USING fts5 (email, content='members', content_rowid='id');
CREATE TRIGGER added AFTER INSERT ON members BEGIN
  INSERT INTO found (rowid, email) VALUES (new.id, new.email);
  UPDATE teams SET n = n + 1 WHERE id = new.team; END;
CREATE TRIGGER gone AFTER DELETE ON members BEGIN
  INSERT INTO found (found, rowid, email) VALUES ('delete', old.id, old.email);
  UPDATE teams SET n = n - 1 WHERE id = old.team; END;
CREATE TRIGGER changed AFTER UPDATE ON members BEGIN
  INSERT INTO found (found, rowid, email) VALUES ('delete', old.id, old.email);
  INSERT INTO found (rowid, email) VALUES (new.id, new.email);
  UPDATE teams SET n = n - 1 WHERE id = old.team;
  UPDATE teams SET n = n + 1 WHERE id = new.team; END;
INSERT INTO teams (id) VALUES (1), (2);
"""


def _move_on(connection: sqlite3.Connection, draw: random.Random) -> None:
    for _ in range(draw.randint(1, 12)):
        row = (draw.randint(1, 9), draw.choice("abcdefgh"), draw.randint(1, 2))
        sql = draw.choice(
            [
                "DELETE FROM members WHERE id = ?1 OR ?2 = ?3",
                "INSERT OR IGNORE INTO members VALUES (?1, ?2, ?3)",
                "UPDATE OR IGNORE members SET email = ?2, team = ?3 WHERE id = ?1",
            ]
        )
        connection.execute(sql, row)
    connection.commit()


def _members(connection: sqlite3.Connection) -> dict[int, tuple[str, int]]:
    rows = connection.execute("SELECT id, email, team FROM members")
    return {row[0]: (row[1], row[2]) for row in rows}


def _try(folder: Path, draw: random.Random, *, change: bool) -> list[str]:
    backup, live = folder / "backup.db", folder / "live.db"
    with closing(sqlite3.connect(backup)) as connection:
        connection.executescript(_SCHEMA)
        _move_on(connection, draw)
        before = _members(connection)
    live.write_bytes(backup.read_bytes())
    with closing(sqlite3.connect(live)) as connection:
        _move_on(connection, draw)
        after = _members(connection)
        file = io.BytesIO()
        with Rescue(Side(backup), live=Side(live, live=True), change=change) as rescue:
            done = forms.write_sql(rescue, file, "backup.db")["members"]
        connection.executescript(file.getvalue().decode())
        now = _members(connection)
        problems = [f"member {key} is gone" for key in after.keys() - now.keys()]
        untouched = after.keys() if not change else after.keys() - before.keys()
        problems += [f"member {key} changed" for key in untouched if now.get(key) != after[key]]
        missing = before.keys() - after.keys() - now.keys()
        taken = {email for email, _ in after.values()}
        problems += [f"member {key} not back" for key in missing if before[key][0] not in taken]
        named = {one.key["id"] for one in done.conflicts}
        problems += [f"member {key} not named" for key in missing - named]
        counts = (
            "SELECT id FROM teams t WHERE n <> (SELECT count(*) FROM members WHERE team = t.id)"
        )
        problems += [f"team {row[0]} counted wrong" for row in connection.execute(counts)]
        try:
            connection.execute("INSERT INTO found (found, rank) VALUES ('integrity-check', 1)")
        except sqlite3.Error as error:
            problems.append(str(error))
    return problems


@pytest.mark.parametrize("change", [False, True])
def test_rows_put_back_harm_no_other_and_what_triggers_keep_is_right(
    tmp_path: Path, change: bool
) -> None:
    """Whatever has happened since the backup, with --replace as well."""
    problems = {}
    for number in range(_TRIES):
        draw = random.Random(f"{samples.SEED} {change} {number}")
        folder = tmp_path / str(number)
        folder.mkdir()
        problems[str(number)] = _BACK.tried("right", _try(folder, draw, change=change))
    table.expect_none(problems)
