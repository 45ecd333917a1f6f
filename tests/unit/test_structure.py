"""Proving a new state by what changed, against SQLite's own check of all of it."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from gymdbd.sqlite import structure
from tests import changing, mutants
from tests.benchmarks import application

if TYPE_CHECKING:
    import pytest

SEEDS = st.integers(0, 2**32)


@settings(max_examples=150)
@given(seed=SEEDS, rows=st.integers(0, 300))
def test_a_change_of_rows_is_proven(seed: int, rows: int) -> None:
    """Whatever is inserted, updated, deleted or written in place, there is no doubt."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        change = changing.build(Path(folder), rng, rows=rows)
        changing.transact(change, rng, changing.ROWS_AND_BLOBS)
        assert changing.structural_problems(change.new) == []
        event(f"pages changed: {len(change.changed()) // 20 * 20}+")
        doubt = change.doubt()
        assume(doubt != structure.TOO_MUCH)
        assert doubt == ""


@settings(max_examples=40)
@given(seed=SEEDS, rows=st.integers(0, 200))
def test_another_schema_is_a_doubt(seed: int, rows: int) -> None:
    """Once a table or index was created or dropped there is nothing to compare with."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        change = changing.build(Path(folder), rng, rows=rows)
        changing.transact(change, rng, changing.SCHEMA)
        changing.transact(change, rng, [*changing.ROWS, *changing.SCHEMA])
        assert "the schema changed" in change.doubt() or "the header changed" in change.doubt()


@settings(max_examples=100)
@given(seed=SEEDS, rows=st.integers(0, 300))
def test_damage_that_quick_check_finds_is_a_doubt(seed: int, rows: int) -> None:
    """Whatever lie a changed page tells: where SQLite finds the structure wrong, so is it here."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        change = changing.build(Path(folder), rng, rows=rows)
        changing.transact(change, rng, changing.ROWS_AND_BLOBS)
        assume(change.doubt() == "")
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
    with tempfile.TemporaryDirectory() as folder:
        change = changing.build(Path(folder), rng, rows=20)
        changing.transact(change, rng, changing.ROWS)
        path = rng.choice([change.new, change.old])
        content = bytearray(path.read_bytes())
        for _ in range(rng.randint(1, 5)):
            start = rng.randrange(100, len(content))
            content[start : start + len(noise)] = noise
        path.write_bytes(content)
        assert isinstance(structure.doubt(change.old, change.new, change.changed()), str)


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
    assert structure.doubt(old, new, changed) == ""
    pages = old.stat().st_size // 4096
    assert len(reads) < 3 * len(changed) + pages // 100 < pages // 20
