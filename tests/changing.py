"""Databases that change, and damage to what changed, for the proof by what changed."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd.sqlite import structure

if TYPE_CHECKING:
    import random
    from pathlib import Path

PAGE_SIZES = (512, 512, 512, 1024, 4096, 65536)

_SCHEMA = """
CREATE TABLE rows (id INTEGER PRIMARY KEY, number INTEGER, text TEXT, content BLOB);
CREATE INDEX by_number ON rows (number);
CREATE INDEX by_text ON rows (text, content);
CREATE INDEX of_some ON rows (text) WHERE number > 50;
CREATE TABLE keyed (name TEXT PRIMARY KEY, content BLOB) WITHOUT ROWID;
CREATE TABLE small (a, b);
CREATE TABLE tiny (a PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE never (a);
"""
Step = Callable[[sqlite3.Connection, "random.Random"], None]

# Where page 1 says how many bytes at the end of a page are not used, and where its content starts.
_RESERVED, _CONTENT_START = 20, slice(105, 107)

# What quick_check says of values; everything else it says is about the structure.
_OF_VALUES = re.compile(
    r"(NULL|NUMERIC|TEXT|non-\w+) value (in|missing)|CHECK constraint|row not in PRIMARY KEY order"
    r"|row \d+ missing from index|rowid not at end-of-record"
)


@dataclass
class Change:
    """An old state, a new one, and the size of their pages."""

    old: Path
    new: Path
    page_size: int

    def changed(self) -> set[int]:
        """Return the pages that differ."""
        old, new, size = self.old.read_bytes(), self.new.read_bytes(), self.page_size
        return {
            start // size + 1
            for start in range(0, max(len(old), len(new)), size)
            if old[start : start + size] != new[start : start + size]
        }

    def doubt(self) -> str:
        """Ask whether the new state can be told sound."""
        return structure.compare(self.old, self.new, self.changed()).doubt


def structural_problems(path: Path) -> list[str]:
    """Return what quick_check finds wrong with the structure of a database."""
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        try:
            told = connection.execute("PRAGMA quick_check").fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            return [str(error)]
    return [line for (line,) in told if line != "ok" and not _OF_VALUES.match(line)]


def build(folder: Path, rng: random.Random, *, rows: int) -> Change:
    """Create a database with tables of every kind, some of it deleted again, twice."""
    path, page_size = folder / "new.db", rng.choice(PAGE_SIZES)
    create_empty(path, page_size, reserved=rng.choice([0, 0, 0, 8, 32]))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=OFF")
        connection.executescript(_SCHEMA)
        connection.execute("BEGIN")
        for _ in range(rows):
            insert(connection, rng)
        for _ in range(rng.randrange(3)):
            delete_range(connection, rng)
        connection.execute("COMMIT")
    shutil.copy(path, folder / "old.db")
    return Change(folder / "old.db", path, page_size)


def create_empty(path: Path, page_size: int, reserved: int) -> None:
    """Create an empty database that leaves some bytes at the end of each page alone."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size={page_size}")
        connection.execute("PRAGMA user_version=1")
    content = bytearray(path.read_bytes())
    content[_RESERVED] = reserved
    content[_CONTENT_START] = ((page_size - reserved) % 65536).to_bytes(2, "big")
    path.write_bytes(content)


