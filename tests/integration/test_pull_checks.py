"""What a pull checks here, and when: that it is equal always, that it is sound if that is due."""

from __future__ import annotations

import dataclasses
import os
import struct
from contextlib import closing
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.archive.catalog import Catalog
from gymdbd.config.kinds import VerifyConfig
from gymdbd.config.parts import Keep
from gymdbd.errors import SuspiciousError, VerificationError
from gymdbd.jobs.pull import suspicion
from gymdbd.jobs.pull.replica import Replica
from gymdbd.jobs.verify import verify
from gymdbd.remote.client import Session
from gymdbd.source import wal
from gymdbd.source.errors import SourceCorruptError
from gymdbd.source.format import FRAME_HEADER_BYTES
from tests.support import ledger
from tests.support.command import EventLog
from tests.support.jobs import context
from tests.support.pulling import Peer, crash_after, identity
from tests.support.waiting import until

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from gymdbd.archive.backup import Backup
    from gymdbd.remote import delta
    from gymdbd.remote.fetch import Fetched


_PAGE = 1024
_LEAF = 13


def _remember(peer: Peer, **known: Any) -> None:
    """Change what the last pull knew of its check."""
    replica = Replica(peer.replica)
    state = replica.state()
    assert state is not None
    replica.note(dataclasses.replace(state, **known))


def _pay(application: sqlite3.Connection, peer: Peer, **known: Any) -> None:
    """Commit a payment over there, and let the last check have been a slow one."""
    ledger.pay(application)
    _remember(peer, **{"check_s": 1.0, **known})


def _verdicts(peer: Peer) -> list[str]:
    """Return the verdicts of the old replicas, the newest first."""
    return [backup.verdict for backup in Catalog(peer.archive, UTC).backups()]


def test_what_is_quick_to_check_is_checked_after_every_pull(peer: Peer) -> None:
    """The check's time is measured, not guessed; a first pull checks the indexes as well."""
    with closing(ledger.connect(peer.database, autocheckpoint=0)) as application:
        ledger.pay(application)
        checked = [peer.pull().checked]
        ledger.pay(application, strike=False)
        paid = peer.pull()
        _remember(peer, check_s=0.049)
        ledger.pay(application)
        checked += [paid.checked, peer.pull().checked]
    state = Replica(peer.replica).state()
    assert checked == ["full", "quick", "quick"]
    assert paid.tables == {"accounts": 50, "payments": 401, "totals": 1}
    assert state is not None
    assert state.check_s is not None
    assert (0 < state.check_s < 10, state.checked_at) == (True, state.pulled_at)


def test_what_is_slow_to_check_is_checked_when_that_is_due_or_the_schema_changed(
    peer: Peer,
) -> None:
    """In between it is proven equal to what is over there, however its changes were found."""
    log, never = EventLog(), timedelta(days=1000)
    with closing(ledger.connect(peer.database, autocheckpoint=0)) as application:
        ledger.pay(application)
        peer.pull()
        _pay(application, peer)
        paid = peer.pull(log=log)
        checked = [paid.checked]
        application.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        _pay(application, peer)
        compared = peer.pull(log=log)
        checked.append(compared.checked)
        _pay(application, peer)
        checked.append(peer.pull(log=log, check_every=timedelta(0)).checked)
        application.execute("CREATE TABLE lockers (id INTEGER PRIMARY KEY)")
        _pay(application, peer)
        checked.append(peer.pull(log=log).checked)
        _pay(application, peer)
        checked.append(peer.pull(log=log, verify="full").checked)
        _pay(application, peer, checked_at="2026-11-01T09:00:00+00:00")
        checked.append(peer.pull(log=log).checked)
        _pay(application, peer)
        full = peer.pull(log=log, full_verify_every=timedelta(0), check_every=never)
    assert (paid.strategy, compared.strategy) == ("wal-tail", "digest")
    assert checked == ["equal", "equal", "quick", "quick", "full", "quick"]
    assert (full.checked, full.strategy) == ("full", "digest")
    assert len(log.named("everything is checked")) == 1
    assert ledger.check_copy(peer.replica).problems == ()


def test_an_old_replica_that_was_not_checked_is_unverified_and_pushes_no_verified_one_out(
    peer: Peer,
) -> None:
    """The archive keeps the newest verified one; what is due, or verified later, is verified."""
    keep = Keep(count=1)
    with closing(ledger.connect(peer.database, autocheckpoint=0)) as application:
        ledger.pay(application)
        peer.pull()
        for _ in range(3):
            _pay(application, peer)
            peer.pull(keep=keep)
        assert _verdicts(peer) == ["unverified", "verified"]
        assert [one.manifest and one.manifest.integrity for one in _backups(peer)] == [
            "not checked",
            "ok",
        ]
        job = VerifyConfig(name="verify", kind="verify", every=None, archive=peer.archive)
        assert verify.run(job, context()).counts == {"verified": 2}
        assert _verdicts(peer) == ["verified", "verified"]
        _pay(application, peer)
        peer.pull(keep=keep, check_every=timedelta(0))
    assert _verdicts(peer) == ["verified"]


