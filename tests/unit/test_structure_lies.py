"""Lies that noise would not hit upon: the pages are sound each by itself, or nearly so."""

from __future__ import annotations

import os
import random
import sqlite3
import struct
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from gymdbd.sqlite import structure
from gymdbd.sqlite.btree import Page
from tests import changing, mutants

if TYPE_CHECKING:
    from pathlib import Path

_PAGE = 512
_TABLE, _TABLE_LEAF = 5, 13


def damaged(change: changing.Change) -> mutants.Mutant:
    """Return the bytes of the old state, to be damaged."""
    return mutants.Mutant(change.old.read_bytes(), change.page_size, set(), random.Random(1))


def assembled(kind: int, cells: list[bytes], right: int = 0) -> bytes:
    """Put a page of a tree together."""
    page, end, pointers = bytearray(_PAGE), _PAGE, b""
    for cell in cells:
        end -= len(cell)
        page[end : end + len(cell)] = cell
        pointers += struct.pack(">H", end)
    head = struct.pack(">BHHHB", kind, 0, len(cells), end, 0)
    head += struct.pack(">I", right) if kind == _TABLE else b""
    page[: len(head) + len(pointers)] = head + pointers
    return bytes(page)


def assert_doubted(change: changing.Change, mutant: mutants.Mutant) -> None:
    """Both quick_check and the proof find something wrong."""
    change.new.write_bytes(mutant.data)
    assert changing.structural_problems(change.new) != []
    assert change.doubt() != ""


def test_a_leaf_that_became_a_tree_is_a_doubt(tmp_path: Path) -> None:
    """Leaves of different depth are found, though each page is sound and the root the same."""
    change = changing.build_table(tmp_path)
    mutant = damaged(change)
    root = Page(mutant.page(2), 2, mutant.form)
    for place in (0, 1):
        number = root.children[place]
        leaf = Page(mutant.page(number), number, mutant.form)
        cells = [leaf.data[start:end] for start, end in leaf.spans()]
        low, high = mutant.count + 1, mutant.count + 2
        divider = struct.pack(">IB", low, leaf.keys[2])
        deeper = damaged(change)
        deeper.data[mutant.at(number) : mutant.at(number + 1)] = assembled(_TABLE, [divider], high)
        deeper.data += assembled(_TABLE_LEAF, cells[:3]) + assembled(_TABLE_LEAF, cells[3:])
        deeper.put(28, high)
        assert_doubted(change, deeper)


@pytest.mark.parametrize("rows", [60, 2000])
def test_a_divider_that_moved_is_a_doubt(tmp_path: Path, rows: int) -> None:
    """A page that did not change may not stand for other rowids than it holds."""
    change = changing.build_table(tmp_path, rows)
    sound = damaged(change)
    root = Page(sound.page(2), 2, sound.form)
    for slot, key in zip(sound.child_slots(root)[:-1], root.keys, strict=True):
        for moved in (key - 1, key + 2):
            mutant = damaged(change)
            varint = bytes([key]) if key < 128 else bytes([128 | key >> 7, key & 127])
            assert mutant.data[slot + 4 :].startswith(varint)
            change_ = bytes([moved]) if moved < 128 else bytes([128 | moved >> 7, moved & 127])
            if len(change_) == len(varint):
                mutant.data[slot + 4 : slot + 4 + len(varint)] = change_
                assert_doubted(change, mutant)


def test_a_page_cannot_be_where_it_was_not(tmp_path: Path) -> None:
    """Two unchanged subtrees that change places, and a leaf that is an inner page, are found."""
    change = changing.build_table(tmp_path, 2000)
    sound = damaged(change)
    root = Page(sound.page(2), 2, sound.form)
    first = Page(sound.page(root.children[0]), root.children[0], sound.form)
    slots = sound.child_slots(root)
    for slot, child in ((slots[0], first.children[0]), (slots[0], root.children[1])):
        mutant = damaged(change)
        mutant.put(slot, child)
        assert_doubted(change, mutant)
    mutant = damaged(change)
    mutant.put(slots[0], root.children[1])
    mutant.put(slots[1], root.children[0])
    assert_doubted(change, mutant)


