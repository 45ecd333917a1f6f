"""Pulls from a real SSH server: whole, fresh, and no dearer than what changed."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from gymdbd.archive import manifest as manifests
from gymdbd.config.parts import Keep
from gymdbd.errors import CopyTornError
from gymdbd.jobs.pull import pull
from gymdbd.source import processes
from tests.support import ledger, samples
from tests.support.command import ZSTD_MODULES, EventLog, environment_without, gymdbd, gymdbd_json
from tests.support.databases import backups, query, sqlite_elsewhere
from tests.support.jobs import context
from tests.support.pulling import Peer, crash_after, identity
from tests.support.waiting import until

_PULLS = samples.count(10, of=200)
_PROMISED = {
    *("state", "strategy", "bytes_sent", "bytes_received", "pages_total", "pages_changed"),
    *("duration_s", "timings", "replica", "tables", "lag_s", "saved"),
}


def commits_of(database: Path) -> int:
    """Return how many commits the live database holds."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT commits FROM totals").fetchone()[0])


@pytest.mark.timeout(900)  # 200 connections, on two cores that the writer keeps busy
def test_every_pull_under_a_writer_at_full_rate_is_whole_and_fresh(peer: Peer) -> None:
    """Every one of many pulls is a sound snapshot that holds what was committed before it began."""
    strategies: list[str] = []
    # No checkpoint but ours: a quick disk would see one between any two pulls, a slow one none.
    with (
        ledger.writing(peer.database, autocheckpoint=0),
        closing(ledger.connect(peer.database, autocheckpoint=0)) as beside,
    ):
        for number in range(_PULLS):
            if number % 3 == 2:  # what the pull before saw of the WAL is in the main file now
                beside.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            before = commits_of(peer.database)
            strategies.append(peer.pull(backup_before=False).strategy)
            copy = ledger.check_copy(peer.replica)
            assert copy.problems == ()
            assert before <= copy.commits
    expected = ["full", *(["wal-tail", "digest", "wal-tail"] * _PULLS)]
    assert strategies == expected[:_PULLS]


def test_a_side_without_zstd_pulls_by_zlib(peer: Peer, tmp_path: Path) -> None:
    """The other side, which has zstd, sends what this one can unpack, and not the bare pages."""
    with closing(sqlite3.connect(peer.database)) as connection, connection:
        connection.execute("CREATE TABLE notes AS SELECT ? AS text", ("한 줄 " * 100_000,))
    environment = environment_without(tmp_path, *ZSTD_MODULES)
    command = ("-c", peer.config(), "pull", "--json")
    done = gymdbd(*command, PYTHONPATH=environment["PYTHONPATH"])
    result = json.loads(done.stdout)
    assert (done.returncode, result["state"], result["strategy"]) == (0, "ok", "full")
    assert result["bytes_received"] < peer.replica.stat().st_size / 4
    assert query(peer.replica, "SELECT length(text) FROM notes") == [(400_000,)]


def test_a_first_pull_brings_every_page(peer: Peer) -> None:
    """Without a replica everything travels, and --json has every key that is promised."""
    exit_code, result = peer.pull_by_command()
    assert (exit_code, result["state"], result["strategy"]) == (0, "ok", "full")
    assert set(result) >= _PROMISED
    assert result["pages_changed"] == result["pages_total"] > 0
    assert result["tables"] == {"accounts": 50, "payments": 400, "totals": 1}
    assert result["saved"] is None
    assert ledger.check_copy(peer.replica).problems == ()


def test_an_unchanged_database_is_not_read(peer: Peer) -> None:
    """A second pull says `unchanged`, touches nothing, and succeeds."""
    with closing(ledger.connect(peer.database, autocheckpoint=0)) as application:
        ledger.pay(application)
        peer.pull()
        before = identity(peer.replica)
        exit_code, result = peer.pull_by_command()
        assert (exit_code, result["state"], result["strategy"]) == (0, "unchanged", "unchanged")
        assert result["pages_changed"] == 0
        assert set(result) >= _PROMISED
        assert identity(peer.replica) == before


def test_a_few_updates_travel_as_the_tail_of_the_wal(peer: Peer) -> None:
    """Where the WAL only grew, no more than the pages in its new frames travel."""
    with closing(ledger.connect(peer.database, autocheckpoint=0)) as application:
        ledger.pay(application)
        peer.pull()
        ledger.add_payments(peer.database, 3)
        result = peer.pull()
        assert result.strategy == "wal-tail"
        assert 0 < (result.pages_changed or 0) < (result.pages_total or 0) // 2
    assert ledger.check_copy(peer.replica) == ledger.Totals(404, ())


