"""Repair: a damaged backup is replaced by the same one from another machine, or left as it is."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd import lock
from gymdbd.archive import manifest as manifests
from gymdbd.archive import marks as all_marks
from gymdbd.archive.catalog import Catalog
from gymdbd.config.kinds import VerifyConfig
from gymdbd.config.parts import RepairConfig, SshConfig
from gymdbd.errors import BackupDamagedError
from gymdbd.jobs.backup import backup
from gymdbd.jobs.verify import verify
from gymdbd.jobs.verify.result import VerifyResult
from tests.support.command import ROOT, EventLog, environment, gymdbd, gymdbd_json
from tests.support.databases import backups, make_database, tree
from tests.support.jobs import backup_job, context, write_config
from tests.support.pulling import Peer
from tests.support.waiting import Contended

if TYPE_CHECKING:
    from tests.support.sshd import SshServer


@pytest.fixture
def peer(tmp_path: Path, ssh_home: Path, ssh_server: SshServer) -> Peer:
    """Give two archives with the same backup, `here` and `there`, and a server before `there`."""
    del ssh_home
    source = make_database(tmp_path / "gym.db", rows=500)
    backup.run(backup_job(source, tmp_path / "here"), context())
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    return Peer(ssh_server, tmp_path / "there", tmp_path / "here")


def _job(peer: Peer, *, ssh: dict[str, Any] | None = None, **changes: Any) -> VerifyConfig:
    place = RepairConfig(
        host="127.0.0.1", archive=str(peer.database), ssh=SshConfig(**peer.ssh(**(ssh or {})))
    )
    given = {"name": "proof", "kind": "verify", "archive": peer.replica, "repair_from": place}
    return VerifyConfig(**{**given, **changes})


def _config(peer: Peer) -> Path:
    place = {"host": "127.0.0.1", "archive": str(peer.database), "ssh": peer.ssh()}
    job = {"kind": "verify", "every": "1d", "archive": str(peer.replica), "repair_from": place}
    return write_config(peer.replica.parent, {"proof": job})


def _only(folder: Path) -> Path:
    (path,) = backups(folder)
    return path


def _rot(path: Path, position: int = 5000) -> None:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def _without_marks(archive: Path) -> dict[str, str]:
    return {name: one for name, one in tree(archive).items() if "marks" not in name}


def _unrepaired(peer: Peer, **changes: Any) -> str:
    """Verify and return why the one damaged backup was not repaired."""
    with pytest.raises(BackupDamagedError) as caught:
        verify.run(_job(peer, **changes), context())
    assert isinstance(caught.value.result, VerifyResult)
    (one,) = caught.value.result.backups
    assert (one.verdict, one.repaired) == ("damaged", None)
    return str(one.remarks[-1])


@pytest.mark.parametrize("suffix", ["", ".json"])
def test_a_rotten_file_is_replaced_by_the_one_of_the_other_machine(peer: Peer, suffix: str) -> None:
    """The backup or its manifest: afterwards every byte is as it was, and it counts as good."""
    good = tree(peer.replica)
    there = tree(peer.database)
    path = _only(peer.replica)
    _rot(path.with_name(path.name + suffix), 200)
    log = EventLog()
    result = verify.run(_job(peer), context(log=log))
    (one,) = result.backups
    assert (one.verdict, one.repaired) == ("verified", f"127.0.0.1:{peer.database}")
    assert one.problems != []
    found = _without_marks(peer.replica)
    found.pop(".repair.lock")
    assert found == good
    assert tree(peer.database) == there
    assert Catalog(peer.replica, UTC).find("latest").verdict == "verified"
    assert len(log.named("backup damaged")) == len(log.named("backup repaired")) == 1
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "lie", [{"created_at": "2030-01-01T03:00:00+00:00"}, {"source": "/srv/another.db"}]
)
def test_a_manifest_that_fits_neither_name_nor_database_is_not_adopted(
    peer: Peer, lie: dict[str, Any]
) -> None:
    """It would be the newest for ever, or belong to another database: it is named and left."""
    path, there = _only(peer.replica), _only(peer.database)
    _rot(path.with_name(path.name + ".json"), 200)
    true = manifests.read(there)
    assert true is not None
    manifests.write(dataclasses.replace(true, **lie), there)

    remark = _unrepaired(peer)

    assert f"not repaired: the manifest of {path.name}" in remark
    assert next(iter(lie.values())) in remark


def test_a_copy_under_another_name_repairs_and_the_own_manifest_stays(peer: Peer) -> None:
    """A saved replica over there may be the same bytes; when it was made here is still true."""
    good = tree(peer.replica)
    other = peer.database / "replica_backup_20261101_000000.db"
    there = _only(peer.database)
    there.with_name(there.name + ".json").rename(other.with_name(other.name + ".json"))
    there.rename(other)
    _rot(_only(peer.replica))
    result = verify.run(_job(peer), context())
    assert [one.verdict for one in result.backups] == ["verified"]
    found = _without_marks(peer.replica)
    found.pop(".repair.lock")
    assert found == good


@pytest.fixture
def raw_peer(tmp_path: Path, ssh_home: Path, ssh_server: SshServer) -> Peer:
    """Give two archives as `peer` does, with a raw backup, whose newest row is in its WAL."""
    del ssh_home
    source = make_database(tmp_path / "gym.db")
    with closing(sqlite3.connect(source)) as application:
        application.execute("PRAGMA wal_autocheckpoint=0")
        application.execute("INSERT INTO t (text) VALUES ('late')")
        application.commit()
        job = backup_job(source, tmp_path / "here", raw=True, checkpoint="none")
        backup.run(job, context())
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    return Peer(ssh_server, tmp_path / "there", tmp_path / "here")


def test_a_raw_backup_is_repaired_with_its_wal(raw_peer: Peer) -> None:
    """Only the file that is damaged is replaced."""
    peer = raw_peer
    path = _only(peer.replica)
    good = tree(peer.replica)
    _rot(path.with_name(path.name + "-wal"), 100)
    assert verify.run(_job(peer), context()).counts == {"verified": 1}
    found = _without_marks(peer.replica)
    found.pop(".repair.lock")
    assert found == good


def test_a_stray_wal_goes_when_a_backup_is_repaired(peer: Peer) -> None:
    """It would be rolled into the good copy."""
    path = _only(peer.replica)
    stray = path.with_name(path.name + "-wal")
    stray.write_bytes(b"stray")
    assert verify.run(_job(peer), context()).counts == {"verified": 1}
    assert not stray.exists()


def _no_copy(peer: Peer) -> str:
    shutil.rmtree(peer.database)
    peer.database.mkdir()
    return "holds no copy of"


def _no_folder(peer: Peer) -> str:
    shutil.rmtree(peer.database)
    return "there is no folder"


def _rotten_there_too(peer: Peer) -> str:
    _rot(_only(peer.database), 6000)
    return "is damaged: its manifest has another md5 and sha256"


def _cut_there(peer: Peer) -> str:
    os.truncate(_only(peer.database), 4096)
    return "is shorter than its manifest says"


def _manifest_rotten_there(peer: Peer) -> str:
    _rot(manifests.manifest_path(_only(peer.database)), 50)
    return "holds no copy of"


def _another_of_the_same_name(peer: Peer) -> str:
    there = _only(peer.database)
    other = make_database(peer.database / "other.db", rows=3)
    made = backup.run(backup_job(other, peer.database), context()).path
    other.unlink()
    Path(made).rename(there)
    Path(f"{made}.json").rename(manifests.manifest_path(there))
    return "holds no copy of"


@pytest.mark.parametrize(
    "spoil",
    [
        *(_no_copy, _no_folder, _rotten_there_too, _cut_there, _manifest_rotten_there),
        _another_of_the_same_name,
    ],
)
def test_without_a_good_copy_the_damaged_backup_stays_as_it_is(peer: Peer, spoil: Any) -> None:
    """The reason is told, and nothing but the marks has changed."""
    _rot(_only(peer.replica))
    reason = spoil(peer)
    before = tree(peer.replica)
    assert reason in _unrepaired(peer)
    found = _without_marks(peer.replica)
    found.pop(".repair.lock", None)
    assert found == before


def test_a_damaged_manifest_of_a_damaged_backup_is_not_replaced(peer: Peer) -> None:
    """Nothing says any more which bytes it had; the other of the same name may be another."""
    _rot(_only(peer.replica))
    _rot(manifests.manifest_path(_only(peer.replica)), 50)
    assert "holds no copy of" in _unrepaired(peer)


def test_what_a_killed_repair_left_is_not_taken_for_what_was_fetched(peer: Peer) -> None:
    """The folder that it worked in is emptied first, and is gone in the end."""
    path = _only(peer.replica)
    _rot(path)
    (peer.replica / ".repair").mkdir()
    (peer.replica / ".repair" / f"{path.name}-journal").write_bytes(b"left")
    assert verify.run(_job(peer), context()).counts == {"verified": 1}
    assert not (peer.replica / ".repair").exists()


def test_what_a_killed_repair_left_goes_also_if_nothing_is_damaged_any_more(peer: Peer) -> None:
    """Its backup may have been pruned since, and what was fetched for it is as large."""
    left = peer.replica / ".repair" / "gym_backup_20260101_000000.db"
    left.parent.mkdir()
    left.write_bytes(bytes(100_000))
    with lock.hold([lock.file_lock(peer.replica / "repair")]):
        assert verify.run(_job(peer), context()).counts == {"verified": 1}
        assert left.exists()
    assert verify.run(_job(peer), context()).counts == {"verified": 1}
    assert not left.parent.exists()


def test_a_machine_that_cannot_be_reached_is_told(peer: Peer) -> None:
    """The verdict is stored all the same, and the next run tries again."""
    _rot(_only(peer.replica))
    assert "not repaired: " in _unrepaired(
        peer, repair_from=_job(peer, ssh={"port": 1}).repair_from
    )
    assert all_marks.read(_only(peer.replica)).problems != []
    assert verify.run(_job(peer, sample=1), context()).counts == {"verified": 1}


def test_a_backup_can_be_made_while_a_copy_is_fetched(peer: Peer) -> None:
    """The archive's lock is free then, and what has arrived is not swept away."""
    _rot(_only(peer.replica))
    source = peer.replica.parent / "gym.db"
    made: list[str] = []

    def progress(step: str, done: int, total: int) -> None:
        del done, total
        if step.startswith("fetch") and not made:
            assert not lock.is_held(lock.archive_lock(peer.replica))
            made.append(backup.run(backup_job(source, peer.replica), context()).path)

    result = verify.run(_job(peer), context(progress=progress))
    assert len(made) == 1
    assert [one.verdict for one in result.backups] == ["verified"]
    assert [one.verdict for one in Catalog(peer.replica, UTC).backups()] == ["verified"] * 2


