"""Who has the replica open, where the system does not tell: unknown is not nobody.

The Mac is a double: its libproc fails, and a program in the place of lsof does too.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.errors import ReplicaInUseError
from gymdbd.source import descriptors, processes
from gymdbd.sqlite import locks
from tests.support.databases import make_database, query, sqlite_elsewhere
from tests.support.mac import mac_json

if TYPE_CHECKING:
    from tests.support.pulling import Peer

_NO_PROC = Path("/nonexistent")
_NOBODY = 65534


def _without_lsof(folder: Path) -> str:
    """Return a PATH in which lsof fails."""
    program = folder / "bin" / "lsof"
    program.parent.mkdir(exist_ok=True)
    program.write_text("#!/bin/sh\necho lsof: sandboxed >&2\nexit 1\n")
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


def _pulled(peer: Peer) -> tuple[int, dict[str, Any]]:
    """Pull on a Mac that does not tell who has a file open."""
    path = _without_lsof(peer.replica.parent)
    return mac_json("-c", peer.config(), "pull", DARWIN_LIBPROC="EPERM", PATH=path)


@pytest.fixture
def replica(peer: Peer) -> Path:
    """Give a replica in rollback mode that is no longer up to date."""
    with closing(sqlite3.connect(peer.database, isolation_level=None)) as application:
        application.execute("PRAGMA journal_mode=DELETE")
        peer.pull()
        application.execute("CREATE TABLE later (x)")
    return peer.replica


def test_a_replica_that_an_unseen_process_uses_is_not_replaced(peer: Peer, replica: Path) -> None:
    """It is in a transaction, which SQLite's lock shows; its commit is not lost."""
    before = replica.stat().st_ino
    with sqlite_elsewhere(replica, "BEGIN IMMEDIATE", "CREATE TABLE mine (x)", "SELECT 1"):
        code, told = _pulled(peer)
        assert (code, told["code"]) == (1, "replica-in-use"), told
        assert replica.stat().st_ino == before


def test_the_exclusive_lock_keeps_everybody_away_and_is_refused_to_no_less(tmp_path: Path) -> None:
    """A reader in a transaction could go on to write to what is no longer the replica."""
    path = make_database(tmp_path / "gym.db", mode="delete")
    with (
        sqlite_elsewhere(path, "BEGIN", "SELECT count(*) FROM t"),
        pytest.raises(ReplicaInUseError),
        locks.exclusive(path),
    ):
        pytest.fail("a reader is in a transaction")
    script = "import sqlite3, sys; sqlite3.connect(sys.argv[1], 0).execute('SELECT * FROM t')"
    reader = [sys.executable, "-c", script, str(path)]
    with locks.exclusive(path):
        kept = subprocess.run(reader, capture_output=True, text=True, check=False)
    assert "database is locked" in kept.stderr
    subprocess.run(reader, check=True)


def test_a_replica_whose_users_are_unknown_is_replaced_with_a_remark(
    peer: Peer, replica: Path
) -> None:
    """Nobody has a lock on it, and the result says what that does not show."""
    code, told = _pulled(peer)
    assert code == 0, told
    assert query(replica, "SELECT count(*) FROM later") == [(0,)]
    assert ["lsof" in remark for remark in told["remarks"]] == [True]


def test_a_mac_that_tells_leaves_no_remark(peer: Peer, replica: Path) -> None:
    """Its libproc answers, so lsof is not asked while nobody has the replica open."""
    path = _without_lsof(replica.parent)
    code, told = mac_json("-c", peer.config(), "pull", PATH=path)
    assert (code, told["remarks"]) == (0, [])


def test_lsof_that_fails_is_unknown_and_not_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it works, an empty answer says that nobody has the file open."""
    database = make_database(tmp_path / "gym.db")
    assert processes.look_for_writers(database, proc=_NO_PROC) == ([], "")
    monkeypatch.setenv("PATH", _without_lsof(tmp_path))
    assert descriptors.scan_without_proc([str(database)]).blind
    assert processes.look_for_writers(database, proc=_NO_PROC)[1]


def test_lsof_that_names_a_process_and_then_fails_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has the file open is known then, but not whether for writing."""
    database = make_database(tmp_path / "gym.db")
    monkeypatch.setenv("PATH", _without_lsof(tmp_path))
    named = "case \"$*\" in *' -p '*) ;; *) echo p1; exit 0 ;; esac"
    program = tmp_path / "bin" / "lsof"
    program.write_text(program.read_text().replace("\n", f"\n{named}\n", 1))
    seen = descriptors.scan_without_proc([str(database)], whole=True)
    assert (seen.files, seen.blind) == ({1: []}, True)


@pytest.mark.parametrize(("mode", "is_known"), [(0o644, True), (0o664, False), (0o666, False)])
def test_a_file_that_other_users_may_write_may_be_open_unseen(mode: int, *, is_known: bool) -> None:
    """An ordinary user cannot look into the processes of others."""
    with tempfile.TemporaryDirectory(prefix="gymdbd-users-") as folder:
        Path(folder).chmod(0o755)
        database = make_database(Path(folder) / "gym.db")
        database.chmod(mode)
        child = os.fork()
        if not child:
            os.setuid(_NOBODY)
            os._exit(processes.look_for_writers(database)[1] == "")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == is_known
