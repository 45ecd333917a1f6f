"""Rows put back into a live database that has moved on: what is added, kept, named and right."""

from __future__ import annotations

import io
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gymdbd.rows import forms, needs
from gymdbd.rows.rescue import Rescue
from gymdbd.sqlite import opening
from gymdbd.sqlite.sides import Side

if TYPE_CHECKING:
    from gymdbd.rows.missing import Rescued

_FTS = """
CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT);
CREATE VIRTUAL TABLE notes_fts USING fts5 (body, content='notes', content_rowid='id');
CREATE TRIGGER ai AFTER INSERT ON notes BEGIN
  INSERT INTO notes_fts (rowid, body) VALUES (new.id, new.body); END;
CREATE TRIGGER ad AFTER DELETE ON notes BEGIN
  INSERT INTO notes_fts (notes_fts, rowid, body) VALUES ('delete', old.id, old.body); END;
CREATE TRIGGER au AFTER UPDATE ON notes BEGIN
  INSERT INTO notes_fts (notes_fts, rowid, body) VALUES ('delete', old.id, old.body);
  INSERT INTO notes_fts (rowid, body) VALUES (new.id, new.body); END;
"""
_COUNTED = """
CREATE TABLE gyms (id INTEGER PRIMARY KEY);
CREATE TABLE counts (gym PRIMARY KEY, n);
CREATE TABLE members (id INTEGER PRIMARY KEY, gym REFERENCES gyms (id) ON DELETE CASCADE);
CREATE TRIGGER mi {time} INSERT ON members BEGIN {count}; END;
CREATE TRIGGER md AFTER DELETE ON members BEGIN
  UPDATE counts SET n = n - 1 WHERE gym = old.gym; END;
CREATE TRIGGER mu AFTER UPDATE OF gym ON members BEGIN
  UPDATE counts SET n = n - 1 WHERE gym = old.gym;
  UPDATE counts SET n = n + 1 WHERE gym = new.gym; END;
INSERT INTO gyms VALUES (1), (2);
INSERT INTO counts VALUES (1, 0), (2, 0);
INSERT INTO members VALUES (1, 1), (2, 1), (3, 2), (4, 2);
"""
_UPDATE = "UPDATE counts SET n = n + 1 WHERE gym = new.gym"
_UPSERT = "INSERT INTO counts VALUES (new.gym, 1) ON CONFLICT (gym) DO UPDATE SET n = n + 1"


def _script(path: Path, *scripts: str) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA journal_mode=MEMORY")
        for script in scripts:
            connection.executescript(script)
    return path


def _put_back(
    folder: Path, before: str, damage: str, *tables: str, change: bool = False, where: str = ""
) -> tuple[str, dict[str, Rescued], Path]:
    """Rescue from `before` what `damage` did to it, and apply that."""
    backup = _script(folder / "backup.db", before)
    live = _script(folder / "live.db", before, damage)
    file = io.BytesIO()
    wanted = list(tables) or None
    with Rescue(Side(backup), wanted, where, live=Side(live, live=True), change=change) as rescue:
        done = forms.write_sql(rescue, file, "backup.db")
    _script(live, file.getvalue().decode())
    return file.getvalue().decode(), done, live


