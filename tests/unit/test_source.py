"""What travels to the other machine, and the facts of SQLite's files that it is written with."""

from __future__ import annotations

import ast
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import gymdbd
from gymdbd.remote import bootstrap
from gymdbd.source import format as layout
from tests.support.databases import make_database

_PACKAGE = Path(gymdbd.__file__).parent
_SOURCE = _PACKAGE / "source"
_TRAVELS = sorted(_SOURCE.rglob("*.py"))
# Every Python that the other machine may have, if this one has it.
_PYTHONS = [
    python
    for minor in (9, 10)
    for python in Path("~/.pyenv/versions").expanduser().glob(f"3.{minor}.*/bin/python")
]


def test_the_whole_folder_travels() -> None:
    """A module that is added to it is shipped without being listed anywhere."""
    pulls, more = set(bootstrap.modules()), set(bootstrap.receiver_modules())
    assert pulls | more == {"gymdbd", *map(_name, _TRAVELS)}


def test_a_pull_does_not_ship_what_only_a_rebuild_needs() -> None:
    """A pull happens every few seconds, a rebuild once in years."""
    assert [name for name in bootstrap.modules() if "receiving" in name] == []
    assert {name.rpartition(".")[0] for name in bootstrap.receiver_modules()[1:]} == {
        "gymdbd.source.receiving"
    }


def _name(path: Path) -> str:
    parts = path.relative_to(_PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", _TRAVELS, ids=_name)
def test_what_travels_is_written_for_python_3_9(path: Path) -> None:
    """No syntax of a later one; what it imports is held by the test of the layers."""
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


@pytest.mark.parametrize(
    "python", _PYTHONS or [Path(sys.executable)], ids=lambda one: one.parts[-3]
)
def test_what_travels_can_be_imported_by_an_old_python(python: Path) -> None:
    """What is evaluated then, a type that is given a name say, is not seen by reading it."""
    names = ", ".join(map(_name, _TRAVELS))
    line = f"import sys; sys.path.insert(0, {str(_PACKAGE.parent)!r}); import {names}"
    subprocess.run([python, "-I", "-S", "-B", "-c", line], check=True)


@pytest.mark.parametrize("page_size", [512, 65536])
def test_a_wal_and_its_index_lie_as_the_facts_say(tmp_path: Path, page_size: int) -> None:
    """Those that SQLite itself has made."""
    path = make_database(tmp_path / "gym.db", rows=0, mode="delete")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size={page_size}")
        connection.execute("VACUUM")
        connection.execute("PRAGMA journal_mode=WAL").fetchone()
        connection.execute("CREATE TABLE added (a)")
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        log, index = (layout.beside(path, suffix) for suffix in (layout.WAL, layout.INDEX))
        head, data, found = path.read_bytes()[:100], log.read_bytes(), index.read_bytes()
    assert (head[:16], head[layout.VERSIONS]) == (layout.MAGIC, layout.WITH_WAL)
    version, ready, size, frames, count, *rest = struct.unpack(
        layout.INDEX_HEADER, found[: layout.INDEX_HEADER_BYTES]
    )
    assert (version, ready, layout.to_page_size(size)) == (layout.INDEX_VERSION, True, page_size)
    assert count == pages
    assert len(data) == layout.frame_offset(frames + 1, page_size)
    assert data[layout.WAL_SALTS] == rest[2]
    last = data[layout.frame_offset(frames, page_size) :][: layout.FRAME_HEADER_BYTES]
    _, after, salts, *sums = struct.unpack(layout.FRAME_HEADER, last)
    assert [after, salts, *sums] == [pages, rest[2], *rest[:2]]
    assert int.from_bytes(found[layout.INDEX_BACKFILLED], sys.byteorder) == 0


def test_the_suffixes_of_side_files_are_written_once() -> None:
    """Elsewhere they are names."""
    written = {
        path.relative_to(_PACKAGE).as_posix()
        for path in _PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in layout.SIDE_SUFFIXES
    }
    assert written == {"source/format.py"}