def test_damage_to_the_schema_is_a_doubt(tmp_path: Path) -> None:
    """Even where it can still be read: here a fragment that is not there."""
    change = changing.build_table(tmp_path)
    mutant = damaged(change)
    mutant.put(107, 1, 1)
    assert_doubted(change, mutant)


def test_an_empty_leaf_is_a_doubt(tmp_path: Path) -> None:
    """Only a root may have no rows: SQLite cannot step over another leaf that has none."""
    change = changing.build_table(tmp_path)
    mutant = damaged(change)
    number = Page(mutant.page(2), 2, mutant.form).children[1]
    mutant.data[mutant.at(number) : mutant.at(number + 1)] = assembled(_TABLE_LEAF, [])
    assert_doubted(change, mutant)


def test_a_page_cannot_change_trees(tmp_path: Path) -> None:
    """Two unchanged leaves of two trees that change places, which quick_check may not tell."""
    change = changing.Change(tmp_path / "old.db", tmp_path / "new.db", _PAGE)
    changing.create_empty(change.old, _PAGE, reserved=0)
    with closing(sqlite3.connect(change.old, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE a (k PRIMARY KEY) WITHOUT ROWID")
        connection.execute("CREATE TABLE b (k PRIMARY KEY) WITHOUT ROWID")
        for table, size in (("a", 30), ("b", 40)):
            keys = [(f"{one:0{size}}",) for one in range(90)]
            connection.executemany(f"INSERT INTO {table} VALUES (?)", keys)
    mutant = damaged(change)
    one, two = (Page(mutant.page(root), root, mutant.form) for root in (2, 3))
    mutant.put(mutant.child_slots(one)[0], two.children[0])
    mutant.put(mutant.child_slots(two)[0], one.children[0])
    change.new.write_bytes(mutant.data)
    assert change.changed() == {2, 3}
    assert change.doubt() != ""


@pytest.mark.parametrize("freed", [False, True])
def test_a_page_used_twice_is_a_doubt(tmp_path: Path, freed: bool) -> None:
    """A leaf with two parents, or one that is free as well, though no page is lost by it.

    The keys of such a tree are not compared, and another page that is free makes up for it.
    """
    change = changing.Change(tmp_path / "old.db", tmp_path / "new.db", _PAGE)
    changing.create_empty(change.old, _PAGE, reserved=0)
    with closing(sqlite3.connect(change.old, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete=OFF")
        connection.execute("CREATE TABLE t (k PRIMARY KEY) WITHOUT ROWID")
        connection.executemany("INSERT INTO t VALUES (?)", [(f"{one:030}",) for one in range(90)])
        if freed:
            connection.execute(f"DELETE FROM t WHERE k > '{60:030}'")
    mutant = damaged(change)
    root = Page(mutant.page(2), 2, mutant.form)
    first, second = mutant.child_slots(root)[:2]
    dropped, trunk = mutant.number(first), mutant.number(32)
    assert bool(trunk) == freed
    if freed:
        leaves = mutant.number(mutant.at(trunk) + 4)
        mutant.put(first, mutant.number(mutant.at(trunk) + 8))
        mutant.put(mutant.at(trunk) + 4, leaves + 1)
        mutant.put(mutant.at(trunk) + 8 + 4 * leaves, dropped)
    else:
        mutant.put(first, mutant.number(second))
        mutant.data[mutant.at(dropped) : mutant.at(dropped + 1)] = bytes(_PAGE)
        mutant.put(32, dropped)
    mutant.put(36, mutant.number(36) + 1)
    assert_doubted(change, mutant)


def big_rows(change: changing.Change) -> None:
    """Create three rows that overflow, of four pages each."""
    changing.create_empty(change.old, _PAGE, reserved=0)
    with closing(sqlite3.connect(change.old, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete=OFF")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(n, b"v" * 2000) for n in range(3)])


def test_a_chain_that_changed_behind_its_leaf_is_a_doubt(tmp_path: Path) -> None:
    """An overflow page of a row that did not change may hold other bytes, and lead nowhere else."""
    change = changing.Change(tmp_path / "old.db", tmp_path / "new.db", _PAGE)
    big_rows(change)
    mutant = damaged(change)
    first = Page(mutant.page(2), 2, mutant.form).chains[1].first
    mutant.put(mutant.at(first) + 100, 0)
    change.new.write_bytes(mutant.data)
    assert change.changed() == {first}
    assert change.doubt() == ""
    mutant.put(mutant.at(first), 0)
    assert_doubted(change, mutant)


def test_chains_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    """A row in the place of another may have its first overflow page, and then other ones."""
    change = changing.Change(tmp_path / "old.db", tmp_path / "new.db", _PAGE)
    big_rows(change)
    mutant = damaged(change)
    slots = [mutant.at(one.first) for one in Page(mutant.page(2), 2, mutant.form).chains]
    one, two = (mutant.number(slot) for slot in slots[:2])
    mutant.put(slots[0], two)
    mutant.put(slots[1], one)
    # In the row's own page, before the number of its first overflow page.
    mutant.put(mutant.at(3) - 5, ord("w"), 1)
    change.new.write_bytes(mutant.data)
    assert changing.structural_problems(change.new) == []
    assert change.doubt() == ""


def test_an_index_with_another_number_of_entries_is_a_doubt(tmp_path: Path) -> None:
    """A row that is gone, though not from the index; not every SQLite's quick_check counts them."""
    change = changing.Change(tmp_path / "old.db", tmp_path / "new.db", _PAGE)
    changing.create_empty(change.old, _PAGE, reserved=0)
    with closing(sqlite3.connect(change.old, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
        connection.execute("CREATE INDEX i ON t (v)")
        connection.executemany("INSERT INTO t (v) VALUES (?)", [(n,) for n in range(9)])
    mutant = damaged(change)
    leaf = Page(mutant.page(2), 2, mutant.form)
    cells = [leaf.data[start:end] for start, end in leaf.spans()]
    mutant.data[mutant.at(2) : mutant.at(3)] = assembled(_TABLE_LEAF, cells[:-1])
    change.new.write_bytes(mutant.data)
    assert "not as many entries" in change.doubt()


def test_a_freelist_page_that_lists_more_than_fits_is_a_doubt(tmp_path: Path) -> None:
    """What lies in the bytes that are reserved is no list, even where it would make sense."""
    change = changing.Change(tmp_path / "old.db", tmp_path / "new.db", _PAGE)
    changing.create_empty(change.old, _PAGE, reserved=32)
    with closing(sqlite3.connect(change.old, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (v)")
        connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
        connection.execute("DELETE FROM t")
    mutant = damaged(change)
    first = mutant.at(mutant.number(32))
    full = mutant.at(mutant.number(first))
    for _ in range(7):
        count, there = mutant.number(first + 4), mutant.number(full + 4)
        mutant.put(full + 8 + 4 * there, mutant.number(first + 4 + 4 * count))
        mutant.put(full + 4, there + 1)
        mutant.put(first + 4, count - 1)
    assert mutant.number(full + 4) > (_PAGE - 32) // 4 - 2
    assert_doubted(change, mutant)


def test_no_page_is_read_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that all refer to one page, on every level, do not multiply the work."""
    change = changing.build_table(tmp_path, 2000)
    mutant = damaged(change)
    root = Page(mutant.page(2), 2, mutant.form)
    last = Page(mutant.page(root.children[-1]), root.children[-1], mutant.form)
    for page in (root, last):
        for slot in mutant.child_slots(page):
            mutant.put(slot, page.children[-1])
    # One that is met nowhere, so that the search goes on to the end.
    mutant.put(mutant.at(last.children[0] + 1) - 1, ord("w"), 1)
    change.new.write_bytes(mutant.data)
    changed = change.changed()
    reads: Counter[int] = Counter()
    pread = os.pread

    def counted(file: int, size: int, offset: int) -> bytes:
        reads[offset] += 1
        return pread(file, size, offset)

    monkeypatch.setattr(os, "pread", counted)
    assert structure.compare(change.old, change.new, changed).doubt != ""
    # Once in each file, and once to learn how high the tree is.
    assert reads[mutant.at(last.number)] <= 3
