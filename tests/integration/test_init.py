"""`gymdbd init` on the machine with the database: found or asked for, and backed up."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gymdbd.config import config
from gymdbd.jobs.pull.replica import State
from tests.faults import tracing
from tests.support import everyone, samples
from tests.support.command import gymdbd, require
from tests.support.databases import (
    backups,
    broken_promises,
    make_database,
    query,
    sqlite_elsewhere,
)
from tests.support.gym import running_app
from tests.support.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

_USER = 12041
_CHANGES = {"mkdir", "link", "rename", "unlink", "pwrite64", "fsync", "fchmod"}
_KEYS = {
    *("schema", "state", "config", "written", "database", "archive", "checks", "backup", "next"),
}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Give a machine with an application whose database is not there yet."""
    return Machine.make(tmp_path)


def test_a_fresh_machine_is_protected_by_one_command(machine: Machine) -> None:
    """While the application writes: a private configuration, a whole backup, and status is ok."""
    with running_app(machine.database) as app:
        app.ask("POST", "/writer")
        app.wait_for_commits(20)
        done = machine.run("init")
        assert done.returncode == 0, done.stderr
        assert f"database   {machine.database}\n" in done.stdout
        status = machine.run("status")
    (backup,) = backups(machine.archive)
    assert broken_promises(backup) == []
    assert (status.returncode, "ok" in status.stdout) == (0, True)
    assert stat.S_IMODE(machine.config.stat().st_mode) == 0o600
    for folder in (machine.config.parent, machine.archive):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_it_says_what_to_do_next(machine: Machine) -> None:
    """A service with just these paths, being told, and a copy; not what is done already."""
    make_database(machine.database)
    told = machine.run("init").stdout.partition("\nNext:\n")[2]
    install = f"--database {machine.database} --archive {machine.archive}"
    for step in (f"sudo deploy/install.sh {install}", "gymdbd notify --test", "gymdbd init --host"):
        assert step in told
    with machine.config.open("a") as file:
        file.write("notify: {to: {me: {command: [/bin/true]}}}\n")
    again = machine.run("init").stdout.partition("\nNext:\n")[2]
    assert "gymdbd notify" not in again


