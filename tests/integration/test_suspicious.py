"""A backup that is whole and holds too little: kept, not believed, until somebody accepts it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gymdbd import lock
from tests.support.command import gymdbd, gymdbd_json
from tests.support.databases import backups, make_database, tree
from tests.support.jobs import write_config


class Gym:
    """A database with a nightly job; the folder holds both and the archive."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.database = make_database(folder / "gym.db", rows=0)
        self.archive = folder / "archive"
        self.archive.mkdir()
        self.change("CREATE TABLE members (id INTEGER PRIMARY KEY, joined TEXT)")
        self.change(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 344) "
            "INSERT INTO members SELECT i, '2026-11-23 03:00:00' FROM n"
        )
        job: dict[str, Any] = {
            "kind": "backup",
            "schedule": "0 3 * * *",
            "database": str(self.database),
        }
        job |= {"archive": str(self.archive), "keep": {"count": 1}, **settings}
        self.config = str(write_config(folder, {"nightly": job}))

    def change(self, sql: str) -> None:
        """Change the database as the application would."""
        with closing(sqlite3.connect(self.database)) as app, app:
            app.execute(sql)

    def run(self, *words: object) -> tuple[int, dict[str, Any]]:
        """Run a verb; return its exit code and its JSON."""
        return gymdbd_json("-c", self.config, *words)

    def status(self) -> tuple[int, str]:
        """Return the exit code of `status` and the reason it gives for the job."""
        code, content = self.run("status")
        return code, content["jobs"]["nightly"]["reason"]


@pytest.fixture
def gym(tmp_path: Path) -> Gym:
    """Give a gym of 344 members."""
    return Gym(tmp_path)


def test_a_collapsed_table_is_held_until_it_is_accepted(gym: Gym) -> None:
    """The whole story: kept, marked, pruning frozen, status failing, accepted, all well again."""
    assert gym.run("backup")[0] == 0
    gym.change("DELETE FROM members WHERE id > 12")
    code, result = gym.run("backup")
    assert (code, result["state"], result["code"]) == (1, "suspicious", "suspicious")
    assert "table members fell from 344 to 12 rows, more than 20 %" in result["error"]
    assert f"gymdbd accept {result['path']}" in result["hint"]
    assert result["tables"]["members"] == 12
    assert [one["verdict"] for one in gym.run("list")[1]["backups"]] == ["suspicious", "verified"]
    assert gym.status()[0] == 2
    assert "fell from 344 to 12" in gym.status()[1]

    # Another night with the same content: doubted again, and nothing is pruned.
    assert gym.run("backup")[0] == 1
    assert gym.run("prune")[1]["pruned"] == []
    assert len(backups(gym.archive)) == 3

    newest = gym.run("list")[1]["backups"][0]["path"]
    code, accepted = gym.run("accept", newest)
    assert (code, len(accepted["accepted"])) == (0, 2)
    assert gym.status()[0] == 0
    assert gym.run("backup")[0] == 0
    assert len(backups(gym.archive)) == 1


def test_a_good_backup_is_a_success_while_an_older_one_waits_for_an_answer(gym: Gym) -> None:
    """The rows are back, but nobody has looked yet: status is failing, and nothing is pruned."""
    gym.run("backup")
    gym.change("ALTER TABLE members RENAME TO gone")
    name = gym.run("backup")[1]["path"].rpartition("/")[2]
    gym.change("ALTER TABLE gone RENAME TO members")
    code, result = gym.run("backup")
    assert (code, result["waiting"], result["pruned"]) == (0, name, [])
    entry = gym.run("status")[1]["jobs"]["nightly"]
    assert (entry["state"], entry["last_success"]) == ("ok", entry["runs"][0]["ended_at"])
    assert gym.status() == (2, f"{name} waits for accept or reject; pruning is stopped")
    done = gymdbd("-c", gym.config, "status")
    assert f"gymdbd accept {name} or gymdbd reject {name}" in done.stdout
    assert gym.run("accept", name)[0] == 0
    assert gym.status()[0] == 0


