"""Mode, owner and group of a database go into the manifest, and come back with a restore."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.source import ownership
from tests.integration.test_other_users import AS_APP
from tests.support import everyone, ledger
from tests.support.command import gymdbd_json
from tests.support.databases import backups, make_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.pulling import Peer

_UID, _GID = 12001, 12003


@pytest.fixture
def place() -> Iterator[Path]:
    """Give a folder that every user may enter and write."""
    everyone.install()
    folder = Path(tempfile.mkdtemp(prefix="gymdbd-owner-"))
    folder.chmod(0o777)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _back_up(folder: Path, *, uid: int = _UID, gid: int = _GID, bits: int = 0o640) -> Path:
    database = make_database(folder / "gym.db")
    os.chown(database, uid, gid)
    database.chmod(bits)
    archive = folder / "archive"
    archive.mkdir()
    archive.chmod(0o777)
    assert gymdbd_json("backup", "--database", database, "--archive", archive)[0] == 0
    (backup,) = backups(archive)
    return backup


def _manifest(backup: Path) -> dict[str, Any]:
    return dict(json.loads(backup.with_name(backup.name + ".json").read_text()))


def _owned(path: Path) -> tuple[int, int, str]:
    facts = path.stat()
    return facts.st_uid, facts.st_gid, f"{facts.st_mode & 0o777:04o}"


def test_a_manifest_holds_mode_owner_and_group_by_name_and_number(tmp_path: Path) -> None:
    """One without a name on this machine is told by its number."""
    manifest = _manifest(_back_up(tmp_path, uid=65534, gid=_GID))
    found = {name: manifest[name] for name in ownership.FIELDS}
    expected = {"mode": "0640", "owner": "nobody", "group": "12003", "uid": 65534, "gid": _GID}
    assert found == expected


@pytest.mark.parametrize("bits", [0o600, 0o640, 0o664])
def test_root_gives_a_new_file_the_owner_group_and_mode_of_the_source(
    tmp_path: Path, bits: int
) -> None:
    """Whoever owns the folder that it is restored to."""
    backup = _back_up(tmp_path, bits=bits)
    code, result = gymdbd_json("restore", backup, "--to", tmp_path / "new.db")
    assert (code, result["remarks"]) == (0, [])
    assert _owned(tmp_path / "new.db") == (_UID, _GID, f"{bits:04o}")


def test_a_file_of_roots_becomes_the_folders_owners_in_another_users_folder(place: Path) -> None:
    """Root acts as that user there, who cannot give a file to root; the result says so."""
    backup = _back_up(place, uid=0, gid=0)
    (place / "theirs").mkdir()
    os.chown(place / "theirs", _UID, _GID)
    target = place / "theirs" / "new.db"
    code, result = gymdbd_json("restore", backup, "--to", target)
    assert (code, _owned(target)) == (0, (_UID, _GID, "0640"))
    assert ["owner root" in remark for remark in result["remarks"]] == [True]


def test_another_user_is_told_what_could_not_be_given_back(place: Path) -> None:
    """The mode comes back, and the group if that user is in it."""
    backup = _back_up(place, uid=_UID + 7)
    for path in (place / "archive").iterdir():
        os.chown(path, _UID, _UID)
    target = place / "new.db"
    code, result = gymdbd_json("restore", backup, "--to", target, prefix=AS_APP)
    assert (code, _owned(target)) == (0, (_UID, _GID, "0640"))
    assert ["owner 12008" in remark for remark in result["remarks"]] == [True]


def test_a_restore_over_a_file_leaves_it_its_own(tmp_path: Path) -> None:
    """What is there knows better than the backup."""
    backup = _back_up(tmp_path)
    database = tmp_path / "gym.db"
    os.chown(database, 12007, 12007)
    database.chmod(0o600)
    for flags in ((), ("--replace",)):
        assert gymdbd_json("restore", backup, "--to", database, *flags)[0] == 0
        assert _owned(database) == (12007, 12007, "0600")


def test_a_name_wins_over_the_number_of_another_machine(tmp_path: Path) -> None:
    """And a number is taken if this machine has not the name."""
    path = tmp_path / "new.db"
    path.touch()
    told = {"mode": "0604", "owner": "nobody", "uid": 4, "group": "no-such-group", "gid": 12005}
    assert ownership.give_back(path, told) == ""
    assert _owned(path) == (65534, 12005, "0604")


@pytest.mark.parametrize(
    "told",
    [None, [], {"mode": "4755"}, {"mode": 640}, {"uid": -1}, {"uid": True}, {"owner": ""}],
    ids=repr,
)
def test_what_cannot_be_an_owner_or_a_mode_changes_nothing(tmp_path: Path, told: Any) -> None:
    """A manifest may come from anywhere, and one of an older release has none of it."""
    path = tmp_path / "new.db"
    path.touch(0o600)
    before = _owned(path)
    assert (ownership.parse(told), ownership.give_back(path, told)) == ({}, "")
    assert _owned(path) == before


@pytest.mark.parametrize("method", ["query", "scp"])
def test_a_pull_brings_them_and_the_replica_keeps_its_own(peer: Peer, method: str) -> None:
    """They are in the manifest of what a later pull saves."""
    os.chown(peer.database, _UID, _GID)
    peer.database.chmod(0o664)
    peer.pull(method=method)
    peer.replica.chmod(0o644)
    with closing(ledger.connect(peer.database, autocheckpoint=0)) as application:
        ledger.pay(application)
    result = peer.pull(method=method)
    assert f"{peer.replica.stat().st_mode & 0o777:04o}" == "0644"
    saved = Path(str(result.saved))
    manifest = _manifest(saved)
    found = [manifest[name] for name in ("mode", "uid", "gid")]
    assert (found, f"{saved.stat().st_mode & 0o777:04o}") == (["0664", _UID, _GID], "0600")
