"""What SQLite's answers mean: damage, a violated constraint, something that cannot be checked."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from gymdbd.source import answers, database
from gymdbd.source.counting import count_rows, uncounted
from gymdbd.source.errors import SourceCorruptError, SourceUnreadableError
from gymdbd.source.schema import is_tolerant, read_facts
from gymdbd.sqlite import soundness
from tests.support.unlike import UNCHECKABLE, VIOLATED, make, spoil_schema

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.sqlite.soundness import Soundness


def _check(path: Path, *, quick: bool = False) -> Soundness:
    with closing(database.open_immutable(path)) as connection:
        return soundness.check(connection, quick=quick)


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("kind", sorted(UNCHECKABLE))
def test_what_cannot_be_checked_is_no_damage(tmp_path: Path, kind: str, *, quick: bool) -> None:
    """Nothing is wrong; what was left out is named, with the version of SQLite."""
    found = _check(make(tmp_path / "app.db", UNCHECKABLE[kind]), quick=quick)
    assert found.problems == ()
    assert found.violations == ()
    # The quick check does not look at what an index holds.
    only_full = {"function in an index", "function in a partial index"}
    expected = 0 if quick and kind in only_full else 1
    assert len(found.unchecked) >= expected
    assert all(sqlite3.sqlite_version in one for one in found.unchecked)


@pytest.mark.parametrize("kind", sorted(UNCHECKABLE))
def test_what_cannot_be_checked_is_known_beforehand(tmp_path: Path, kind: str) -> None:
    """It is what the check will leave out, and no row is read for it, damaged or not."""
    path = make(tmp_path / "app.db", UNCHECKABLE[kind])
    with closing(database.open_immutable(path)) as connection:
        foreseen = soundness.foresee(connection)
    # If a module fails, newer releases check no page that belongs to no table.
    assert foreseen == _check(path).unchecked[:1]


def test_nothing_is_foreseen_of_rows(tmp_path: Path) -> None:
    """A database that is damaged, or breaks its constraints, can be checked all the same."""
    path = make(tmp_path / "app.db", VIOLATED["NULL"])
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(4096))
    with closing(database.open_immutable(path)) as connection:
        assert soundness.foresee(connection) == ()
        assert soundness.check(connection).problems != ()


@pytest.mark.parametrize("kind", sorted(UNCHECKABLE))
def test_rows_are_counted_whatever_is_not_understood(tmp_path: Path, kind: str) -> None:
    """Only a table whose own definition is too new is left out."""
    path = make(tmp_path / "app.db", UNCHECKABLE[kind])
    with closing(database.open_immutable(path)) as connection:
        facts = read_facts(connection)
        rows = count_rows(connection, facts)
    assert rows["plain"] == 1
    assert uncounted(facts, rows) == (["members"] if kind == "newer table" else [])
    assert rows.get("members", 2) == 2


@pytest.mark.parametrize("kind", sorted(VIOLATED))
def test_a_violated_constraint_is_no_damage(tmp_path: Path, kind: str) -> None:
    """It is told as a remark."""
    found = _check(make(tmp_path / "app.db", VIOLATED[kind]))
    assert found.problems == ()
    assert found.unchecked == ()
    assert len(found.violations) == 1
    assert "members.at" in found.remarks[0]


def test_many_violations_hide_no_damage(tmp_path: Path) -> None:
    """Thousands of rows against a constraint do not end the check before the damage behind them."""
    path = make(tmp_path / "app.db", VIOLATED["NULL"])
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("CREATE TABLE zoo(a)")
        connection.execute("CREATE INDEX i ON zoo(a) WHERE a > 1")
        connection.execute("INSERT INTO zoo VALUES (1)")
        connection.execute(
            "UPDATE sqlite_master SET sql='CREATE TABLE members(id INTEGER PRIMARY KEY, at)' "
            "WHERE name = 'members'"
        )
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 3000) "
            "INSERT INTO members(at) SELECT NULL FROM n"
        )
    spoil_schema(path, "members", "at\\)", "at NOT NULL)")
    spoil_schema(path, "i", " WHERE a > 1", "")
    found = _check(path)
    assert set(found.problems) == {"row 1 missing from index i", "wrong # of entries in index i"}
    assert found.violations == ("NULL value in members.at (3001 times)",)


def test_a_page_that_no_table_claims_is_damage(tmp_path: Path) -> None:
    """The schema has lost a table; only if it is not understood pages may be its own."""
    path = make(tmp_path / "app.db", ("CREATE TABLE lost(a)",))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("DELETE FROM sqlite_master WHERE name = 'lost'")
    found = _check(path)
    assert len(found.problems) == 1
    assert "never used" in found.problems[0]


@pytest.mark.parametrize("kind", sorted(UNCHECKABLE))
def test_what_cannot_be_checked_hides_no_damage(tmp_path: Path, kind: str) -> None:
    """An index that lacks a row is found, in another table than the one that is not checked."""
    path = make(
        tmp_path / "app.db",
        (
            "CREATE INDEX i ON plain(x) WHERE x > 1",
            *UNCHECKABLE[kind],
            "PRAGMA writable_schema=ON",
            "UPDATE sqlite_master SET sql='CREATE INDEX i ON plain(x)' WHERE name='i'",
        ),
    )
    found = _check(path)
    assert set(found.problems) == {"row 1 missing from index i", "wrong # of entries in index i"}


@pytest.mark.parametrize("kind", sorted(UNCHECKABLE))
def test_a_page_that_is_no_page_is_found_whatever_cannot_be_checked(
    tmp_path: Path, kind: str
) -> None:
    """Every page is looked at, those of the table that is not checked as well."""
    path = make(tmp_path / "app.db", UNCHECKABLE[kind])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = ?",
            ("plain" if kind == "newer table" else "members",),
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    assert _check(path).problems != ()


@pytest.mark.parametrize(
    "kind",
    ["function in an indexed generated column", "collation of a key", "collation of an index"],
)
def test_a_stand_in_is_not_taken_for_the_application(tmp_path: Path, kind: str) -> None:
    """A check after a count or another check on the same connection finds no damage either."""
    path = make(tmp_path / "app.db", UNCHECKABLE[kind])
    with closing(database.open_immutable(path)) as connection:
        count_rows(connection, read_facts(connection))
        first = soundness.check(connection)
        second = soundness.check(connection)
    assert (first.problems, first.violations) == ((), ())
    assert (second.problems, second.violations) == ((), ())
    assert second.unchecked != ()


@pytest.mark.parametrize(
    ("pattern", "by"),
    [
        ("CREATE", "CRAATE"),
        ("SELECT", "SELFCT"),
        ("FROM", "FRPM"),
        ("SELECT", "SEL\xffCT"),
        ("SELECT", "\x01ELECT"),
        (r"\d.*", ""),
        ("members", "memb^rs"),
        ("WHERE", "WHFRE"),
    ],
)
def test_a_schema_with_a_wrong_letter_is_damaged_and_not_newer(
    tmp_path: Path, pattern: str, by: str
) -> None:
    """A word that is a keyword but for one letter, or no text, is what a disk has spoilt."""
    path = make(
        tmp_path / "app.db",
        ("CREATE TABLE members(at)", "CREATE VIEW v AS SELECT 1 FROM members WHERE at > 2"),
    )
    spoil_schema(path, "v", pattern, by)
    with (
        closing(database.open_immutable(path)) as connection,
        pytest.raises(SourceCorruptError),
        database.translated(path),
    ):
        read_facts(connection)
    assert _check(path).problems != ()


@pytest.mark.parametrize(
    "query",
    [
        "group_concat(cost, ',' ORDER BY cost)",
        "count(DISTINCT last ORDER BY base)",
        "at ^ 2",
        "at @> '{}'",
        "at::text",
        "median(at) WITHIN GROUP (ORDER BY at)",
    ],
)
def test_a_view_of_a_newer_sqlite_is_not_damaged_whatever_it_calls_its_columns(
    tmp_path: Path, query: str
) -> None:
    """A column `cost` is no CAST with a wrong letter, and a new operator no spoilt letter."""
    path = make(
        tmp_path / "app.db",
        ("CREATE TABLE members(at, cost, last, base)", "CREATE VIEW v AS SELECT 1 FROM members"),
    )
    spoil_schema(path, "v", "1", query)
    found = _check(path)
    assert found.problems == ()
    assert len(found.unchecked) == 1


@pytest.mark.parametrize(
    ("column", "value"),
    [("rootpage", 999), ("sql", "'x'"), ("sql", "NULL"), ("name", "'other'")],
)
def test_a_schema_that_makes_no_sense_is_damaged(tmp_path: Path, column: str, value: str) -> None:
    """No SQLite, however new, has written it; where it reads all the same nothing is left out."""
    path = make(tmp_path / "app.db", ("CREATE TABLE members(at)", "CREATE INDEX i ON members(at)"))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute(f"UPDATE sqlite_master SET {column} = {value} WHERE name = 'i'")
    with closing(database.open_immutable(path)) as connection:
        assert not is_tolerant(connection)


@pytest.mark.parametrize("column", ["type", "name", "tbl_name", "rootpage", "sql"])
@pytest.mark.parametrize("name", ["members", "i", "v", "gone"])
def test_a_schema_with_what_is_no_text_is_damaged(tmp_path: Path, name: str, column: str) -> None:
    """One flipped bit makes a blob of it, and neither reading nor SQLite's own check fails."""
    made = make(
        tmp_path / "app.db",
        (
            "CREATE TABLE members(at)",
            "CREATE INDEX i ON members(at)",
            "CREATE VIEW v AS SELECT 1",
            "CREATE TRIGGER gone AFTER DELETE ON members BEGIN SELECT 1; END",
        ),
    ).read_bytes()
    path = tmp_path / "spoilt.db"
    for value in (f"CAST({column} AS BLOB)", "7.5", "''"):
        path.write_bytes(made)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA writable_schema=ON")
            change = f"UPDATE sqlite_master SET {column} = {value} WHERE name = ?"
            assert connection.execute(change, (name,)).rowcount == 1
        assert _check(path).problems != (), value
        with (
            closing(database.open_immutable(path)) as connection,
            pytest.raises(SourceCorruptError),
            database.translated(path),
        ):
            read_facts(connection)


