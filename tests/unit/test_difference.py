"""Comparing two states of a database, against a comparison of dictionaries."""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gymdbd.errors import StoppedError
from gymdbd.rows.compare import Pair
from gymdbd.rows.difference import TableDifference, digest
from gymdbd.source.errors import GymdbdError, SourceCorruptError, SourceMissingError
from gymdbd.sqlite.sides import Side
from tests.support.databases import tree
from tests.support.tables import BLOBS, NAMES, TEXTS, VALUES, Row, make, quoted

_KEYS = st.one_of(st.integers(-2, 6), st.floats(-1, 1), st.sampled_from("aAbB"), TEXTS, BLOBS)
_ROWS = st.lists(st.tuples(_KEYS, st.integers(0, 2), VALUES), max_size=8)
_TABLES = [
    "(k PRIMARY KEY, j, v)",
    "(k NOT NULL PRIMARY KEY, j INT, v TEXT)",
    "(k TEXT PRIMARY KEY COLLATE NOCASE, j, v REAL)",
    "(k, j INT, v, PRIMARY KEY (k, j DESC))",
    "(k TEXT, j, v, PRIMARY KEY (k COLLATE NOCASE DESC, j))",
    "(k, j, v, PRIMARY KEY (k)) WITHOUT ROWID",
    "(k TEXT, j INT, v BLOB, PRIMARY KEY (j DESC, k COLLATE RTRIM)) WITHOUT ROWID",
    "(k INT, j INT, v INT, PRIMARY KEY (j, k)) WITHOUT ROWID",
    "(k, j, v)",
    "(rowid, j, v)",
]


def _folded(value: Any, collation: str) -> Any:
    """Return what a collation compares; numbers that are equal are one."""
    if not isinstance(value, str) or collation == "BINARY":
        return value
    if collation == "RTRIM":
        return value.rstrip(" ")
    return "".join(c.lower() if c.isascii() else c for c in value)


def _contents(path: Path, definition: str) -> dict[Any, Row]:
    """Return the rows by what the definition says is their key."""
    collation = next((one for one in ("NOCASE", "RTRIM") if one in definition), "BINARY")
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT * FROM t").fetchall()
        try:
            rowids = [row[0] for row in connection.execute("SELECT _rowid_ FROM t")]
        except sqlite3.OperationalError:
            rowids = [None] * len(rows)
    contents = {}
    for rowid, row in zip(rowids, rows, strict=True):
        if "PRIMARY KEY" not in definition:
            key: Any = rowid
        elif "(k COLLATE NOCASE DESC, j)" in definition or "(k, j DESC)" in definition:
            key = (_folded(row[0], collation), row[1])
        elif "j, k" in definition or "j DESC, k" in definition:
            key = (row[1], _folded(row[0], collation))
        else:
            key = _folded(row[0], collation)
        contents[key] = tuple((type(value), value) for value in row)
    assert len(contents) == len(rows)
    return contents


def _fill(path: Path, definition: str, rows: list[Row]) -> None:
    insert = "INSERT OR IGNORE INTO t VALUES (?, ?, ?)"
    make(path, f"CREATE TABLE t {definition}", (insert, rows))


@pytest.mark.parametrize("definition", _TABLES)
@given(before=_ROWS, after=_ROWS, kept=st.integers(0, 8))
def test_what_is_counted_is_what_dictionaries_tell(
    definition: str, before: list[Row], after: list[Row], kept: int
) -> None:
    """Added, removed and changed rows by key, whatever types, collations and orders there are."""
    with tempfile.TemporaryDirectory() as folder:
        one, other = Path(folder, "one.db"), Path(folder, "other.db")
        _fill(one, definition, before)
        _fill(other, definition, before[:kept] + after)
        old, new = _contents(one, definition), _contents(other, definition)
        both = old.keys() & new.keys()
        expected = {
            "added": len(new.keys() - both),
            "removed": len(old.keys() - both),
            "changed": sum(old[key] != new[key] for key in both),
        }
        with Pair(Side(one), Side(other)) as pair:
            (found,) = pair.tables()
            rows = Counter(row.change for row in pair.rows("t"))
        assert {name: getattr(found, name) for name in expected} == expected
        assert (found.before, found.after) == (len(old), len(new))
        assert {name: rows[name] for name in expected} == expected


def _compare(one: Path, other: Path) -> dict[str, TableDifference]:
    with Pair(Side(one), Side(other)) as pair:
        return {found.name: found for found in pair.tables()}


