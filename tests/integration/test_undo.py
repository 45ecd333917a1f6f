"""Taking back the last restore: what it overwrote comes back, and a second undo takes that back."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.archive import manifest as manifests
from gymdbd.archive.catalog import Catalog
from gymdbd.config.kinds import RestoreConfig
from gymdbd.errors import StoppedError
from gymdbd.jobs.restore import record, restore
from gymdbd.jobs.restore.result import Undo
from tests.integration.test_restore import Gym
from tests.support.command import gymdbd, require
from tests.support.databases import backups, make_database, sqlite_elsewhere
from tests.support.jobs import context, write_config

if TYPE_CHECKING:
    from collections.abc import Callable

_LOST = "DELETE FROM t WHERE id > 7"


@pytest.fixture
def gym(tmp_path: Path) -> Gym:
    """Give a gym with one backup of a hundred rows, and of these seven."""
    gym = Gym(tmp_path)
    assert gym.run("backup")[0] == 0
    gym.change(_LOST)
    return gym


def _restore(gym: Gym, *words: object) -> dict[str, Any]:
    code, result = gym.run("restore", "latest", *words)
    assert code == 0, result
    return result


@pytest.mark.parametrize("verb", [["restore", "latest"], ["undo"]])
def test_what_a_killed_restore_as_a_new_file_left_is_removed_by_the_next_into_the_database(
    gym: Gym, verb: list[str]
) -> None:
    """It may be as large as the database."""
    _restore(gym)
    left = gym.database.with_name(".gym.db.0123abcd.partial")
    left.touch()
    assert gym.run(*verb)[0] == 0
    assert not left.exists()


def test_a_folder_in_the_place_of_the_record_is_named(gym: Gym) -> None:
    """Nothing is overwritten without a record, and the disk is not to blame."""
    gym.database.with_name(".gym.db.restored.json").mkdir()
    before = gym.rows()
    code, result = gym.run("restore", "latest")
    assert (code, result["code"], gym.rows()) == (1, "not-ours", before)
    assert ".gym.db.restored.json cannot be used: it is a folder" in result["error"]


def test_a_new_file_is_recorded_before_it_is_in_place_and_as_done_only_then(
    gym: Gym, tmp_path: Path
) -> None:
    """Killed in between, it counts as interrupted, whether the file was replaced or not."""
    calls = tmp_path / "calls"
    strace = [require("strace"), "-f", "-qq", "-o", str(calls), "-e", "trace=/^rename"]
    done = gymdbd("-c", gym.config, "restore", "latest", "--replace", prefix=strace)
    assert done.returncode == 0, done.stderr
    placed = re.findall(r'"([^"]*)"(?:, \w+)?\) += 0$', calls.read_text(), re.MULTILINE)
    names = [Path(path).name for path in placed if Path(path).parent == gym.database.parent]
    wanted = [".gym.db.restored.json", "gym.db", ".gym.db.restored.json"]
    assert [name for name in names if name in wanted] == wanted


def test_an_undo_brings_back_what_the_restore_overwrote_and_a_second_one_what_came_then(
    gym: Gym,
) -> None:
    """Each says which restore it takes back, and how many rows have come since."""
    seven = gym.rows()
    restored = _restore(gym)
    gym.change("INSERT INTO t (text) VALUES ('since')")
    later = gym.rows()
    code, plan = gym.run("undo", "--dry-run")
    assert (code, plan["backup"], gym.rows()) == (0, restored["undo"], later)
    code, undone = gym.run("undo")
    assert (code, gym.rows()) == (0, seven)
    for told in (plan["overwrote"], undone["overwrote"]):
        assert (told["backup"], told["rows_since"]) == (restored["backup"], {"t": 1})
    code, again = gym.run("undo", "nightly")
    assert (code, again["backup"], gym.rows()) == (0, undone["undo"], later)
    assert again["overwrote"]["restore"].startswith("the undo that restored gym_backup_")


def test_a_restore_says_which_restore_it_overwrites_and_how_that_is_undone(gym: Gym) -> None:
    """It prints a short command, which works without a configuration."""
    first = _restore(gym)
    assert "overwrote" not in first
    gym.change(_LOST)
    done = gymdbd("-c", gym.config, "restore", "latest")
    name = first["backup"].rpartition("/")[2]
    lines = done.stdout.splitlines()
    assert f"over        the restore of {name} at " in done.stdout
    assert "since then  t: 93 rows fewer" in lines
    assert lines[-1] == f"  gymdbd undo --database {gym.database}"
    assert gymdbd(*lines[-1].split()[1:]).returncode == 0
    assert len(gym.rows()) == 7


def test_what_a_restore_overwrote_names_the_backup_that_was_restored(gym: Gym) -> None:
    """So a list of the archive can say before what it was saved."""
    result = _restore(gym)
    saved = manifests.read(Path(result["undo"]))
    assert saved is not None
    assert saved.overwritten_by == Path(result["backup"]).name


def _gone(gym: Gym) -> None:
    for path in backups(gym.archive)[1:]:
        path.unlink()


def _unplugged(gym: Gym) -> None:
    gym.archive.rename(gym.archive.with_name("elsewhere"))


def _replaced(gym: Gym) -> None:
    copy = gym.database.with_name("copy.db")
    shutil.copyfile(gym.database, copy)
    copy.replace(gym.database)


def _torn(gym: Gym) -> None:
    path = record.record_path(gym.database)
    path.write_bytes(path.read_bytes()[:-9])


def _forged(gym: Gym) -> None:
    """Let the record name an ordinary backup."""
    (first, *_) = backups(gym.archive)
    record.point_to(first, gym.database)


def _of_another(gym: Gym) -> None:
    """Let it be of a user who may make files beside the database, and no more."""
    os.chown(record.record_path(gym.database), 12345, -1)


@pytest.mark.parametrize(
    ("then", "code", "told"),
    [
        (_of_another, "format", "cannot be used (it belongs to another user, uid 12345)"),
        (_gone, "backup-missing", "which is gone: it was pruned or removed"),
        (_unplugged, "folder-missing", "which does not exist"),
        (_replaced, "backup-missing", "was replaced since, by a pull or by hand"),
        (_torn, "format", "cannot be used"),
        (_forged, "backup-missing", "does not say that it is what a restore into"),
    ],
)
def test_an_undo_that_would_not_bring_that_back_is_refused(
    gym: Gym, then: Callable[[Gym], None], code: str, told: str
) -> None:
    """Nothing else is put there; the hint says what can be done."""
    _restore(gym)
    then(gym)
    before = gym.rows()
    exit_code, refused = gym.run("undo")
    assert (exit_code, refused["code"], gym.rows()) == (1, code, before)
    assert told in refused["error"]
    assert refused["hint"]


def test_a_restore_into_another_file_is_not_the_last_one_of_the_database(gym: Gym) -> None:
    """And where there was no file before, there is nothing to take back."""
    code, refused = gym.run("undo")
    assert (code, refused["error"]) == (1, f"no restore into {gym.database} is known")
    other = gym.database.with_name("look.db")
    _restore(gym, "--to", other)
    assert gym.run("undo")[1]["error"] == refused["error"]
    code, refused = gym.run("undo", "--database", other)
    assert (code, refused["error"].endswith(f"has overwritten nothing: there was no {other}")) == (
        1,
        True,
    )
    assert other.exists()


def test_what_sqlite_could_not_read_is_put_back_by_a_command_that_is_told(gym: Gym) -> None:
    """An undo does not do that: the application must have stopped."""
    gym.database.write_bytes(b"this is no database" * 500)
    result = _restore(gym, "--replace")
    code, refused = gym.run("undo")
    assert (code, refused["code"]) == (1, "backup-missing")
    assert refused["hint"].endswith(f"this puts them back: {result['undo_command']}")


def test_a_restore_that_fails_is_not_the_last_one(gym: Gym) -> None:
    """The one before it can still be taken back; if there was none, nothing is noted."""
    (backup,) = backups(gym.archive)
    job = RestoreConfig(name="restore", kind="restore", backup=backup, target=gym.database)
    with pytest.raises(StoppedError), record.kept(job, None, context()):
        raise StoppedError("asked to stop")
    assert record.read(gym.database) is None
    first = _restore(gym)
    with sqlite_elsewhere(gym.database, "BEGIN IMMEDIATE"):
        assert gym.run("restore", "latest")[1]["code"] == "source-locked"
    assert gym.run("undo", "--dry-run")[1]["backup"] == first["undo"]


def test_a_stop_that_comes_with_the_commit_comes_too_late(gym: Gym) -> None:
    """It would be told as a restore that has changed nothing, and that nobody could take back."""
    seven = gym.rows()
    (backup,) = backups(gym.archive)
    job = RestoreConfig(name="restore", kind="restore", backup=backup, target=gym.database)

    def check() -> None:
        if len(gym.rows()) > len(seven):
            raise StoppedError("asked to stop")

    assert restore.run(job, context(check=check)).undo
    assert gym.run("undo")[0] == 0
    assert gym.rows() == seven


def test_what_was_restored_is_known_until_another_file_is_there(gym: Gym) -> None:
    """A file that is gone hides nothing: an undo brings back what was there before the restore."""
    seven = gym.rows()
    _restore(gym)
    gym.database.unlink()
    assert (gym.run("undo")[0], gym.rows()) == (0, seven)
    _replaced(gym)
    assert "overwrote" not in _restore(gym)


def test_a_restore_that_is_stopped_once_it_is_done_is_the_last_one(tmp_path: Path) -> None:
    """What is there is what it has restored, whatever becomes of the run."""
    gym = Gym(tmp_path, make_database(tmp_path / "gym.db", rows=30_000))
    assert gym.run("backup")[0] == 0
    gym.change(_LOST)
    backup = Path(_restore(gym)["backup"])
    gym.change("DELETE FROM t WHERE id > 5")
    five, first = gym.rows(), record.read(gym.database)
    job = RestoreConfig(name="restore", kind="restore", backup=backup, target=gym.database)

    def check() -> None:
        known = record.read(gym.database)
        if known and known.file and known != first:
            raise StoppedError("asked to stop")

    with pytest.raises(StoppedError):
        restore.run(job, context(check=check))
    assert (gym.run("undo")[0], gym.rows()) == (0, five)


@pytest.mark.parametrize("is_undo", [False, True])
def test_of_an_interrupted_run_a_restore_is_taken_back_and_an_undo_is_finished(
    gym: Gym, *, is_undo: bool
) -> None:
    """Whether it had been done does not matter for that."""
    zone = context().clock.zone
    first = _restore(gym)
    second = gym.run("undo")[1]
    job = RestoreConfig(
        name="restore",
        kind="restore",
        backup=record.to_undo(gym.database, zone).path,
        target=gym.database,
        is_undo=is_undo,
    )
    saved = Catalog(gym.archive, zone).read(Path(first["undo"]).name)
    assert str(job.backup) == second["undo"]
    if (pid := os.fork()) == 0:
        with record.kept(job, Undo(saved.path, "", saved), context()):
            os._exit(0)
    os.waitpid(pid, 0)
    code, undone = gym.run("undo")
    assert (code, undone["backup"]) == (0, str(job.backup if is_undo else saved.path))
    assert undone["overwrote"]["restore"].endswith(", which was interrupted")


def test_a_database_must_be_named_if_there_are_several(gym: Gym, tmp_path: Path) -> None:
    """By a job or by a file, not by both; two jobs of one database are no obstacle."""
    entry = {"schedule": "0 3 * * *", "database": str(gym.database), "archive": str(gym.archive)}
    write_config(tmp_path, {"nightly": entry, "hourly": entry})
    _restore(gym)
    assert gym.run("undo", "--dry-run")[0] == 0
    write_config(tmp_path, {"nightly": entry, "other": {**entry, "database": "/srv/other.db"}})
    for words in ([], ["nightly", "--database", gym.database]):
        code, refused = gym.run("undo", *words)
        assert (code, refused["code"]) == (2, "usage")
    assert gym.run("undo", "nightly", "--dry-run")[0] == 0