def test_a_repair_waits_for_whoever_holds_the_archive(peer: Peer) -> None:
    """Nothing in it is replaced before it is free."""
    path = _only(peer.replica)
    good = path.read_bytes()
    _rot(path)
    steps: set[str] = set()
    archive_lock = lock.archive_lock(peer.replica)
    with Contended(archive_lock, lambda: path.read_bytes() == good, at_once=False) as held:

        def progress(step: str, done: int, total: int) -> None:
            del done, total
            if step.startswith("fetch") and not steps:
                steps.add(step)
                held.take()

        verify.run(_job(peer), context(check=held.check, progress=progress))
    assert held.seen == [False] * 5
    assert path.read_bytes() == good


def test_a_backup_that_is_pruned_while_a_copy_is_fetched_does_not_come_back(peer: Peer) -> None:
    """Retention has had the last word."""
    path = _only(peer.replica)
    _rot(path)
    catalog = Catalog(peer.replica, UTC)

    def progress(step: str, done: int, total: int) -> None:
        del done, total
        if step.startswith("fetch") and path.exists():
            catalog.remove(catalog.read(path.name))

    with pytest.raises(BackupDamagedError):
        verify.run(_job(peer), context(progress=progress))
    assert backups(peer.replica) == []
    assert not (peer.replica / ".repair").exists()


