"""Reading the WAL and its index directly."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from gymdbd.source import wal
from gymdbd.source.errors import SourceCorruptError
from gymdbd.source.format import frame_offset
from tests.support.engine import open_app

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def written(tmp_path: Path) -> Iterator[tuple[Path, sqlite3.Connection]]:
    """Give copies of a WAL and its index with three commits, and the connection behind them."""
    live = tmp_path / "live.db"
    with closing(open_app(live)) as app:
        app.execute("PRAGMA wal_autocheckpoint=0")
        app.execute("CREATE TABLE t(v)")
        for _ in range(2):
            app.execute("INSERT INTO t VALUES (randomblob(6000))")
        for suffix in ("-wal", "-shm"):
            # Copied, so that no descriptor of a live file is closed here.
            content = live.with_name("live.db" + suffix).read_bytes()
            (tmp_path / f"copy{suffix}").write_bytes(content)
        yield tmp_path / "copy", app


def mark_and_log(copy: Path) -> tuple[wal.Mark, int]:
    """Read the mark of a copy and open its WAL."""
    with copy.with_name("copy-shm").open("rb") as index:
        mark = wal.read_mark(index)
    return mark, os.open(copy.with_name("copy-wal"), os.O_RDONLY)


def damage(path: Path, offset: int, data: bytes) -> None:
    """Overwrite some bytes of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_the_mark_is_the_last_commit(written: tuple[Path, sqlite3.Connection]) -> None:
    """Frames, pages and page size are those that SQLite tells."""
    copy, app = written
    mark, log = mark_and_log(copy)
    os.close(log)
    frames = app.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
    pages = app.execute("PRAGMA page_count").fetchone()[0]

    assert (mark.frames, mark.pages, mark.page_size, mark.backfilled) == (frames, pages, 4096, 0)
    assert copy.with_name("copy-wal").stat().st_size == mark.wal_size_bytes


def test_the_index_knows_the_newest_frame_of_each_page(
    written: tuple[Path, sqlite3.Connection],
) -> None:
    """Every page of a database that never was checkpointed is in the WAL, at its last frame."""
    mark, log = mark_and_log(written[0])
    index = wal.index_frames(log, mark)
    numbers = [wal.read_frame(log, frame, 4096) for frame in range(1, mark.frames + 1)]
    os.close(log)
    newest = {one.page: at for at, one in enumerate(numbers, 1) if one}

    assert index is not None
    assert list(index.pages()) == list(range(1, mark.pages + 1))
    assert {page: index.get(page) for page in index.pages()} == newest
    assert index.get(mark.pages + 1) == 0


def test_a_tail_holds_only_the_later_frames(written: tuple[Path, sqlite3.Connection]) -> None:
    """Frames up to the given one are not looked at."""
    mark, log = mark_and_log(written[0])
    last = wal.read_frame(log, mark.frames, 4096)
    tail = wal.index_frames(log, mark, after=mark.frames - 1)
    nothing = wal.index_frames(log, mark, after=mark.frames)
    os.close(log)

    assert last is not None
    assert tail is not None
    assert nothing is not None
    assert (list(tail.pages()), list(nothing.pages())) == ([last.page], [])


@pytest.mark.parametrize("field", ["salts", "checksum", "pages", "frames"])
def test_frames_of_another_wal_are_refused(
    written: tuple[Path, sqlite3.Connection], field: str
) -> None:
    """A mark and a WAL that do not belong together give no index."""
    mark, log = mark_and_log(written[0])
    wrong = {"salts": bytes(8), "checksum": (1, 2), "pages": 99, "frames": mark.frames + 1}
    index = wal.index_frames(log, replace(mark, **{field: wrong[field]}))  # type: ignore[arg-type]
    os.close(log)

    assert index is None


def test_a_frame_with_other_salts_in_the_middle_is_refused(
    written: tuple[Path, sqlite3.Connection],
) -> None:
    """One frame of an older generation spoils the index."""
    damage(written[0].with_name("copy-wal"), frame_offset(2, 4096) + 8, b"other")
    mark, log = mark_and_log(written[0])
    index = wal.index_frames(log, mark)
    os.close(log)

    assert index is None


def test_more_frames_backfilled_than_there_are_is_named_as_damage(
    written: tuple[Path, sqlite3.Connection],
) -> None:
    """What the WAL-reset bug leaves behind is not taken for a snapshot."""
    damage(written[0].with_name("copy-shm"), 96, (1000).to_bytes(4, "little"))
    with pytest.raises(SourceCorruptError, match="WAL-reset bug"):
        mark_and_log(written[0])


def test_an_index_that_does_not_settle_is_named(
    written: tuple[Path, sqlite3.Connection],
) -> None:
    """Two copies of the header that stay different are no mark."""
    damage(written[0].with_name("copy-shm"), 50, b"\x77")
    with pytest.raises(wal.UnreadableIndexError):
        mark_and_log(written[0])


@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_the_frames_of_an_index_are_counted_whatever_machine_wrote_it(byteorder: str) -> None:
    """And nothing is counted where there is no index, or one of another kind."""
    words = [3007000, 0, 9, 0, 77, 5]
    head = b"".join(word.to_bytes(4, byteorder) for word in words)  # type: ignore[arg-type]
    assert wal.count_frames(head) == 77
    assert wal.count_frames(b"") == 0
    assert wal.count_frames(bytes(100)) == 0