def test_a_younger_suspicious_backup_is_not_accepted_with_an_older_one(gym: Gym) -> None:
    """Whoever looked at one night has not looked at the next."""
    gym.run("backup")
    gym.change("DELETE FROM members WHERE id > 200")
    _, first = gym.run("backup")
    gym.change("DELETE FROM members")
    _, second = gym.run("backup")
    assert gym.run("accept", first["path"])[1]["accepted"] == [first["path"]]
    verdicts = {one["path"]: one["verdict"] for one in gym.run("list")[1]["backups"]}
    assert (verdicts[first["path"]], verdicts[second["path"]]) == ("verified", "suspicious")
    assert gym.status()[0] == 2


def test_a_backup_that_is_damaged_is_not_accepted(gym: Gym) -> None:
    """That its rows are right says nothing of its bytes; nothing is marked."""
    gym.run("backup")
    gym.change("DELETE FROM members")
    _, made = gym.run("backup")
    path = Path(made["path"])
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert gym.run("verify", made["path"])[0] == 1
    before = tree(gym.archive)
    code, answer = gym.run("accept", made["path"])
    assert (code, "is damaged" in answer["error"]) == (2, True)
    assert tree(gym.archive) == before
    assert gym.status()[0] != 0


@pytest.mark.parametrize("verb", ["accept", "reject", "keep", "unkeep"])
def test_nothing_is_marked_while_the_archive_is_in_use(gym: Gym, verb: str) -> None:
    """Two who change the marks at once would lose what one of them wrote."""
    gym.run("backup")
    gym.change("DELETE FROM members")
    _, made = gym.run("backup")
    before = tree(gym.archive)
    with lock.hold([lock.archive_lock(gym.archive)]):
        code, answer = gym.run(verb, made["path"])
        assert (code, answer["code"]) == (3, "busy")
        assert tree(gym.archive) == before
    assert gym.run(verb, made["path"])[0] == 0


@pytest.mark.parametrize("word", ["the backup", "nightly"])
def test_a_rejected_backup_is_never_offered_and_pruning_goes_on(gym: Gym, word: str) -> None:
    """The answer no: it stays by the rule, status is well, and the next is not compared with it."""
    first = gym.run("backup")[1]["path"]
    gym.change("CREATE TABLE gone AS SELECT * FROM members")
    gym.change("DELETE FROM members WHERE id > 12")
    path = gym.run("backup")[1]["path"]
    success = gym.run("status")[1]["jobs"]["nightly"]["last_success"]
    code, rejected = gym.run("reject", path if word == "the backup" else word)
    assert (code, rejected["rejected"]) == (0, [path])
    entry = gym.run("status")[1]["jobs"]["nightly"]
    assert (gym.status()[0], entry["last_success"]) == (0, success)
    verdicts = [(one["path"], one["verdict"]) for one in gym.run("list")[1]["backups"]]
    assert verdicts == [(path, "rejected"), (first, "verified")]
    for words in (("latest",), ("--at", "now")):
        assert gym.run("restore", *words, "--dry-run")[1]["backup"] == first
    assert gym.run("backup")[1]["state"] == "suspicious"
    gym.run("reject", "nightly")
    gym.change("INSERT INTO members SELECT * FROM gone WHERE id > 12")
    result = gym.run("backup")[1]
    assert (result["state"], result["waiting"], first in result["pruned"]) == ("ok", None, True)


def test_an_answer_can_be_taken_back(gym: Gym) -> None:
    """What was rejected can be accepted, and the other way round."""
    gym.run("backup")
    gym.change("DELETE FROM members")
    path = gym.run("backup")[1]["path"]
    for verb, verdict in (("reject", "rejected"), ("accept", "verified"), ("reject", "rejected")):
        assert gym.run(verb, path)[1]["state"] == "ok"
        assert gym.run("list")[1]["backups"][0]["verdict"] == verdict
        assert gym.run(verb, path)[1]["state"] == "unchanged"


def test_a_restore_of_an_older_backup_answers_by_itself(gym: Gym) -> None:
    """Whoever restores it has decided: what is suspicious and newer is rejected."""
    first = gym.run("backup")[1]["path"]
    gym.change("DELETE FROM members")
    path = gym.run("backup")[1]["path"]
    elsewhere = gym.database.parent / "elsewhere.db"
    assert gym.run("restore", "latest", "--to", elsewhere)[1]["rejected"] == []
    assert gym.status()[0] == 2
    restored = gym.run("restore", "latest")[1]
    assert (restored["backup"], restored["rejected"]) == (first, [path])
    assert gym.status()[0] == 0
    assert gym.run("backup")[1]["state"] == "ok"


