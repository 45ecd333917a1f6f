"""The drill: a backup is restored, asked, given to a real application, and removed again."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gymdbd import lock
from gymdbd.config.kinds import DrillConfig
from gymdbd.jobs.drill import drill
from tests.support.command import ROOT, gymdbd, gymdbd_json
from tests.support.databases import backups, make_database, tree
from tests.support.jobs import context, write_config
from tests.support.waiting import Contended

# Starts the gym's application on the restored database and asks it over HTTP.
_HEALTH = f"""
import os, subprocess, sys, urllib.request
os.chdir({str(ROOT)!r})
command = [sys.executable, "-m", "tests.support.flask_app", os.environ["GYMDBD_DATABASE"]]
with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as app:
    address = app.stdout.readline().strip()
    answer = urllib.request.urlopen(address + "/writer", timeout=20)
    app.communicate()
    sys.exit(0 if answer.status == 200 else 1)
"""


class Gym:
    """A database with one backup and a drill job."""

    def __init__(self, folder: Path, **drill: Any) -> None:
        """Back the database up once."""
        self.database = make_database(folder / "gym.db")
        self.archive = folder / "archive"
        self.archive.mkdir()
        common = {"schedule": "0 5 * * 0", "archive": str(self.archive)}
        jobs = {
            "nightly": {"kind": "backup", "database": str(self.database), **common},
            "weekly-drill": {"kind": "drill", **common, **drill},
        }
        self.status, self.log = folder / "status.json", folder / "log"
        log = {"format": "json", "file": str(self.log)}
        self.config = str(write_config(folder, jobs, log=log))
        assert self.run("backup")[0] == 0

    def run(self, *words: str) -> tuple[int, dict[str, Any]]:
        """Run a verb; return its exit code and its JSON."""
        return gymdbd_json("-c", self.config, *words)

    def files(self) -> dict[str, str]:
        """Return what lies in the archive, but for the locks."""
        return {name: one for name, one in tree(self.archive).items() if name[-5:] != ".lock"}


def test_a_drill_says_that_the_backup_is_restorable_and_in_how_many_seconds(
    tmp_path: Path,
) -> None:
    """With probes and the real application; nothing is left, and the status has the answer."""
    probes: list[dict[str, Any]] = [
        {"sql": "SELECT count(*) FROM t", "expect": 100},
        {"sql": "SELECT count(*) FROM t", "at_least": 100, "at_most": 110.5},
        {"sql": "SELECT count(*) FROM t", "at_least": 90, "at_most": 100},
        {"sql": "SELECT text FROM t WHERE id = 2", "expect": "row 1" * 20},
        {"sql": "PRAGMA journal_mode", "expect": "wal"},
    ]
    gym = Gym(tmp_path, probes=probes, command=[sys.executable, "-c", _HEALTH])
    before = gym.files(), gym.database.read_bytes()
    code, result = gym.run("drill")
    assert (code, result["state"], result["tables"]) == (0, "ok", {"t": 100})
    assert 0 < result["recover_s"] <= result["duration_s"]
    assert [one["value"] for one in result["probes"]] == [100, 100, 100, "row 1" * 20, "wal"]
    assert result["command"]["exit_code"] == 0
    assert (gym.files(), gym.database.read_bytes()) == before
    entry = gym.run("status")[1]["jobs"]["weekly-drill"]
    assert (entry["health"], entry["result"]["recover_s"]) == ("ok", result["recover_s"])


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        ({"sql": "SELECT 1", "expect": "2"}, "returned 1, expected '2'"),
        ({"sql": "SELECT 1", "at_least": 2}, "returned 1, expected at least 2"),
        ({"sql": "SELECT 5", "at_least": 2, "at_most": 4}, "expected at least 2 and at most 4"),
        ({"sql": "SELECT 'many'", "at_least": 2}, "returned 'many', expected at least 2"),
        ({"sql": "SELECT 1 WHERE 0", "at_most": 2}, "returned None, expected at most 2"),
        ({"sql": "SELECT n FROM gone", "expect": "1"}, "no such table: gone"),
        ({"sql": "DELETE FROM t", "expect": "1"}, "readonly database"),
    ],
)
def test_a_wrong_answer_fails_the_drill(
    tmp_path: Path, probe: dict[str, Any], message: str
) -> None:
    """It says which question; what was expected and what came goes to the terminal alone."""
    gym = Gym(tmp_path, probes=[probe])
    before = gym.files()
    done = gymdbd("-c", gym.config, "drill")
    assert (done.returncode, message in done.stderr, probe["sql"] in done.stderr) == (1, True, True)
    assert gym.files() == before
    code, answer = gym.run("status")
    entry = answer["jobs"]["weekly-drill"]
    assert (code, probe["sql"] in entry["error"], "returned" in entry["error"]) == (2, True, False)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("print('the till is empty'); raise SystemExit(3)", "returned 3"),
        ("import time; print('the till', flush=True); time.sleep(60)", "exceeded its timeout"),
    ],
)
def test_a_command_that_fails_or_hangs_fails_the_drill(
    tmp_path: Path, script: str, message: str
) -> None:
    """What it printed last goes to the terminal; log and status have the program's name alone."""
    gym = Gym(tmp_path, command=[sys.executable, "-c", script], command_timeout="2s")
    done = gymdbd("-c", gym.config, "drill")
    assert (done.returncode, f"{Path(sys.executable).name} {message}" in done.stderr) == (1, True)
    assert f"{Path(sys.executable).name} printed: the till" in done.stderr
    kept = gym.status.read_text() + gym.log.read_text()
    assert (message in kept, "the till" in kept, "raise" in kept) == (True, False, False)