def test_an_error_without_a_code_means_the_same(tmp_path: Path) -> None:
    """Python before 3.11 does not tell SQLite's code: its words must do."""
    words = {
        "no such function: year_of": answers.UNKNOWN,
        "unknown function: corrupt()": answers.UNKNOWN,
        "no such collation sequence: malformed": answers.UNKNOWN,
        "SQL logic error": answers.UNKNOWN,
        "database disk image is malformed": answers.DAMAGED,
        "malformed database schema (t) - invalid rootpage": answers.DAMAGED,
        'malformed database schema (v) - near "ORDER": syntax error': answers.NEWER_SCHEMA,
        "file is not a database": answers.NOT_A_DATABASE,
        "database is locked": answers.LOCKED,
        "database table is locked: members": answers.LOCKED,
        "disk I/O error": answers.UNREAD,
        "interrupted": answers.FAILED,
    }
    assert {text: answers.meaning(sqlite3.DatabaseError(text)) for text in words} == words
    assert tmp_path.is_dir()


def test_what_this_sqlite_lacks_is_told_as_such_and_not_as_damage(tmp_path: Path) -> None:
    """The hint names SQLite's version, and neither permissions nor a failing disk."""
    error = database.source_error(
        sqlite3.OperationalError("no such function: year_of"), tmp_path / "app.db"
    )
    assert type(error) is SourceUnreadableError
    assert sqlite3.sqlite_version in error.hint
    assert "dmesg" not in error.hint


def test_a_disk_that_fails_is_no_damage(tmp_path: Path) -> None:
    """What could not be read is raised, and not taken for what SQLite found."""
    path = make(tmp_path / "app.db", UNCHECKABLE["function in an index"])
    with closing(database.open_immutable(path)) as connection:
        connection.set_progress_handler(lambda: 1, 1)
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            soundness.check(connection)
