"""Rows rescued from a database of which this SQLite lacks a function, an order or a definition."""

from __future__ import annotations

import io
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from gymdbd.errors import UsageError
from gymdbd.rows import forms
from gymdbd.rows.rescue import Rescue
from gymdbd.source.errors import SourceUnreadableError
from gymdbd.sqlite.sides import Side
from tests.support.unlike import UNCHECKABLE, as_application, make

if TYPE_CHECKING:
    from pathlib import Path

_SORTED = (
    "CREATE TABLE members(at TEXT COLLATE dictionary PRIMARY KEY, no INT) WITHOUT ROWID",
    "INSERT INTO members VALUES ('b', 1), ('A', 2), ('c', 3), ('D', 4)",
)


def _sql(path: Path, live: Path | None = None) -> tuple[str, list[str]]:
    file = io.BytesIO()
    with Rescue(Side(path), live=Side(live, live=True) if live else None) as rescue:
        forms.write_sql(rescue, file, "backup.db")
        return file.getvalue().decode(), rescue.left_out


def _is_new(kind: str) -> bool:
    return kind == "newer table"


@pytest.mark.parametrize("kind", sorted(UNCHECKABLE))
def test_what_is_written_gives_the_application_its_rows_back(tmp_path: Path, kind: str) -> None:
    """Every table comes back in its own application, but those that SQLite says it cannot read."""
    backup = make(tmp_path / "backup.db", UNCHECKABLE[kind])
    live = make(tmp_path / "live.db", UNCHECKABLE[kind])
    with closing(as_application(live)) as application:
        application.execute("PRAGMA writable_schema=ON")
        application.execute("DELETE FROM plain")
        if not _is_new(kind):
            application.execute("PRAGMA recursive_triggers=OFF")
            for name in ("members", "days"):
                if application.execute(f"PRAGMA table_info({name})").fetchall():
                    application.execute(f"DELETE FROM {name}")
        written, left_out = _sql(backup, live)
        application.executescript(written)
        assert application.execute("SELECT count(*) FROM plain").fetchone() == (1,)
        if not _is_new(kind):
            assert application.execute("SELECT count(*) FROM members").fetchone() == (2,)
    unread = {"newer table": ["members"], "tokenizer": ["texts"]}.get(kind, [])
    assert [line.partition(":")[0] for line in left_out] == unread
    assert all(f"-- left out: {line}" in written for line in left_out)
    assert all(f"SQLite {sqlite3.sqlite_version} cannot read it" in line for line in left_out)


@pytest.mark.parametrize("kind", sorted(UNCHECKABLE))
def test_a_database_of_rows_lacks_only_what_it_says(tmp_path: Path, kind: str) -> None:
    """A table or index that needs what only the application has is left out, and nothing else."""
    backup = make(tmp_path / "backup.db", UNCHECKABLE[kind])
    target = tmp_path / "rescued.db"
    target.touch()
    with Rescue(Side(backup)) as rescue:
        counts = forms.write_database(rescue, target)
        left_out = [line.partition(": ")[0] for line in rescue.left_out]
    assert counts["plain"] == 1
    assert counts.get("members", 0) == (0 if "members" in left_out else 2)
    with closing(sqlite3.connect(target)) as rescued:
        assert rescued.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        for name, rows in counts.items():
            assert rescued.execute(f"SELECT count(*) FROM {name}").fetchone() == (rows,)
        kept = {one for (one,) in rescued.execute("SELECT name FROM sqlite_master")}
    assert counts.keys() <= kept
    assert "y" not in kept


def test_a_table_with_an_unknown_option_is_left_out_of_a_database(tmp_path: Path) -> None:
    """Its rows can be read all the same, and are written as statements."""
    path = make(
        tmp_path / "app.db",
        (
            "CREATE TABLE members(id INTEGER PRIMARY KEY, at TEXT)",
            "INSERT INTO members(at) VALUES ('a'), ('b')",
            "PRAGMA writable_schema=ON",
            "UPDATE sqlite_master SET sql = sql || ' COLUMNAR' WHERE name = 'members'",
        ),
    )
    target = tmp_path / "rescued.db"
    target.touch()
    with Rescue(Side(path)) as rescue:
        assert forms.write_database(rescue, target) == {"plain": 1}
        (line,) = rescue.left_out
    assert line.startswith("members: SQLite")
    assert "unknown table option: COLUMNAR" in line
    assert _sql(path)[0].count('INSERT INTO "members"') == 2


def test_a_table_in_an_order_of_the_application_is_written_whole(tmp_path: Path) -> None:
    """Its rows cannot be looked up here, so that all are written and the file says so."""
    path = make(tmp_path / "app.db", _SORTED)
    with Rescue(Side(path), ["members"]) as rescue:
        file = io.BytesIO()
        assert forms.write_csv(rescue, file) == {"members": 4}
    assert sorted(file.getvalue().split()[1:]) == [b'"A",2', b'"D",4', b'"b",1', b'"c",3']
    written, _ = _sql(path, path)
    assert written.count('INSERT INTO "members"') == 4
    told = "members: not compared with the live table: only the application knows the order"
    assert f"-- {told} DICTIONARY of its key" in written


def test_a_condition_never_sorts_in_an_order_that_is_stood_in_for(tmp_path: Path) -> None:
    """A row that it would miss without a word is worse than no row."""
    path = make(tmp_path / "app.db", _SORTED)
    with pytest.raises(UsageError) as caught:
        Rescue(Side(path), ["members"], "at = 'd'")
    assert "only the application knows the order DICTIONARY" in caught.value.message


def test_a_large_value_is_found_in_an_order_of_the_application(tmp_path: Path) -> None:
    """It is read by its key, which is looked for from end to end."""
    path = make(tmp_path / "app.db", _SORTED)
    with closing(as_application(path)) as application:
        application.execute("UPDATE members SET no = zeroblob(3000000) WHERE at = 'c'")
    written, _ = _sql(path)
    assert written.count('INSERT INTO "members"') == 4
    assert written.count("00" * 3_000_000) == 1


def test_a_unique_value_in_an_order_of_the_application_is_told_of(tmp_path: Path) -> None:
    """Whether it belongs to somebody else is not known, and the rows are written all the same."""
    path = make(
        tmp_path / "app.db",
        (
            "CREATE TABLE members(id INTEGER PRIMARY KEY, at TEXT COLLATE dictionary UNIQUE)",
            "INSERT INTO members(at) VALUES ('b'), ('A')",
        ),
    )
    live = tmp_path / "live.db"
    live.write_bytes(path.read_bytes())
    with closing(as_application(live)) as application:
        application.execute("DELETE FROM members WHERE at = 'A'")
    written, left_out = _sql(path, live)
    assert left_out == []
    assert written.count('INSERT INTO "members"') == 1
    assert "-- members: unknown whether the value of at belongs to another row" in written


def test_a_table_that_is_named_is_not_left_out_without_a_word(tmp_path: Path) -> None:
    """Who asks for just that one hears that it cannot be read here."""
    path = make(tmp_path / "app.db", UNCHECKABLE["tokenizer"])
    with pytest.raises(SourceUnreadableError) as caught:
        Rescue(Side(path), ["texts"])
    assert "korean" in caught.value.message
