"""A damaged index of the WAL (-shm) under a running application hides no commit from gymdbd.

SQLite itself believes the index, and so does the application: what it commits next may overwrite
what it does not see.
"""

from __future__ import annotations

import contextlib
import os
import random
from typing import TYPE_CHECKING

import pytest

from gymdbd.source import agreement
from gymdbd.source.errors import GymdbdError, SourceCorruptError
from gymdbd.source.format import (
    INDEX,
    INDEX_BACKFILLED,
    INDEX_BLOCK_BYTES,
    INDEX_BYTES,
    INDEX_HASH_FACTOR,
    INDEX_HASH_SLOTS,
    WAL,
    beside,
    frame_offset,
)
from gymdbd.source.pages import Pages, open_pages
from gymdbd.source.snapshot import Snapshot
from gymdbd.source.wal import index_frames, read_mark
from gymdbd.sqlite.opening import reading_live
from tests.support import samples
from tests.support.command import gymdbd, gymdbd_json
from tests.support.databases import backups, make_database, sqlite_elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_BEFORE = "INSERT INTO t (text) SELECT text FROM t"
_COMMITS = ["PRAGMA wal_autocheckpoint=0", *["INSERT INTO t (text) VALUES ('late')"] * 5]
_ROWS = "SELECT count(*) FROM t"


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Path]:
    """Give a database that another process has open, with commits that are only in its WAL."""
    (tmp_path / "place").mkdir()
    path = make_database(tmp_path / "place" / "gym.db")
    with sqlite_elsewhere(path, *_COMMITS):
        yield path


def _index_of(path: Path) -> bytearray:
    # Other processes hold locks on it; this one does not.
    return bytearray(beside(path, INDEX).read_bytes())


def _put(path: Path, data: bytes | bytearray) -> None:
    """Overwrite the index as the application has it mapped."""
    with beside(path, INDEX).open("r+b") as file:
        file.write(data)


def _another_page(data: bytearray, frame: int) -> None:
    """Let the entry of a frame name a page that the database does not have."""
    start = INDEX_BYTES + 4 * (frame - 1)
    data[start : start + 4] = (4000).to_bytes(4, "little")


def _older_frame(data: bytearray, frame: int) -> None:
    """Let an older frame have another page: only a checkpoint would take it from there."""
    _another_page(data, frame - 1)


def _no_slot(data: bytearray, frame: int) -> None:
    """Take the page of a frame out of the hash table."""
    start = INDEX_BYTES + 4 * (frame - 1)
    page = int.from_bytes(data[start : start + 4], "little")
    hashes = INDEX_BLOCK_BYTES - 2 * INDEX_HASH_SLOTS
    slot = page * INDEX_HASH_FACTOR % INDEX_HASH_SLOTS
    while data[hashes + 2 * slot]:
        data[hashes + 2 * slot] = 0
        slot += 1


def _all_backfilled(data: bytearray, frame: int) -> None:
    """Say that all frames are in the main file."""
    data[INDEX_BACKFILLED] = frame.to_bytes(4, "little")


_DAMAGE: dict[str, Callable[[bytearray, int], None]] = {
    "another page": _another_page,
    "another page for an older frame": _older_frame,
    "no slot": _no_slot,
    "all backfilled": _all_backfilled,
}


def _harm(live: Path, kind: str) -> None:
    with beside(live, INDEX).open("rb") as file:
        frames = read_mark(file).frames
    data = _index_of(live)
    _DAMAGE[kind](data, frames)
    _put(live, data)


@pytest.mark.parametrize("kind", _DAMAGE)
def test_a_backup_of_it_fails_saves_it_as_it_is_and_changes_nothing(
    kind: str, live: Path, tmp_path: Path
) -> None:
    """No checkpoint writes what the index says; the main file and the WAL stay as they were."""
    archive = tmp_path / "archive"
    gymdbd("backup", "--database", str(live), "--archive", str(archive), "--skip-checkpoint")
    (good,) = backups(archive)
    _harm(live, kind)
    before = live.read_bytes(), beside(live, WAL).read_bytes()

    code, told = gymdbd_json("backup", "--database", str(live), "--archive", str(archive))

    assert (code, told["code"]) == (1, "source-corrupt")
    assert "-shm" in told["error"]
    assert "start them again" in told["hint"]
    assert backups(archive) == [good]
    assert (live.read_bytes(), beside(live, WAL).read_bytes()) == before
    (saved,) = archive.glob("*.damaged")
    assert [path.read_bytes() for path in saved.glob("*-wal")] == [before[1]]


@pytest.mark.parametrize("kind", _DAMAGE)
@pytest.mark.parametrize("way", ["whole", "tail"])
def test_a_pull_of_it_is_refused_by_the_serving_side(kind: str, way: str, live: Path) -> None:
    """Both ways of reading its pages look at the index first."""
    _harm(live, kind)

    def load(pages: Pages) -> None:
        if way == "whole":
            pages.load()
        elif pages.mark:
            pages.load_tail(pages.mark.salts, 0, (0, 0))

    with open_pages(live) as pages, pytest.raises(SourceCorruptError, match="-shm"):
        load(pages)


