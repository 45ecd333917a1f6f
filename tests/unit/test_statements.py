"""Names that are no UTF-8 in queries: SQLite knows them, and Python cannot say them."""

from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from gymdbd.rows.compare import Pair
from gymdbd.source import database, statements
from gymdbd.source.answers import FAULTS
from gymdbd.source.counting import count_rows
from gymdbd.source.errors import GymdbdError
from gymdbd.source.schema import read_facts
from gymdbd.sqlite.sides import Side
from tests.support.command import require
from tests.support.databases import tree

if TYPE_CHECKING:
    from pathlib import Path

_TABLE = "Gr\udcf6\udcdfe"
_COLUMN = "L\udce4nge"


def make_latin1(path: Path, *more: bytes) -> Path:
    """Create a database with a table, columns, an index and a view that are named in Latin-1."""
    script = (
        b'CREATE TABLE "Gr\xf6\xdfe" ("L\xe4nge" INTEGER PRIMARY KEY, "n\xe9" DEFAULT "\xe9t\xe9");'
        b'CREATE INDEX "i\xe9" ON "Gr\xf6\xdfe" ("n\xe9"); CREATE VIEW "v\xe9" AS SELECT 1;'
        b'INSERT INTO "Gr\xf6\xdfe" VALUES (1, "a"), (2, "\xfc"), (3, "c");'
    )
    subprocess.run(
        [require("sqlite3"), path], input=script + b"".join(more), check=True, timeout=30
    )
    return path


def test_a_table_and_columns_with_latin_1_names_are_read(tmp_path: Path) -> None:
    """Inside a transaction, several queries at a time, and nothing appears beside the file."""
    path = make_latin1(tmp_path / "names.db")
    before = tree(tmp_path)
    query = f'SELECT "{_COLUMN}", "n\udce9" FROM "{_TABLE}"'
    with closing(database.open_copy(path)) as connection:
        connection.execute("BEGIN")
        first = statements.execute(connection, query, 2)
        assert first.fetchone() == (1, "a")
        second = statements.execute(connection, f'{query} WHERE "{_COLUMN}" > 1', 2)
        assert second.fetchall() == [(2, "\udcfc"), (3, "c")]
        assert first.fetchall() == [(2, "\udcfc"), (3, "c")]
        facts = read_facts(connection)
        assert count_rows(connection, facts) == {_TABLE: 3}
        assert connection.execute("PRAGMA writable_schema").fetchone() == (0,)
    assert tree(tmp_path) == before


def test_a_query_that_sqlite_refuses_leaves_the_connection_usable(tmp_path: Path) -> None:
    """A name that is not there and a statement that is none: both are errors, and no more."""
    path = make_latin1(tmp_path / "names.db")
    with closing(database.open_copy(path)) as connection:
        for query in ('SELECT 1 FROM "\udcff"', "SELECT \udcff FROM (", 'SELECT "\udce9" FROM'):
            with pytest.raises(FAULTS):
                statements.execute(connection, query)
        found = statements.execute(connection, f'SELECT count(*) FROM "{_TABLE}"')
        assert found.fetchall() == [(3,)]


def test_thousands_of_such_tables_take_the_same_time_each(tmp_path: Path) -> None:
    """Asking for one lets SQLite read its temporary schema anew, and not that of the database."""
    tables = b"".join(b'CREATE TABLE "\xe9%d" (a);' % number for number in range(500))
    path = make_latin1(tmp_path / "names.db", b"BEGIN;" + tables + b"COMMIT;")
    steps = {}
    with closing(database.open_copy(path)) as connection:
        statements.execute(connection, f'SELECT count(*) FROM "{_TABLE}"')
        for name in ("\udce90", "\udce9499"):
            count = 0

            def step() -> int:
                nonlocal count
                count += 1
                return 0

            connection.set_progress_handler(step, 1)
            statements.execute(connection, f'SELECT count(*) FROM "{name}"').fetchall()
            steps[name] = count
    # To read the schema of the database would be a few steps for each of its tables.
    assert max(steps.values()) < 500, steps


def test_errors_with_such_names_are_no_damage(tmp_path: Path) -> None:
    """SQLite quotes the name, which Python cannot decode: what it says is read all the same."""
    path = make_latin1(tmp_path / "names.db")
    with (
        closing(database.open_copy(path)) as connection,
        pytest.raises(GymdbdError) as caught,
        database.translated(path),
    ):
        statements.execute(connection, 'SELECT 1 FROM "no\udcff"').fetchall()
    assert caught.value.code == "source-unreadable"
    assert "no such table: no\\xff" in caught.value.message


def test_tables_with_latin_1_names_are_compared(tmp_path: Path) -> None:
    """Row by row, with the names as they are."""
    one = make_latin1(tmp_path / "one.db")
    other = make_latin1(
        tmp_path / "other.db",
        b'DELETE FROM "Gr\xf6\xdfe" WHERE "L\xe4nge" = 2;',
        b'UPDATE "Gr\xf6\xdfe" SET "n\xe9" = 5 WHERE "L\xe4nge" = 1;',
        b'INSERT INTO "Gr\xf6\xdfe" VALUES (9, 9);',
    )
    with Pair(Side(one), Side(other)) as pair:
        (found,) = pair.tables()
        rows = [(row.change, row.key, row.before, row.after) for row in pair.rows(_TABLE)]
    assert (found.added, found.changed, found.removed) == (1, 1, 1)
    assert rows == [
        ("removed", {_COLUMN: 2}, {_COLUMN: 2, "n\udce9": "\udcfc"}, {}),
        ("changed", {_COLUMN: 1}, {"n\udce9": "a"}, {"n\udce9": 5}),
        ("added", {_COLUMN: 9}, {}, {_COLUMN: 9, "n\udce9": 9}),
    ]


def test_a_name_that_is_a_blob_is_compared_as_a_name(tmp_path: Path) -> None:
    """SQLite takes it for one: what a damaged database holds can be looked at and rescued."""
    path = tmp_path / "blob.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE abcd (x)")
        connection.execute("CREATE TABLE other (x)")
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_master SET name = X'61626364' WHERE name = 'abcd'")
        connection.commit()
    with Pair(Side(path), Side(path)) as pair:
        assert [found.name for found in pair.tables()] == ["abcd", "other"]
