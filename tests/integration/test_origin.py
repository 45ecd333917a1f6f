"""A backup belongs to the machine and the path of its source, not to the name of its file."""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gymdbd.archive import manifest as manifests
from tests.support.archives import add_backup
from tests.support.command import gymdbd_json
from tests.support.databases import backups, make_database, query
from tests.support.jobs import write_config


class Projects:
    """Two projects, each with its db.sqlite3, and one archive."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archive = folder / "archive"
        self.archive.mkdir()
        for name, rows in (("shop", 40), ("blog", 5)):
            (folder / name).mkdir()
            make_database(folder / name / "db.sqlite3", rows=rows)

    def database(self, name: str) -> Path:
        """Return where a project has its database."""
        return self.folder / name / "db.sqlite3"

    def back_up(self, name: str, *flags: object) -> dict[str, Any]:
        """Back a project's database up without a configuration."""
        words = ("backup", "--database", self.database(name), "--archive", self.archive, *flags)
        code, result = gymdbd_json(*words)
        assert code == 0, result
        return result

    def prune_all_but_one(self, name: str) -> dict[str, Any]:
        """Back up and keep as little as can be."""
        return self.back_up(name, "--cleanup", "--keep-count", "1", "--keep-days", "0")

    def restore_latest(self, *flags: object) -> tuple[int, dict[str, Any]]:
        """Restore the newest good backup into a file of its own."""
        target = self.folder / "restored.db"
        return gymdbd_json("restore", "latest", "--archive", self.archive, "--to", target, *flags)


@pytest.fixture
def projects(tmp_path: Path) -> Projects:
    """Give the two projects."""
    return Projects(tmp_path)


def _rows(path: Path) -> int:
    return int(query(path, "SELECT count(*) FROM t")[0][0])


def test_each_database_prunes_only_its_own_backups(projects: Projects) -> None:
    """However alike their files are called."""
    shop = projects.back_up("shop")["path"]
    old = projects.back_up("blog")["path"]
    assert projects.prune_all_but_one("blog")["pruned"] == [old]
    newest = projects.back_up("shop")["path"]
    assert projects.prune_all_but_one("shop")["pruned"] == [newest, shop]
    assert sorted(map(_rows, backups(projects.archive))) == [5, 40]


def test_a_backup_is_compared_with_those_of_its_own_database_only(projects: Projects) -> None:
    """The first one of the blog is neither suspicious nor counted against the shop."""
    projects.back_up("shop")
    assert projects.back_up("blog")["changes"] is None


def test_the_latest_of_two_databases_of_one_name_is_refused(projects: Projects) -> None:
    """Both sources are named; with --database the right one is restored."""
    projects.back_up("shop")
    projects.back_up("blog")
    code, refused = projects.restore_latest()
    assert (code, refused["code"]) == (1, "backup-ambiguous")
    for name in ("shop", "blog"):
        assert str(projects.database(name)) in refused["error"]
    assert "--database" in refused["hint"]
    assert projects.restore_latest("--database", projects.database("shop"))[0] == 0
    assert _rows(projects.folder / "restored.db") == 40
    words = ("drill", "--archive", projects.archive, "--database", projects.database("shop"))
    assert gymdbd_json(*words)[1]["tables"] == {"t": 40}


def test_the_way_to_a_database_may_lead_through_a_link(projects: Projects) -> None:
    """The same file has the same backups, by whatever path it is named."""
    first = projects.back_up("shop")["path"]
    (projects.folder / "current").symlink_to(projects.folder / "shop")
    assert projects.prune_all_but_one("current")["pruned"] == [first]