def test_an_older_index_that_was_put_back_is_noticed(tmp_path: Path) -> None:
    """Its checksums are right, and the WAL has commits beyond its end."""
    path = make_database(tmp_path / "gym.db")
    with sqlite_elsewhere(path, *_COMMITS):
        older = _index_of(path)
        with sqlite_elsewhere(path, _COMMITS[-1]):
            _put(path, older)

            with Snapshot(path) as snapshot, pytest.raises(SourceCorruptError, match="ends at"):
                agreement.require(snapshot)
            with sqlite_elsewhere(path, "BEGIN IMMEDIATE"), Snapshot(path) as snapshot:
                # So it also looks while a writer is between its commit's frames and the index.
                agreement.require(snapshot)


def test_a_later_commit_with_wrong_checksums_is_none(tmp_path: Path) -> None:
    """SQLite would not take it from the WAL either: a commit that failed may leave one."""
    path = make_database(tmp_path / "gym.db")
    with sqlite_elsewhere(path, *_COMMITS):
        older = _index_of(path)
        with sqlite_elsewhere(path, _COMMITS[-1]):
            _put(path, older)
            with beside(path, WAL).open("r+b") as file:
                file.seek(-1, os.SEEK_END)
                last = file.read(1)[0]
                file.seek(-1, os.SEEK_END)
                file.write(bytes([last ^ 1]))

            with Snapshot(path) as snapshot:
                agreement.require(snapshot)


def test_a_wal_that_is_restarted_meanwhile_is_no_damage(live: Path) -> None:
    """A writer may do that if all of the WAL is in the main file, which then is the snapshot."""
    with sqlite_elsewhere(live, "PRAGMA wal_checkpoint(FULL)"), open_pages(live) as pages:
        assert pages.mark is not None
        log = pages.snapshot.open_file(WAL).fileno()
        frames = index_frames(log, pages.mark)
        assert frames is not None
        with sqlite_elsewhere(live, *[_COMMITS[-1]] * 9):
            agreement.require_between(pages.snapshot, log, pages.mark, frames)

            assert index_frames(log, pages.mark) is None


def test_a_transaction_that_is_being_written_is_no_damage(live: Path) -> None:
    """Its frames are in the WAL before its commit is, and a rolled back one leaves them there."""
    large = ["PRAGMA cache_size=2", "PRAGMA cache_spill=1", "BEGIN", *[_BEFORE] * 4]
    with sqlite_elsewhere(live, *large), Snapshot(live) as snapshot:
        mark = snapshot.settle()
        agreement.require(snapshot)

        assert beside(live, WAL).stat().st_size > frame_offset(mark.frames + 20, mark.page_size)
    with Snapshot(live) as snapshot:
        agreement.require(snapshot)


@pytest.mark.parametrize("mode", ["PASSIVE", "FULL", "RESTART"])
def test_a_wal_that_was_checkpointed_is_no_damage(mode: str, live: Path) -> None:
    """Nor one with many blocks of the index, in part in the main file."""
    many = [*["UPDATE t SET text = text || 'x'"] * 1200, f"PRAGMA wal_checkpoint({mode})"]
    with sqlite_elsewhere(live, *_COMMITS, *many, *_COMMITS):
        size = beside(live, INDEX).stat().st_size
        with Snapshot(live) as snapshot:
            agreement.require(snapshot)
        with open_pages(live) as pages:
            pages.load()

    assert size > 2 * INDEX_BLOCK_BYTES


def test_of_an_index_with_damaged_bytes_nothing_stale_is_read(live: Path) -> None:
    """Any bytes: an error, or the newest committed state."""
    chance = random.Random(samples.SEED)
    sound = _index_of(live)
    used = [*range(100), *range(INDEX_BYTES, INDEX_BYTES + 40)]
    hashes = range(INDEX_BLOCK_BYTES - 2 * INDEX_HASH_SLOTS, INDEX_BLOCK_BYTES)
    used += [at for at in hashes if sound[at]]
    refused = 0
    with _rows_in(live) as expected:
        for _ in range(samples.count(60, of=600)):
            damaged = bytearray(sound)
            for _ in range(chance.randrange(1, 4)):
                damaged[chance.choice(used)] = chance.randrange(256)
            _put(live, damaged)
            try:
                with Snapshot(live, busy_timeout_s=0.1) as snapshot:
                    agreement.require(snapshot)
                    found = snapshot.count_rows()["t"]
            except GymdbdError:
                refused += 1
            else:
                assert found == expected
            _put(live, sound)

    assert refused


@contextlib.contextmanager
def _rows_in(live: Path) -> Iterator[int]:
    """Give the rows that are committed, and keep a connection open meanwhile."""
    with reading_live(live) as connection:
        yield connection.execute(_ROWS).fetchone()[0]