def test_backups_in_a_repository_are_to_be_kept_out_of_it(machine: Machine) -> None:
    """By a line that is printed, and no longer once git ignores them."""
    git = [require("git"), "-C", str(machine.app)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    make_database(machine.database)
    _, answer = machine.run_json("init")
    (line,) = answer["next"][0].splitlines()[1:]
    subprocess.run(["sh", "-c", line], check=True)
    assert (machine.app / ".gitignore").read_text() == "/data/backups/database/\n"
    _, answer = machine.run_json("init")
    assert [step for step in answer["next"] if "git:" in step] == []
    subprocess.run([*git, "add", "--all"], check=True)
    listed = subprocess.run([*git, "ls-files"], check=True, capture_output=True, text=True)
    assert not re.search("^data/", listed.stdout, re.MULTILINE)


def test_a_repository_whose_files_are_elsewhere_does_not_stop_it(machine: Machine) -> None:
    """It takes up no backups."""
    git = [require("git"), "-C", str(machine.app)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    (machine.home / "elsewhere").mkdir()
    there = str(machine.home / "elsewhere")
    subprocess.run([*git, "config", "core.worktree", there], check=True)
    make_database(machine.database)
    code, answer = machine.run_json("init")
    assert code == 0, answer
    assert [step for step in answer["next"] if "git:" in step] == []


def test_a_second_time_changes_no_byte(machine: Machine) -> None:
    """Nor the time or mode of any file, whether the database is named, by a link, or not."""
    make_database(machine.database)
    link = machine.home / "link.db"
    link.symlink_to(machine.database)
    with sqlite_elsewhere(machine.database, "SELECT * FROM t"):
        assert machine.run("init").returncode == 0
        before = machine.everything()
        for words in ((), ("--database", link), ("--archive", "data/backups/database")):
            done = machine.run("init", *words)
            assert (done.returncode, done.stdout.count("kept")) == (0, 2)
            assert machine.everything() == before
        done = machine.run("init", "--archive", "elsewhere")
        assert (done.returncode, machine.everything()) == (2, before)
        assert f"backs it up into {machine.archive}, not" in done.stderr


def test_a_dry_run_changes_nothing(machine: Machine) -> None:
    """It prints the configuration that would be written, and that one can be read."""
    make_database(machine.database)
    before = machine.everything()
    done = machine.run("init", "--dry-run")
    assert (done.returncode, machine.everything()) == (0, before)
    text = done.stdout.partition(f"write {machine.config}:\n")[2]
    assert set(config.parse(text, machine.config).jobs) == {"nightly-backup"}
    code, answer = machine.run_json("init", "--dry-run")
    assert (code, answer["dry_run"], machine.everything()) == (0, True, before)
    assert answer["text"].strip() == text.strip()
    # The archive is in the folder of the application, also if the database is there itself.
    make_database(machine.app / "gym.db")
    _, answer = machine.run_json("init", "--dry-run", "--database", "gym.db")
    assert answer["archive"] == str(machine.archive)


def test_one_json_object_tells_all_of_it(machine: Machine) -> None:
    """What was found, checked and made, and what to do next."""
    make_database(machine.database)
    code, answer = machine.run_json("init")
    assert (code, answer["state"], set(answer)) == (0, "ok", _KEYS)
    assert answer["backup"]["path"] == str(backups(machine.archive)[0])
    assert {one["name"] for one in answer["checks"]} >= {"config", "nightly-backup database"}
    code, again = machine.run_json("init")
    assert (code, again["written"], again["backup"]["path"]) == (0, False, answer["backup"]["path"])


def test_several_databases_are_listed_and_none_is_taken_without_a_terminal(
    machine: Machine,
) -> None:
    """As a failure of the command line, before anything is written."""
    make_database(machine.database)
    make_database(machine.app / "other.sqlite3")
    before = machine.everything()
    done = machine.run("init")
    assert (done.returncode, machine.everything()) == (2, before)
    for path in (machine.database, machine.app / "other.sqlite3"):
        assert str(path) in done.stderr
    assert "--database PATH" in done.stderr


def test_a_person_chooses_the_database_and_the_archive(machine: Machine) -> None:
    """By number; the one that a program has open comes first, and says by whom."""
    make_database(machine.database)
    make_database(machine.app / "a.db")
    with (
        sqlite_elsewhere(machine.database, "SELECT * FROM t") as process,
        machine.typing("init") as person,
    ):
        person.expect("q: none of them) ")
        first, second = re.findall(r"^  [12]  (.*)$", person.said, re.MULTILINE)
        assert first.startswith("instance/gym_system.db  (")
        assert f"(pid {process.pid})" in first
        assert second.startswith("a.db  (")
        person.type("77\n")
        person.expect("q: none of them) 77\n")
        person.type("2\n")
        person.expect(f"(Enter: {machine.app / 'data/backups/database'}) ")
        person.type("~/elsewhere\n")
        assert person.end() == 0
    (backup,) = backups(machine.home / "elsewhere")
    assert backup.name.startswith("a_backup_")


def test_the_only_database_is_asked_about_as_well(machine: Machine) -> None:
    """A person may say that it is none of those, and then nothing is written."""
    make_database(machine.database)
    before = machine.everything()
    with machine.typing("init") as person:
        person.expect("Enter: 1; q: none of them) ")
        person.type("q\n")
        assert person.end() == 1
        person.expect("--database PATH")
    assert machine.everything() == before


def test_what_only_a_program_elsewhere_has_open_is_offered_and_never_taken(
    machine: Machine, tmp_path: Path
) -> None:
    """It may be any program's."""
    with sqlite_elsewhere(make_database(tmp_path / "else.db"), "SELECT * FROM t"):
        done = machine.run("init")
        assert (done.returncode, str(tmp_path / "else.db") in done.stderr) == (2, True)
        with machine.typing("init") as person:
            person.expect(f"{tmp_path / 'else.db'}  (")
            person.type("q\n")
            assert person.end() == 1
    assert not machine.config.exists()


def test_what_is_no_applications_database_is_left_out(machine: Machine) -> None:
    """Backups, replicas, hidden folders, virtual environments, and files of another kind."""
    make_database(machine.database)
    for name in ("data", ".cache", "venv/lib", "node_modules/x"):
        (machine.app / name).mkdir(parents=True)
    make_database(machine.app / "data/gym_system_backup_20261128_030000.db")
    make_database(machine.app / ".cache/hidden.db")
    make_database(machine.app / "node_modules/x/its.db")
    make_database(machine.app / "venv/lib/its.db")
    make_database(machine.app / "venv/its.db")
    (machine.app / "venv/pyvenv.cfg").touch()
    _pretend_pulled(make_database(machine.app / "copy.db"))
    (machine.app / "text.db").write_text("SQLite format 4")
    (machine.app / "empty.db").touch()
    os.mkfifo(machine.app / "pipe.db")
    code, answer = machine.run_json("init", "--dry-run")
    assert (code, answer["database"]) == (0, str(machine.database))


def _pretend_pulled(replica: Path) -> None:
    """Leave beside a file what a pull leaves."""
    state = State(
        host="pi",
        remote_database="/srv/gym.db",
        fingerprint=None,
        pulled_at="2026-11-28T03:00:00+00:00",
        compared_at="2026-11-28T03:00:00+00:00",
        md5="",
        sha256="",
        tables={},
    )
    beside = replica.with_name(f".{replica.name}.pull.json")
    beside.write_text(json.dumps(dataclasses.asdict(state)))


def _folder(machine: Machine) -> Path:
    make_database(machine.database)
    return machine.database.parent


def _postgres(machine: Machine) -> Path:
    (machine.app / "pg").mkdir()
    (machine.app / "pg/PG_VERSION").write_text("15\n")
    return machine.app / "pg"


def _text(machine: Machine) -> Path:
    (machine.app / "notes.db").write_text("members: 344\n" * 99)
    return machine.app / "notes.db"


def _empty(machine: Machine) -> Path:
    (machine.app / "empty.db").touch()
    return machine.app / "empty.db"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_folder, "instance/gym_system.db"),
        (_postgres, "PostgreSQL"),
        (_text, "is not an SQLite database"),
        (_empty, "is empty"),
        (lambda machine: machine.app / "none.db", "there is no database"),
        (None, "there is no SQLite database in"),
    ],
    ids=["folder", "postgres", "text", "empty", "missing", "nothing there"],
)
def test_what_is_no_database_is_refused_before_anything_is_written(
    machine: Machine, make: object, told: str
) -> None:
    """With what to name instead."""
    words = ["--database", make(machine)] if callable(make) else []
    before = machine.everything()
    done = machine.run("init", *words)
    assert done.returncode in (1, 2)
    assert told in done.stderr
    assert "What to do: " in done.stderr
    assert machine.everything() == before


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_database_that_nobody_has_open_is_backed_up_in_either_mode(
    machine: Machine, mode: str
) -> None:
    """It is as it was, and the default of the archive is that of `gymdbd backup` in that folder."""
    make_database(machine.database, mode=mode)
    before = machine.database.read_bytes()
    assert machine.run("init", "--database", "instance/gym_system.db").returncode == 0
    assert machine.database.read_bytes() == before
    assert machine.run("backup", "--database", "instance/gym_system.db").returncode == 0
    assert len(backups(machine.archive)) == 2


