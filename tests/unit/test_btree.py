"""What a page of a tree may not be by itself, on a page that is laid out by hand."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from tests import changing

if TYPE_CHECKING:
    from pathlib import Path

_PAGE = 512


def cell(rowid: int, size: int = 20) -> bytes:
    """Return a cell for a row of a key and a text, of so many bytes."""
    text = size - 5
    return bytes([size - 2, rowid, 3, 0, 13 + 2 * text]) + b"v" * text


@dataclass(frozen=True)
class Layout:
    """A leaf of a table: where its cells and freeblocks lie, and what its header says of them."""

    cells: dict[int, bytes] = field(
        default_factory=lambda: {492: cell(1), 469: cell(2), 430: cell(3)}
    )
    free: dict[int, int] = field(default_factory=lambda: {450: 16})
    content: int = 430
    fragments: int = 6

    def page(self) -> bytes:
        """Return the page."""
        page = bytearray(_PAGE)
        for at, data in self.cells.items():
            page[at : at + len(data)] = data
        free = [*self.free, 0]
        for index, (at, size) in enumerate(self.free.items()):
            page[at : at + 4] = struct.pack(">HH", free[index + 1], size)
        head = (13, free[0], len(self.cells), self.content, self.fragments)
        page[:8] = struct.pack(">BHHHB", *head)
        page[8 : 8 + 2 * len(self.cells)] = struct.pack(f">{len(self.cells)}H", *self.cells)
        return bytes(page[:_PAGE])


SOUND = Layout()


@pytest.fixture
def change(tmp_path: Path) -> changing.Change:
    """Give a table of one page, whose old state has just one row."""
    change = changing.Change(tmp_path / "old.db", tmp_path / "new.db", _PAGE)
    with closing(sqlite3.connect(change.old)) as connection:
        connection.execute(f"PRAGMA page_size={_PAGE}")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
        connection.execute("INSERT INTO t VALUES (1, 'v')")
        connection.commit()
    return change


def found(change: changing.Change, layout: Layout) -> tuple[bool, bool]:
    """Say whether quick_check finds the layout wrong, and whether it is doubted here."""
    change.new.write_bytes(change.old.read_bytes()[:_PAGE] + layout.page())
    return changing.structural_problems(change.new) != [], change.doubt() != ""


def test_the_layout_itself_is_sound(change: changing.Change) -> None:
    """Cells, a freeblock and fragments that account for every byte."""
    assert found(change, SOUND) == (False, False)


@pytest.mark.parametrize(
    "layout",
    [
        replace(SOUND, cells={492: cell(1), 469: cell(2), 300: cell(3)}),
        replace(SOUND, cells={492: cell(1, 23), 469: cell(2), 430: cell(3)}, fragments=3),
        replace(SOUND, free={450: 8, 458: 8}),
        replace(SOUND, free={450: 15}),
        replace(SOUND, free={450: 16, 400: 8}),
        replace(SOUND, cells={492: cell(1), 469: cell(2), 472: cell(3)}),
        replace(SOUND, cells={492: cell(2), 469: cell(1), 430: cell(3)}),
        replace(SOUND, cells={492: cell(1), 469: cell(2), 430: cell(2)}),
        replace(SOUND, fragments=5),
        replace(SOUND, cells={492: cell(1), 485: b"\1\2\1", 430: cell(3)}, free={450: 32}),
    ],
    ids=[
        "a cell before the content",
        "a cell beyond the end",
        "freeblocks side by side",
        "a byte that nobody has",
        "freeblocks out of order",
        "cells that overlap",
        "rowids out of order",
        "a rowid twice",
        "too few fragments",
        "a record without columns",
    ],
)
def test_what_quick_check_finds_is_doubted(change: changing.Change, layout: Layout) -> None:
    """A page that SQLite finds wrong."""
    assert found(change, layout) == (True, True)


@pytest.mark.parametrize(
    "layout",
    [
        replace(SOUND, free={450: 3}, fragments=19),
        replace(SOUND, content=13, free={20: 410, 450: 16}, fragments=13),
        replace(
            SOUND,
            cells={492: cell(1), 469: cell(2), 430: b"\x80\x80\x80\x80\x80" + cell(3)},
            free={455: 11},
        ),
    ],
    ids=[
        "a freeblock smaller than its own head",
        "content that begins among the pointers",
        "a size in more bytes than it needs",
    ],
)
def test_what_no_sqlite_writes_is_doubted(change: changing.Change, layout: Layout) -> None:
    """A page that passes SQLite's check, though it is not as the format has it."""
    assert found(change, layout) == (False, True)
