"""Broken databases: images that are stored in `tests/support/images`, and a generator of like ones.

A generated image is a database of one of many kinds with a few wrong bytes where they matter: in
its header, in the heads and the cell pointers of its pages, in its freelist, in the records of its
schema, in its WAL and the index of that; or it is cut.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd.source.format import HEADER_BYTES, INDEX, WAL, beside

if TYPE_CHECKING:
    from collections.abc import Callable

STORED = sorted((Path(__file__).parent.parent / "support" / "images").glob("*.db"))

_FILL = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120) "
    "INSERT INTO t SELECT i, 'row ' || i, hex(zeroblob(i % 90 * 9)) FROM n"
)
_KINDS = {
    "plain": ["CREATE TABLE t (a, b, c)", _FILL, "CREATE INDEX i ON t (b)"],
    "small pages": ["PRAGMA page_size=512", "CREATE TABLE t (a, b, c)", _FILL],
    "auto_vacuum": [
        "PRAGMA auto_vacuum=INCREMENTAL",
        "CREATE TABLE t (a, b, c)",
        _FILL,
        "DELETE FROM t WHERE a > 40",
    ],
    "freelist": ["CREATE TABLE t (a, b, c)", _FILL, "DELETE FROM t WHERE a % 2"],
    "UTF-16": ["PRAGMA encoding='UTF-16le'", "CREATE TABLE t (a, b, c)", _FILL],
    "WITHOUT ROWID": ["CREATE TABLE t (a PRIMARY KEY, b, c) WITHOUT ROWID", _FILL],
    "full text": [
        "CREATE VIRTUAL TABLE f USING fts5(body)",
        "INSERT INTO f VALUES ('one two'), ('회원 명부')",
        "CREATE TABLE t (a, b, c)",
        _FILL,
    ],
    "r-tree": [
        "CREATE VIRTUAL TABLE r USING rtree(id, x, y)",
        "INSERT INTO r VALUES (1, 2, 3), (2, 3, 4)",
        "CREATE TABLE t (a, b, c)",
        _FILL,
    ],
    "views and triggers": [
        "CREATE TABLE t (a UNIQUE, b, c AS (b || '!'), d CHECK (a > 0))",
        "INSERT INTO t (a, b) VALUES (1, 2), (3, 4)",
        "CREATE VIEW v AS SELECT a FROM t",
        "CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM t WHERE a = 0; END",
    ],
}
_LATE = "INSERT INTO late VALUES ('only in the WAL')"


def generate(path: Path, chance: random.Random) -> str:
    """Make a broken database at `path`, with a WAL in a third of the cases; return what it is."""
    kind = chance.choice(list(_KINDS))
    _create(path, _KINDS[kind])
    if chance.randrange(3) == 0:
        _leave_wal(path)
        harm = chance.choice([_wal_bytes, _wal_bytes, _index_bytes, _cut_wal, _page_head])
    else:
        harm = chance.choice([_header, _page_head, _page_head, _cell, _freelist, _schema, _cut])
    harm(path, chance)
    return f"{kind}, {harm.__name__.strip('_')}"


def _create(path: Path, statements: list[str]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def _leave_wal(path: Path) -> None:
    """Leave the files of an application that was killed."""
    open_path = path.with_name("open.db")
    path.rename(open_path)
    with closing(sqlite3.connect(open_path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE late (text)")
        for _ in range(5):
            connection.execute(_LATE)
        for suffix in ("", WAL, INDEX):
            shutil.copyfile(beside(open_path, suffix), beside(path, suffix))
    open_path.unlink()


def _write(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def _flip(path: Path, places: range, chance: random.Random) -> None:
    """Write one to four wrong bytes at any of these places."""
    for _ in range(chance.randrange(1, 5)):
        _write(path, chance.choice(places), bytes([chance.choice([0, 1, 127, 255, 64])]))


def _page_size(path: Path) -> int:
    stored = int.from_bytes(path.read_bytes()[16:18], "big")
    return 65536 if stored == 1 else stored


def _some_page(path: Path, chance: random.Random) -> int:
    """Return where one of the pages begins, the first as often as all others."""
    size = _page_size(path)
    pages = path.stat().st_size // size
    return HEADER_BYTES if chance.randrange(2) else chance.randrange(pages) * size


def _header(path: Path, chance: random.Random) -> None:
    _flip(path, range(HEADER_BYTES), chance)


def _page_head(path: Path, chance: random.Random) -> None:
    start = _some_page(path, chance)
    _flip(path, range(start, start + 12), chance)


def _cell(path: Path, chance: random.Random) -> None:
    start = _some_page(path, chance)
    _flip(path, range(start + 8, start + 60), chance)


def _freelist(path: Path, chance: random.Random) -> None:
    """Let the freelist begin at, or go on with, any page: itself, for example."""
    page = chance.randrange(1, path.stat().st_size // _page_size(path) + 3)
    _write(path, 32, page.to_bytes(4, "big") + chance.randrange(1, 9).to_bytes(4, "big"))
    _write(path, (page - 1) * _page_size(path), page.to_bytes(4, "big"))


def _schema(path: Path, chance: random.Random) -> None:
    """Change letters of the definitions, which are on the first page or on one that it names."""
    data = path.read_bytes()
    places = [at for at in range(len(data)) if data.startswith((b"CREATE", b"table", b"index"), at)]
    start = chance.choice(places or [HEADER_BYTES])
    _flip(path, range(max(start - 8, 0), start + 24), chance)


def _cut(path: Path, chance: random.Random) -> None:
    with path.open("r+b") as file:
        file.truncate(chance.randrange(path.stat().st_size))


def _wal_bytes(path: Path, chance: random.Random) -> None:
    wal = beside(path, WAL)
    _flip(wal, range(wal.stat().st_size), chance)


def _index_bytes(path: Path, chance: random.Random) -> None:
    _flip(beside(path, INDEX), range(200), chance)


def _cut_wal(path: Path, chance: random.Random) -> None:
    wal = beside(path, WAL)
    with wal.open("r+b") as file:
        file.truncate(chance.randrange(wal.stat().st_size))


def each(number: int, seed: int) -> list[tuple[str, Callable[[Path], str]]]:
    """Return the makers of all stored images and of `number` generated ones, with their names."""

    def stored(image: Path) -> Callable[[Path], str]:
        def make(path: Path) -> str:
            shutil.copyfile(image, path)
            return image.name

        return make

    def generated(which: int) -> Callable[[Path], str]:
        return lambda path: generate(path, random.Random(f"{seed} {which}"))

    return [
        *[(image.name, stored(image)) for image in STORED],
        *[(f"generated {which}", generated(which)) for which in range(number)],
    ]