def test_a_configuration_that_is_there_is_never_changed(machine: Machine) -> None:
    """The line to add is printed; once it is added, the rest is done."""
    make_database(machine.database)
    make_database(machine.app / "other.db")
    assert machine.run("init", "--database", "other.db").returncode == 0
    before = machine.everything()
    done = machine.run("init", "--database", machine.database)
    assert (done.returncode, machine.everything()) == (2, before)
    (line,) = [line for line in done.stderr.splitlines() if '"nightly-backup-2": {' in line]
    text = machine.config.read_text().replace("jobs:\n", f"jobs:\n  {line.strip()}\n", 1)
    machine.config.write_text(text)
    machine.archive.mkdir(mode=0o700, parents=True, exist_ok=True)
    assert machine.run("init", "--database", machine.database).returncode == 0
    assert machine.run("status").returncode == 0


def test_an_archive_on_a_disk_that_is_not_mounted_is_not_made(machine: Machine) -> None:
    """Nor is anything else: the backups would be on the wrong disk, unnoticed."""
    make_database(machine.database)
    before = machine.everything()
    done = machine.run("init", "--archive", machine.home / "mnt/usb/backups")
    assert (done.returncode, machine.everything()) == (1, before)
    assert "mount the disk" in done.stderr


def test_killed_anywhere_it_goes_on_when_it_is_typed_again(
    machine: Machine, tmp_path: Path
) -> None:
    """SIGKILL at the k-th change of the disk; then the same command ends as it always does."""
    make_database(machine.database)
    kept = tmp_path / "kept"
    shutil.copytree(machine.home, kept)
    log = tmp_path / "log"
    with tracing.counting(log) as tracer:
        assert machine.run("init", traced=tracer).returncode == 0
    every = [point for point in tracing.points(log, machine.home) if point.call in _CHANGES]
    assert {point.call for point in every} >= {"mkdir", "link", "rename"}
    for point in samples.sample(every, "kill init", 4):
        shutil.rmtree(machine.home)
        shutil.copytree(kept, machine.home)
        with tracing.injecting(point, "signal=KILL") as tracer:
            assert machine.run("init", traced=tracer).returncode != 0
        done = machine.run("init")
        assert done.returncode == 0, (str(point), done.stderr)
        assert machine.run("status").returncode == 0
        assert [path.name for path in machine.config.parent.iterdir()] == ["config.yaml"]