@pytest.mark.parametrize(
    ("statements", "strategy"),
    [
        (["DELETE FROM payments WHERE id % 3 = 0", "VACUUM"], "wal-tail"),
        (["UPDATE accounts SET paid = paid + 1", "PRAGMA wal_checkpoint(TRUNCATE)"], "digest"),
        (["PRAGMA journal_mode=DELETE", "UPDATE accounts SET paid = paid + 1"], "digest"),
        (["PRAGMA journal_mode=DELETE", "PRAGMA page_size=4096", "VACUUM"], "full"),
        (["CREATE TABLE blobs AS SELECT zeroblob(500000) AS data"], "wal-tail"),
        (["DELETE FROM payments WHERE id > 20", "VACUUM"], "wal-tail"),
    ],
    ids=["vacuum", "checkpoint", "journal-mode", "page-size", "growth", "truncation"],
)
def test_whatever_happens_over_there_arrives_here(
    peer: Peer, statements: list[str], strategy: str
) -> None:
    """The replica has what the database has, by the shortest way that is safe."""
    with closing(ledger.connect(peer.database, autocheckpoint=0)) as application:
        ledger.pay(application)
        peer.pull()
        until(lambda: not processes.holders(peer.database), "the serving side to end")
        for statement in statements:
            application.execute(statement).fetchall()
        assert peer.pull().strategy == strategy
        assert dump(peer.replica, immutable=True) == dump(peer.database)
        assert peer.pull().strategy in ("unchanged", "digest")


def test_a_replaced_database_is_compared_page_by_page(peer: Peer) -> None:
    """A file that was put in the place of the database is not taken for the old one."""
    peer.pull()
    other = ledger.create(peer.database.with_name("other.db"))
    other.replace(peer.database)
    assert peer.pull().strategy == "digest"
    assert dump(peer.replica, immutable=True) == dump(peer.database)


def dump(path: Path, *, immutable: bool = False) -> list[str]:
    """Write a database as SQL."""
    uri = f"{path.as_uri()}?mode=ro{'&immutable=1' if immutable else ''}"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        return list(connection.iterdump())


def test_an_old_replica_is_saved_to_an_archive_of_its_own(peer: Peer) -> None:
    """Each old replica becomes a backup, by a second name and not a copy, and retention rules."""
    peer.pull()
    inode = peer.replica.stat().st_ino
    ledger.add_payments(peer.database, 1)
    saved = Path(str(peer.pull(keep=Keep(count=2)).saved))
    assert saved.stat().st_ino == inode
    assert ledger.check_copy(saved) == ledger.Totals(400, ())
    for _ in range(3):
        ledger.add_payments(peer.database, 1)
        peer.pull(keep=Keep(count=2))
    exit_code, listed = gymdbd_json("list", "--archive", peer.archive)
    assert exit_code == 0
    assert len(listed["backups"]) == len(backups(peer.archive)) == 2
    assert {one["verdict"] for one in listed["backups"]} == {"verified"}


def test_a_replica_changed_here_is_saved_and_then_overwritten(peer: Peer) -> None:
    """What an application here committed, into its WAL too, is in the archive before it goes."""
    peer.pull()
    crash_after(peer.replica, "PRAGMA journal_mode=WAL", "CREATE TABLE mine AS SELECT 1 AS one")
    assert peer.replica.with_name("replica.db-wal").stat().st_size > 0
    log = EventLog()
    saved = Path(str(peer.pull(log=log).saved))
    assert len(log.named("replica changed here")) == 1
    assert query(saved, "SELECT * FROM mine") == [(1,)]
    assert dump(peer.replica, immutable=True) == dump(peer.database)
    assert ledger.check_copy(peer.replica).problems == ()


