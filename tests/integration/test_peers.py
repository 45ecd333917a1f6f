"""Two machines watch each other: over a real sshd, with a restricted key and with a full login."""

from __future__ import annotations

import json
import os
import shlex
import sys
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.clock import Clock
from gymdbd.config import config
from gymdbd.jobs.finding import Health
from gymdbd.jobs.pull import told
from gymdbd.runs import overview
from tests.support import ledger
from tests.support.command import ROOT, EventLog, gymdbd, gymdbd_json
from tests.support.engine import open_app
from tests.support.jobs import write_config
from tests.support.pulling import Peer
from tests.support.sshd import SshServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

# The server program alone has fifty kilobytes.
_FEW = 20_000
_GOOD = {
    "job": "nightly",
    "kind": "backup",
    "health": "ok",
    "code": "",
    "last_success": "2026-11-28T03:00:00Z",
}


def _status(path: Path, *jobs: dict[str, Any], age: timedelta = timedelta()) -> Path:
    """Write the public status of the other machine, as it was so long ago."""
    now = (Clock().now() - age).isoformat()
    content = {"schema": 1, "machine": "pi", "now": now, "jobs": list(jobs or [_GOOD])}
    path.write_text(json.dumps(content))
    return path


@contextmanager
def _machine(folder: Path, command: str = "", *, name: str = "gym.db") -> Iterator[Peer]:
    """Give a peer whose key may run anything, or only this command with the database."""
    for side in ("there", "here"):
        (folder / side).mkdir()
    database = ledger.create(folder / "there" / name)
    forced = f"{command} --database {database}" if command else ""
    with SshServer(folder / "sshd", forced_command=forced) as server:
        yield Peer(server, database, folder / "here" / "replica.db")


def _restricted(folder: Path, *flags: object) -> AbstractContextManager[Peer]:
    """Give a peer whose key may only run serve, with these flags."""
    words = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-B", "-m", "gymdbd", "serve", *flags]
    return _machine(folder, shlex.join(map(str, words)))


def _seen(peer: Peer, **changes: Any) -> overview.Overview:
    return overview.take(config.load(peer.config(**changes)), Clock())


def _settle(peer: Peer) -> None:
    """Let the last pull have found a main file that nobody wrote just before."""
    path = peer.replica.with_name(f".{peer.replica.name}.pull.json")
    content = json.loads(path.read_text())
    content["fingerprint"]["settled"] = True
    path.write_text(json.dumps(content))


def _cost(peer: Peer, wanted: dict[str, Any]) -> int:
    """Return what a pull that finds nothing new sends and receives."""
    found = peer.pull(**wanted)
    assert found.strategy == "unchanged"
    return found.bytes_sent + found.bytes_received


def _change(database: Path) -> None:
    with open_app(database) as app:
        ledger.pay(app)


def _age_question(peer: Peer, age: timedelta) -> None:
    """Let the last question be older than it is."""
    path = told.path(peer.job())
    content = json.loads(path.read_text())
    content["asked_at"] = (Clock().now() - age).isoformat()
    path.write_text(json.dumps(content))


def test_with_a_restricted_key_a_pull_brings_the_status_and_status_shows_it(
    tmp_path: Path, ssh_home: Path
) -> None:
    """Also as a failure of this machine's own status, which is told by its exit code."""
    del ssh_home
    file = tmp_path / "public.json"
    failing = {**_GOOD, "job": "drill", "kind": "drill", "health": "failing", "code": "disk-full"}
    machine = {**_GOOD, "job": "machine", "kind": "machine", "last_success": None}
    with _restricted(tmp_path, "--status", _status(file, failing, _GOOD, machine)) as peer:
        assert peer.pull_by_command()[0] == 0
        code, found = gymdbd_json("-c", peer.config(), "status")
        shown = gymdbd("-c", peer.config(), "status").stdout
    # It has no runs, of which one could have been good.
    assert [row.split() for row in shown.splitlines() if "/machine" in row] == [
        ["127.0.0.1/machine", "ok", "-", "-", "ok"]
    ]
    assert code == 2
    seen = {name: (job["health"], job.get("code")) for name, job in found["peers"].items()}
    assert seen == {
        "127.0.0.1/drill": ("failing", "disk-full"),
        "127.0.0.1/nightly": ("ok", None),
        "127.0.0.1/machine": ("ok", None),
    }
    assert found["remarks"] == {}
    success = datetime.fromisoformat(found["peers"]["127.0.0.1/nightly"]["last_success"])
    assert abs(success - datetime(2026, 11, 28, 3, tzinfo=UTC)) < timedelta(seconds=30)


