"""The old replica as the beginning of the next: the same bytes, and no reader sees a change."""

from __future__ import annotations

import fcntl
import os
import random
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from gymdbd import files
from gymdbd.jobs.pull import spare
from gymdbd.jobs.pull.replica import SPARE
from tests.support import ledger, samples
from tests.support.databases import query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.pulling import Peer

_ROUNDS = samples.count(12, of=40)


@pytest.fixture(autouse=True)
def _nothing_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every file system be one that cannot share blocks: there is no such request."""
    monkeypatch.setattr(files, "_FICLONE", 0)


@pytest.fixture
def application(peer: Peer) -> Iterator[sqlite3.Connection]:
    """Give the connection of an application that keeps the database open, after a first pull."""
    with closing(ledger.connect(peer.database, autocheckpoint=0)) as connection:
        ledger.pay(connection)
        _pull(peer)
        yield connection


def _pull(peer: Peer) -> str | None:
    """Pull, compare the replica with what the other side holds, and return how it was copied."""
    result = peer.pull(backup_before=False)
    assert _pages(peer.replica) == _now(peer.database)
    return result.fetched.copied if result.fetched else None


def _now(database: Path) -> bytes:
    """Return the pages of the database with its WAL, by SQLite's own backup."""
    copy = database.with_name("copy.db")
    copy.unlink(missing_ok=True)
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return _pages(copy)


def _pages(path: Path) -> bytes:
    """Return the bytes of a database but for the counters and the versions of its form.

    In these a backup and a replica differ: neither needs a WAL.
    """
    data = bytearray(path.read_bytes())
    for field in (slice(18, 20), slice(24, 28), slice(40, 44), slice(92, 96)):
        data[field] = bytes(field.stop - field.start)
    return bytes(data)


def _spare(peer: Peer) -> Path:
    return spare.spare_path(peer.replica)


def test_the_replica_before_the_last_is_what_the_next_one_begins_with(
    peer: Peer, application: sqlite3.Connection
) -> None:
    """Once there are two: the first pull leaves none, the second copies, the others need not."""
    found = []
    for _ in range(4):
        ledger.pay(application)
        found.append(_pull(peer))
    assert found == ["kernel", SPARE, SPARE, SPARE]
    assert [path.name for path in sorted(peer.replica.parent.iterdir())] == [
        ".replica.db.peer.json",
        ".replica.db.pull.json",
        ".replica.db.spare",
        "replica.db",
    ]
    for path in (peer.replica, _spare(peer)):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.stat().st_nlink == 1


@pytest.mark.timeout(300)
def test_whatever_changes_over_there_the_spare_becomes_the_same_bytes(
    peer: Peer, application: sqlite3.Connection
) -> None:
    """Rows, blobs that come and go, VACUUM, checkpoints: the database grows and shrinks."""
    chance = random.Random(20261125)
    changes: tuple[Callable[[], object], ...] = (
        lambda: ledger.pay(application),
        lambda: ledger.pay(application),
        lambda: ledger.add_payments(peer.database, 30),
        lambda: application.execute("CREATE TABLE IF NOT EXISTS blobs (data BLOB)"),
        lambda: application.execute("INSERT INTO blobs VALUES (zeroblob(?))", (90_000,)),
        lambda: application.execute("DELETE FROM blobs"),
        lambda: application.execute("VACUUM"),
        lambda: application.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall(),
    )
    application.execute("CREATE TABLE blobs (data BLOB)")
    found = []
    for _ in range(_ROUNDS):
        for change in chance.choices(changes, k=chance.randint(1, 3)):
            change()
        ledger.pay(application)
        found.append(_pull(peer))
        assert ledger.check_copy(peer.replica).problems == ()
    assert found.count(SPARE) > _ROUNDS // 2, found


def test_who_has_the_old_replica_open_reads_the_old_state_to_the_end(
    peer: Peer, application: sqlite3.Connection
) -> None:
    """Its file is not written to: the next pull copies, and the one after it need not."""
    reader = sqlite3.connect(f"{peer.replica.as_uri()}?mode=ro&immutable=1", uri=True)
    with closing(reader), closing(reader.execute("SELECT * FROM payments ORDER BY id")) as rows:
        before = query(peer.replica, "SELECT * FROM payments ORDER BY id")
        read = [rows.fetchone()]
        for expected in ("kernel", "kernel", SPARE):
            for _ in range(500):
                ledger.pay(application)
            assert _pull(peer) == expected
        assert read + rows.fetchall() == before


