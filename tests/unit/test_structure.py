"""Proving a new state by what changed, against SQLite's own check of all of it."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gymdbd.sqlite import database, structure
from tests import changing, mutants
from tests.benchmarks import application

if TYPE_CHECKING:
    from collections.abc import Iterator


SEEDS = st.integers(0, 2**32)

_PAGE = 512


@pytest.fixture(scope="module", autouse=True)
def _no_limit() -> Iterator[None]:
    """Let a small database change much: what happens beyond the limit has a test of its own."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(structure, "_FEW_PAGES", 10**6)
        yield


@contextmanager
def changed_rows(rng: random.Random, rows: int) -> Iterator[changing.Change]:
    """Give a database of about so many rows, and what it was before some of them changed."""
    with tempfile.TemporaryDirectory() as folder:
        change = changing.build(Path(folder), rng, rows=rows)
        changing.transact(change, rng, changing.ROWS_AND_BLOBS)
        yield change


def rows_of(path: Path) -> dict[str, int]:
    """Let SQLite count the rows of every table."""
    with closing(database.open_immutable(path)) as connection:
        return database.count_rows(connection, database.read_facts(connection))


@settings(max_examples=150)
@given(seed=SEEDS, rows=st.integers(0, 300))
def test_a_change_of_rows_is_proven(seed: int, rows: int) -> None:
    """Whatever is inserted, updated, deleted or written in place: no doubt, and the rows count."""
    rng = random.Random(seed)
    with changed_rows(rng, rows) as change:
        assert changing.structural_problems(change.new) == []
        event(f"pages changed: {len(change.changed()) // 20 * 20}+")
        verdict = structure.compare(change.old, change.new, change.changed())
        assert verdict.doubt == ""
        before, after = rows_of(change.old), rows_of(change.new)
        assert {name: before[name] + verdict.gained[name] for name in before} == after


@settings(max_examples=40)
@given(seed=SEEDS, rows=st.integers(0, 200))
def test_another_schema_is_a_doubt(seed: int, rows: int) -> None:
    """Once a table or index was created or dropped there is nothing to compare with."""
    rng = random.Random(seed)
    with changed_rows(rng, rows) as change:
        changing.transact(change, rng, changing.SCHEMA)
        changing.transact(change, rng, [*changing.ROWS, *changing.SCHEMA])
        assert "the schema changed" in change.doubt() or "the header changed" in change.doubt()


@settings(max_examples=100)
@given(seed=SEEDS, rows=st.integers(0, 300))
def test_damage_that_quick_check_finds_is_a_doubt(seed: int, rows: int) -> None:
    """Whatever lie a changed page tells: where SQLite finds the structure wrong, so is it here."""
    rng = random.Random(seed)
    with changed_rows(rng, rows) as change:
        assert change.doubt() == ""
        sound, pages = change.new.read_bytes(), change.changed()
        for lie in rng.choices(mutants.LIES, k=40):
            mutant = mutants.Mutant(sound, change.page_size, pages, rng)
            lie(mutant)
            change.new.write_bytes(mutant.data)
            problems, doubt = changing.structural_problems(change.new), change.doubt()
            event(f"{lie.__name__}: {'damage' if problems else 'none'}, {doubt and 'doubt'}")
            assert doubt or not problems, (lie.__name__, problems)


@settings(max_examples=200)
@given(seed=SEEDS, noise=st.binary(min_size=100, max_size=2000))
def test_noise_never_raises(seed: int, noise: bytes) -> None:
    """A new state that is not even a database is a doubt, and so is an old one."""
    rng = random.Random(seed)
    with changed_rows(rng, rows=20) as change:
        path = rng.choice([change.new, change.old])
        content = bytearray(path.read_bytes())
        for _ in range(rng.randint(1, 5)):
            start = rng.randrange(100, len(content))
            content[start : start + len(noise)] = noise
        path.write_bytes(content)
        assert isinstance(structure.compare(change.old, change.new, change.changed()).doubt, str)