def test_with_a_full_login_the_shipped_server_reads_remote_status_once_an_hour(
    tmp_path: Path, ssh_home: Path
) -> None:
    """A pull that finds nothing new, and does not ask, stays at the few kilobytes of SSH itself."""
    del ssh_home
    file = _status(tmp_path / "public.json")
    wanted: dict[str, Any] = {"remote_status": str(file)}
    # The probe doubts a name of which any process of this machine has a removed file open.
    with _machine(tmp_path, name="once-an-hour.db") as peer, closing(open_app(peer.database)):
        peer.pull(**wanted)
        assert list(_seen(peer, **wanted).peers) == ["127.0.0.1/nightly"]
        _settle(peer)
        _status(file, {**_GOOD, "health": "late", "code": "too-old"})
        first = told.read(peer.job())
        assert _cost(peer, wanted) < _FEW
        assert told.read(peer.job()) == first
        _age_question(peer, timedelta(hours=1, minutes=1))
        assert _cost(peer, wanted) > _FEW
        found = _seen(peer, **wanted).peers["127.0.0.1/nightly"].found
        assert (found.health, found.code) == (Health.LATE, "too-old")
        assert _cost(peer, wanted) < _FEW


@pytest.mark.parametrize(
    ("flags", "why"),
    [((), "the command of the key has no --status"), (("--status", "gone"), "no public status")],
)
def test_a_key_that_tells_nothing_is_a_remark_and_never_late(
    tmp_path: Path, ssh_home: Path, flags: tuple[str, ...], why: str
) -> None:
    """As the forced commands of release 0.1; the pull is what it was."""
    del ssh_home
    with _restricted(tmp_path, *flags) as peer:
        assert peer.pull_by_command()[0] == 0
        seen = _seen(peer)
    assert (seen.peers, seen.health) == ({}, Health.OK)
    assert why in seen.remarks["127.0.0.1"].reason


def test_a_status_that_comes_no_more_grows_old(tmp_path: Path, ssh_home: Path) -> None:
    """A machine whose daemon died with its folder of public files is late, and no remark."""
    del ssh_home
    file = _status(tmp_path / "public.json")
    with _restricted(tmp_path, "--status", file) as peer:
        peer.pull()
        file.unlink()
        _age_question(peer, timedelta(minutes=2))
        _change(peer.database)
        peer.pull()
        kept = told.read(peer.job())
        assert kept is not None
        assert (kept.refused, kept.text != "") == ("missing", True)
        assert list(_seen(peer).peers) == ["127.0.0.1/nightly"]


def test_serve_notes_when_a_peer_came_and_its_watch_turns_late(
    tmp_path: Path, ssh_home: Path
) -> None:
    """It writes nothing but the time of that file, and a link in its place is not followed."""
    del ssh_home
    marks, victim = tmp_path / "peers", tmp_path / "victim"
    marks.mkdir()
    victim.write_text("mine")
    os.utime(victim, (1000, 1000))
    watch = {"kind": "watch", "peer": "mac-office", "max_age": "26h", "folder": str(marks)}
    path = write_config(tmp_path, {"office": watch})
    found = overview.take(config.load(path), Clock()).jobs["office"].found
    assert (found.health, found.code) == (Health.UNKNOWN, "never-came")

    with _restricted(tmp_path, "--peer", "mac-office", "--peers", marks) as peer:
        peer.pull()
        mark = marks / "mac-office"
        assert Clock().now().timestamp() - mark.stat().st_mtime < 60
        assert (mark.stat().st_size, list(marks.iterdir())) == (0, [mark])
        assert overview.take(config.load(path), Clock()).health == Health.OK
        os.utime(mark, (1000, 1000))
        peer.pull()
        assert Clock().now().timestamp() - mark.stat().st_mtime < 60
        mark.unlink()
        mark.symlink_to(victim)
        peer.pull()
    assert (victim.stat().st_mtime, victim.read_text()) == (1000, "mine")

    mark.unlink()
    mark.touch()
    os.utime(mark, ((Clock().now() - timedelta(hours=27)).timestamp(),) * 2)
    code, seen = gymdbd_json("-c", path, "status")
    assert (code, seen["jobs"]["office"]["health"]) == (1, "late")
    assert seen["jobs"]["office"]["reason"].startswith("mac-office last came ")


def test_a_folder_that_serve_may_not_write_leaves_the_pull_as_it_is(
    tmp_path: Path, ssh_home: Path
) -> None:
    """Whoever watches then sees that nobody comes."""
    del ssh_home
    with _restricted(tmp_path, "--peer", "mac-office", "--peers", tmp_path / "gone") as peer:
        assert peer.pull(log=EventLog()).strategy == "full"


def test_a_machine_that_never_answered_is_asked_only_on_the_way(
    tmp_path: Path, ssh_home: Path
) -> None:
    """Without gymdbd over there, no pull that finds nothing new costs more than it did."""
    del ssh_home
    wanted: dict[str, Any] = {"remote_status": str(tmp_path / "gone")}
    with _machine(tmp_path, name="on-the-way.db") as peer, closing(open_app(peer.database)):
        peer.pull(**wanted)
        _settle(peer)
        _age_question(peer, timedelta(days=9))
        assert _cost(peer, wanted) < _FEW