def _query(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


@pytest.mark.parametrize("change", [False, True])
def test_a_full_text_index_that_triggers_keep_is_right_afterwards(
    tmp_path: Path, change: bool
) -> None:
    """Rows that are missing are found again, and with --replace those that were spoiled."""
    rows = "INSERT INTO notes VALUES (1, 'quick fox'), (2, 'lazy dog'), (3, 'red hen');"
    damage = "UPDATE notes SET body = 'spoiled' WHERE id = 1; DELETE FROM notes WHERE id = 2;"
    script, done, live = _put_back(tmp_path, _FTS + rows, damage, change=change)
    which = "rows that are missing or differ" if change else "rows that are missing"
    assert f"-- notes: all {which}\n" in script
    assert (done["notes"].added, done["notes"].updated) == (1, int(change))
    check = "INSERT INTO notes_fts (notes_fts, rank) VALUES ('integrity-check', 1)"
    assert _query(live, check) == []
    assert _query(live, "SELECT rowid FROM notes_fts ('dog')") == [(2,)]
    assert _query(live, "SELECT rowid FROM notes_fts ('spoiled')") == ([] if change else [(1,)])
    assert _query(live, "SELECT rowid FROM notes_fts ('fox')") == ([(1,)] if change else [])


def test_a_trigger_that_writes_to_a_virtual_table_is_no_need(tmp_path: Path) -> None:
    """Every SQLite may do that whose user trusts the schema, as that of the script does."""
    live = _script(tmp_path / "live.db", _FTS)
    with opening.reading(live) as connection:
        schema = {("table", "notes"): "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT)"}
        changes = ["INSERT INTO notes VALUES (1, 'x')"]

        assert list(needs.missing_here(connection, schema, ["notes"], changes)) == []


@given(
    before=st.dictionaries(st.integers(1, 6), st.sampled_from("abc"), max_size=5),
    after=st.dictionaries(st.integers(1, 8), st.sampled_from("abcde"), max_size=5),
    change=st.booleans(),
)
def test_whatever_became_of_the_rows_the_index_agrees_with_them(
    before: dict[int, str], after: dict[int, str], change: bool
) -> None:
    """A row that only the live database has stays as it is, and so does one of a reused id."""
    insert = "INSERT INTO notes VALUES ({}, '{}');"
    rows = "".join(insert.format(*row) for row in before.items())
    damage = "DELETE FROM notes;" + "".join(insert.format(*row) for row in after.items())
    with tempfile.TemporaryDirectory() as folder:
        _, _, live = _put_back(Path(folder), _FTS + rows, damage, change=change)
        expected = {**before, **after} if not change else {**after, **before}
        assert dict(_query(live, "SELECT id, body FROM notes")) == expected
        check = "INSERT INTO notes_fts (notes_fts, rank) VALUES ('integrity-check', 1)"
        assert _query(live, check) == []


@pytest.mark.parametrize("time", ["BEFORE", "AFTER"])
@pytest.mark.parametrize("count", [_UPDATE, _UPSERT])
@pytest.mark.parametrize("change", [False, True])
@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM members WHERE id IN (1, 4);",
        "DELETE FROM members WHERE gym < 2; DELETE FROM gyms WHERE id = 1; DELETE FROM counts;",
        "DELETE FROM members WHERE gym = 2; INSERT INTO members VALUES (9, 2), (10, 2);",
        "UPDATE members SET gym = 2 WHERE id = 1; DELETE FROM members WHERE id = 3;",
    ],
)
def test_a_counter_that_triggers_keep_is_right_afterwards(
    tmp_path: Path, time: str, count: str, change: bool, damage: str
) -> None:
    """Also if its own rows come back in the same rescue."""
    before = _COUNTED.format(time=time, count=count)
    _put_back(tmp_path, before, damage, change=change)
    live = tmp_path / "live.db"
    counted = _query(live, "SELECT gym, n FROM counts ORDER BY gym")
    assert counted == _query(live, "SELECT gym, count(*) FROM members GROUP BY gym ORDER BY gym")
    assert _query(live, "PRAGMA foreign_key_check") == []
    missing = "SELECT count(*) FROM members WHERE id IN (1, 2, 3, 4)"
    assert _query(live, missing) == [(4,)]


@pytest.mark.parametrize("change", [False, True])
def test_a_unique_value_that_belongs_to_another_row_by_now_stays_there(
    tmp_path: Path, change: bool
) -> None:
    """The row is named with who has the value, and neither is forced nor deletes that one."""
    before = """
        CREATE TABLE members (id INTEGER PRIMARY KEY, email TEXT UNIQUE ON CONFLICT REPLACE);
        INSERT INTO members VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd');"""
    damage = """
        DELETE FROM members WHERE id = 1; INSERT INTO members VALUES (9, 'a');
        UPDATE members SET email = 'dd' WHERE id = 4; UPDATE members SET email = 'd' WHERE id = 3;
        DELETE FROM members WHERE id = 2;"""
    _, done, live = _put_back(tmp_path, before, damage, change=change)
    rows = dict(_query(live, "SELECT id, email FROM members"))
    assert rows == {2: "b", 3: "c" if change else "d", 4: "dd", 9: "a"}
    (taken, *_) = [one for one in done["members"].conflicts if one.why == "unique"]
    assert (taken.key, taken.columns, taken.holder) == ({"id": 1}, ("email",), {"id": 9})
    assert done["members"].taken == (2 if change else 1)


def test_an_id_that_somebody_new_has_is_named_and_left_alone(tmp_path: Path) -> None:
    """A new member must not become an old one silently."""
    before = """
        CREATE TABLE members (id INTEGER PRIMARY KEY, name);
        INSERT INTO members VALUES (7, 'old');"""
    script, done, live = _put_back(tmp_path, before, "UPDATE members SET name = 'new'")
    assert _query(live, "SELECT * FROM members") == [(7, "new")]
    assert [(one.why, one.key) for one in done["members"].conflicts] == [("changed", {"id": 7})]
    assert "members: id=7: exists with other values" in script


