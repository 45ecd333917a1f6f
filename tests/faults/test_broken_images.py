"""Broken databases: a copy of one is equal to what SQLite reads, or there is none, and no hang."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from gymdbd.source.format import SIDE_SUFFIXES, beside
from tests.faults import images, table
from tests.support import samples
from tests.support.command import gymdbd_json
from tests.support.databases import backups, tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_ROW = table.row(
    "broken databases",
    "stored images, and generated ones with wrong bytes where they matter; backup and what follows",
    "a copy that is what SQLite reads, or an error of ours and the source as it was",
)
_IMAGES = images.each(samples.count(6, of=1500), samples.SEED)
# SQLite's own copy, by a process that may crash.
_COPY = """
import sqlite3, sys
source, target = (sqlite3.connect(path) for path in sys.argv[1:])
for connection in (source, target):
    # What it does not understand of the schema is no reason not to copy it.
    connection.execute("PRAGMA writable_schema=ON")
source.backup(target)
target.execute("PRAGMA journal_mode=DELETE")
"""
_VERBS = [
    ["list"],
    ["verify"],
    ["diff", "latest", "DATABASE"],
    ["rescue", "latest", "--table", "t", "--format", "sql"],
]


def _pages(path: Path) -> bytes:
    """Return a database without what of its header a copy may change: journal mode and counters."""
    data = bytearray(path.read_bytes())
    for kept_by_sqlite in (slice(18, 20), slice(24, 28), slice(92, 100)):
        data[kept_by_sqlite] = bytes(kept_by_sqlite.stop - kept_by_sqlite.start)
    return bytes(data)


def _is_sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        try:
            return connection.execute("PRAGMA integrity_check").fetchall() == [(b"ok",)]
        except sqlite3.Error:
            return False


def _as_sqlite_reads_it(path: Path, folder: Path) -> Path | None:
    """Return a copy by SQLite itself, None if it can make none."""
    folder.mkdir()
    copy = folder / "copy.db"
    for suffix in ("", *SIDE_SUFFIXES[:1]):
        if beside(path, suffix).exists():
            shutil.copyfile(beside(path, suffix), beside(copy, suffix))
    target = folder / "target.db"
    done = subprocess.run(
        [sys.executable, "-c", _COPY, copy, target], capture_output=True, timeout=60, check=False
    )
    return target if done.returncode == 0 else None


@pytest.mark.parametrize(("name", "make"), _IMAGES, ids=[name for name, _ in _IMAGES])
def test_a_broken_database_has_no_wrong_copy(
    name: str, make: Callable[[Path], str], tmp_path: Path
) -> None:
    """Nothing of it is unexpected either, whatever verb is used next, and the source stays."""
    place, archive = tmp_path / "place", tmp_path / "archive"
    place.mkdir()
    database = place / "gym.db"
    kind = make(database)
    expected = _as_sqlite_reads_it(database, tmp_path / "oracle")
    before = {part: sum_ for part, sum_ in tree(place).items() if not part.endswith("-shm")}
    words = ["--database", database, "--archive", archive]

    code, told = gymdbd_json("backup", *words, "--skip-checkpoint")

    after = {part: sum_ for part, sum_ in tree(place).items() if not part.endswith("-shm")}
    copies = backups(archive) if archive.exists() else []
    problems = [f"{name} ({kind}): the source has changed"] if after != before else []
    if told.get("code") == "unexpected":
        problems.append(f"{name} ({kind}): {told['error']}")
    if code == 0 and (expected is None or _pages(copies[0]) != _pages(expected)):
        problems.append(f"{name} ({kind}): a wrong copy")
    if code != 0 and not (told["error"] and told["hint"] and not copies):
        problems.append(f"{name} ({kind}): {told}, {copies}")
    # Of a schema with a blob for a name SQLite says that all is well.
    known = told.get("code") == "source-corrupt"
    if code != 0 and not known and expected and _is_sound(expected):
        problems.append(f"{name} ({kind}): SQLite reads it, and yet {told['error']}")
    for verb in _VERBS if copies else ():
        chosen = [str(database) if word == "DATABASE" else word for word in verb]
        where = ["--archive", archive] if "DATABASE" in verb else words
        _, told = gymdbd_json(*chosen, *where)
        if told.get("code") == "unexpected":
            problems.append(f"{name} ({kind}): {verb[0]}: {told['error']}")
    assert _ROW.tried("copied" if code == 0 else str(told.get("code")), problems) == []


def test_the_same_seed_makes_the_same_image(tmp_path: Path) -> None:
    """So that what a run has found can be made again."""
    made = []
    for number in ("one", "two"):
        (tmp_path / number).mkdir()
        images.generate(tmp_path / number / "gym.db", random.Random(7))
        made.append(tree(tmp_path / number))

    # SQLite gives each WAL another salt.
    assert made[0]["gym.db"] == made[1]["gym.db"]
    assert made[0].keys() == made[1].keys()