def test_a_job_takes_what_is_its_own(projects: Projects) -> None:
    """A restore, a drill and pruning mind the path of the database."""
    jobs = {
        name: {
            "schedule": "0 3 * * *",
            "database": str(projects.database(name)),
            "archive": str(projects.archive),
            "keep": {"count": 1},
        }
        for name in ("shop", "blog")
    }
    drill = {"kind": "drill", "schedule": "0 5 * * 0", "archive": str(projects.archive)}
    jobs["drill"] = {**drill, "database": str(projects.database("shop"))}
    config = write_config(projects.folder, jobs)
    first = gymdbd_json("-c", config, "backup", "shop")[1]["path"]
    gymdbd_json("-c", config, "backup", "blog")
    assert gymdbd_json("-c", config, "drill")[1]["backup"] == first
    code, refused = gymdbd_json("-c", config, "restore", "latest", "--dry-run")
    assert (code, refused["code"]) == (1, "backup-ambiguous")
    words = ("restore", "latest", "--dry-run", "--database", projects.database("shop"))
    planned = gymdbd_json("-c", config, *words)[1]
    assert (planned["backup"], planned["target"]) == (first, str(projects.database("shop")))
    listed = gymdbd_json("-c", config, "list")[1]["backups"]
    paths = [projects.database(name) for name in ("blog", "shop")]
    assert [one["source"].partition(":")[2] for one in listed] == list(map(str, paths))


def test_a_database_that_moved_takes_its_backups_along(projects: Projects) -> None:
    """Its old path is gone: it is restored, compared and pruned as before."""
    old = projects.back_up("shop")["path"]
    shutil.move(projects.folder / "shop", projects.folder / "moved")
    assert projects.restore_latest("--database", projects.database("moved"))[0] == 0
    again = projects.prune_all_but_one("moved")
    assert (again["changes"]["previous"], again["pruned"]) == (old, [old])
    assert manifests.read(backups(projects.archive)[0]).moved_from == [  # type: ignore[union-attr]
        str(projects.database("shop"))
    ]


def test_a_database_that_moved_and_lost_rows_is_suspicious(projects: Projects) -> None:
    """It is compared with what was there before the move."""
    projects.back_up("shop")
    shutil.move(projects.folder / "shop", projects.folder / "moved")
    with closing(sqlite3.connect(projects.database("moved"))) as app, app:
        app.execute("DELETE FROM t")
    words = ("backup", "--database", projects.database("moved"), "--archive", projects.archive)
    assert gymdbd_json(*words)[1]["state"] == "suspicious"


def test_the_backups_of_a_deleted_project_are_nobody_elses(projects: Projects) -> None:
    """Its neighbour had backups of its own while it was there, so that it cannot have been moved.

    What was deleted by mistake is wanted back.
    """
    shop = projects.back_up("shop")["path"]
    projects.back_up("blog")
    shutil.rmtree(projects.folder / "shop")
    projects.prune_all_but_one("blog")
    assert shop in [str(path) for path in backups(projects.archive)]
    assert projects.restore_latest("--database", projects.database("shop"))[0] == 0
    assert _rows(projects.folder / "restored.db") == 40


def test_what_is_there_again_is_another_database(projects: Projects) -> None:
    """A disk that was unplugged when the other one began has its backups for itself again."""
    blog = projects.back_up("blog")["path"]
    shutil.move(projects.folder / "blog", projects.folder / "unplugged")
    projects.back_up("shop")
    shutil.move(projects.folder / "unplugged", projects.folder / "blog")
    projects.prune_all_but_one("shop")
    assert blog in [str(path) for path in backups(projects.archive)]


def test_another_machine_of_the_same_path_keeps_its_backups(projects: Projects) -> None:
    """Nobody here can know whether it is the same machine, which had another name."""
    theirs = add_backup(
        projects.archive / "db_backup_20200101_030000.db",
        source=str(projects.database("shop")),
        host="another",
        created_at="2020-01-01T03:00:00+00:00",
        tables={"t": 40},
    )
    projects.prune_all_but_one("shop")
    projects.prune_all_but_one("shop")
    assert [theirs, *backups(projects.archive)[1:]] == backups(projects.archive)
    assert len(backups(projects.archive)) == 2


def _made_elsewhere(projects: Projects, name: str) -> str:
    """Back a project up as if this machine had had another name then; return the backup."""
    path = Path(projects.back_up(name)["path"])
    made = manifests.read(path)
    assert made is not None
    manifests.write(dataclasses.replace(made, host="another"), path)
    return str(path)