def test_a_row_without_a_key_is_never_replaced(tmp_path: Path) -> None:
    """Its rowid may be another row's by now; one that is missing comes back under its own."""
    before = "CREATE TABLE t (v); INSERT INTO t VALUES ('a'), ('b'), ('c');"
    damage = "UPDATE t SET v = 'x' WHERE rowid = 1; DELETE FROM t WHERE rowid = 2;"
    _, done, live = _put_back(tmp_path, before, damage, change=True)
    assert _query(live, "SELECT rowid, v FROM t") == [(1, "x"), (2, "b"), (3, "c")]
    assert (done["t"].added, done["t"].changed) == (1, 1)


def test_virtual_tables_are_written_and_their_shadows_are_not(tmp_path: Path) -> None:
    """Full-text indexes with texts of their own, and R-trees, through what keeps them whole."""
    before = """
        CREATE VIRTUAL TABLE n USING fts5 (a, b UNINDEXED);
        INSERT INTO n VALUES ('x y', 1), ('z', 2);
        CREATE VIRTUAL TABLE m USING fts4 (a); INSERT INTO m VALUES ('x'), ('y');
        CREATE VIRTUAL TABLE r USING rtree (id, a, b); INSERT INTO r VALUES (1, 0, 1), (2, 3, 4);"""
    damage = """
        DELETE FROM n WHERE rowid = 2; UPDATE n SET a = 'q' WHERE rowid = 1;
        DELETE FROM m WHERE rowid = 1; DELETE FROM r WHERE id = 1;"""
    script, _, live = _put_back(tmp_path, before, damage, change=True)
    assert "_content" not in script
    assert _query(live, "SELECT rowid, a, b FROM n") == [(1, "x y", 1), (2, "z", 2)]
    assert _query(live, "SELECT rowid FROM n ('z')") == [(2,)]
    assert _query(live, "SELECT rowid FROM m WHERE m MATCH 'x'") == [(1,)]
    assert _query(live, "SELECT id FROM r WHERE a <= 1 AND b >= 1") == [(1,)]
    assert _query(live, "PRAGMA integrity_check") == [("ok",)]


def test_an_index_over_a_table_that_no_trigger_keeps_is_rebuilt(tmp_path: Path) -> None:
    """The texts lie in the table; without a trigger nobody would tell the index."""
    before = """
        CREATE TABLE notes (id INTEGER PRIMARY KEY, body);
        CREATE VIRTUAL TABLE f USING fts5 (body, content='notes', content_rowid='id');
        INSERT INTO notes VALUES (1, 'dog'); INSERT INTO f (f) VALUES ('rebuild');"""
    damage = "DELETE FROM notes; INSERT INTO f (f) VALUES ('rebuild');"
    _, _, live = _put_back(tmp_path, before, damage)
    assert _query(live, "SELECT rowid FROM f ('dog')") == [(1,)]


def test_a_table_that_is_gone_comes_back_with_what_belongs_to_it(tmp_path: Path) -> None:
    """Its triggers last: dropping the table has not counted anything down either."""
    before = _COUNTED.format(time="AFTER", count=_UPDATE) + "CREATE INDEX i ON members (gym);"
    _, _, live = _put_back(tmp_path, before, "DROP TABLE members")
    assert _query(live, "SELECT n FROM counts ORDER BY gym") == [(2,), (2,)]
    made = _query(live, "SELECT name FROM sqlite_master WHERE tbl_name = 'members' ORDER BY name")
    assert made == [("i",), ("md",), ("members",), ("mi",), ("mu",)]


def test_columns_that_the_live_table_has_lost_or_got_are_no_hindrance(tmp_path: Path) -> None:
    """The lost ones are said to be left out, new ones get their default."""
    before = "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b); INSERT INTO t VALUES (1, 2, 3);"
    damage = "DELETE FROM t; ALTER TABLE t DROP COLUMN a; ALTER TABLE t ADD COLUMN c DEFAULT 9;"
    script, _, live = _put_back(tmp_path, before, damage)
    assert _query(live, "SELECT * FROM t") == [(1, 3, 9)]
    assert "columns left out, because they no longer exist: a" in script