# Runs gymdbd, and kills it where it gives a file in the folder `argv[1]` its name for the
# `argv[2]`th time.
_KILLED = """
import os, pathlib, signal, sys
folder, left = pathlib.Path(sys.argv[1]), int(sys.argv[2])
def look(event, arguments):
    global left
    if event == "os.rename" and pathlib.Path(arguments[1]).parent == folder:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(look)
from gymdbd import cli
sys.exit(cli.main(sys.argv[3:]))
"""


# Its verdict, its log, its manifest, itself and its marks: the sixth time never comes.
@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5, 6])
def test_a_repair_that_is_killed_leaves_a_backup_that_the_next_one_repairs(
    raw_peer: Peer, nth: int
) -> None:
    """At whatever step: it counts as damaged until all of it is there."""
    peer = raw_peer
    path = _only(peer.replica)
    good = _without_marks(peer.replica)
    _rot(path)
    _rot(path.with_name(path.name + "-wal"), 100)
    all_marks.change(path, problems=["rotten"])
    words = [sys.executable, "-c", _KILLED, str(peer.replica), str(nth)]
    done = subprocess.run(
        [*words, "-c", str(_config(peer)), "verify", "--repair"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == (-signal.SIGKILL if nth < 6 else 0), done.stderr
    (before,) = Catalog(peer.replica, UTC).backups()
    assert before.verdict == ("damaged" if nth < 6 else "verified")
    assert gymdbd("-c", _config(peer), "verify", "--repair").returncode == 0
    found = _without_marks(peer.replica)
    found.pop(".repair.lock")
    assert found == good


def test_repair_by_the_command_line_tells_from_where_and_exits_with_0(peer: Peer) -> None:
    """Without --repair the configured job only tells, and nothing is fetched."""
    path = _only(peer.replica)
    good = path.read_bytes()
    _rot(path)
    config = _config(peer)
    exit_code, answer = gymdbd_json("-c", config, "verify", "--all")
    assert (exit_code, answer["backups"][0]["repaired"]) == (1, None)
    exit_code, answer = gymdbd_json("-c", config, "verify", "--repair")
    assert exit_code == 0, answer
    assert answer["backups"][0]["repaired"] == f"127.0.0.1:{peer.database}"
    assert path.read_bytes() == good
    assert gymdbd_json("-c", config, "status")[1]["jobs"]["proof"]["health"] == "ok"


def test_check_reaches_for_the_other_archive(peer: Peer) -> None:
    """It says how many backups lie there, or what is wrong."""
    config = _config(peer)

    def found() -> tuple[str, str]:
        checks = gymdbd_json("-c", config, "check")[1]["checks"]
        (one,) = [one for one in checks if one["name"] == "proof repair_from"]
        return one["state"], one["message"]

    assert found() == ("ok", f"127.0.0.1:{peer.database} answers and holds 1 backup")
    shutil.rmtree(peer.database)
    assert found()[0] == "error"
