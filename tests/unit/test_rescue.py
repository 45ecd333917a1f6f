"""Rows written out of a backup, and whether they come back as they were."""

from __future__ import annotations

import csv
import io
import math
import random
import sqlite3
import struct
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gymdbd.errors import UsageError
from gymdbd.rows import forms
from gymdbd.rows.literals import Literals
from gymdbd.rows.rescue import Rescue
from gymdbd.source.errors import GymdbdError, SourceCorruptError
from gymdbd.sqlite.sides import Side
from tests.support.command import require
from tests.support.databases import tree
from tests.support.tables import BROKEN_TEXTS, FLOATS, NAMES, VALUES, Row, make, quoted, read

_SHAPES = [
    "(id INTEGER PRIMARY KEY, {}, {})",
    "(id TEXT PRIMARY KEY, {}, {}) WITHOUT ROWID",
    "(id, {} REAL, {} TEXT, PRIMARY KEY (id DESC))",
    "(id PRIMARY KEY, {} NUMERIC, {} BLOB, twice AS (id || id) STORED, half AS (1) VIRTUAL)",
]


def _rescued(path: Path, *wanted: str, where: str = "") -> str:
    file = io.BytesIO()
    with Rescue(Side(path), list(wanted), where) as rescue:
        forms.write_sql(rescue, file, path.name)
    return file.getvalue().decode()


@st.composite
def _tables(draw: st.DrawFn) -> tuple[str, list[str], str, list[Row]]:
    """Draw a table's name, its columns' names, its definition and its rows."""
    name, one, other = draw(st.lists(st.sampled_from(NAMES), min_size=3, max_size=3, unique=True))
    shape = draw(st.sampled_from(_SHAPES))
    definition = f"CREATE TABLE {quoted(name)} " + shape.format(quoted(one), quoted(other))
    rows = draw(st.lists(st.tuples(VALUES, VALUES), max_size=6))
    return name, ["id", one, other], definition, [(at, *row) for at, row in enumerate(rows)]


@given(table=_tables(), encoding=st.sampled_from(["UTF-8", "UTF-16le", "UTF-16be"]))
def test_statements_applied_to_an_empty_schema_give_back_equal_rows(
    table: tuple[str, list[str], str, list[Row]], encoding: str
) -> None:
    """Whatever the types, the names and the texts; what is there already is never overwritten."""
    name, columns, definition, rows = table
    insert = f"INSERT INTO {quoted(name)} ({', '.join(map(quoted, columns))}) VALUES (?, ?, ?)"
    with tempfile.TemporaryDirectory() as folder:
        pragma = f"PRAGMA encoding='{encoding}'"
        source = make(Path(folder, "source.db"), pragma, definition, (insert, rows))
        script = _rescued(source, name)
        target = make(Path(folder, "target.db"), pragma, definition)
        with closing(sqlite3.connect(target, isolation_level=None)) as connection:
            connection.executescript(script)
            if rows:
                with pytest.raises(sqlite3.IntegrityError):
                    connection.executescript(script)
                connection.execute("ROLLBACK")
        assert read(target, name) == read(source, name)


@given(table=_tables(), encoding=st.sampled_from(["UTF-8", "UTF-16le"]))
def test_a_database_of_rescued_rows_holds_equal_rows(
    table: tuple[str, list[str], str, list[Row]], encoding: str
) -> None:
    """With their rowids and the table's own definition and indexes."""
    name, columns, definition, rows = table
    insert = f"INSERT INTO {quoted(name)} ({', '.join(map(quoted, columns))}) VALUES (?, ?, ?)"
    index = f"CREATE INDEX {quoted('by ' + name)} ON {quoted(name)} ({quoted(columns[1])})"
    with tempfile.TemporaryDirectory() as folder:
        pragma = f"PRAGMA encoding='{encoding}'"
        # So that new rowids would be others.
        gap = f"DELETE FROM {quoted(name)} WHERE id = 0"
        source = make(Path(folder, "source.db"), pragma, definition, index, (insert, rows), gap)
        target = Path(folder, "target.db")
        with Rescue(Side(source), [name]) as rescue:
            assert forms.write_database(rescue, target) == {name: len(rows[1:])}
        columns_read = "*" if "WITHOUT" in definition else "rowid, *"
        assert read(target, name, columns_read) == read(source, name, columns_read)
        schema = "SELECT type, name, sql FROM sqlite_master ORDER BY rowid"
        with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
            assert other.execute(schema).fetchall() == one.execute(schema).fetchall()
            assert other.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@given(texts=st.lists(BROKEN_TEXTS | st.text(), min_size=1, max_size=5))