def test_parents_come_before_the_rows_that_refer_to_them(tmp_path: Path) -> None:
    """And the order is said; a circle is no hindrance, as keys are enforced at the end."""
    before = """
        CREATE TABLE a (id INTEGER PRIMARY KEY, p REFERENCES z (id));
        CREATE TABLE z (id INTEGER PRIMARY KEY, own REFERENCES z (id));
        INSERT INTO z VALUES (1, 2), (2, 1); INSERT INTO a VALUES (1, 1);"""
    script, _, live = _put_back(tmp_path, before, "DELETE FROM a; DELETE FROM z;")
    assert "In this order, for foreign keys and triggers: z, a." in script
    assert _query(live, "PRAGMA foreign_key_check") == []


def test_rows_whose_parents_are_gone_do_not_come_back_alone(tmp_path: Path) -> None:
    """Foreign keys hold for what is put back: it is refused, and nothing is changed."""
    before = """
        CREATE TABLE z (id INTEGER PRIMARY KEY); INSERT INTO z VALUES (1);
        CREATE TABLE a (id INTEGER PRIMARY KEY, p REFERENCES z); INSERT INTO a VALUES (1, 1);"""
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        _put_back(tmp_path, before, "DELETE FROM a; DELETE FROM z;", "a")
    assert _query(tmp_path / "live.db", "SELECT * FROM a") == []


def test_a_row_that_came_meanwhile_is_not_replaced_though_its_table_would(tmp_path: Path) -> None:
    """ON CONFLICT REPLACE of the table would delete what somebody has entered since."""
    before = "CREATE TABLE t (id INTEGER PRIMARY KEY ON CONFLICT REPLACE, v);"
    rows = "INSERT INTO t VALUES (1, 'old');"
    script, _, live = _put_back(tmp_path, before + rows, "DELETE FROM t;")
    _script(live, "UPDATE t SET v = 'new'")
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        _script(live, script)
    assert _query(live, "SELECT v FROM t") == [("new",)]


def test_keys_that_the_backup_breaks_already_are_not_enforced(tmp_path: Path) -> None:
    """The application does without them, and the first lines say so."""
    before = "CREATE TABLE a (id INTEGER PRIMARY KEY, p REFERENCES z); INSERT INTO a VALUES (1, 7);"
    script, _, live = _put_back(tmp_path, before, "DELETE FROM a")
    assert "a: foreign keys are not enforced" in script
    assert _query(live, "SELECT * FROM a") == [(1, 7)]


def test_what_only_the_application_has_is_said_in_the_first_lines(tmp_path: Path) -> None:
    """The functions that triggers, indexes and checks call, by name and by who calls them."""
    path, backup = tmp_path / "live.db", tmp_path / "backup.db"
    for target in (path, backup):
        with closing(sqlite3.connect(target)) as connection:
            for name in ("notify", "fold", "valid"):
                connection.create_function(name, 1, lambda value: value, deterministic=True)
            connection.executescript("""
                CREATE TABLE t (id INTEGER PRIMARY KEY, v CHECK (valid(v) IS NOT 0));
                CREATE INDEX i ON t (fold(v));
                CREATE TRIGGER tell AFTER INSERT ON t BEGIN SELECT notify(new.v); END;
                INSERT INTO t VALUES (1, 'a');""")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP INDEX i")
        connection.create_function("valid", 1, lambda value: value)
        connection.execute("DELETE FROM t")
        connection.execute("CREATE INDEX i2 ON t (v)")
        connection.commit()
    file = io.BytesIO()
    with Rescue(Side(backup), ["t"], live=Side(path, live=True)) as rescue:
        forms.write_sql(rescue, file, "backup.db")
    head = file.getvalue().decode().partition("BEGIN")[0]
    assert "-- Needed: the function notify, called by trigger tell." in head
    assert "-- Needed: the function valid, called by table t." in head
    assert "VALUES (1, 'a');" in file.getvalue().decode()


def test_rows_whose_order_only_the_application_knows_are_written_and_that_is_said(
    tmp_path: Path,
) -> None:
    """SQLite cannot find them by their key; one that is there already stops everything."""
    paths = [tmp_path / "backup.db", tmp_path / "live.db"]
    for path in paths:
        with closing(sqlite3.connect(path)) as connection:
            connection.create_collation("korean", lambda a, b: (a > b) - (a < b))
            connection.execute("CREATE TABLE t (k TEXT COLLATE korean PRIMARY KEY)")
            connection.execute("INSERT INTO t VALUES ('a')")
            connection.commit()
    file = io.BytesIO()
    with Rescue(Side(paths[0]), ["t"], live=Side(paths[1], live=True)) as rescue:
        done = forms.write_sql(rescue, file, "backup.db")["t"]
    script = file.getvalue().decode()
    assert (done.added, "KOREAN" in done.problem) == (1, True)
    assert "t: not compared with the live table" in script
    assert "-- Needed: the collation korean." in script