def test_a_disk_without_hard_links_takes_the_configuration_as_well(machine: Machine) -> None:
    """As FAT and some shares are; what is there already is not replaced there either."""
    make_database(machine.database)
    point = tracing.Point("link", 1, "")
    for code in (0, 0):
        with tracing.injecting(point, "error=EPERM") as tracer:
            assert machine.run("init", traced=tracer).returncode == code
    assert [path.name for path in machine.config.parent.iterdir()] == ["config.yaml"]
    assert set(config.load(machine.config).jobs) == {"nightly-backup"}


@pytest.fixture
def theirs() -> Iterator[Machine]:
    """Give a machine whose application is another user's, in folders that all users may enter."""
    with tempfile.TemporaryDirectory(prefix="gymdbd-init-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        machine = Machine.make(folder)
        make_database(machine.database)
        for path in (machine.app, *machine.app.rglob("*")):
            os.chown(path, _USER, _USER)
        yield machine


def test_the_configuration_of_an_ordinary_user_is_found_without_naming_it(
    theirs: Machine,
) -> None:
    """In the home folder, also by `gymdbd status`."""
    everyone.install()
    os.chown(theirs.home, _USER, _USER)
    done = gymdbd("init", cwd=theirs.app, prefix=_as_user(theirs))
    assert done.returncode == 0, done.stderr
    assert theirs.config.stat().st_uid == _USER
    assert gymdbd("status", cwd=theirs.app, prefix=_as_user(theirs)).returncode == 0


def test_a_database_of_another_user_is_left_to_its_owner(theirs: Machine) -> None:
    """One that may not be read is refused with whom to be, and nothing is written."""
    everyone.install()
    theirs.database.chmod(0o600)
    theirs.home.chmod(0o777)
    before = theirs.everything()
    prefix = _as_user(theirs, _USER + 1)
    done = gymdbd("init", "--database", theirs.database, cwd=theirs.app, prefix=prefix)
    assert (done.returncode, theirs.everything()) == (1, before)
    assert "run as the database's owner" in done.stderr


def _as_user(machine: Machine, user: int = _USER) -> list[str]:
    home = f"HOME={machine.home}"
    return [
        *everyone.ENVIRONMENT,
        *(home, "setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"),
    ]


def test_root_works_as_the_owner_of_the_database(theirs: Machine) -> None:
    """The configuration stays root's; all that is in the other user's folder is that user's."""
    machine = theirs
    done = machine.run("init")
    assert done.returncode == 0, done.stderr
    assert f"acting as uid {_USER}" in done.stderr
    assert {path.lstat().st_uid for path in machine.app.rglob("*")} == {_USER}
    assert machine.config.stat().st_uid == 0
    (backup,) = backups(machine.archive)
    assert query(backup, "SELECT count(*) FROM t") == [(100,)]
    again = machine.run("init")
    assert (again.returncode, f"kept: {backup}" in again.stdout) == (0, True)


def test_root_writes_the_configuration_that_the_service_reads() -> None:
    """It is where `config.find` and the unit look for it."""
    unit = (Path(__file__).parents[2] / "deploy/systemd/gymdbd.service").read_text()
    assert f"-c {config.place_for_new()} run" in unit
    assert sys.platform == "linux"


def test_flags_of_one_way_are_refused_with_the_other(machine: Machine) -> None:
    """Each says which."""
    for words in (("--replica", "x"), ("--host", "pi", "--database", "x"), ("--wait", "1m")):
        done = machine.run("init", *words, "--json")
        assert done.returncode == 2
        assert "--host HOST" in json.loads(done.stdout)["error"]