def test_a_restore_answers_in_every_archive_of_its_database(tmp_path: Path) -> None:
    """Two jobs have seen the same loss; the archive that is in use meanwhile goes on waiting."""
    gym = Gym(tmp_path)
    job = {"kind": "backup", "schedule": "0 3 * * *", "database": str(gym.database)}
    folders = [tmp_path / name for name in ("near", "far", "busy")]
    for folder in folders:
        folder.mkdir()
    jobs = {folder.name: {**job, "archive": str(folder)} for folder in folders}
    gym.config = str(write_config(tmp_path, jobs))
    for name in jobs:
        gym.run("backup", name)
    gym.change("DELETE FROM members")
    near, far, busy = (gym.run("backup", name)[1]["path"] for name in jobs)
    with lock.hold([lock.archive_lock(tmp_path / "busy")]):
        restored = gym.run("restore", "latest", "--archive", tmp_path / "near")[1]
    assert restored["rejected"] == [near, far]
    health = {name: entry["health"] for name, entry in gym.run("status")[1]["jobs"].items()}
    assert health == {"near": "ok", "far": "ok", "busy": "failing"}
    assert gym.run("reject", "busy")[1]["rejected"] == [busy]


def test_a_restore_of_the_suspicious_one_rejects_nothing(gym: Gym) -> None:
    """It is what was wanted."""
    gym.run("backup")
    gym.change("DELETE FROM members")
    path = gym.run("backup")[1]["path"]
    assert gym.run("restore", path)[1]["rejected"] == []
    assert gym.run("list")[1]["backups"][1]["verdict"] == "suspicious"


def test_a_job_that_makes_no_backups_has_nothing_to_answer(gym: Gym) -> None:
    """And a name that is neither a job's nor a backup's is an error with the nearest."""
    assert gym.run("accept", "nightly")[1] == {"schema": 1, "state": "unchanged", "accepted": []}
    code, error = gym.run("reject", "nigthly")
    assert (code, error["code"]) == (1, "backup-missing")


def test_a_table_of_a_pattern_may_go(tmp_path: Path) -> None:
    """One a day, rotated: 100% exempts a table that is gone as well as one that is empty."""
    gym = Gym(tmp_path, gates={"tables": {"log_*": "100%"}})
    gym.change("CREATE TABLE log_1 AS SELECT * FROM members")
    gym.run("backup")
    gym.change("ALTER TABLE log_1 RENAME TO log_2")
    assert gym.run("backup")[1]["state"] == "ok"


def test_a_person_sees_the_backup_and_what_is_wrong_with_it(gym: Gym) -> None:
    """What was made goes to standard output, the failure to standard error."""
    gym.run("backup")
    gym.change("DELETE FROM members")
    done = gymdbd("-c", gym.config, "backup")
    assert done.returncode == 1
    assert "gym_backup_" in done.stdout
    assert "is suspicious: table members fell from 344 to 0 rows" in done.stderr
    assert "What to do:" in done.stderr


def test_check_says_what_lets_pruning_go_on(gym: Gym) -> None:
    """The database is sound here: a good backup would not do, somebody must accept."""
    gym.run("backup")
    gym.change("DELETE FROM members")
    gym.run("backup")
    (found,) = [one for one in gym.run("check")[1]["checks"] if one["name"] == "nightly archive"]
    assert found["state"] == "warning"
    assert "is suspicious and nobody has accepted it" in found["message"]
    assert "gymdbd accept" in found["hint"]


def test_limits_of_the_configuration_rule(tmp_path: Path) -> None:
    """One that is set for a table lets it fall."""
    gym = Gym(tmp_path, gates={"tables": {"members": "100%"}})
    gym.run("backup")
    gym.change("DELETE FROM members")
    assert gym.run("backup")[0] == 0