def test_few_pages_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a database of 50 MB with 100 changed rows the interior pages are read and what changed."""
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    application.build(old, 50)
    shutil.copy(old, new)
    with closing(sqlite3.connect(new)) as connection, connection:
        rows = connection.execute("SELECT max(id) FROM sensor_events").fetchone()[0]
        for id_ in random.Random(1).sample(range(1, rows), 100):
            connection.execute("UPDATE sensor_events SET payload = hex(id) WHERE id = ?", (id_,))
    change = changing.Change(old, new, 4096)
    changed = change.changed()
    reads = []
    pread = os.pread

    def counted(file: int, size: int, offset: int) -> bytes:
        reads.append(size)
        return pread(file, size, offset)

    monkeypatch.setattr(os, "pread", counted)
    assert structure.compare(old, new, changed).doubt == ""
    pages = old.stat().st_size // 4096
    assert len(reads) < 3 * len(changed) + pages // 100 < pages // 20


def test_what_is_not_told_apart_is_a_doubt(tmp_path: Path) -> None:
    """Another user_version, fewer pages, and a new page that nobody named."""
    change = changing.build_table(tmp_path)
    sound = change.old.read_bytes()
    told = []
    for statements in (
        ["PRAGMA user_version=7"],
        ["DELETE FROM t", "VACUUM"],
    ):
        change.new.write_bytes(sound)
        with closing(sqlite3.connect(change.new, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)
        assert changing.structural_problems(change.new) == []
        told.append(change.doubt())
    assert "" not in told

    change.new.write_bytes(sound)
    with closing(sqlite3.connect(change.new)) as connection, connection:
        connection.execute("INSERT INTO t (v) VALUES (?)", ("v" * 2000,))
    changed = change.changed()
    assert structure.compare(change.old, change.new, changed).doubt == ""
    assert structure.compare(change.old, change.new, changed - {max(changed)}).doubt != ""


def test_pointer_maps_are_a_doubt(tmp_path: Path) -> None:
    """What they say of the pages is not looked at."""
    change = changing.Change(tmp_path / "old.db", tmp_path / "new.db", _PAGE)
    with closing(sqlite3.connect(change.old, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum=FULL")
        connection.execute("CREATE TABLE t (v)")
    shutil.copy(change.old, change.new)
    with closing(sqlite3.connect(change.new, isolation_level=None)) as connection:
        connection.execute("INSERT INTO t VALUES (1)")
    assert "pointer maps" in change.doubt()


def test_a_row_of_many_columns_is_a_doubt(tmp_path: Path) -> None:
    """A record whose description overflows is not followed there."""
    change = changing.Change(tmp_path / "old.db", tmp_path / "new.db", _PAGE)
    columns = ", ".join(f"c{number}" for number in range(600))
    with closing(sqlite3.connect(change.old)) as connection:
        connection.execute(f"PRAGMA page_size={_PAGE}")
        connection.execute(f"CREATE TABLE wide ({columns})")
    shutil.copy(change.old, change.new)
    with closing(sqlite3.connect(change.new)) as connection, connection:
        connection.execute(f"INSERT INTO wide VALUES ({', '.join('1' * 600)})")
    assert changing.structural_problems(change.new) == []
    assert "head is long" in change.doubt()


def test_much_that_changed_is_left_to_quick_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More pages than are worth it are not looked at, nor are those that they lead to."""
    monkeypatch.setattr(structure, "_FEW_PAGES", 20)
    change = changing.build_table(tmp_path, 600)
    shutil.copy(change.old, change.new)
    with closing(sqlite3.connect(change.new)) as connection, connection:
        connection.execute("PRAGMA secure_delete=OFF")
        connection.execute("DELETE FROM t")
    changed = change.changed()
    assert len(changed) < 20
    assert structure.compare(change.old, change.new, changed).doubt == structure.TOO_MUCH
    assert structure.compare(change.old, change.new, range(1, 30)).doubt == structure.TOO_MUCH


def test_files_that_are_no_databases_are_doubts(tmp_path: Path) -> None:
    """Nothing is raised for a file that is missing, empty, short or something else."""
    change = changing.build_table(tmp_path)
    sound = change.old.read_bytes()
    other = tmp_path / "other"
    for content in (None, b"", bytes(99), bytes(5000), sound[:1000], sound + bytes(9)):
        if content is not None:
            other.write_bytes(content)
        assert structure.compare(change.old, other, {1}).doubt != ""
        assert structure.compare(other, change.old, {1}).doubt != ""