def build_table(folder: Path, rows: int = 60) -> Change:
    """Create just a table whose root, page 2, has leaves below it, or for more rows more levels."""
    change = Change(folder / "old.db", folder / "new.db", 512)
    create_empty(change.old, change.page_size, reserved=0)
    with closing(sqlite3.connect(change.old, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
        connection.execute("BEGIN")
        values = [(2 * id_, "v" * 40) for id_ in range(1, rows + 1)]
        connection.executemany("INSERT INTO t VALUES (?, ?)", values)
        connection.execute("COMMIT")
    return change


def transact(change: Change, rng: random.Random, steps: list[Step]) -> None:
    """Change the new state in one to three transactions."""
    with closing(sqlite3.connect(change.new, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(f"PRAGMA secure_delete={rng.randrange(2)}")
        for _ in range(rng.randint(1, 3)):
            connection.execute("BEGIN")
            for _ in range(rng.randint(1, 4)):
                rng.choice(steps)(connection, rng)
            connection.execute("COMMIT")


def _content(rng: random.Random) -> bytes:
    """Return small content mostly, and now and then some that overflows."""
    return rng.randbytes(rng.choice([0, 3, 20, 20, 20, 60, 60, 300, 300, 1500, 4000]))


def _rowid(connection: sqlite3.Connection, rng: random.Random) -> int:
    rows = connection.execute("SELECT id FROM rows").fetchall()
    return int(rng.choice(rows)[0]) if rows else 0


def insert(connection: sqlite3.Connection, rng: random.Random) -> None:
    """Insert a row at the end or in between, and perhaps one into the other tables."""
    id_ = rng.choice([None, None, None, rng.randrange(-(2**40), 2**40)])
    values = (id_, rng.randrange(100), rng.randbytes(rng.randrange(12)).hex(), _content(rng))
    connection.execute("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)", values)
    if rng.random() < 0.3:
        keyed = (rng.randbytes(rng.choice([4, 4, 30, 200])).hex(), _content(rng))
        connection.execute("INSERT OR REPLACE INTO keyed VALUES (?, ?)", keyed)
    if rng.random() < 0.1:
        connection.execute("INSERT INTO small VALUES (?, ?)", (rng.random(), _content(rng)))
        tiny = rng.choice([0, 1, 2, rng.randbytes(150)])
        connection.execute("INSERT OR IGNORE INTO tiny VALUES (?)", (tiny,))


def insert_many(connection: sqlite3.Connection, rng: random.Random) -> None:
    """Insert so many rows that pages are split."""
    for _ in range(rng.randrange(60)):
        insert(connection, rng)


def update(connection: sqlite3.Connection, rng: random.Random) -> None:
    """Give a row another number and perhaps other content."""
    values = (rng.randrange(100), rng.choice([None, _content(rng)]), _rowid(connection, rng))
    connection.execute(
        "UPDATE rows SET number = ?, content = coalesce(?, content) WHERE id = ?", values
    )


def delete(connection: sqlite3.Connection, rng: random.Random) -> None:
    """Delete a row."""
    connection.execute("DELETE FROM rows WHERE id = ?", (_rowid(connection, rng),))


def delete_range(connection: sqlite3.Connection, rng: random.Random) -> None:
    """Delete so many rows that pages become free and others are merged."""
    first, second = sorted((_rowid(connection, rng), _rowid(connection, rng)))
    connection.execute("DELETE FROM rows WHERE id BETWEEN ? AND ?", (first, second))
    connection.execute("DELETE FROM keyed WHERE name < ?", (rng.randbytes(1).hex(),))


def delete_all(connection: sqlite3.Connection, rng: random.Random) -> None:
    """Empty a table at one blow."""
    connection.execute(f"DELETE FROM {rng.choice(['rows', 'keyed', 'small'])}")


def write_in_place(connection: sqlite3.Connection, rng: random.Random) -> None:
    """Write into a blob, which may change one overflow page and nothing else."""
    found = connection.execute("SELECT rowid, length(b) FROM small WHERE length(b) > 0").fetchall()
    if found:
        rowid, size = rng.choice(found)
        with connection.blobopen("small", "b", rowid) as blob:
            blob.seek(rng.randrange(size))
            blob.write(b"x")


def create(connection: sqlite3.Connection, rng: random.Random) -> None:
    """Create a table or an index."""
    name = f"made_{rng.randrange(10**9)}"
    sql = rng.choice(["TABLE {} (a UNIQUE, b)", "INDEX {} ON rows (id, number)"])
    connection.execute(f"CREATE {sql.format(name)}")


def drop(connection: sqlite3.Connection, rng: random.Random) -> None:
    """Drop a table or an index, if there is one left."""
    found = connection.execute(
        "SELECT type, name FROM sqlite_master WHERE name IN ('by_number', 'by_text', 'never')"
    ).fetchall()
    if found:
        kind, name = rng.choice(found)
        connection.execute(f"DROP {kind} {name}")


ROWS: list[Step] = [insert, insert_many, update, update, delete, delete_range, delete_all]
ROWS_AND_BLOBS: list[Step] = [*ROWS, write_in_place]
SCHEMA: list[Step] = [create, drop]
