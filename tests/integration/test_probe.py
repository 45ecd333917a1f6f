"""The probe: what it costs to hear that nothing has changed, and when it must not say so."""

from __future__ import annotations

import dataclasses
import functools
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.remote import bootstrap, delta
from gymdbd.remote.client import Session
from gymdbd.source.format import MAIN_FILE, PAGE_RULE
from tests.support.engine import make_members, open_app, serving, session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gymdbd.source.fingerprint import Fingerprint

_PYTHONS = [
    python
    for python in sorted(Path("~/.pyenv/versions").expanduser().glob("3.*/bin/python"))
    if int(python.parts[-3].split(".")[1]) >= 9
]
# Half of what sqlite3_rsync moves at 500 MB, where nothing changed.
_MOST_BYTES = 3350


@pytest.fixture(params=[PAGE_RULE, MAIN_FILE])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Give a database that an application has open, with and without frames of its own."""
    path = tmp_path / "체육관 100%?#.db"
    make_members(path)
    with closing(open_app(path)) as app:
        app.execute("UPDATE member SET visits = 1 WHERE id = 1")
        if request.param == MAIN_FILE:
            app.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        yield path


def settled(database: Path) -> Fingerprint:
    """Return the fingerprint of now, as that of a main file which nobody wrote just before."""
    with session(database) as remote:
        return dataclasses.replace(remote.fingerprint, settled=True)


def probed(database: Path, known: Fingerprint, python: str = sys.executable) -> tuple[bool, int]:
    """Ask with the probe first; return whether that was all, and the bytes of both directions."""
    with serving(bootstrap.arguments(python)) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        remote = Session(
            process.stdout,
            process.stdin,
            prelude=functools.partial(bootstrap.bundle, str(database)),
            probe=(bootstrap.probe(str(database), known), known),
        )
        unchanged = remote.fingerprint is known
        if not unchanged:
            # The modules came after it, and the conversation goes on as ever.
            assert remote.count_rows()["member"] >= 0
        return unchanged, remote.bytes_sent + remote.bytes_received


@pytest.mark.parametrize(
    "python", _PYTHONS or [Path(sys.executable)], ids=lambda one: one.parts[-3]
)
def test_an_unchanged_database_is_told_in_a_kilobyte(database: Path, python: Path) -> None:
    """Under every Python, and less than half of what sqlite3_rsync needs for it."""
    known = settled(database)
    assert delta.may_be_unchanged(known, known.size_bytes)
    unchanged, cost = probed(database, known, str(python))
    assert unchanged
    assert cost < _MOST_BYTES


@pytest.mark.parametrize(
    "change",
    [
        *({name: 7} for name in ("device", "inode", "ctime_ns", "size", "frames")),
        {"checksum_one": 7},
        {"checksum_two": 7},
        {"salts": "07" * 8},
        {"method": "other"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_differs_is_a_change(database: Path, change: dict[str, Any]) -> None:
    """Each thing that identifies a snapshot counts by itself."""
    known = settled(database)
    change = {**change}
    if change.get("method") == "other":
        change["method"] = MAIN_FILE if known.method == PAGE_RULE else PAGE_RULE
    assert probed(database, dataclasses.replace(known, **change))[0] is False


def test_a_main_file_with_an_emptied_wal_is_told_by_itself(tmp_path: Path) -> None:
    """Its WAL was fully copied back before, so that emptying that changes nothing."""
    # The probe is in doubt if any process has a removed file of this name open.
    path = tmp_path / "emptied.db"
    make_members(path)
    with closing(open_app(path)) as app:
        app.execute("UPDATE member SET visits = 1 WHERE id = 1")
        app.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        known = settled(path)
        assert (known.method, known.frames > 0) == (MAIN_FILE, True)
        app.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        assert probed(path, known)[0] is True
        for change in ({"ctime_ns": 7}, {"size": 7}, {"method": PAGE_RULE}):
            assert probed(path, dataclasses.replace(known, **change))[0] is False


def test_a_commit_is_a_change(database: Path) -> None:
    """One row is enough, and so is a checkpoint that moves it."""
    known = settled(database)
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("UPDATE member SET visits = 2 WHERE id = 1")
        assert probed(database, known)[0] is False
        known = settled(database)
        assert probed(database, known)[0] is True
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        assert probed(database, known)[0] is False


def test_a_wal_that_is_not_the_one_of_its_index_is_no_proof(tmp_path: Path) -> None:
    """The last frame is looked at in the WAL itself."""
    path = tmp_path / "gym.db"
    make_members(path)
    with closing(open_app(path)) as app:
        app.execute("UPDATE member SET visits = 1 WHERE id = 1")
        known = settled(path)
        # No lock of the application is on this file.
        log = path.with_name("gym.db-wal")
        end = log.stat().st_size - known.page_size - 24
        with log.open("r+b") as file:
            file.seek(end + 16)
            file.write(b"\0" * 8)
        with serving() as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(bootstrap.probe(str(path), known))
            process.stdin.close()
            assert b"unchanged" not in process.stdout.read()


def test_a_probe_never_opens_a_pipe(tmp_path: Path) -> None:
    """Put in the place of the database it would be waited for, without end."""
    path = tmp_path / "gym.db"
    make_members(path)
    known = settled(path)
    path.unlink()
    os.mkfifo(path)
    with serving() as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(bootstrap.probe(str(path), known))
        process.stdin.close()
        assert process.stdout.read() == b"gymdbd-loader: ready\n" * 2