def _pair(folder: Path, before: list[Any], after: list[Any]) -> tuple[Path, Path]:
    return make(folder / "before.db", *before), make(folder / "after.db", *after)


def test_tables_with_any_name_are_compared(tmp_path: Path) -> None:
    """Quotes, spaces, Hangul and keywords in names of tables and columns are nothing special."""
    before, after = [], []
    for name in NAMES:
        for column in NAMES:
            table = quoted(name + column)
            create = f"CREATE TABLE {table} ({quoted(column)} INTEGER PRIMARY KEY, {quoted('v')})"
            before += [create, f"INSERT INTO {table} VALUES (1, 'a'), (2, 'b')"]
            after += [create, f"INSERT INTO {table} VALUES (1, 'c'), (3, 'b')"]
    found = _compare(*_pair(tmp_path, before, after))
    assert len(found) == len(NAMES) ** 2
    assert {(one.added, one.removed, one.changed) for one in found.values()} == {(1, 1, 1)}


def test_new_dropped_and_altered_tables_are_told_apart(tmp_path: Path) -> None:
    """Of an altered table the columns that both sides have are compared."""
    before = [
        "CREATE TABLE gone (v)",
        "INSERT INTO gone VALUES (1), (2)",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)",
        "INSERT INTO t VALUES (1, 1, 1), (2, 2, 2)",
    ]
    after = [
        "CREATE TABLE t (id INTEGER PRIMARY KEY, b, c)",
        "INSERT INTO t VALUES (1, 1, 9), (2, 3, 9)",
        "CREATE TABLE fresh (v)",
        "INSERT INTO fresh VALUES (1)",
    ]
    found = _compare(*_pair(tmp_path, before, after))
    assert found["gone"] == TableDifference("gone", "dropped", 2, None, removed=2)
    assert found["fresh"] == TableDifference("fresh", "new", None, 1, added=1)
    assert found["t"] == TableDifference(
        "t", "altered", 2, 2, changed=1, columns_added=("c",), columns_dropped=("a",), key=("id",)
    )
    told = "gone dropped +0 ~0 -2, fresh new +1, t altered +0 ~1 -0"
    assert digest(found.values()) == told


def _calls_to_compare(path: Path) -> int:
    """Count the functions that are called, Python's and C's, while a database is compared."""
    calls = 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        with Pair(Side(path), Side(path)) as pair:
            list(pair.tables())
            pair.definitions()
    finally:
        sys.setprofile(None)
    return calls


def test_a_comparison_takes_as_many_steps_a_table_with_many_tables_as_with_few(
    tmp_path: Path,
) -> None:
    """An application with a table for each tenant has thousands of them."""
    steps = {}
    for count in (100, 200, 800):
        create = [f"CREATE TABLE t{at} (id INTEGER PRIMARY KEY, v)" for at in range(count)]
        steps[count] = _calls_to_compare(make(tmp_path / f"{count}.db", *create))
    a_table = (steps[200] - steps[100]) / 100
    assert steps[800] < steps[100] + 700 * a_table * 1.1


def test_other_definitions_are_told_too(tmp_path: Path) -> None:
    """Indexes, views, triggers and virtual tables, each with what became of it."""
    before = ["CREATE TABLE t (a, b)", "CREATE INDEX i ON t (a)", "CREATE VIEW v AS SELECT 1"]
    after = ["CREATE TABLE t (a, b)", "CREATE INDEX i ON t (b)", "CREATE VIEW w AS SELECT 1"]
    with Pair(*map(Side, _pair(tmp_path, before, after))) as pair:
        assert pair.definitions() == [
            ("index", "i", "altered"),
            ("view", "v", "dropped"),
            ("view", "w", "new"),
        ]


def test_of_full_text_only_the_texts_are_compared(tmp_path: Path) -> None:
    """What an FTS table keeps besides changes with every write and says nothing to anybody."""
    create = "CREATE VIRTUAL TABLE notes USING fts5(body)"
    after = [create, "INSERT INTO notes VALUES ('broken lock')"]
    found = _compare(*_pair(tmp_path, [create, "CREATE TABLE notes_x (v)"], after))
    assert set(found) == {"notes_content", "notes_x"}
    assert digest(found.values()) == "notes_content +1, notes_x dropped"