def test_the_values_of_probes_are_shown_and_not_kept(tmp_path: Path) -> None:
    """They may be secrets: `--json` has them, status and log do not."""
    gym = Gym(tmp_path, probes=[{"sql": "SELECT 'the ' || 'till'", "expect": "the till"}])
    assert gym.run("drill")[1]["probes"][0]["value"] == "the till"
    assert "the till" not in gym.status.read_text() + gym.log.read_text()
    (probe,) = gym.run("status")[1]["jobs"]["weekly-drill"]["result"]["probes"]
    assert probe == {"sql": "SELECT 'the ' || 'till'"}


@pytest.mark.parametrize("before", [(), ("sh",), ("env", "sh", "-e")])
def test_a_command_that_others_could_have_written_is_a_fault_of_its_job_alone(
    tmp_path: Path, before: tuple[str, ...]
) -> None:
    """The drill fails and says why, check says so before, and a backup is made all the same."""
    script = tmp_path / "test.sh"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o757)
    gym = Gym(tmp_path, command=[*before, str(script)])
    code, result = gym.run("drill")
    assert (code, result["code"]) == (1, "drill-failed")
    assert f"every user may write to {script}" in result["error"]
    checks = {check["name"]: check["state"] for check in gym.run("check")[1]["checks"]}
    assert checks["weekly-drill command"] == "error"
    script.chmod(0o755)
    assert gym.run("drill")[0] == 0


