"""Every verb works on the database or archive that is named, without a configuration."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import GYMDBD, environment, gymdbd, gymdbd_json
from tests.support.databases import backups, make_database, query
from tests.support.disks import may_mount
from tests.support.jobs import write_config

# What each verb needs besides.
_VERBS = {
    **dict.fromkeys(("list", "verify", "growth", "drill", "status"), ()),
    "rescue": ("latest", "--to", "rows.sql"),
    **dict.fromkeys(("diff", "keep", "unkeep", "accept", "reject"), ("latest",)),
    "restore": ("latest",),
    "prune": ("--dry-run",),
}
_OTHER = "other.db"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a folder with a database, whose backup is where backup --database puts it."""
    make_database(tmp_path / "gym.db", rows=3)
    assert gymdbd("backup", "--database", "gym.db", cwd=tmp_path).returncode == 0
    return tmp_path


def archive_of(project: Path) -> Path:
    """Return the folder in which it is."""
    return project / "data" / "backups" / "database"


def change(database: Path, sql: str) -> None:
    """Change a database as an application does that ends then."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(sql)


def with_another(project: Path) -> Path:
    """Put the backup of another database into the same archive."""
    make_database(project / _OTHER, rows=5)
    assert gymdbd("backup", "--database", _OTHER, cwd=project).returncode == 0
    return project


@pytest.mark.parametrize("verb", _VERBS)
def test_a_database_alone_is_enough(verb: str, project: Path) -> None:
    """In a process that has no configuration to find, with JSON that tells of its backup."""
    home = project / "home"
    home.mkdir()
    (made,) = backups(archive_of(project))
    done = subprocess.run(
        [*GYMDBD, verb, *_VERBS[verb], "--database", "gym.db", "--json"],
        cwd=project,
        env=environment(HOME=str(home), GYMDBD_CONFIG=""),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.dumps(json.loads(done.stdout))
    # There was nothing to accept.
    assert verb == "accept" or made.name in told or str(archive_of(project)) in told
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("verb", _VERBS)
def test_an_archive_alone_is_enough(verb: str, project: Path) -> None:
    """From anywhere; only a restore needs to know where to."""
    more = ("--to", project / "restored.db") if verb == "restore" else ()
    (project / "elsewhere").mkdir()
    words = (*_VERBS[verb], "--archive", archive_of(project), *more)
    done = gymdbd(verb, *words, cwd=project / "elsewhere")
    assert (done.returncode, done.stdout != "") == (0, True), done.stderr


def test_a_restore_of_an_archive_alone_asks_where_to(project: Path) -> None:
    """It names the database that the backup was made of, and overwrites nothing by itself."""
    code, answer = gymdbd_json("restore", "latest", "--archive", archive_of(project))
    assert (code, str(project / "gym.db") in answer["error"]) == (2, True)
    assert "--to PATH" in answer["hint"]


def test_a_restore_goes_into_the_database_that_is_named(project: Path) -> None:
    """And never with a backup of another database."""
    change(project / "gym.db", "DELETE FROM t")
    code, answer = gymdbd_json("restore", "latest", "--database", "gym.db", cwd=project)
    assert (code, answer["target"]) == (0, str(project / "gym.db"))
    assert query(project / "gym.db", "SELECT count(*) FROM t") == [(3,)]
    made = with_another(project)
    (other,) = (path for path in backups(archive_of(made)) if path.name.startswith("other"))
    code, answer = gymdbd_json("restore", other.name, "--database", "gym.db", cwd=project)
    assert (code, "not of" in answer["error"]) == (2, True)
    assert query(project / "gym.db", "SELECT count(*) FROM t") == [(3,)]


def test_of_several_databases_in_an_archive_only_the_named_one_is_meant(project: Path) -> None:
    """For list, verify, growth, status and prune alike; without a name, all are."""
    with_another(project)

    def told(verb: str, key: str, *more: str) -> tuple[int, int]:
        found = []
        for named in (("--database", _OTHER), ("--archive", str(archive_of(project)))):
            code, answer = gymdbd_json(verb, *more, *named, cwd=project)
            assert code == 0, answer
            found.append(len(answer[key]))
        return found[0], found[1]

    assert told("list", "backups") == (1, 2)
    assert told("verify", "backups") == (1, 2)
    assert told("verify", "backups", "--all") == (1, 2)
    assert told("growth", "databases") == (1, 2)
    assert told("status", "databases") == (1, 2)
    assert told("prune", "backups", "--dry-run") == (1, 2)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("-c", "config.yaml", "drill", "nightly", "--database", "gym.db"), "name either a JOB"),
        (("prune", "job", "--archive", "data"), "name either a JOB, or"),
        (("status", "--brief", "--database", "gym.db"), "--brief is for all jobs"),
        (("prune", "--database", "gym.db", "--keep-count", "0"), "there is no retention rule"),
        (("list", "--archive", "nowhere"), "there is no archive at"),
        (("verify", "--database", "nobody.db"), "there are no backups of nobody.db"),
        (("prune", "--database", "nobody.db"), "there are no backups of nobody.db"),
    ],
)
def test_what_does_not_fit_together_is_refused_by_name(
    words: tuple[str, ...], expected: str, project: Path
) -> None:
    """With something to do about it."""
    _config(project, project)
    code, answer = gymdbd_json(*words, cwd=project)
    assert (code in (1, 2), answer["error"][: len(expected)]) == (True, expected)
    assert answer["state"] == "failed"


def test_an_archive_that_is_not_there_is_told_with_what_makes_it(tmp_path: Path) -> None:
    """Whoever has never made a backup here is told so."""
    make_database(tmp_path / "gym.db")
    code, answer = gymdbd_json("restore", "latest", "--database", "gym.db", cwd=tmp_path)
    assert (code, answer["code"]) == (1, "backup-missing")
    assert "gymdbd backup --database PATH" in answer["hint"]


def _config(project: Path, archive: Path, **job: Any) -> Path:
    database = str(project / "gym.db")
    jobs = {"nightly": {"every": "1h", "database": database, "archive": str(archive), **job}}
    return write_config(project, jobs)


def test_a_rule_is_from_the_flags_or_the_job_or_the_default_and_is_told(project: Path) -> None:
    """Whose rule it is is said if the command line does not have it."""

    def rule(config: Path, *words: str) -> tuple[int, int, str]:
        named = ("-c", config, "prune", "--archive", archive_of(project), *words, "--dry-run")
        _, answer = gymdbd_json(*named)
        (found,) = answer["rules"]
        assert ("keep days" in gymdbd(*named).stderr) == bool(found["from"] and found["days"])
        return found["days"], found["count"], found["from"]

    config = _config(project, archive_of(project), keep={"days": 5, "count": 4})
    assert rule(config, "--keep-days", "3") == (3, 0, "")
    assert rule(config) == (5, 4, f"keep: of nightly in {config}")
    default = "the default: no job of a configuration has this archive"
    assert rule(_config(project, project, keep={"count": 4})) == (14, 10, default)


def test_the_flags_come_before_the_rule_of_the_job_that_is_named(project: Path) -> None:
    """And where neither has a rule, nothing is pruned."""
    config = _config(project, archive_of(project), keep={"days": 5})
    words = ("prune", "nightly", "--dry-run")
    code, answer = gymdbd_json("-c", config, *words, "--keep-count", "3")
    assert (code, answer["rules"][0]["days"], answer["rules"][0]["count"]) == (0, 0, 3)
    config = _config(project, archive_of(project))
    code, answer = gymdbd_json("-c", config, *words)
    assert (code, answer["error"]) == (2, "there is no retention rule")


def test_in_an_archive_of_a_job_nothing_is_pruned_by_a_default(project: Path) -> None:
    """Neither of a job that has no rule, nor of a database that no job makes backups of."""
    with_another(project)
    config = _config(project, archive_of(project), keep={"count": 4})
    code, answer = gymdbd_json("-c", config, "prune", "--archive", archive_of(project))
    assert (code, _OTHER in answer["error"]) == (2, True)
    config = _config(project, archive_of(project))
    code, answer = gymdbd_json("-c", config, "prune", "--database", project / "gym.db")
    assert (code, "no retention rule" in answer["error"]) == (2, True)


def test_a_database_of_no_job_has_its_backups_where_backup_puts_them(project: Path) -> None:
    """Also beside a configuration; that of a job has them where the job does."""
    with_another(project)
    (project / "archive").mkdir()
    config = _config(project, project / "archive")
    assert gymdbd("-c", config, "backup").returncode == 0
    for name, expected in ((_OTHER, archive_of(project)), ("gym.db", project / "archive")):
        _, answer = gymdbd_json("-c", config, "list", "--database", name, cwd=project)
        assert [Path(made["path"]).parent for made in answer["backups"]] == [expected]


def _status(project: Path, *words: object) -> tuple[int, dict[str, Any]]:
    code, answer = gymdbd_json(*words, "status", "--database", "gym.db", cwd=project)
    (found,) = answer["databases"]
    return code, found


def test_the_status_of_a_database_tells_its_newest_backup_and_writes_since(project: Path) -> None:
    """The checkpoint of the backup itself is no write, a later commit is one."""
    (made,) = backups(archive_of(project))
    code, found = _status(project)
    assert (code, found["health"], found["newest"]) == (0, "ok", str(made))
    assert (found["verdict"], found["backups"], found["written_since"]) == ("verified", 1, False)
    assert found["free"] > 0
    change(project / "gym.db", "INSERT INTO t (text) VALUES ('later')")
    later = made.stat().st_mtime + 5
    os.utime(project / "gym.db", (later, later))
    assert _status(project)[1]["written_since"] is True
    assert "written since  yes" in gymdbd("status", "--database", "gym.db", cwd=project).stdout


def test_the_status_of_a_database_has_the_exit_codes_of_monitoring(project: Path) -> None:
    """1 if the job of its archive says that the backup is too old, 2 if there is no good one."""
    config = _config(project, archive_of(project), max_age="1s")
    (made,) = backups(archive_of(project))
    late = time.monotonic() + 3
    while _status(project, "-c", config)[0] == 0:
        assert time.monotonic() < late
    code, found = _status(project, "-c", config)
    assert (code, found["health"], found["hint"]) == (1, "late", "max_age is that of nightly")
    assert gymdbd("reject", made).returncode == 0
    code, found = _status(project)
    assert (code, found["health"], found["code"]) == (2, "failing", "no-backup")
    (project / "gym.db").unlink()
    code, found = _status(project)
    assert (code, found["code"]) == (2, "source-missing")
    assert gymdbd("status", "--archive", project / "nowhere").returncode == 3


@pytest.mark.skipif(not may_mount(), reason="file systems cannot be mounted here")
def test_a_drill_without_a_job_rehearses_from_an_archive_that_nobody_may_write(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In the folder for temporary files; without a lock it removes no other run's folder."""
    archive, scratch = archive_of(project), tmp_path_factory.mktemp("scratch")
    suffix = hashlib.sha256(os.fsencode(archive.resolve())).hexdigest()[:8]
    of_another_run = scratch / f".drill.another.{suffix}.drill"
    of_another_run.mkdir()
    subprocess.run(["mount", "--bind", archive, archive], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", archive], check=True)
        for words in [("--database", "gym.db"), ("latest", "--archive", str(archive))]:
            drilled = gymdbd("drill", *words, cwd=project, TMPDIR=str(scratch))
            assert (drilled.returncode, drilled.stderr) == (0, "")
    finally:
        subprocess.run(["umount", archive], check=True)
    assert list(scratch.iterdir()) == [of_another_run]


def test_the_status_of_an_archive_is_that_of_its_worst_database(project: Path) -> None:
    """A suspicious backup is told and is no newest good one; the other database is well."""
    make_database(project / _OTHER, rows=300)
    assert gymdbd("backup", "--database", _OTHER, cwd=project).returncode == 0
    (good,) = (path for path in backups(archive_of(project)) if path.name.startswith("other"))
    change(project / _OTHER, "DELETE FROM t")
    assert gymdbd("backup", "--database", _OTHER, cwd=project).returncode == 1
    code, answer = gymdbd_json("status", "--archive", archive_of(project), cwd=project)
    found = {Path(each["database"]).name: each for each in answer["databases"]}
    assert (code, answer["state"], found["gym.db"]["health"]) == (2, "failing", "ok")
    assert (found["gym.db"]["backups"], found[_OTHER]["backups"]) == (1, 2)
    assert (found[_OTHER]["code"], found[_OTHER]["newest"]) == ("suspicious", str(good))
    make_database(project / "new.db")
    code, answer = gymdbd_json("status", "--database", "new.db", cwd=project)
    assert (code, answer["databases"][0]["code"]) == (2, "no-backup")
    (project / "empty").mkdir()
    code, answer = gymdbd_json("status", "--archive", project / "empty")
    assert (code, "there are no backups in" in answer["error"]) == (2, True)
