"""Pulls that are cut, killed, out of space or in each other's way: the old replica stays whole."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from gymdbd.errors import DiskFullError
from gymdbd.source.database import has_wal_reset_bug
from gymdbd.source.errors import SourceError, UnreachableError
from tests.support import disks, ledger, samples
from tests.support.command import GYMDBD, environment, gymdbd_json
from tests.support.databases import sqlite_elsewhere
from tests.support.jobs import write_config
from tests.support.pulling import Peer, identity
from tests.support.relay import Relay
from tests.support.sshd import free_port
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_FILLER_BYTES = 3_000_000
# Digests, greetings and the pages that are not the filler's.
_OVERHEAD_BYTES = 300_000


@pytest.fixture
def peer(peer: Peer) -> Peer:
    """Give a ledger with 3 MB that do not compress over there, and no replica yet."""
    fill(peer.database)
    return peer


def fill(database: Path) -> None:
    """Write new random bytes over the filler."""
    with closing(ledger.connect(database, autocheckpoint=1000)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS filler (id INTEGER PRIMARY KEY, data BLOB)")
        connection.execute(
            "INSERT OR REPLACE INTO filler VALUES (1, ?)", (os.urandom(_FILLER_BYTES),)
        )
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _arrived(peer: Peer) -> int:
    """Count the bytes from over there that lie in the partial here and not in the replica."""
    if not peer.partial.exists():
        return 0
    there, arrived, before = (_pages(one) for one in (peer.database, peer.partial, peer.replica))
    return 1024 * len((there & arrived) - before)


def _pages(database: Path) -> set[tuple[int, bytes]]:
    """Return the pages of a database by their places, but for those that were zeroed when freed."""
    data = database.read_bytes()
    pages = {(at, data[at : at + 1024]) for at in range(0, len(data), 1024)}
    return {(at, page) for at, page in pages if any(page)}


_CUTS = [0, 500, 3000, 20_000, 300_000, 1_500_000, 2_900_000]


@pytest.mark.parametrize("cut_after", samples.sample(_CUTS, "cut", size=3))
def test_a_pull_that_is_cut_leaves_the_replica_and_is_resumed(peer: Peer, cut_after: int) -> None:
    """Cut at any byte, the old replica is untouched; the next pull fetches only the rest."""
    peer.pull()
    before = identity(peer.replica)
    fill(peer.database)
    with Relay(peer.server.port, cut_after=cut_after) as relay:
        # The relay has a port of its own, by which the host is not known.
        changes = {"port": relay.port, "host_key_alias": f"[127.0.0.1]:{peer.server.port}"}
        with pytest.raises(UnreachableError):
            peer.pull(ssh=changes)
    arrived = _arrived(peer)
    assert identity(peer.replica) == before
    assert {one.name for one in peer.replica.parent.iterdir() if one.name[0] != "."} == {
        "replica.db"
    }
    rest = peer.pull(backup_before=False).bytes_received
    assert rest < _FILLER_BYTES - arrived + _OVERHEAD_BYTES
    assert ledger.check_copy(peer.replica).problems == ()
    assert not peer.partial.exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_pull_that_is_killed_leaves_the_replica_and_is_resumed(
    peer: Peer, how: signal.Signals
) -> None:
    """The process gone in mid-transfer, the old replica is whole and the next pull goes on."""
    peer.pull()
    before = identity(peer.replica)
    fill(peer.database)
    with Relay(peer.server.port, stall_after=1_500_000) as relay:
        changes = {"port": relay.port, "host_key_alias": f"[127.0.0.1]:{peer.server.port}"}
        command = [*GYMDBD, "-c", str(peer.config(ssh=changes)), "pull", "--json"]
        with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE) as process:
            until(lambda: _arrived(peer) >= 1_000_000, "a third of it to be written")
            process.send_signal(how)
            process.communicate(timeout=20)
    assert process.returncode == (1 if how == signal.SIGTERM else -how)
    assert identity(peer.replica) == before
    arrived = _arrived(peer)
    result = peer.pull(backup_before=False)
    assert result.bytes_received < _FILLER_BYTES - arrived + _OVERHEAD_BYTES
    assert ledger.check_copy(peer.replica).problems == ()


needs_mount = pytest.mark.skipif(not disks.may_mount(), reason="mounting needs root")


@needs_mount
def test_a_disk_that_is_full_here_leaves_the_replica(peer: Peer, tmp_path: Path) -> None:
    """Too little space is told before anything is fetched, and the old replica stays."""
    with disks.mounted(tmp_path, "tmpfs", size="5m") as small:
        peer.replica = small / "replica.db"
        peer.pull()
        before = identity(peer.replica)
        fill(peer.database)
        exit_code, result = peer.pull_by_command()
        assert (exit_code, result["code"]) == (1, "disk-full")
        assert result["hint"]
        assert identity(peer.replica) == before
        assert not peer.partial.exists()


@needs_mount
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_disk_that_fills_up_in_mid_transfer_leaves_the_replica(
    peer: Peer, tmp_path: Path, kind: str
) -> None:
    """What is missing is said, and with space again the next pull keeps what had arrived."""
    with disks.mounted(tmp_path, kind, size="20m") as small:
        peer.replica = small / "replica.db"
        peer.pull(backup_before=False)
        before = identity(peer.replica)
        fill(peer.database)
        hog = small / "hog"

        def take_the_rest_once_pages_arrive() -> None:
            if peer.partial.exists() and not hog.exists():
                use_up(hog)

        # Nothing of the replica can be kept back: the partial grows from its first page on.
        peer.replica.with_name(".replica.db.pull.json").unlink()
        peer.replica.rename(small / "old.db")
        with pytest.raises(DiskFullError, match=r"0 B free, but [\d.]+ MiB are needed"):
            peer.pull(check=take_the_rest_once_pages_arrive)
        assert not peer.replica.exists()
        (small / "old.db").rename(peer.replica)
        assert identity(peer.replica) == before
        hog.unlink()
        peer.pull(backup_before=False)
        assert ledger.check_copy(peer.replica).problems == ()


def use_up(hog: Path) -> None:
    """Write until there is no space left."""
    with hog.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(65536)):
            pass


@pytest.mark.parametrize("change", [{"schema": 2}, {"schema": None}, {"frames": "many"}])
def test_a_saved_fingerprint_of_another_schema_is_ignored(
    peer: Peer, change: dict[str, object]
) -> None:
    """A release that writes it otherwise costs a comparison, and no shortcut is taken."""
    with closing(ledger.connect(peer.database, autocheckpoint=0)) as application:
        ledger.pay(application)
        peer.pull()
        path = peer.replica.with_name(".replica.db.pull.json")
        state = json.loads(path.read_text())
        path.write_text(json.dumps({**state, "fingerprint": {**state["fingerprint"], **change}}))
        result = peer.pull()
        assert (result.strategy, result.pages_changed) == ("digest", 0)
        assert peer.pull().strategy == "unchanged"


def _damage(database: Path) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_schema SET rootpage = 99999")


def _leave_out(database: Path) -> None:
    database.unlink()


def _overwrite(database: Path) -> None:
    database.write_bytes(b"once upon a time " * 100)


@pytest.mark.parametrize("method", ["query", "scp"])
@pytest.mark.parametrize("harm", [_leave_out, _overwrite, _damage])
def test_an_error_about_a_database_over_there_names_its_host(
    peer: Peer, harm: Callable[[Path], None], method: str
) -> None:
    """Of two peers with a database of the same path somebody has to know which one it is."""
    harm(peer.database)

    with pytest.raises(SourceError) as caught:
        peer.pull(method=method)

    assert "127.0.0.1" in caught.value.message
    assert str(peer.database) in caught.value.message


def test_two_pulls_of_a_daemon_run_side_by_side(peer: Peer, tmp_path: Path) -> None:
    """Each has its replica and its status, and SIGTERM ends the daemon in good order."""
    fast = ledger.create(peer.database.with_name("second.db"))
    other = Peer(peer.server, fast, peer.replica.with_name("second.db"))
    jobs = {"one": peer.entry(every="2s"), "two": other.entry(every="2s")}
    config = write_config(tmp_path, jobs)
    status = tmp_path / "status.json"

    def runs(name: str) -> int:
        if not status.exists():
            return 0
        entry = json.loads(status.read_text())["jobs"].get(name, {})
        return len([one for one in entry.get("runs", []) if one["state"] in ("ok", "unchanged")])

    with subprocess.Popen(
        [*GYMDBD, "-c", str(config), "run"],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as daemon:
        try:
            until(lambda: runs("one") > 1 and runs("two") > 1, "two runs of both", within_s=40)
        finally:
            daemon.terminate()
            assert daemon.wait(timeout=30) == 0
    assert ledger.check_copy(peer.replica).problems == ()
    assert ledger.check_copy(other.replica).problems == ()


def test_a_daemon_that_is_stopped_in_mid_pull_leaves_the_replica(
    peer: Peer, tmp_path: Path
) -> None:
    """SIGTERM while pages arrive ends the daemon with 0, and the old replica is untouched."""
    peer.pull()
    before = identity(peer.replica)
    fill(peer.database)
    with Relay(peer.server.port, stall_after=1_000_000) as relay:
        changes = {"port": relay.port, "host_key_alias": f"[127.0.0.1]:{peer.server.port}"}
        config = write_config(tmp_path, {"one": peer.entry(ssh=changes, every="2s")})
        with subprocess.Popen(
            [*GYMDBD, "-c", str(config), "run"],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as daemon:
            try:
                until(lambda: relay.bytes_to_client >= 1_000_000, "pages to arrive")
            finally:
                daemon.terminate()
                exit_code = daemon.wait(timeout=30)
    assert exit_code == 0
    assert identity(peer.replica) == before


def test_two_pulls_of_one_replica_never_overlap(peer: Peer) -> None:
    """While one pull holds the replica, another exits with 3 and says so."""
    with Relay(peer.server.port, stall_after=100_000) as relay:
        changes = {"port": relay.port, "host_key_alias": f"[127.0.0.1]:{peer.server.port}"}
        command = [*GYMDBD, "-c", str(peer.config(ssh=changes)), "pull", "--json"]
        with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE) as process:
            until(lambda: relay.bytes_to_client >= 100_000, "the first to be under way")
            exit_code, result = peer.pull_by_command()
            process.terminate()
            process.communicate(timeout=20)
    assert (exit_code, result["state"]) == (3, "busy")


def checks_of(peer: Peer, **changes: object) -> tuple[int, dict[str, dict[str, str]]]:
    """Run `gymdbd check`; return its exit code and what it found, by name."""
    exit_code, result = gymdbd_json("-c", peer.config(**changes), "check")  # type: ignore[arg-type]
    return exit_code, {one["name"]: one for one in result["checks"]}


def test_check_connects_and_looks_at_both_sides(peer: Peer) -> None:
    """The host, the database over there, its SQLite and the replica's place each have a line."""
    exit_code, found = checks_of(peer)
    assert exit_code == 0
    assert found["pull host"]["state"] == "ok"
    assert "4 tables" in found["pull database"]["message"]
    assert sqlite3.sqlite_version in found["pull sqlite"]["message"]
    assert found["pull replica"]["state"] == "ok"
    warned = [name for name, one in found.items() if "WAL-reset" in one["message"]]
    assert warned == (["sqlite"] if has_wal_reset_bug() else [])
    assert has_wal_reset_bug() == ("on 127.0.0.1 have" in found["sqlite"]["message"])
    assert not peer.replica.exists()