def _backups(peer: Peer) -> list[Backup]:
    return Catalog(peer.archive, UTC).backups()


def test_the_good_state_before_a_suspicious_one_is_checked_before_it_is_pinned(
    peer: Peer,
) -> None:
    """It may have been swapped in without a check."""
    with closing(ledger.connect(peer.database, autocheckpoint=0)) as application:
        ledger.pay(application)
        peer.pull()
        _pay(application, peer)
        peer.pull()
        application.execute("DELETE FROM payments")
        _remember(peer, check_s=1.0)
        with pytest.raises(SuspiciousError):
            peer.pull()
    saved = _backups(peer)
    assert [(backup.verdict, backup.marks.note) for backup in saved] == [
        ("verified", suspicion.PIN),
        ("verified", ""),
    ]


def test_a_comparison_that_finds_nothing_leaves_the_replica_and_the_archive(peer: Peer) -> None:
    """The next pull can tell again without comparing; once in a while it is checked in full."""
    with closing(ledger.connect(peer.database, autocheckpoint=0)) as application:
        ledger.pay(application)
        first = peer.pull()
        before = identity(peer.replica)
        # The WAL's pages go to the main file: nothing new, but nothing that the WAL could tell.
        application.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        compared = peer.pull()
        assert (compared.state, compared.strategy) == ("unchanged", "digest")
        assert (compared.pages_changed, compared.tables) == (0, first.tables)
        assert (identity(peer.replica), peer.partial.exists()) == (before, False)
        assert not peer.archive.exists()
        until(lambda: peer.pull().strategy == "unchanged", "the main file to be old enough")
        assert identity(peer.replica) == before
        full = peer.pull(full_verify_every=timedelta(0))
    assert (full.strategy, full.checked, full.pages_changed) == ("digest", "full", 0)
    assert full.saved is not None


def test_what_was_found_by_a_check_is_known_after_pulls_that_check_less(peer: Peer) -> None:
    """The remarks on the database, and that the replica was checked."""
    remark = "1 row of payments refers to a row that is not there"
    replica = Replica(peer.replica)
    with closing(ledger.connect(peer.database, autocheckpoint=0)) as application:
        ledger.pay(application)
        peer.pull()
        _remember(peer, check_s=1.0)
        application.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        compared = peer.pull()
        state = replica.state()
        assert (compared.state, compared.checked) == ("unchanged", "equal")
        assert state is not None
        assert state.is_checked
        _pay(application, peer, remarks=[remark])
        paid = peer.pull()
    state = replica.state()
    assert (paid.checked, paid.remarks) == ("equal", [remark])
    assert state is not None
    assert state.remarks == [remark]


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
    assert (pulled.strategy, pulled.checked) == ("digest", "quick")
    assert log.named("replica damaged") == []
    assert ledger.check_copy(peer.replica).problems == ()


def test_a_replica_that_rots_before_its_check_is_mended_by_a_comparison(peer: Peer) -> None:
    """The check that is due finds it; every page is compared then, and the rot is kept aside."""
    log = EventLog()
    with closing(ledger.connect(peer.database, autocheckpoint=0)) as application:
        ledger.pay(application)
        peer.pull()
        _pay(application, peer)
        peer.pull()
        _rot(peer.replica)
        pulled = peer.pull(log=log, check_every=timedelta(0))
    (told,) = log.named("replica damaged")
    assert "not checked then, is damaged (" in told["reason"]
    assert (pulled.strategy, pulled.checked) == ("digest", "quick")
    assert "_damaged_" in (pulled.saved or "")
    assert ledger.check_copy(peer.replica).problems == ()