def test_a_drill_in_a_shared_folder_uses_a_new_folder_of_its_own(tmp_path: Path) -> None:
    """What others have put under its former name is neither used nor in the way."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (tmp_path / "theirs").mkdir()
    (shared / ".weekly-drill.drill").symlink_to(tmp_path / "theirs")
    (shared / "..weekly-drill.drill.lock").symlink_to(tmp_path / "theirs" / "lock")
    command = ["sh", "-c", 'stat -c %a "${GYMDBD_DATABASE%/*}" > ' + str(tmp_path / "seen")]
    gym = Gym(tmp_path, scratch_folder=str(shared), command=command)
    assert gym.run("drill")[0] == 0
    assert (tmp_path / "seen").read_text() == "700\n"
    names = {".weekly-drill.drill", "..weekly-drill.drill.lock"}
    assert {path.name for path in shared.iterdir()} == names
    assert list((tmp_path / "theirs").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="makes another user's folder")
def test_a_drill_removes_no_folder_of_another_user_or_of_another_archive(tmp_path: Path) -> None:
    """Whatever it is called: a run may be at work in it."""
    theirs, other = tmp_path / ".weekly-drill.drill", tmp_path / ".weekly-drill.x.00000000.drill"
    for folder in (theirs, other):
        folder.mkdir()
    os.chown(theirs, 12002, 12002)
    assert Gym(tmp_path, scratch_folder=str(tmp_path)).run("drill")[0] == 0
    assert (theirs.exists(), other.exists()) == (True, True)


# Starts another process, which holds the write end of a pipe of the test's, and hangs.
_HANGS = """
import subprocess, sys, time
subprocess.Popen(["sleep", "300"], stdin=open(sys.argv[1], "w"))
open(sys.argv[1], "w").write("hangs")
time.sleep(300)
"""


@pytest.mark.parametrize("how", ["hangs", "fails", "succeeds"])
def test_nothing_that_the_command_has_started_outlives_the_drill(tmp_path: Path, how: str) -> None:
    """An application's own processes would hold the files that were restored, and the port."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    ends = {"hangs": "", "fails": "sys.exit(3)", "succeeds": "sys.exit(0)"}
    script = _HANGS.replace("time.sleep(300)", ends[how] or "time.sleep(300)")
    command = [sys.executable, "-c", script, str(pipe)]
    gym = Gym(tmp_path, command=command, command_timeout="2s" if how == "hangs" else "1m")
    # Opened so, it does not wait for a writer.
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        code, _ = gym.run("drill")
        assert code == (0 if how == "succeeds" else 1)
        assert os.read(reader, 100) == b"hangs"
        # The end of the pipe: nobody has it open for writing any more.
        assert os.read(reader, 100) == b""
    finally:
        os.close(reader)


def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    """By the drill, and by check beforehand."""
    gym = Gym(tmp_path, command=["/no/such/program", "a b"])
    code, result = gym.run("drill")
    assert (code, result["code"]) == (1, "drill-failed")
    assert "the command program cannot be run" in result["error"]
    checks = {one["name"]: one["state"] for one in gym.run("check")[1]["checks"]}
    assert checks["weekly-drill command"] == "error"


def test_a_drill_waits_for_the_archive_and_holds_it_while_it_restores(tmp_path: Path) -> None:
    """Retention would take away the backup that it reads."""
    gym = Gym(tmp_path)
    job = DrillConfig(name="drill", kind="drill", archive=gym.archive)
    archive_lock = lock.archive_lock(gym.archive)
    restoring: list[bool] = []

    def progress(step: str, done: int, total: int) -> None:
        del step, done, total
        restoring.append(lock.is_held(archive_lock))

    def check() -> None:
        held.check()
        if len(held.seen) == 5 and any(gym.archive.glob("*.drill/.*.partial")):
            restoring.append(lock.is_held(archive_lock))

    with Contended(archive_lock, lambda: list(gym.archive.glob("*.drill/*"))) as held:
        drill.run(job, context(check=check, progress=progress))
    assert held.seen[:5] == [[]] * 5
    assert set(restoring) == {True}


def test_what_a_killed_drill_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """Its folder is begun anew."""
    gym = Gym(tmp_path)
    left = gym.archive / ".weekly-drill.drill"
    left.mkdir()
    (left / "gym.db").write_bytes(b"half")
    assert gym.run("drill")[0] == 0
    assert not left.exists()


def test_a_damaged_backup_fails_the_drill(tmp_path: Path) -> None:
    """That is what it is for."""
    gym = Gym(tmp_path)
    (path,) = backups(gym.archive)
    with closing(sqlite3.connect(path)) as changed, changed:
        changed.execute("DELETE FROM t WHERE id = 1")
    code, result = gym.run("drill")
    assert (code, result["code"]) == (1, "backup-damaged")


def test_a_drill_needs_no_configuration(tmp_path: Path) -> None:
    """With --archive it restores the newest good backup."""
    gym = Gym(tmp_path)
    code, result = gymdbd_json("drill", "--archive", gym.archive)
    assert (code, result["backup"]) == (0, str(backups(gym.archive)[0]))
    (tmp_path / "empty").mkdir()
    code, result = gymdbd_json("drill", "--archive", tmp_path / "empty")
    assert (code, result["code"]) == (1, "backup-missing")