def test_a_key_that_is_null_in_several_rows_gives_way_to_the_rowid(tmp_path: Path) -> None:
    """SQLite lets a primary key be NULL: such rows are told apart by their rowids."""
    create = "CREATE TABLE t (k TEXT PRIMARY KEY, v)"
    before = [create, "INSERT INTO t VALUES (NULL, 1), (NULL, 2), ('a', 3)"]
    after = [create, "INSERT INTO t VALUES (NULL, 1), (NULL, 5), ('a', 3), (NULL, 4)"]
    found = _compare(*_pair(tmp_path, before, after))["t"]
    assert (found.key, found.added, found.removed, found.changed) == (("rowid",), 1, 0, 1)


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("(a PRIMARY KEY, b)", "(a, b PRIMARY KEY)", "its key is another one"),
        ("(a PRIMARY KEY, b)", "(a, b)", "its key is another one"),
        ("(a INT PRIMARY KEY)", "(a TEXT PRIMARY KEY)", "its key is another one"),
        ("(a PRIMARY KEY)", "(a PRIMARY KEY COLLATE NOCASE)", "its key is another one"),
        ("(rowid, oid, _rowid_)", "(rowid, oid, _rowid_)", "no key tells its rows apart"),
    ],
)
def test_rows_that_no_key_tells_apart_are_only_counted(
    tmp_path: Path, before: str, after: str, problem: str
) -> None:
    """The counts are given, with the reason why there is no more."""
    paths = _pair(
        tmp_path,
        [f"CREATE TABLE t {before}"],
        [f"CREATE TABLE t {after}", "INSERT INTO t DEFAULT VALUES"],
    )
    found = _compare(*paths)["t"]
    assert (found.before, found.after, found.added) == (0, 1, 0)
    assert found.problem.startswith(problem)
    assert digest([found]).endswith("0 to 1 rows")
    with Pair(*map(Side, paths)) as pair, pytest.raises(GymdbdError, match=problem):
        list(pair.rows("t"))


def test_a_collation_of_the_application_is_named(tmp_path: Path) -> None:
    """SQLite alone cannot find a row by such a key."""
    path = tmp_path / "one.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.create_collation("korean", lambda a, b: (a > b) - (a < b))
        connection.execute("CREATE TABLE t (k TEXT COLLATE korean PRIMARY KEY)")
        connection.execute("INSERT INTO t VALUES ('a')")
        connection.commit()
    assert "KOREAN" in _compare(path, path)["t"].problem


def test_generated_columns_are_left_out(tmp_path: Path) -> None:
    """They follow from the others, and may need functions that only the application has."""
    create = "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b AS (a * 2) STORED, c AS (a + 1))"
    before = [create, "INSERT INTO t VALUES (1, 1)"]
    paths = _pair(tmp_path, before, [create, "INSERT INTO t VALUES (1, 2)"])
    with Pair(*map(Side, paths)) as pair:
        (row,) = pair.rows("t")
    assert (row.key, row.before, row.after) == ({"id": 1}, {"a": 1}, {"a": 2})


def test_as_many_columns_as_sqlite_allows_are_compared(tmp_path: Path) -> None:
    """Their conditions do not nest deeper than an expression may."""
    columns = ", ".join(f"c{at}" for at in range(1999))
    create = f"CREATE TABLE t (id INTEGER PRIMARY KEY, {columns})"
    paths = _pair(
        tmp_path,
        [create, "INSERT INTO t (id, c1998) VALUES (1, 1), (2, 2)"],
        [create, "INSERT INTO t (id, c1998) VALUES (1, 1), (2, 2.0)"],
    )
    assert _compare(*paths)["t"].changed == 1


def test_two_encodings_are_refused_with_both_names(tmp_path: Path) -> None:
    """SQLite compares texts of one encoding only."""
    paths = _pair(
        tmp_path, ["CREATE TABLE t (v)"], ["PRAGMA encoding='UTF-16'", "CREATE TABLE t (v)"]
    )
    with pytest.raises(GymdbdError) as caught:
        Pair(*map(Side, paths))
    assert all(str(path) in caught.value.message for path in paths)


def test_each_side_is_named_in_its_own_faults(tmp_path: Path) -> None:
    """Missing or damaged, the message has the path of the right one, whichever it is."""
    rows = [(at, "x" * 500) for at in range(100)]
    create = "CREATE TABLE t (id INTEGER PRIMARY KEY, v)"
    good, bad = _pair(tmp_path, *[[create, ("INSERT INTO t VALUES (?, ?)", rows)]] * 2)
    with bad.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 4096)
    missing = tmp_path / "missing.db"
    for one, other in ((good, bad), (bad, good)):
        with Pair(Side(one), Side(other)) as pair, pytest.raises(SourceCorruptError) as caught:
            list(pair.tables())
        assert str(bad) in caught.value.message
        with pytest.raises(SourceMissingError):
            Pair(*map(Side, (one, missing) if one == good else (missing, one)))