def test_check_names_a_fault_of_either_side_with_its_remedy(peer: Peer) -> None:
    """A host that is down, a database not there and a replica in use are errors with a hint."""
    exit_code, found = checks_of(peer, ssh={"port": free_port()})
    assert (exit_code, found["pull host"]["state"]) == (1, "error")
    assert found["pull host"]["hint"]
    exit_code, found = checks_of(peer, remote_database="/not/there.db")
    assert (exit_code, found["pull database"]["state"]) == (1, "error")
    assert found["pull host"]["state"] == "ok"
    assert found["pull database"]["hint"]
    peer.pull()
    with sqlite_elsewhere(peer.replica, "SELECT 1 FROM totals") as process:
        exit_code, found = checks_of(peer)
    assert (exit_code, found["pull replica"]["state"]) == (1, "error")
    assert f"pid {process.pid}" in found["pull replica"]["message"]


def test_check_names_a_host_whose_key_is_not_known(peer: Peer, tmp_path: Path) -> None:
    """The fingerprint that was seen, and the command that would make it known."""
    nobody = tmp_path / "known_hosts"
    nobody.touch()
    exit_code, found = checks_of(peer, ssh={"known_hosts": str(nobody)})
    assert (exit_code, found["pull host"]["state"]) == (1, "error")
    assert "SHA256:" in found["pull host"]["message"] + found["pull host"]["hint"]
    assert "ssh" in found["pull host"]["hint"]
    assert found["pull replica"]["state"] == "ok"


@needs_mount
def test_check_names_too_little_space_for_the_replica(peer: Peer, tmp_path: Path) -> None:
    """Before any pull: how much is free, and how much the database over there needs."""
    with disks.mounted(tmp_path, "tmpfs", size="2m") as small:
        peer.replica = small / "replica.db"
        exit_code, found = checks_of(peer)
    assert (exit_code, found["pull replica"]["state"]) == (1, "error")
    assert "2.0 MiB free" in found["pull replica"]["message"]
    assert "are needed" in found["pull replica"]["message"]
    assert found["pull database"]["state"] == "ok"