def test_texts_that_are_no_utf_8_come_back_byte_by_byte(texts: list[str]) -> None:
    """As statements and as a database: SQLite keeps such bytes, so must what rescues them."""
    with tempfile.TemporaryDirectory() as folder:
        source = make(Path(folder, "source.db"), "CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
        with closing(sqlite3.connect(source)) as connection:
            for text in texts:
                data = text.encode("utf-8", "surrogateescape")
                connection.execute("INSERT INTO t (v) VALUES (CAST(? AS TEXT))", (data,))
            connection.commit()
        target = make(Path(folder, "target.db"), "CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
        with closing(sqlite3.connect(target)) as connection:
            connection.executescript(_rescued(source, "t"))
        copy = Path(folder, "copy.db")
        with Rescue(Side(source), ["t"]) as rescue:
            forms.write_database(rescue, copy)
        assert read(target, "t", "CAST(v AS BLOB), typeof(v)") == read(
            source, "t", "CAST(v AS BLOB), typeof(v)"
        )
        assert read(copy, "t") == read(source, "t")


@given(FLOATS)
def test_a_real_number_comes_back_to_its_last_bit(value: float) -> None:
    """SQLite's own reading of decimals is not always exact; what is written gets around that."""
    with closing(Literals()) as literals, closing(sqlite3.connect(":memory:")) as connection:
        (back,) = connection.execute(f"SELECT {literals.sql(value)}").fetchone()
    assert struct.pack("d", back) == struct.pack("d", value)


def test_real_numbers_that_sqlite_misreads_come_back_too() -> None:
    """Of some ten thousand random ones SQLite 3.40 reads a few wrong; all come back."""
    draw = random.Random(20261123)
    wrong = []
    with closing(Literals()) as literals, closing(sqlite3.connect(":memory:")) as connection:
        for _ in range(20_000):
            (value,) = struct.unpack("d", struct.pack("Q", draw.getrandbits(64)))
            if not math.isnan(value):
                (back,) = connection.execute(f"SELECT {literals.sql(value)}").fetchone()
                wrong += [value] if back != value else []
    assert wrong == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "NULL"),
        (-(2**63), "-9223372036854775808"),
        (float("inf"), "9e999"),
        (b"\x00\xff", "X'00FF'"),
        ("it's 김회원", "'it''s 김회원'"),
        ("", "''"),
        ("a\0b", "'a'||char(0)||'b'"),
        ("one\r\ntwo", "'one'||char(13,10)||'two'"),
        ("\x1b[2J", "char(27)||'[2J'"),
        ("\udcff", "CAST(X'FF' AS TEXT)"),
    ],
)
def test_a_value_is_written_on_one_line_for_people_to_read(value: Any, expected: str) -> None:
    """Nothing in it ends the statement, the line or the terminal's patience."""
    with closing(Literals()) as literals:
        assert literals.sql(value) == expected


def test_a_text_of_many_lines_is_no_expression_too_deep_for_sqlite(tmp_path: Path) -> None:
    """A thousand line breaks are written as bytes, in UTF-16 as well."""
    for encoding in ("UTF-8", "UTF-16be"):
        text = "한 줄\r\n" * 1000
        pragma = f"PRAGMA encoding='{encoding}'"
        create = "CREATE TABLE t (id INTEGER PRIMARY KEY, v)"
        source = make(tmp_path / "s.db", pragma, create, ("INSERT INTO t VALUES (1, ?)", [(text,)]))
        target = make(tmp_path / "t.db", pragma, create)
        with closing(sqlite3.connect(target)) as connection:
            connection.executescript(_rescued(source, "t"))
        assert read(target, "t") == read(source, "t")