def test_a_live_side_is_one_snapshot_and_is_not_touched(tmp_path: Path) -> None:
    """What is committed meanwhile is not seen, in either place, and no file appears or changes."""
    backup = make(tmp_path / "backup.db", "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    live = make(tmp_path / "live.db", "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    with closing(sqlite3.connect(live, isolation_level=None)) as app:
        app.execute("PRAGMA journal_mode=WAL")
        app.execute("INSERT INTO t VALUES (1)")
        before = {name for name in tree(tmp_path) if not name.endswith("-shm")}
        for sides in ((Side(backup), Side(live, live=True)), (Side(live, live=True), Side(backup))):
            with Pair(*sides) as pair:
                app.execute("INSERT INTO t SELECT max(id) + 1 FROM t")
                (found,) = pair.tables()
                rows = len(list(pair.rows("t")))
            (count,) = app.execute("SELECT count(*) - 1 FROM t").fetchone()
            assert (found.added + found.removed, rows) == (count, count)
        assert {name for name in tree(tmp_path) if not name.endswith("-shm")} == before


def test_a_comparison_can_be_stopped(tmp_path: Path) -> None:
    """What `check` raises comes out, from the midst of a long statement."""
    create = "CREATE TABLE t (id INTEGER PRIMARY KEY, v)"
    path = make(tmp_path / "one.db", create, ("INSERT INTO t (v) VALUES (?)", [(1,)] * 50_000))

    def stop() -> None:
        raise StoppedError("stopped")

    with Pair(Side(path), Side(path), check=stop) as pair, pytest.raises(StoppedError):
        list(pair.tables())


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, "nothing"),
        ({"rentals": (14, 0, 0), "members": (1, 2, 0)}, "rentals +14, members +1 ~2 -0"),
        ({"same": (0, 0, 0), "less": (0, 0, 3)}, "less +0 ~0 -3"),
        (
            {f"t{at}": (1, 0, 0) for at in range(10)},
            "t0 +1, t1 +1, t2 +1, t3 +1, t4 +1, t5 +1, t6 +1, t7 +1, and 2 more tables",
        ),
    ],
)
def test_the_digest_is_one_line_with_the_most_first(
    counts: dict[str, tuple[int, int, int]], expected: str
) -> None:
    """Where rows were only added the other two numbers are left out."""
    differences = [
        TableDifference(name, "same", 9, 9 + added - removed, added, removed, changed)
        for name, (added, changed, removed) in counts.items()
    ]
    assert digest(differences) == expected


@pytest.mark.parametrize(
    ("definition", "before", "after", "expected"),
    [
        ("(id INTEGER PRIMARY KEY, v TEXT COLLATE NOCASE)", "(1, 'a')", "(1, 'A')", (0, 0, 1)),
        ("(id INTEGER PRIMARY KEY, v)", "(1, 1)", "(1, 1.0)", (0, 0, 1)),
        ("(id INTEGER PRIMARY KEY, v)", "(1, 1)", "(1, '1')", (0, 0, 1)),
        ("(id INTEGER PRIMARY KEY, v)", "(1, NULL)", "(1, '')", (0, 0, 1)),
        ("(id INTEGER PRIMARY KEY, v)", "(1, 'a')", "(1, X'61')", (0, 0, 1)),
        ("(id INTEGER PRIMARY KEY, v INT)", "(1, 1)", "(1, 1.0)", (0, 0, 0)),
        ("(id TEXT, v, PRIMARY KEY (id COLLATE NOCASE))", "('a', 1)", "('A', 1)", (0, 0, 1)),
        ("(id TEXT COLLATE NOCASE, v, PRIMARY KEY (id))", "('a', 1)", "('A', 1)", (0, 0, 1)),
        ("(id TEXT PRIMARY KEY, v)", "('a', 1)", "('A', 1)", (1, 1, 0)),
        ("(id PRIMARY KEY, v)", "(1, 1)", "(1.0, 1)", (0, 0, 1)),
    ],
)
def test_a_value_is_equal_to_itself_only_and_a_key_by_its_collation(
    tmp_path: Path, definition: str, before: str, after: str, expected: tuple[int, int, int]
) -> None:
    """Case, type and NULL make a change; which row it is the index of the key decides."""
    create = f"CREATE TABLE t {definition}"
    insert = "INSERT INTO t VALUES "
    found = _compare(*_pair(tmp_path, [create, insert + before], [create, insert + after]))["t"]
    assert (found.added, found.removed, found.changed) == expected