def test_a_reader_of_nothing_but_the_file_counts_as_well(
    peer: Peer, application: sqlite3.Connection
) -> None:
    """Whether by a descriptor or by a map."""
    with peer.replica.open("rb") as file:
        before = file.read()
        for expected in ("kernel", "kernel"):
            ledger.pay(application)
            assert _pull(peer) == expected
        file.seek(0)
        assert file.read() == before


@pytest.mark.parametrize("how", ["written", "another-name", "another-file", "gone"])
def test_a_spare_that_is_not_what_was_left_is_not_used(
    peer: Peer, application: sqlite3.Connection, how: str
) -> None:
    """It is removed, and the replica copied."""
    _leave_a_spare(peer, application)
    path, second = _spare(peer), peer.replica.with_name("second")
    if how == "written":
        with path.open("r+b") as file:
            file.write(b"x")
    elif how == "another-name":
        os.link(path, second)
    elif how == "another-file":
        data = path.read_bytes()
        path.unlink()
        second.write_bytes(b"takes the inode")
        path.write_bytes(data)
    else:
        path.unlink()
    ledger.pay(application)
    assert _pull(peer) == "kernel"
    ledger.pay(application)
    assert _pull(peer) == SPARE


def test_a_pull_that_was_killed_between_two_names_leaves_the_replica_alone(
    peer: Peer, application: sqlite3.Connection
) -> None:
    """The replica is its own spare then, and must not be written to."""
    _leave_a_spare(peer, application)
    _spare(peer).unlink()
    os.link(peer.replica, _spare(peer))
    reader = sqlite3.connect(f"{peer.replica.as_uri()}?mode=ro&immutable=1", uri=True)
    with closing(reader):
        before = peer.replica.read_bytes()
        ledger.pay(application)
        with peer.replica.open("rb") as file:
            assert _pull(peer) == "kernel"
            assert file.read() == before


def test_there_is_none_where_the_archive_gets_the_old_replica(
    peer: Peer, application: sqlite3.Connection
) -> None:
    """And one that was left before that was so is removed."""
    _leave_a_spare(peer, application)
    ledger.pay(application)
    saved = peer.pull(backup_before=True).saved
    assert saved is not None
    assert not _spare(peer).exists()
    assert ledger.check_copy(peer.replica).problems == ()
    ledger.pay(application)
    fetched = peer.pull(backup_before=True).fetched
    assert (fetched is not None and fetched.copied) == "kernel"


def test_there_is_none_where_the_kernel_cannot_tell_who_reads(
    peer: Peer, application: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux alone has leases; elsewhere the replica is copied each time, and none takes room."""
    _leave_a_spare(peer, application)
    monkeypatch.delattr(fcntl, "F_SETLEASE")
    for _ in range(2):
        ledger.pay(application)
        assert _pull(peer) == "kernel"
        assert not _spare(peer).exists()


def test_a_replica_that_was_changed_here_is_copied(
    peer: Peer, application: sqlite3.Connection
) -> None:
    """What the spare differs in is known of the replica that the last pull made."""
    _leave_a_spare(peer, application)
    with closing(sqlite3.connect(peer.replica)) as here:
        here.execute("UPDATE accounts SET paid = 1")
        here.commit()
    ledger.pay(application)
    assert _pull(peer) == "kernel"
    assert not _spare(peer).exists()


def test_it_counts_as_room_that_is_there(
    peer: Peer, application: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pull that needs no new room is not refused on a disk that is nearly full."""
    _leave_a_spare(peer, application)
    asked: list[int] = []
    monkeypatch.setattr(files, "require_space", lambda _, needed: asked.append(needed))
    ledger.pay(application)
    assert _pull(peer) == SPARE
    assert asked == [0]


def test_a_replaced_replica_has_no_spare(peer: Peer, application: sqlite3.Connection) -> None:
    """Nor does one that somebody took away: all of it comes anew."""
    _leave_a_spare(peer, application)
    peer.replica.unlink()
    ledger.pay(application)
    assert _pull(peer) is None
    assert not _spare(peer).exists()


def _leave_a_spare(peer: Peer, application: sqlite3.Connection) -> None:
    ledger.pay(application)
    assert _pull(peer) == "kernel"
    assert _spare(peer).exists()
