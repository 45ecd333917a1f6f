"""What a pull checks here: what changed where that proves the rest, otherwise everything."""

from __future__ import annotations

import dataclasses
import os
import struct
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from gymdbd.errors import SourceCorruptError, VerificationError
from gymdbd.remote.client import Fetched, Session
from gymdbd.replica import Replica
from gymdbd.sqlite import wal
from tests import ledger
from tests.pulling import Peer, crash_after, identity
from tests.support import EventLog, until

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.remote import delta


_PAGE = 1024
_LEAF = 13


def test_what_changed_is_checked_and_everything_only_when_it_has_to_be(peer: Peer) -> None:
    """Changed rows prove themselves, however they were found; a new table does not."""
    log = EventLog()
    with closing(ledger.connect(peer.database, autocheckpoint=0)) as application:
        ledger.pay(application)
        checked = [peer.pull(log=log)["checked"]]
        ledger.pay(application, strike=False)
        paid = peer.pull(log=log)
        checked.append(paid["checked"])
        application.execute("CREATE TABLE lockers (id INTEGER PRIMARY KEY)")
        checked.append(peer.pull(log=log)["checked"])
        ledger.pay(application)
        checked.append(peer.pull(log=log, verify="full")["checked"])
        ledger.pay(application)
        application.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        checked.append(peer.pull(log=log)["checked"])
        ledger.pay(application)
        checked.append(peer.pull(log=log, full_verify_every=timedelta(0))["checked"])
    assert checked == ["full", "changes", "quick", "full", "changes", "full"]
    assert paid["tables"] == {"accounts": 50, "payments": 401, "totals": 1}
    assert len(log.named("everything is checked")) == 1
    assert ledger.check_copy(peer.replica).problems == ()


def test_a_comparison_that_finds_nothing_leaves_the_replica_and_the_archive(peer: Peer) -> None:
    """The next pull can tell again without comparing; once in a while it is checked in full."""
    with closing(ledger.connect(peer.database, autocheckpoint=0)) as application:
        ledger.pay(application)
        first = peer.pull()
        before = identity(peer.replica)
        # The WAL's pages go to the main file: nothing new, but nothing that the WAL could tell.
        application.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        compared = peer.pull()
        assert (compared["state"], compared["strategy"]) == ("unchanged", "digest")
        assert (compared["pages_changed"], compared["tables"]) == (0, first["tables"])
        assert (identity(peer.replica), peer.partial.exists()) == (before, False)
        assert not peer.archive.exists()
        until(lambda: peer.pull()["strategy"] == "unchanged", "the main file to be old enough")
        assert identity(peer.replica) == before
        full = peer.pull(full_verify_every=timedelta(0))
    assert (full["strategy"], full["checked"], full["pages_changed"]) == ("digest", "full", 0)
    assert full["saved"] is not None


def test_a_comparison_that_finds_nothing_has_to_be_true(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole must sum up to what it sums up to over there, whatever its pages' digests say."""
    fetch = Session.fetch

    def lying(session: Session, target: Path, plan: delta.Plan) -> Fetched:
        return dataclasses.replace(fetch(session, target, plan), sha256="0" * 64)

    with closing(ledger.connect(peer.database, autocheckpoint=0)) as application:
        ledger.pay(application)
        peer.pull()
        before = identity(peer.replica)
        application.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        monkeypatch.setattr(Session, "fetch", lying)
        with pytest.raises(VerificationError, match="sha256"):
            peer.pull()
    assert identity(peer.replica) == before


def test_a_replica_that_has_rotted_proves_nothing(peer: Peer) -> None:
    """Compared by digests its pages come anew; what they took the place of was not sound."""
    log = EventLog()
    with closing(ledger.connect(peer.database, autocheckpoint=0)) as application:
        ledger.pay(application)
        peer.pull()
        facts = peer.replica.stat()
        data = bytearray(peer.replica.read_bytes())
        leaf = next(at for at in range(_PAGE, len(data), _PAGE) if data[at] == _LEAF)
        # It says that it has 256 cells more.
        data[leaf + 3] ^= 1
        peer.replica.write_bytes(data)
        os.utime(peer.replica, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        application.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        pulled = peer.pull(log=log)
    assert (pulled["strategy"], pulled["checked"]) == ("digest", "quick")
    assert len(log.named("everything is checked")) == 1
    assert ledger.check_copy(peer.replica).problems == ()


def test_damage_in_what_changed_is_found(peer: Peer) -> None:
    """A page that the other side's WAL brings is damaged: the old replica stays."""
    crash_after(
        peer.database, "PRAGMA wal_autocheckpoint=0", "UPDATE totals SET commits = commits + 1"
    )
    peer.pull()
    before = identity(peer.replica)
    data = bytearray(peer.replica.read_bytes())
    number = next(at for at in range(2, len(data) // _PAGE) if data[(at - 1) * _PAGE] == _LEAF)
    page = data[(number - 1) * _PAGE : number * _PAGE]
    # As many bytes as that lie scattered between the cells, says the header.
    page[7] ^= 0x55
    _append_commit(peer.database, number, bytes(page), len(data) // _PAGE)
    with pytest.raises(SourceCorruptError, match="is damaged: ") as caught:
        peer.pull()
    assert caught.value.message.startswith(f"{peer.database} on 127.0.0.1 is damaged: ")
    assert not any("\n" in one or one.startswith("***") for one in caught.value.problems)
    assert identity(peer.replica) == before
    assert not peer.partial.exists()


def _append_commit(database: Path, number: int, page: bytes, pages: int) -> None:
    """Commit a page, as SQLite would; nobody has the database open."""
    log = database.with_name(database.name + "-wal")
    data = log.read_bytes()
    size = wal.FRAME_HEADER_SIZE + len(page)
    last = data[-size:][: wal.FRAME_HEADER_SIZE]
    byteorder = "big" if data[3] & 1 else "little"
    head = struct.pack(">II", number, pages)
    seed = struct.unpack(">II", last[16:24])
    sums = wal.checksum(page, wal.checksum(head, seed, byteorder=byteorder), byteorder=byteorder)
    log.write_bytes(data + head + last[8:16] + struct.pack(">II", *sums) + page)
    database.with_name(database.name + "-shm").unlink()


def test_what_was_pulled_from_elsewhere_is_compared_and_not_believed(peer: Peer) -> None:
    """The job now names another database; what is known of the replica is of the former one."""
    until(lambda: peer.pull()["strategy"] == "unchanged", "the main file to be old enough")
    other = peer.database.with_name("other.db")
    other.symlink_to(peer.database)
    pulled = peer.pull(remote_database=str(other))
    assert (pulled["strategy"], pulled["checked"]) == ("digest", "full")
    state = Replica(peer.replica).state()
    assert state is not None
    assert state.remote_database == str(other)