def _rot(replica: Path) -> None:
    """Damage a leaf, and leave the file's time as it is."""
    facts = replica.stat()
    data = bytearray(replica.read_bytes())
    leaf = next(at for at in range(_PAGE, len(data), _PAGE) if data[at] == _LEAF)
    # As many bytes as that lie scattered between the cells, says the header.
    data[leaf + 7] ^= 0x55
    replica.write_bytes(data)
    os.utime(replica, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def test_damage_in_what_changed_is_found(peer: Peer) -> None:
    """A page that the other side's WAL brings is damaged: the old replica stays."""
    crash_after(
        peer.database, "PRAGMA wal_autocheckpoint=0", "UPDATE totals SET commits = commits + 1"
    )
    peer.pull()
    before = identity(peer.replica)
    _damage(peer)
    with pytest.raises(SourceCorruptError, match="is damaged: ") as caught:
        peer.pull()
    assert caught.value.message.startswith(f"{peer.database} on 127.0.0.1 is damaged: ")
    assert not any("\n" in one or one.startswith("***") for one in caught.value.problems)
    assert identity(peer.replica) == before
    assert not peer.partial.exists()


def test_damage_that_was_swapped_in_without_a_check_is_told_and_never_counts_as_good(
    peer: Peer,
) -> None:
    """The check that is due finds it where it lies, on every pull until the source is mended."""
    crash_after(
        peer.database, "PRAGMA wal_autocheckpoint=0", "UPDATE totals SET commits = commits + 1"
    )
    sound = {path: path.read_bytes() for path in _files(peer.database)}
    peer.pull()
    _remember(peer, check_s=1.0)
    _damage(peer)
    assert peer.pull().checked == "equal"
    hints = []
    for check_every in (timedelta(0), timedelta(hours=1)):
        with pytest.raises(SourceCorruptError, match=" is damaged: ") as caught:
            peer.pull(check_every=check_every)
        hints.append(caught.value.hint)
    for hint in hints:
        assert f"the replica {peer.replica}, pulled at " in hint
        assert "not checked then, is damaged (" in hint
        assert f"do not use it: gymdbd list --archive {peer.archive} says" in hint
    for path, data in sound.items():
        path.write_bytes(data)
    peer.database.with_name(peer.database.name + "-shm").unlink(missing_ok=True)
    mended = peer.pull()
    assert (mended.checked, "_damaged_" in (mended.saved or "")) == ("quick", True)
    assert _verdicts(peer) == ["verified"]


def test_the_replica_is_checked_when_what_comes_after_it_is_damaged(peer: Peer) -> None:
    """What was sound when nobody looked is known to be sound then, and nothing else is told."""
    crash_after(
        peer.database, "PRAGMA wal_autocheckpoint=0", "UPDATE totals SET commits = commits + 1"
    )
    peer.pull()
    _remember(peer, check_s=1.0)
    crash_after(
        peer.database, "PRAGMA wal_autocheckpoint=0", "UPDATE totals SET commits = commits + 1"
    )
    peer.pull()
    _damage(peer)
    with pytest.raises(SourceCorruptError) as caught:
        peer.pull(verify="full")
    state = Replica(peer.replica).state()
    assert state is not None
    assert (state.is_checked, "not checked then" in caught.value.hint) == (True, False)


def _files(database: Path) -> list[Path]:
    return [database, database.with_name(database.name + "-wal")]


def _damage(peer: Peer) -> None:
    """Commit a damaged page over there; no row is counted on it."""
    data = bytearray(peer.replica.read_bytes())
    number = next(at for at in range(2, len(data) // _PAGE) if data[(at - 1) * _PAGE] == _LEAF)
    page = data[(number - 1) * _PAGE : number * _PAGE]
    # As many bytes as that lie scattered between the cells, says the header.
    page[7] ^= 0x55
    _append_commit(peer.database, number, bytes(page), len(data) // _PAGE)


def _append_commit(database: Path, number: int, page: bytes, pages: int) -> None:
    """Commit a page, as SQLite would; nobody has the database open."""
    log = database.with_name(database.name + "-wal")
    data = log.read_bytes()
    size = FRAME_HEADER_BYTES + len(page)
    last = data[-size:][:FRAME_HEADER_BYTES]
    byteorder = "big" if data[3] & 1 else "little"
    head = struct.pack(">II", number, pages)
    seed = struct.unpack(">II", last[16:24])
    sums = wal.checksum(page, wal.checksum(head, seed, byteorder=byteorder), byteorder=byteorder)
    log.write_bytes(data + head + last[8:16] + struct.pack(">II", *sums) + page)
    database.with_name(database.name + "-shm").unlink()


def test_what_was_pulled_from_elsewhere_is_compared_and_not_believed(peer: Peer) -> None:
    """The job now names another database; what is known of the replica is of the former one."""
    until(lambda: peer.pull().strategy == "unchanged", "the main file to be old enough")
    other = peer.database.with_name("other.db")
    other.symlink_to(peer.database)
    pulled = peer.pull(remote_database=str(other))
    assert (pulled.strategy, pulled.checked) == ("digest", "full")
    state = Replica(peer.replica).state()
    assert state is not None
    assert state.remote_database == str(other)
