"""A restore into another user's database: what its process does with a backup that arrives."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd import lock
from gymdbd.jobs import elsewhere
from gymdbd.jobs.restore import received
from tests.support.command import gymdbd_json
from tests.support.databases import make_database

if TYPE_CHECKING:
    from pathlib import Path


class Scene:
    """A database that is to be overwritten, and the files of a backup of another one."""

    def __init__(self, folder: Path) -> None:
        self.database = make_database(folder / "here" / "gym.db", rows=3)
        source = make_database(folder / "gym.db")
        _, made = gymdbd_json("backup", "--database", source, "--archive", folder / "archive")
        backup = folder / "archive" / made["path"].rpartition("/")[2]
        self.parts = {
            path.name: path.read_bytes() for path in (backup, backup.with_suffix(".db.json"))
        }
        self.before = self.database.read_bytes()
        self.folder = self.database.with_name("gym.db.before-restore")

    def restore(self, *, sent: int | None = None, ends: bool = False, **changes: Any) -> Any:
        """Let the files be restored, of which only so many bytes arrive; return what is told."""
        request = {
            "path": self.database,
            "backup": next(iter(self.parts)),
            "replace": False,
            "busy_timeout_s": 1.0,
            "files": [(name, len(data)) for name, data in self.parts.items()],
            **changes,
        }
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.sendall(b"".join(self.parts.values())[:sent])
            if ends:
                ours.shutdown(socket.SHUT_WR)
            received.run(request, theirs)
            theirs.shutdown(socket.SHUT_WR)
            with ours.makefile("rb") as told:
                return json.loads(told.read().splitlines()[-1])

    def is_untouched(self) -> bool:
        """Return whether the database is as it was, and nothing is left beside it."""
        names = [path.name for path in self.database.parent.iterdir()]
        known = {"gym.db", ".gym.db.lock", "gym.db-wal", "gym.db-shm"}
        return self.database.read_bytes() == self.before and set(names) <= known


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Give a database and a backup of another one."""
    (tmp_path / "here").mkdir()
    (tmp_path / "archive").mkdir()
    return Scene(tmp_path)


def test_what_arrives_is_restored_and_only_what_it_overwrites_is_left(scene: Scene) -> None:
    """The backup itself is gone again."""
    told = scene.restore()
    left = {path.name for path in scene.folder.iterdir()}
    assert (told["result"]["rejected"], set(scene.parts) & left) == ([], set())


@pytest.mark.parametrize("sent", [0, 5000, None], ids=["nothing", "a part", "all"])
def test_a_restore_that_is_stopped_leaves_the_database_as_it_was(
    scene: Scene, sent: int | None
) -> None:
    """The end of the connection is the sign, at whatever time it comes."""
    told = scene.restore(sent=sent, ends=True)
    assert "was stopped" in told["message"]
    assert told["hint"]
    assert scene.is_untouched()


def test_a_file_that_lies_where_the_backup_arrives_stays(scene: Scene) -> None:
    """It is the user's."""
    scene.folder.mkdir()
    for name in scene.parts:
        (scene.folder / name).write_text("precious")
        told = scene.restore()
        assert (told["code"], (scene.folder / name).read_text()) == ("usage", "precious")
        (scene.folder / name).unlink()


def test_no_name_leads_out_of_the_folder_in_which_a_backup_arrives(scene: Scene) -> None:
    """Only the last part of it counts."""
    files = [(f"../../{name}", len(data)) for name, data in scene.parts.items()]
    assert "result" in scene.restore(files=files)


@pytest.mark.parametrize("what", ["database", "folder"])
def test_two_restores_of_a_database_exclude_each_other(scene: Scene, what: str) -> None:
    """By the lock of the database, and that of the folder for what is overwritten."""
    scene.folder.mkdir()
    guard = (
        lock.file_lock(scene.database) if what == "database" else lock.archive_lock(scene.folder)
    )
    with lock.hold([guard]):
        told = scene.restore()
    assert (told["code"], scene.database.read_bytes() == scene.before) == ("busy", True)


def test_a_process_that_was_killed_before_it_has_read_all_has_told_what_it_told() -> None:
    """Its end is one like others, not an error of the system."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"a part of a file")
        received.tell(theirs, {"ready": True})
        theirs.close()
        assert list(elsewhere.lines(ours, lambda: None)) == [{"ready": True}]