def test_a_machine_that_was_renamed_goes_on_with_its_backups(projects: Projects) -> None:
    """Status is well, and the latest goes into the job's database, before its first new backup."""
    add_backup(projects.archive / "db_backup_20200101_030000.db", verified=False)
    old = _made_elsewhere(projects, "shop")
    job = {"kind": "backup", "schedule": "0 3 * * *", "archive": str(projects.archive)}
    job |= {"database": str(projects.database("shop"))}
    config = write_config(projects.folder, {"nightly": job})
    status = gymdbd_json("-c", config, "status")[1]["jobs"]["nightly"]
    assert (status["health"], status["reason"]) == ("ok", "")
    code, restored = gymdbd_json("-c", config, "restore", "latest")
    assert (code, restored["backup"]) == (0, old)
    assert restored["target"] == str(projects.database("shop"))


def test_after_a_rename_the_latest_is_the_newest_of_this_machine(projects: Projects) -> None:
    """Two machines, or one with two names: of both the one that asks is meant."""
    new = projects.back_up("shop")["path"]
    old = _made_elsewhere(projects, "shop")
    code, restored = projects.restore_latest()
    assert (code, restored["backup"]) == (0, new)
    drill = gymdbd_json("drill", "--archive", projects.archive)[1]
    assert drill["backup"] == new
    assert old in [str(path) for path in backups(projects.archive)]
    projects.back_up("blog")
    assert projects.restore_latest()[1]["code"] == "backup-ambiguous"


def test_a_file_of_an_older_script_is_told_once(projects: Projects) -> None:
    """It has no manifest, and so is among the backups of both databases."""
    old = add_backup(projects.archive / "db_backup_20200101_030000.db", verified=False)
    projects.back_up("shop")
    projects.back_up("blog")
    flags = ("--archive", projects.archive, "--keep-count", "1")
    dry = gymdbd_json("prune", *flags, "--dry-run")[1]
    assert (dry["pruned"], len(dry["backups"])) == ([str(old)], 3)
    done = gymdbd_json("prune", *flags)[1]
    assert (done["pruned"], len(done["backups"])) == ([str(old)], 3)


def test_a_file_of_an_older_script_goes_by_its_name(projects: Projects) -> None:
    """It has no manifest that says of what it is."""
    old = add_backup(projects.archive / "db_backup_20200101_030000.db", verified=False)
    assert projects.prune_all_but_one("shop")["pruned"] == [str(old)]


def test_a_damaged_database_freezes_only_its_own_backups(projects: Projects) -> None:
    """The other one goes on pruning, and lets go of nothing that is frozen."""
    shop = projects.back_up("shop")["path"]
    old = projects.back_up("blog")["path"]
    intact = projects.database("shop").read_bytes()
    with projects.database("shop").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)
    words = ("backup", "--database", projects.database("shop"), "--archive", projects.archive)
    assert gymdbd_json(*words)[1]["code"] == "source-corrupt"
    assert projects.prune_all_but_one("blog")["pruned"] == [old]
    rule = ("--keep-count", "1", "--json")
    assert gymdbd_json("prune", "--archive", projects.archive, *rule[:2])[1]["pruned"] == []
    projects.database("shop").write_bytes(intact)
    assert projects.prune_all_but_one("shop")["pruned"] == [shop]


def test_what_0_1_had_frozen_stays_frozen(projects: Projects) -> None:
    """It noted that under the name of the file alone."""
    (projects.archive / ".db.frozen.json").write_text('{"reason": "old", "since": "2026"}')
    projects.back_up("shop")
    assert not (projects.archive / ".db.frozen.json").exists()
    projects.back_up("shop")
    (projects.archive / ".db.frozen.json").write_text('{"reason": "old", "since": "2026"}')
    pruned = gymdbd_json("prune", "--archive", projects.archive, "--keep-count", "1")[1]
    assert (pruned["pruned"], "old" in pruned["backups"][0]["reason"]) == ([], True)