def test_a_replica_changed_here_is_left_alone_where_that_is_asked_for(peer: Peer) -> None:
    """With `on_local_change: refuse` the pull fails and nothing is touched."""
    peer.pull()
    with closing(sqlite3.connect(peer.replica, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1 AS one")
    before = identity(peer.replica)
    exit_code, result = peer.pull_by_command(on_local_change="refuse")
    assert (exit_code, result["code"]) == (1, "replica-changed")
    assert identity(peer.replica) == before
    assert not peer.archive.exists()


@pytest.mark.parametrize("wal", [False, True], ids=["no-wal", "wal"])
@pytest.mark.parametrize("content", [b"", b"no database " * 500, b"damaged"])
def test_a_damaged_replica_is_kept_and_replaced(peer: Peer, content: bytes, *, wal: bool) -> None:
    """A replica that nobody can read any more does not stand in the way, and is not lost."""
    peer.pull()
    whole = peer.replica.read_bytes()
    damaged = whole[:2048] + bytes(4096) + whole[6144:] if content == b"damaged" else content
    peer.replica.write_bytes(damaged)
    if wal:
        peer.replica.with_name("replica.db-wal").write_bytes(b"no log" * 100)
    saved = Path(str(peer.pull().saved))
    assert saved.read_bytes() == damaged
    assert ledger.check_copy(peer.replica) == ledger.Totals(400, ())


def test_a_replica_that_is_written_to_here_is_not_replaced(peer: Peer) -> None:
    """A process that has the replica open for writing is named, after `replica_wait`."""
    peer.pull()
    before = identity(peer.replica)
    ledger.add_payments(peer.database, 1)
    with sqlite_elsewhere(peer.replica, "SELECT 1 FROM totals") as process:
        exit_code, result = peer.pull_by_command(replica_wait="1s")
        assert (exit_code, result["code"]) == (1, "replica-in-use")
        assert f"pid {process.pid}" in result["error"]
        assert identity(peer.replica) == before
    assert peer.pull().tables == {"accounts": 50, "payments": 400, "totals": 1}


def test_a_reader_here_never_sees_a_mixture(peer: Peer) -> None:
    """Connections that read during many pulls see one whole state each, and keep it."""
    pulls = samples.count(10, of=20)
    peer.pull()
    done = threading.Event()
    seen: set[int] = set()
    problems: list[ledger.Totals] = []

    def read() -> None:
        uri = f"{peer.replica.as_uri()}?mode=ro"
        while not done.is_set():
            with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
                first = [ledger.look_into(connection) for _ in range(20)]
            seen.update(one.commits for one in first)
            problems.extend(one for one in first if one.problems or one != first[0])

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with ledger.writing(peer.database, autocheckpoint=20_000):
            for _ in range(pulls):
                peer.pull(backup_before=False)
    finally:
        done.set()
        reader.join()
    assert problems == []
    assert len(seen) > pulls // 2


def test_what_no_archive_was_to_have_is_summed_up_when_one_is(peer: Peer) -> None:
    """A pull that saves nothing computes no MD5; the manifest has it all the same."""
    peer.pull(backup_before=False)
    data = peer.replica.read_bytes()
    with closing(ledger.connect(peer.database, autocheckpoint=0)) as application:
        ledger.pay(application)
    saved = manifests.read(Path(str(peer.pull().saved)))
    assert saved is not None
    assert saved.sha256 == hashlib.sha256(data).hexdigest()
    assert saved.md5 == hashlib.md5(data, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("method", ["scp", "query"])
def test_both_methods_bring_the_same_from_a_quiet_database(peer: Peer, method: str) -> None:
    """The plain copy of a database that nobody writes, WAL included, is equal to it."""
    with closing(ledger.connect(peer.database, autocheckpoint=0)) as application:
        ledger.pay(application)
        peer.pull(method=method)
        assert dump(peer.replica, immutable=True) == dump(peer.database)
    assert ledger.check_copy(peer.replica).problems == ()


def test_a_plain_copy_of_a_busy_database_is_refused(peer: Peer) -> None:
    """Method scp with a commit during every copy fails and points to method query."""
    copied = set()
    with closing(ledger.connect(peer.database, autocheckpoint=1000)) as application:

        def commit(step: str, done: int, total: int) -> None:
            del done, total
            copied.add(step)
            ledger.pay(application)

        with pytest.raises(CopyTornError) as caught:
            pull.run(peer.job(method="scp"), context(progress=commit))
    assert copied == {"copy"}
    assert caught.value.code == "copy-torn"
    assert "--method query" in caught.value.hint
    assert not peer.replica.exists()
    assert not peer.partial.exists()


def test_info_tells_everything_and_transfers_nothing(peer: Peer) -> None:
    """--info-only names sizes, WAL, tables, versions, free disk and holders of the database."""
    began = peer.database.stat().st_mtime
    with sqlite_elsewhere(
        peer.database, "PRAGMA wal_autocheckpoint=0", "UPDATE accounts SET paid = paid + 1"
    ) as holder:
        exit_code, facts = peer.pull_by_command("--info-only")
        text = gymdbd("-c", peer.config(), "pull", "--info-only").stdout
    assert exit_code == 0
    assert facts["size_bytes"] == 1024 * facts["page_count"]
    assert (facts["page_size"], facts["journal_mode"]) == (1024, "wal")
    assert facts["wal_frames"] == 1
    assert facts["wal_size_bytes"] > facts["wal_frames"] * 1024
    assert facts["tables"] == {"accounts": 50, "payments": 400, "totals": 1}
    assert facts["sqlite"] == sqlite3.sqlite_version
    assert facts["wal_reset_bug"] in (True, False)
    assert facts["disk_free_bytes"] > 0
    assert facts["newest_change"] > began
    assert any(f"pid {holder.pid}" in one for one in facts["held_by"])
    for word in ("payments", "400", "journal mode", "free disk", f"pid {holder.pid}", "1 frame,"):
        assert word in text
    assert not peer.replica.exists()