def test_a_raw_backup_is_compared_with_what_its_wal_holds(gym: Gym) -> None:
    """Its `.db` alone is small while the WAL has not been copied back; nothing is missing."""
    with closing(sqlite3.connect(gym.database)) as app:
        app.execute("PRAGMA journal_mode = WAL")
        app.execute("PRAGMA wal_autocheckpoint = 0")
        app.execute("CREATE TABLE photos AS SELECT id, zeroblob(4000) FROM members")
        assert gym.run("backup", "--skip-checkpoint")[0] == 0
        code, result = gym.run("backup", "--skip-checkpoint", "--raw")
    assert (code, result["size"] < 100_000) == (0, True)


def test_accepting_what_is_not_suspicious_changes_nothing(gym: Gym) -> None:
    """And says so."""
    gym.run("backup")
    (path,) = backups(gym.archive)
    assert gym.run("accept", path.name) == (0, {"schema": 1, "state": "unchanged", "accepted": []})


def test_a_pinned_backup_outlives_pruning_until_the_pin_is_gone(gym: Gym) -> None:
    """`list` shows the pin and its note."""
    first = gym.run("backup")[1]["path"]
    assert gym.run("keep", first, "--note", "월말")[0] == 0
    gym.run("backup")
    third = gym.run("backup")[1]["path"]
    listed = gym.run("list")[1]["backups"]
    assert [(one["path"], one["kept"], one["note"]) for one in listed] == [
        (third, False, ""),
        (first, True, "pinned; 월말"),
    ]
    assert gym.run("unkeep", first)[1]["kept"] is False
    assert gym.run("prune")[1]["pruned"] == [first]


@pytest.mark.parametrize("verb", ["accept", "keep", "unkeep"])
def test_a_backup_that_is_not_there_is_named_with_the_nearest(gym: Gym, verb: str) -> None:
    """A slip of the hand is answered with what was meant."""
    path = gym.run("backup")[1]["path"]
    name = path.rpartition("/")[2]
    code, result = gym.run(verb, name.replace(".db", ".bd"))
    assert (code, result["code"]) == (1, "backup-missing")
    assert f'did you mean "{name}"?' in result["error"]


@pytest.mark.parametrize("verb", ["accept", "reject"])
def test_a_job_that_is_not_there_is_named_with_the_nearest(gym: Gym, verb: str) -> None:
    """The word may have been meant for a job as well as for a backup."""
    code, result = gym.run(verb, "nihgtly")
    assert (code, result["code"]) == (1, "backup-missing")
    assert 'no job is called nihgtly; did you mean "nightly"?' in result["error"]


def test_the_age_of_the_newest_row_is_told_and_bounded(tmp_path: Path) -> None:
    """In the result, the manifest and the status, which is late when it is too old."""
    newest = {"table": "members", "column": "joined"}
    gym = Gym(tmp_path, newest={**newest, "max_age": "3650d"})
    _, result = gym.run("backup")
    assert result["newest"]["value"] == "2026-11-23 03:00:00"
    assert gym.status()[0] == 0
    gym.change("UPDATE members SET joined = '2001-01-01 00:00:00'")
    gym.run("backup")
    code, reason = gym.status()
    assert (code, reason.startswith("the newest row of members is from 2001-01-01T")) == (1, True)


def test_a_column_that_says_no_time_fails_the_status_and_not_the_backup(tmp_path: Path) -> None:
    """The backup is good; that nobody knows how fresh it is must be told."""
    gym = Gym(tmp_path, newest={"table": "members", "column": "since"})
    code, result = gym.run("backup")
    assert (code, result["newest"]["problem"]) == (0, "no such column: members.since")
    assert gym.status() == (
        2,
        "the newest row of members cannot be dated by since: no such column: members.since",
    )


def test_check_looks_whether_the_newest_row_can_be_dated(tmp_path: Path) -> None:
    """A slip in the names is found before the first night."""
    for column, code, message in (
        ("joined", 0, "members.joined: '2026"),
        ("id", 1, "is not a time"),
    ):
        folder = tmp_path / column
        folder.mkdir()
        gym = Gym(folder, newest={"table": "members", "column": column})
        exit_code, checks = gym.run("check")
        (found,) = [one for one in checks["checks"] if one["name"] == "nightly newest row"]
        assert (exit_code, message in found["message"]) == (code, True)
