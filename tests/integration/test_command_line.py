"""The command line as people and programs use it: verbs, keys of --json, exit codes."""

from __future__ import annotations

import fcntl
import json
import stat
import subprocess
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.command import GYMDBD, ORDINARY_USER, environment, gymdbd, gymdbd_json
from tests.support.databases import backups, make_database, query, tree
from tests.support.jobs import write_config
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

_BACKUP_KEYS = {
    *("newest", "remarks", "waiting"),
    *("schema", "state", "path", "size", "md5", "sha256", "tables"),
    *("checkpoint", "changes", "pruned", "duration_s", "timings"),
}
_LISTED_KEYS = {
    *("path", "source", "created_at", "size", "verdict", "verified_at", "kept", "note"),
    *("remarks", "unchecked", "rows"),
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Give a configuration with one job whose database and archive exist."""
    make_database(tmp_path / "gym.db")
    (tmp_path / "archive").mkdir(mode=0o700)
    job = {
        "schedule": "0 3 * * *",
        "database": "gym.db",
        "archive": "archive",
        "keep": {"days": 0, "count": 1},
    }
    return write_config(tmp_path, {"nightly": job})


def test_the_default_backup_needs_no_configuration(tmp_path: Path) -> None:
    """From a fresh folder it goes to data/backups/database/, for its owner's eyes only."""
    (tmp_path / "instance").mkdir()
    make_database(tmp_path / "instance" / "gym_system.db")
    done = gymdbd("backup", "--database", "instance/gym_system.db", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = backups(tmp_path / "data/backups/database")
    assert path.name.startswith("gym_system_backup_")
    assert str(path) in done.stdout
    assert query(path, "SELECT count(*) FROM t") == [(100,)]
    for one, mode in ((path, 0o600), (path.with_name(path.name + ".json"), 0o600)):
        assert stat.S_IMODE(one.stat().st_mode) == mode
    for folder in ("data", "data/backups", "data/backups/database"):
        assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o700


def test_backup_gives_the_documented_keys(config: Path) -> None:
    """One JSON object on stdout with just these keys, and the sums of the file itself."""
    exit_code, answer = gymdbd_json("-c", config, "backup", "nightly")
    assert (exit_code, answer["state"]) == (0, "ok")
    assert set(answer) == _BACKUP_KEYS
    name = answer["path"].rpartition("/")[2]
    assert tree(config.parent / "archive")[name] == answer["sha256"]


def test_list_gives_the_documented_keys(config: Path) -> None:
    """Newest first; a file of the older scripts is listed as unverified."""
    gymdbd("-c", config, "backup")
    make_database(config.parent / "archive/gym_backup_20250102_030405.db")
    exit_code, answer = gymdbd_json("-c", config, "list")
    assert (exit_code, answer["state"], answer["schema"]) == (0, "ok", 1)
    assert [set(one) for one in answer["backups"]] == [_LISTED_KEYS] * 2
    assert [one["verdict"] for one in answer["backups"]] == ["verified", "unverified"]


def test_prune_tells_of_every_backup_and_a_dry_run_removes_none(config: Path) -> None:
    """The old script's backup goes with its side files, and only without --dry-run."""
    archive = config.parent / "archive"
    gymdbd("-c", config, "backup")
    old = make_database(archive / "gym_backup_20250102_030405.db")
    sides = [old.with_name(old.name + suffix) for suffix in ("-wal", "-shm")]
    for side in sides:
        side.write_bytes(b"left by the script")
    before = tree(archive)
    exit_code, answer = gymdbd_json("-c", config, "prune", "--dry-run")
    assert exit_code == 0
    assert set(answer) == {"schema", "state", "dry_run", "rules", "pruned", "backups"}
    assert answer["pruned"] == [str(old)]
    assert [one["stays"] for one in answer["backups"]] == [True, False]
    assert all(one["reason"] for one in answer["backups"])
    assert tree(archive) == before
    assert gymdbd_json("-c", config, "prune")[1]["pruned"] == [str(old)]
    assert [path.exists() for path in (old, *sides)] == [False] * 3


def test_schedule_gives_the_next_runs_of_every_job(config: Path) -> None:
    """Times in RFC 3339, as many as asked for."""
    exit_code, answer = gymdbd_json("-c", config, "schedule", "--count", "3")
    assert exit_code == 0
    moments = [datetime.fromisoformat(text) for text in answer["jobs"]["nightly"]]
    assert [(one.hour, one.minute, one.tzinfo is None) for one in moments] == [(3, 0, False)] * 3
    assert moments == sorted(set(moments))


def test_check_gives_the_documented_keys_and_changes_nothing(config: Path) -> None:
    """Every line has a state of three, and no file appears or changes."""
    before = tree(config.parent / "archive"), sorted(config.parent.iterdir())
    exit_code, answer = gymdbd_json("-c", config, "check")
    assert exit_code == 0
    assert [set(one) for one in answer["checks"]] == [{"name", "state", "message", "hint"}] * len(
        answer["checks"]
    )
    assert {one["state"] for one in answer["checks"]} <= {"ok", "warning"}
    assert (tree(config.parent / "archive"), sorted(config.parent.iterdir())) == before


def test_check_warns_a_user_who_may_only_read_the_database(config: Path) -> None:
    """Such backups depend on the application being up, and nobody would find out by day."""
    database = config.with_name("gym.db")
    database.chmod(0o444)
    _, answer = gymdbd_json("-c", config, "check", prefix=ORDINARY_USER)
    (rights,) = [one for one in answer["checks"] if one["name"] == "nightly rights"]
    assert rights["state"] == "warning"
    assert f"may not write {database}: no checkpoint" in rights["message"]


def test_check_fails_with_a_remedy_where_the_database_is_missing(config: Path) -> None:
    """Exit code 1, and an error with a hint."""
    (config.parent / "gym.db").unlink()
    exit_code, answer = gymdbd_json("-c", config, "check")
    errors = [one for one in answer["checks"] if one["state"] == "error"]
    assert (exit_code, answer["state"]) == (1, "failed")
    assert [one["name"] for one in errors] == ["nightly database"]
    assert errors[0]["hint"] != ""


def test_stats_only_makes_no_backup(config: Path) -> None:
    """It tells count, size, oldest, newest and the rows of each table."""
    gymdbd("-c", config, "backup")
    before = tree(config.parent / "archive")
    exit_code, answer = gymdbd_json("-c", config, "backup", "--stats-only")
    assert exit_code == 0
    assert {"count", "size", "oldest", "newest", "tables"} <= set(answer)
    assert (answer["count"], answer["tables"]) == (1, {"t": 100})
    assert tree(config.parent / "archive") == before


def test_status_gives_the_status_file(config: Path) -> None:
    """A backup by hand is in it, with its result."""
    gymdbd("-c", config, "backup")
    exit_code, answer = gymdbd_json("-c", config, "status")
    assert (exit_code, answer["schema"]) == (0, 1)
    assert {"kind", "state", "last_run", "last_success", "duration_s", "result"} <= set(
        answer["jobs"]["nightly"]
    )


def test_a_killed_run_is_told_from_one_at_work(tmp_path: Path) -> None:
    """Whatever becomes of the process, the status never says that it is still at work."""
    (tmp_path / "known_hosts").touch(mode=0o600)
    # The other side takes what it is sent, and never says a word.
    silent = "sh -c 'exec cat >/dev/null'"
    ssh = {"proxy_command": silent, "known_hosts": str(tmp_path / "known_hosts")}
    job = {"kind": "pull", "every": "1d", "host": "pi", "remote_database": "/gym.db", "ssh": ssh}
    path = write_config(tmp_path, {"pull": {**job, "replica": str(tmp_path / "gym.db")}})

    def entry() -> dict[str, Any]:
        return dict(gymdbd_json("-c", path, "status")[1]["jobs"]["pull"])

    command = [*GYMDBD, "-c", str(path), "pull"]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL) as process:
        begun = until(lambda: entry().get("running"), "the pull is at work")
        process.kill()
    after = entry()
    assert (after.get("running"), after["interrupted"]) == (None, begun)
    told = gymdbd("-c", path, "status").stdout
    assert f"the run started at {begun['started_at']} was killed; run it again" in told


@pytest.mark.parametrize(
    ("words", "in_use"),
    [
        ("backup", "archive/.gymdbd.lock"),
        ("prune --archive archive --keep-count 1", "archive/.gymdbd.lock"),
        ("restore latest", "archive/.gymdbd.lock"),
        ("restore latest", ".gym.db.lock"),
        ("restore latest --to new.db", ".new.db.lock"),
        ("drill --archive archive", "archive/..drill.drill.lock"),
        ("pull office", ".replica.db.lock"),
    ],
)
def test_a_second_run_on_the_same_files_is_busy(config: Path, words: str, in_use: str) -> None:
    """Exit code 3 at once, and nothing is written."""
    assert gymdbd("-c", config, "backup").returncode == 0
    content = json.loads(config.read_text())
    content["jobs"]["office"] = {
        "kind": "pull",
        "every": "1d",
        "host": "no-such-host.invalid",
        "remote_database": "/gym.db",
        "replica": "replica.db",
    }
    config.write_text(json.dumps(content))
    (config.parent / in_use).touch()
    before = tree(config.parent / "archive"), (config.parent / "gym.db").read_bytes()
    with (config.parent / in_use).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        exit_code, answer = gymdbd_json("-c", config, *words.split(), cwd=config.parent)
    assert (exit_code, answer["state"], answer["code"]) == (3, "busy", "busy")
    assert before == (tree(config.parent / "archive"), (config.parent / "gym.db").read_bytes())
    assert not (config.parent / "new.db").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["backup", "--no-such-flag"],
        ["no-such-verb"],
        ["backup", "--database", "gym.db", "--keep-count", "3"],
        ["-c", "missing.yaml", "backup"],
    ],
)
def test_usage_faults_exit_with_2_and_are_json_too(tmp_path: Path, arguments: list[str]) -> None:
    """Errors are one JSON object like everything else."""
    exit_code, answer = gymdbd_json(*arguments, cwd=tmp_path)
    assert (exit_code, answer["state"]) == (2, "failed")
    assert {"schema", "state", "error", "hint", "code"} <= set(answer)


def test_the_demonstration_works_and_cleans_up(tmp_path: Path) -> None:
    """It ends with exit code 0, shows the status, and leaves its folder empty."""
    done = gymdbd("demo", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "integrity ok" in done.stdout
    assert "gymdbd status:" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_demonstration_is_json_too_and_keeps_its_folder_when_asked(tmp_path: Path) -> None:
    """The backup holds an event between those before and after it."""
    done = gymdbd("demo", "--json", "--keep", TMPDIR=str(tmp_path))
    answer = json.loads(done.stdout)
    events = answer["events"]
    assert (done.returncode, answer["state"]) == (0, "ok")
    assert events["before"] <= events["in_backup"] <= events["after"]
    assert query(answer["path"], "SELECT max(id) FROM sensor_events") == [(events["in_backup"],)]
    assert set(answer) >= _BACKUP_KEYS