def test_the_shell_of_sqlite_takes_the_statements_too(tmp_path: Path) -> None:
    """Line breaks, dots at the start of a line and escapes reach the database as they were."""
    create = "CREATE TABLE t (id INTEGER PRIMARY KEY, v)"
    rows = [(1, "a\r\n.quit\r\n"), (2, "\0"), (3, "go\n/\n"), (4, "김'; DROP TABLE t; --")]
    source = make(tmp_path / "source.db", create, ("INSERT INTO t VALUES (?, ?)", rows))
    target = make(tmp_path / "target.db", create)
    command = [require("sqlite3"), "-bail", str(target)]
    subprocess.run(command, input=_rescued(source, "t"), text=True, check=True, timeout=30)
    assert read(target, "t") == read(source, "t")


def test_a_failing_row_undoes_all_of_it(tmp_path: Path) -> None:
    """SQLite's shell stops at the first error, and the transaction ends with it."""
    create = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)"
    source = make(tmp_path / "s.db", create, ("INSERT INTO t VALUES (?, ?)", [(1, "a"), (2, "b")]))
    strict = make(tmp_path / "u.db", "CREATE TABLE t (id INTEGER PRIMARY KEY, v CHECK (v <> 'b'))")
    command = [require("sqlite3"), "-bail", str(strict)]
    script = _rescued(source, "t")
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run(command, input=script.encode(), check=True, timeout=30, capture_output=True)
    assert read(strict, "t") == []


def test_rows_without_a_key_are_added_and_the_statements_say_so(tmp_path: Path) -> None:
    """A rowid may belong to another row by now, and must not replace it."""
    create = "CREATE TABLE t (v TEXT)"
    source = make(tmp_path / "source.db", create, ("INSERT INTO t VALUES (?)", [("a",), ("a",)]))
    target = make(tmp_path / "target.db", create, "INSERT INTO t VALUES ('newer')")
    script = _rescued(source, "t")
    with closing(sqlite3.connect(target)) as connection:
        connection.executescript(script)
        found = connection.execute("SELECT v FROM t").fetchall()
    assert found == [("newer",), ("a",), ("a",)]
    assert "-- t: all rows; without a primary key" in script


def test_a_comment_never_becomes_a_statement(tmp_path: Path) -> None:
    """A line break in --where or in a table's name stays inside its comment."""
    source = make(tmp_path / "source.db", 'CREATE TABLE "a\nDROP TABLE b" (v)')
    script = _rescued(source, "a\nDROP TABLE b", where="1\n OR 0")
    assert not any(line.startswith(("DROP", " OR")) for line in script.splitlines())


def test_csv_tells_null_from_empty_and_text_from_numbers(tmp_path: Path) -> None:
    """RFC 4180: text in quotes, lines ended by CRLF; NULL is an empty field without quotes."""
    create = 'CREATE TABLE t (id INTEGER PRIMARY KEY, "a ""b""", c)'
    rows: list[Row] = [(1, None, ""), (2, "1", 1), (3, 'say "hi",\r\n', b"\0\xff"), (4, 0.1, "회")]
    source = make(tmp_path / "source.db", create, ("INSERT INTO t VALUES (?, ?, ?)", rows))
    file = io.BytesIO()
    with Rescue(Side(source), ["t"]) as rescue:
        assert forms.write_csv(rescue, file) == {"t": 4}
    text = file.getvalue().decode()
    assert text == (
        '"id","a ""b""","c"\r\n1,,""\r\n2,"1",1\r\n3,"say ""hi"",\r\n",X\'00FF\'\r\n4,0.1,"회"\r\n'
    )
    assert list(csv.reader(io.StringIO(text, newline="")))[3][1] == 'say "hi",\r\n'


@pytest.mark.parametrize(
    "where",
    [
        "load_extension('x.so')",
        "id IN (SELECT page_count FROM pragma_page_count)",
        "1); DELETE FROM t; --",
        "1); ATTACH '{other}' AS o; --",
        "id = ?",
        "no_such_column",
        "no_such_function(id)",
        "id =",
        "1; SELECT 1",
        "id IN (SELECT id FROM elsewhere.t)",
        "(DELETE FROM t)",
        "sum(id) > 1",
        "json_extract('{{', '$')",
        "\udcff",
    ],
)
def test_where_reads_and_does_nothing_else(tmp_path: Path, where: str) -> None:
    """What writes, attaches, loads or is no expression is refused, and no byte changes."""
    create = "CREATE TABLE t (id INTEGER PRIMARY KEY)"
    source = make(tmp_path / "source.db", create, "INSERT INTO t VALUES (1), (2)")
    before = tree(tmp_path)
    with pytest.raises(UsageError) as caught:
        _rescued(source, "t", where=where.format(other=tmp_path / "other.db"))
    assert "--where" in caught.value.message
    assert caught.value.hint
    assert tree(tmp_path) == before


def test_where_may_ask_other_tables_and_full_text(tmp_path: Path) -> None:
    """An expression is anything that only reads, recursion and full-text search included."""
    source = make(
        tmp_path / "source.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v)",
        "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')",
        "CREATE VIRTUAL TABLE notes USING fts5(body)",
        "INSERT INTO notes (rowid, body) VALUES (2, 'broken lock')",
    )
    odd = "WITH RECURSIVE n(x) AS (SELECT 1 UNION SELECT x + 2 FROM n LIMIT 2) SELECT x FROM n"
    for where, expected in (
        ("id = (SELECT max(id) FROM t)", [3]),
        ("id IN (SELECT rowid FROM notes WHERE notes MATCH 'lock')", [2]),
        (f"id IN ({odd})", [1, 3]),
        ("v LIKE 'A'", [1]),
    ):
        file = io.BytesIO()
        with Rescue(Side(source), ["t"], where) as rescue:
            forms.write_csv(rescue, file)
        assert [int(line.split(b",")[0]) for line in file.getvalue().splitlines()[1:]] == expected


@pytest.mark.parametrize("table", ["nothing", "v", "sqlite_sequence", "", "notes_data"])
def test_what_has_no_rows_of_its_own_is_refused_with_what_has(tmp_path: Path, table: str) -> None:
    """A view, a shadow table and a name that is not there; the hint names what has rows."""
    source = make(
        tmp_path / "source.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT)",
        "CREATE VIEW v AS SELECT 1",
        "CREATE VIRTUAL TABLE notes USING fts5(body)",
    )
    with pytest.raises(UsageError) as caught:
        Rescue(Side(source), [table])
    assert caught.value.hint.rpartition(" ")[2] == ("notes" if table == "notes_data" else "t")


def test_several_tables_come_in_one_transaction(tmp_path: Path) -> None:
    """All or none of them is put back."""
    source = make(tmp_path / "source.db", "CREATE TABLE a (v)", "CREATE TABLE b (v)")
    assert _rescued(source, "b", "a").count("COMMIT;") == 1


def test_a_table_that_only_the_application_can_build_is_said_to_be_one(tmp_path: Path) -> None:
    """As statements its rows can be had all the same."""
    source = tmp_path / "source.db"
    with closing(sqlite3.connect(source)) as connection:
        connection.create_collation("korean", lambda a, b: (a > b) - (a < b))
        connection.execute("CREATE TABLE t (k TEXT COLLATE korean PRIMARY KEY)")
        connection.execute("INSERT INTO t VALUES ('a')")
        connection.commit()
    with Rescue(Side(source), ["t"]) as rescue, pytest.raises(GymdbdError) as caught:
        forms.write_database(rescue, tmp_path / "target.db")
    assert "korean" in caught.value.message
    assert "--as sql" in caught.value.hint
    assert "VALUES ('a');" in _rescued(source, "t")


def test_a_damaged_backup_is_named_as_such(tmp_path: Path) -> None:
    """Rows that cannot be read are not passed over."""
    create = "CREATE TABLE t (id INTEGER PRIMARY KEY, v)"
    rows = [(at, "x" * 500) for at in range(100)]
    source = make(tmp_path / "source.db", create, ("INSERT INTO t VALUES (?, ?)", rows))
    with source.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(SourceCorruptError):
        _rescued(source, "t", where="id >= 0")
