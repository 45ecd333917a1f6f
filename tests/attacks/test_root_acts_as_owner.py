"""Root in another user's folder acts as that user, and so does no more than that user may."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import gymdbd as package
from gymdbd import acting
from gymdbd.acting import User
from gymdbd.clock import Clock
from gymdbd.config import config
from gymdbd.notices import report
from gymdbd.runs import overview
from gymdbd.source.errors import GymdbdError
from tests.support.command import environment, gymdbd, gymdbd_json
from tests.support.databases import backups, make_database
from tests.support.jobs import write_config

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who acts as another user")

_PI = 12011
_SECRET = b"only for root"


@pytest.fixture
def place() -> Iterator[Path]:
    """Give a folder of root's that every user may enter; `pi` in it is another user's."""
    folder = Path(tempfile.mkdtemp(prefix="gymdbd-acting-"))
    folder.chmod(0o755)
    (folder / "pi").mkdir()
    (folder / "root").mkdir(mode=0o700)
    (folder / "root" / "secret").write_bytes(_SECRET)
    make_database(folder / "pi" / "gym.db")
    (folder / "pi" / "archive").mkdir(mode=0o700)
    _give(folder / "pi")
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _give(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, _PI, _PI, follow_symlinks=False)


def _link(path: Path, target: Path) -> None:
    """Make a link of the other user's."""
    path.symlink_to(target)
    os.chown(path, _PI, _PI, follow_symlinks=False)


def _owners(folder: Path) -> set[int]:
    return {path.lstat().st_uid for path in folder.rglob("*")}


def _secret(place: Path) -> tuple[bytes, int, int]:
    path = place / "root" / "secret"
    return path.read_bytes(), path.stat().st_uid, path.stat().st_mode


def test_all_that_root_makes_in_another_users_folder_is_that_users(place: Path) -> None:
    """It says as whom it acts."""
    theirs = place / "pi"
    words = ("backup", "--database", theirs / "gym.db", "--archive", theirs / "archive")
    done = gymdbd(*words)
    assert (done.returncode, f"acting as uid {_PI}" in done.stderr) == (0, True)
    assert (len(backups(theirs / "archive")), _owners(theirs)) == (1, {_PI})


@pytest.mark.parametrize("name", [".gymdbd.lock", ".gym_backup.db.partial"])
def test_a_link_in_another_users_archive_leads_to_nothing_of_roots(place: Path, name: str) -> None:
    """What only root may write stays as it was, whether or not the backup can be made."""
    theirs, before = place / "pi", _secret(place)
    _link(theirs / "archive" / name, place / "root" / "secret")
    gymdbd("backup", "--database", theirs / "gym.db", "--archive", theirs / "archive")
    assert _secret(place) == before


@pytest.mark.parametrize("name", ["gym.db-wal", "gym.db-shm", "gym.db-journal"])
def test_a_side_file_that_is_a_link_leads_to_nothing_of_roots(place: Path, name: str) -> None:
    """Not even if the archive is root's: another process reads the database."""
    theirs, before = place / "pi", _secret(place)
    _link(theirs / name, place / "root" / "secret")
    (place / "root" / "archive").mkdir()
    gymdbd("backup", "--database", theirs / "gym.db", "--archive", place / "root" / "archive")
    assert _secret(place) == before


@pytest.mark.parametrize("archive", ["pi", "root"])
def test_a_database_that_is_a_link_to_one_of_roots_is_not_copied(place: Path, archive: str) -> None:
    """Root would hand over what only root may read."""
    make_database(place / "root" / "secret.db")
    _link(place / "pi" / "link.db", place / "root" / "secret.db")
    (place / "root" / "archive").mkdir()
    folder = place / archive / "archive"
    code, answer = gymdbd_json(
        "backup", "--database", place / "pi" / "link.db", "--archive", folder
    )
    assert (code, answer["code"], backups(folder)) == (1, "source-unreadable", [])


def test_root_backs_up_another_users_database_into_its_own_archive(place: Path) -> None:
    """The archive stays root's alone, and what lies beside the database its user's.

    That root acts as that user is said once.
    """
    archive = place / "root" / "archive"
    archive.mkdir()
    words = ("backup", "--database", place / "pi" / "gym.db", "--archive", archive)
    done = gymdbd(*words, "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["tables"]) == (0, {"t": 100})
    assert done.stderr.count("acting as") == 1
    manifest = json.loads(Path(answer["path"] + ".json").read_text())
    assert (manifest["uid"], manifest["journal_mode"]) == (_PI, "wal")
    assert (_owners(archive), _owners(place / "pi")) == ({0}, {_PI})


def _backed_up(place: Path) -> Path:
    """Make a backup of the database in an archive of root's, and return that."""
    archive = place / "root" / "archive"
    archive.mkdir()
    words = ("backup", "--database", place / "pi" / "gym.db", "--archive", archive)
    assert gymdbd_json(*words)[0] == 0
    return archive


@pytest.mark.parametrize("flags", [(), ("--replace",)], ids=["through SQLite", "as a file"])
def test_root_restores_into_another_users_database(place: Path, flags: tuple[str, ...]) -> None:
    """That user's process does, and saves what it overwrites beside the database."""
    archive, database = _backed_up(place), place / "pi" / "gym.db"
    _change(database, "DELETE FROM t WHERE id > 7")
    words = ("restore", "latest", "--archive", archive, "--to", database)
    _, plan = gymdbd_json(*words, "--dry-run")
    code, answer = gymdbd_json(*words, *flags)
    assert (plan["tables"], code) == ({"t": {"now": 7, "then": 100}}, 0)
    assert (_count(database), _count(Path(answer["undo"]))) == (100, 7)
    assert (_owners(archive), _owners(place / "pi")) == ({0}, {_PI})
    assert gymdbd(*shlex.split(answer["undo_command"])[1:]).returncode == 0
    assert (_count(database), len(backups(archive))) == (7, 1)


def test_root_undoes_as_the_user_in_whose_folder_the_restore_was_noted(place: Path) -> None:
    """And not in root's own folder, to which that user has made a link."""
    archive, database = _backed_up(place), place / "pi" / "gym.db"
    _change(database, "DELETE FROM t WHERE id > 7")
    assert gymdbd_json("restore", "latest", "--archive", archive, "--to", database)[0] == 0
    for rows in (7, 100):
        code, undone = gymdbd_json("undo", "--database", database)
        assert (code, _count(database)) == (0, rows), undone
        assert (_owners(archive), _owners(place / "pi")) == ({0}, {_PI})
    secret = make_database(place / "root" / "secret.db", rows=3)
    assert gymdbd_json("restore", "latest", "--archive", archive, "--to", secret)[0] == 0
    _link(place / "pi" / "link.db", secret)
    code, refused = gymdbd_json("undo", "--database", place / "pi" / "link.db")
    assert (code, refused["code"], _count(secret)) == (1, "source-unreadable", 100)


def test_what_root_notes_in_a_folder_for_all_is_roots(place: Path) -> None:
    """Another user may have made a file of that name there before."""
    (place / "root" / "archive").mkdir()
    (place / "all").mkdir()
    (place / "all").chmod(0o1777)
    database, archive = make_database(place / "all" / "gym.db"), place / "root" / "archive"
    assert gymdbd_json("backup", "--database", database, "--archive", archive)[0] == 0
    note = place / "all" / ".gym.db.restored.json"
    note.write_text("{}")
    os.chown(note, _PI, _PI)
    assert gymdbd_json("restore", "latest", "--archive", archive, "--to", database)[0] == 0
    assert (note.stat().st_uid, gymdbd("undo", "--database", database).returncode) == (0, 0)


def test_the_status_of_another_users_database_is_seen_as_that_user(place: Path) -> None:
    """A link to a database of root's tells neither its size nor when it was written."""
    archive = _backed_up(place)
    make_database(place / "root" / "secret.db")
    for named in (("--archive", archive), ("--database", place / "pi" / "gym.db")):
        code, answer = gymdbd_json("status", "--archive", archive, *named)
        assert (code, answer["databases"][0]["written_at"] is not None) == (0, True)
    (place / "pi" / "gym.db").unlink()
    _link(place / "pi" / "gym.db", place / "root" / "secret.db")
    code, answer = gymdbd_json("status", "--archive", archive)
    (found,) = answer["databases"]
    assert (code, found["code"], found["written_at"]) == (3, "source-unreadable", None)
    assert _owners(archive) == {0}


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _change(path: Path, sql: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(sql)


def _count(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])


@pytest.mark.parametrize("name", ["gym.db", ".gym.db.lock", "gym.db.before-restore"])
def test_a_restore_writes_nothing_of_roots_through_a_link(place: Path, name: str) -> None:
    """Root's databases and folders keep their content, whatever a user links to them."""
    archive, theirs = _backed_up(place), place / "pi"
    secret = make_database(place / "root" / "secret.db", rows=3)
    (theirs / name).unlink(missing_ok=True)
    _link(theirs / name, place / "root" / ("secret" if name.startswith(".") else "secret.db"))
    before = _secret(place), _names(place / "root")
    done = gymdbd("restore", "latest", "--archive", archive, "--to", theirs / "gym.db")
    assert done.returncode == 1
    assert (_count(secret), _secret(place), _names(place / "root")) == (3, *before)


def test_diff_and_rescue_read_another_users_database_as_that_user(place: Path) -> None:
    """And not through a link to one that is root's."""
    archive, database = _backed_up(place), place / "pi" / "gym.db"
    _change(database, "DELETE FROM t WHERE id > 98")
    code, answer = gymdbd_json("diff", "latest", "--archive", archive, "--database", database)
    assert (code, answer["tables"]["t"]["removed"]) == (0, 2)
    rescued = gymdbd("rescue", "latest", "--archive", archive, "--database", database)
    assert (rescued.returncode, rescued.stdout.count("row 98")) == (0, 20)
    _link(place / "pi" / "link.db", make_database(place / "root" / "secret.db"))
    words = ("--archive", archive, "--database", place / "pi" / "link.db")
    for verb in (("diff",), ("rescue", "--to", place / "root" / "rows.sql")):
        assert gymdbd_json(*verb, "latest", *words)[1]["code"] == "source-unreadable"


@pytest.mark.parametrize("form", ["sql", "db"])
def test_root_writes_no_rows_into_another_users_folder(place: Path, form: str) -> None:
    """That user could put a link in the place of the unfinished file, for root to write to."""
    words = ("rescue", "latest", "--archive", _backed_up(place), "--as", form)
    before = _names(place / "pi")
    code, answer = gymdbd_json(*words, "--to", place / "pi" / "rows")
    assert (code, answer["code"], _names(place / "pi")) == (1, "acting", before)
    assert gymdbd(*words, "--to", place / "root" / "rows").returncode == 0


def _configured(place: Path, archive: Path) -> Path:
    job = {"schedule": "0 3 * * *", "database": str(place / "pi" / "gym.db")}
    return write_config(
        place / "root",
        {"nightly": {**job, "archive": str(archive)}},
        log={"file": str(place / "root" / "log.jsonl")},
    )


def test_status_and_log_of_roots_configuration_stay_roots(place: Path) -> None:
    """The half of the run that is root's records what the other half reports."""
    config = _configured(place, place / "pi" / "archive")
    code, made = gymdbd_json("-c", config, "backup", "nightly")
    _, status = gymdbd_json("-c", config, "status")
    written = json.loads((place / "root" / "ledger.jsonl").read_text())["written"]
    # The other half may not open its own /proc/self/io; its status file is root's half's.
    assert written >= made["size"]
    lines = (place / "root" / "log.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert (code, status["jobs"]["nightly"]["state"]) == (0, "ok")
    assert [event["event"] for event in events][-1] == "run finished"
    assert (_owners(place / "root"), _owners(place / "pi")) == ({0}, {_PI})


_OTHER_HALF = f"""
import signal, sys
from pathlib import Path
from gymdbd import acting
from gymdbd.config import config
from gymdbd.runs import keeper
settings = config.load(Path(sys.argv[1]))
keeper.go_on_as(acting.User({_PI}, {_PI}), settings, ["nightly"])
status = keeper.status_file(settings.status_file)
for job in settings.jobs.values():
    status.rejected(job, "theirs")
for line in (b"no JSON", b"[]", b'{{"do": "log", "event": 1}}', *(
    b'{{"do": "%s", "job": "nightly", "content": [], "due": [], "waiting": 1}}' % what
    for what in (b"started", b"ended", b"rejected")
)):
    keeper._link[0].sendall(line + b"\\n")
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("told", flush=True)
sys.exit(7 if signal.sigtimedwait([signal.SIGTERM], 30) else 1)
"""


def test_roots_half_of_a_run_records_only_that_run_and_passes_on_signals(place: Path) -> None:
    """Nothing that the other half tells ends it, and it ends as the other one does."""
    theirs = {"schedule": "0 3 * * *", "database": str(place / "pi" / "gym.db")}
    jobs = {name: {**theirs, "archive": str(place / "pi" / name)} for name in ("nightly", "other")}
    log = {"file": str(place / "root" / "log.jsonl")}
    config = write_config(place / "root", jobs, log=log)
    words = [sys.executable, "-c", _OTHER_HALF, str(config)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment()) as half:
        assert half.stdout is not None
        told = half.stdout.readline()
        half.terminate()
        assert (told, half.stdout.read(), half.wait(60)) == (b"told\n", b"", 7)
    status = json.loads((place / "root" / "status.json").read_text())
    assert list(status["jobs"]) == ["nightly"]


def test_a_status_file_in_another_users_folder_is_written_by_that_user(place: Path) -> None:
    """Even if database and archive are others'; so no link leads it into a folder of root's."""
    (place / "root" / "archive").mkdir()
    (place / "pi" / "there").mkdir()
    _give(place / "pi")
    job = {"schedule": "0 3 * * *", "database": str(place / "pi" / "gym.db")}
    config = write_config(
        place / "root",
        {"nightly": {**job, "archive": str(place / "root" / "archive")}},
        status_file=str(place / "pi" / "there" / "status.json"),
    )
    code, _ = gymdbd_json("-c", config, "backup", "nightly")
    status = json.loads((place / "pi" / "there" / "status.json").read_text())
    assert (code, status["jobs"]["nightly"]["state"]) == (0, "ok")
    assert (_owners(place / "root"), _owners(place / "pi")) == ({0}, {_PI})
    (place / "pi" / "there").rename(place / "pi" / "elsewhere")
    _link(place / "pi" / "there", place / "root")
    gymdbd_json("-c", config, "backup", "nightly")
    assert _names(place / "root") == ["archive", "config.yaml", "secret"]


def test_every_verb_acts_as_the_owner_of_the_archive(place: Path) -> None:
    """And so leaves nothing there that the owner could not use."""
    database, archive = place / "pi" / "gym.db", place / "pi" / "archive"
    made = gymdbd_json("backup", "--database", database, "--archive", archive)[1]["path"]
    for words in (
        ("list",),
        ("verify", "latest"),
        ("keep", made),
        ("unkeep", made),
        ("reject", made),
        ("accept", made),
        ("drill",),
        ("status",),
        ("prune", "--keep-count", "1"),
        ("restore", "latest", "--to", database),
        ("diff", "latest", "--database", database),
        ("rescue", "latest", "--database", database),
    ):
        done = gymdbd(*words, "--archive", archive)
        acted = f"acting as uid {_PI}" in done.stderr
        assert (words, done.returncode, acted) == (words, 0, True), done.stderr
    assert _owners(place / "pi") == {_PI}


@pytest.mark.parametrize("words", [("backup",), ("restore", "latest")])
def test_the_user_for_whom_a_process_acts_is_told_once(words: tuple[str, ...], place: Path) -> None:
    """Although a verb, and the run that it starts, both ask who that is."""
    database, archive = place / "pi" / "gym.db", place / "root" / "archive"
    gymdbd("backup", "--database", database, "--archive", archive)
    done = gymdbd(
        *words, "--database" if words == ("backup",) else "--to", database, "--archive", archive
    )
    assert (done.returncode, done.stderr.count(f"acting as uid {_PI} for ")) == (0, 1), done.stderr


def test_the_first_thing_on_the_way_that_is_not_roots_decides(place: Path) -> None:
    """Even if what comes after it belongs to root."""
    theirs = place / "pi"
    (theirs / "link").symlink_to(place / "root")
    (place / "there").symlink_to(theirs / "archive")
    found: dict[str, Any] = {
        name: acting.decider(place / name)
        for name in ("root/secret", "pi/gym.db", "pi/link/secret", "there/x", "root/none/x")
    }
    pi = User(_PI, _PI)
    expected = {"root/secret": None, "root/none/x": None}
    assert found == {"pi/gym.db": pi, "pi/link/secret": pi, "there/x": pi, **expected}


def test_a_file_of_another_users_counts_only_where_others_may_write(place: Path) -> None:
    """In a folder that only root may write, its name is root's choice."""
    database = make_database(place / "gym.db")
    os.chown(database, _PI, _PI)
    closed = acting.decider(database)
    place.chmod(0o777)
    assert (closed, acting.decider(database)) == (None, User(_PI, _PI))


def test_a_folder_that_a_group_may_write_is_open_to_others(place: Path) -> None:
    """Whoever of the group owns a file in it has chosen its name."""
    database = make_database(place / "gym.db")
    os.chown(database, _PI, _PI)
    place.chmod(0o775)
    assert acting.decider(database) == User(_PI, _PI)


def test_nobody_acts_with_roots_group(place: Path) -> None:
    """Nor with another one that is not the user's."""
    os.chown(place / "pi", _PI, 0)
    without_account = acting.decider(place / "pi" / "x")
    os.chown(place / "pi", 1, 0)
    with_account = acting.decider(place / "pi" / "x")
    assert (without_account, with_account) == (User(_PI, 65534), User(1, 1))


def test_what_describes_a_pull_acts_as_the_owner_of_the_replica(place: Path) -> None:
    """So that it logs in with that user's keys, as the pull does."""
    there = ("--host", "there.invalid", "--remote-database", "/x.db")
    done = gymdbd("pull", "--info-only", *there, "--replica", place / "pi" / "r.db")
    assert (done.returncode, f"acting as uid {_PI}" in done.stderr) == (1, True), done.stderr


_MODULES = """
import socket, sys
from gymdbd import acting
acting.become(acting.User(12011, 12011))
late = {"encodings.idna", "encodings.unicode_escape", "concurrent.futures.thread", "ctypes"}
late |= {"rich.box", "rich.console", "rich.progress", "rich.table", "logging_journald", "paramiko"}
print(sorted(late - set(sys.modules)), acting.__file__)
"""


def test_what_is_imported_late_is_there_for_a_user_who_may_not_read_python(tmp_path: Path) -> None:
    """Python looks up how a host's name is encoded only as the first name is resolved."""
    tmp_path.chmod(0o700)
    shutil.copytree(Path(package.__file__).parent, tmp_path / "gymdbd")
    words = [sys.executable, "-c", _MODULES]
    told = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert told == f"[] {tmp_path}/gymdbd/acting.py\n"


def test_root_does_not_choose_among_several_users(place: Path) -> None:
    """Neither for a verb, nor for a job, nor for what a configuration's runs record."""
    others, archive = place / "other", place / "pi" / "archive"
    others.mkdir()
    os.chown(others, _PI + 1, _PI + 1)
    job = {"schedule": "0 3 * * *", "database": str(place / "pi" / "gym.db")}
    pull = {"kind": "pull", "schedule": "0 3 * * *", "host": "pi", "remote_database": "/x.db"}
    jobs = {
        "one": {**job, "archive": str(archive)},
        "two": {**job, "archive": str(others)},
        "pull": {**pull, "replica": str(place / "root" / "r.db"), "archive": str(archive)},
    }
    log, status = {"file": str(place / "root" / "log")}, str(others / "status.json")
    for words, more in (
        (("list",), {}),
        (("pull", "pull"), {}),
        (("backup", "one"), {"status_file": status, "log": log}),
        (("run",), {"status_file": status, "log": log}),
    ):
        done = gymdbd("-c", write_config(place / "root", jobs, **more), *words)
        refused = "root would have to act as several users" in done.stderr
        assert (words, done.returncode, refused) == (words, 1, True), done.stderr
    assert (_names(others), _names(archive)) == ([], [])


def test_a_damaged_database_of_another_users_is_saved_by_that_users_process(place: Path) -> None:
    """As it is, and in root's archive it is root's."""
    archive, database = _backed_up(place), place / "pi" / "gym.db"
    with database.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(4096))
    words = ("backup", "--database", database, "--archive", archive)
    code, answer = gymdbd_json(*words)
    assert (code, answer["code"]) == (1, "source-corrupt")
    assert Path(answer["damaged_copy"]).read_bytes() == database.read_bytes()
    assert (_owners(archive), _owners(place / "pi")) == ({0}, {_PI})


@pytest.mark.parametrize("archive", ["pi", "root"])
def test_a_run_of_roots_daemon_acts_as_the_owner(place: Path, archive: str) -> None:
    """And says so in the log; the process that stays root's records how it ended."""
    (place / "root" / "archive").mkdir()
    config = _configured(place, place / archive / "archive")
    order = {"source": str(config), "text": config.read_text(), "job": "nightly", "due": None}
    line = json.dumps({**order, "run_id": "1", "reason": "due", "lock_wait_s": 0})
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "gymdbd.runs.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(f"{line}\n")
        child.stdin.flush()
        # The end of its input would stop the run.
        assert json.loads(child.stdout.read())["state"] == "ok"
    status = json.loads((place / "root" / "status.json").read_text())
    assert status["jobs"]["nightly"]["state"] == "ok"
    log = (place / "root" / "log.jsonl").read_text()
    assert (f"uid {_PI}" in log, len(backups(place / archive / "archive"))) == (True, 1)
    assert (_owners(place / "root"), _owners(place / "pi")) == ({0}, {_PI})


def test_check_looks_at_another_users_job_as_that_user(place: Path) -> None:
    """A link to a database of root's is one that cannot be read."""
    config = _configured(place, place / "pi" / "archive")
    (place / "pi" / "gym.db").unlink()
    _link(place / "pi" / "gym.db", make_database(place / "root" / "secret.db"))
    code, answer = gymdbd_json("-c", config, "check")
    (found,) = [check for check in answer["checks"] if check["name"] == "nightly database"]
    assert (code, found["state"], "permission denied" in found["message"]) == (1, "error", True)


@pytest.mark.parametrize("folder", ["pi", "root"])
def test_check_looks_at_database_and_archive_of_different_users(place: Path, folder: str) -> None:
    """Each is looked at as its owner, so root's archive of another user's database is sound."""
    (place / "root" / "archive").mkdir()
    _, answer = gymdbd_json("-c", _configured(place, place / folder / "archive"), "check")
    found = {check["name"]: check["state"] for check in answer["checks"]}
    looked_at = (found.get("nightly database"), found.get("nightly archive"))
    assert (looked_at, "nightly" in found) == (("ok", "ok"), False)


def test_root_obeys_another_users_configuration_as_that_user(place: Path) -> None:
    """Its commands, status and archives are that user's."""
    job = {"schedule": "0 3 * * *", "database": "gym.db", "archive": "archive"}
    config = write_config(place / "pi", {"nightly": job})
    os.chown(config, _PI, _PI)
    done = gymdbd("-c", config, "backup", "nightly")
    assert (done.returncode, f"acting as uid {_PI}" in done.stderr) == (0, True)
    assert ((place / "pi" / "status.json").exists(), _owners(place / "pi")) == (True, {_PI})


_BECOME = """
import json, os, sys
from gymdbd import acting
acting.become(acting.User(int(sys.argv[1]), int(sys.argv[1])))
try:
    os.setuid(0)
except PermissionError:
    print(json.dumps([os.getresuid(), os.getresgid(), os.getgroups(), dict(os.environ)]))
"""


@pytest.mark.parametrize("uid", [1, _PI], ids=["with an account", "without one"])
def test_a_process_that_has_become_another_user_has_nothing_of_roots_left(uid: int) -> None:
    """Neither its groups, nor its home, nor its agent; and there is no way back."""
    of_root = {"HOME": "/root", "USER": "root", "SSH_AUTH_SOCK": "/root/agent", "SUDO_UID": "7"}
    done = subprocess.run(
        [sys.executable, "-c", _BECOME, str(uid)],
        env=environment(**of_root, TMPDIR="/root/tmp", XDG_RUNTIME_DIR="/run/user/0"),
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    uids, gids, groups, found = json.loads(done.stdout)
    assert (uids, gids, groups) == ([uid] * 3, [uid] * 3, [uid])
    home, user = ("/nonexistent", f"uid {_PI}")
    if uid != _PI:
        home, user = pwd.getpwuid(uid).pw_dir, pwd.getpwuid(uid).pw_name
    names = [*of_root, "TMPDIR", "XDG_RUNTIME_DIR"]
    assert [found.get(name) for name in names] == [home, user, None, None, None, None]


_LATE = """
import sys
from gymdbd import acting
acting.become(acting.User(1, 1))
missing = {"encodings.idna", "rich._emoji_codes", "gymdbd.remote.delta"} - sys.modules.keys()
sys.exit(", ".join(sorted(missing)) or 0)
"""


def test_what_is_imported_late_is_there_if_the_other_user_may_not_read_it(place: Path) -> None:
    """As in a Python of root's own home: the name of a host needs a module of its own."""
    shutil.copytree(Path(acting.__file__).parent, place / "root" / "gymdbd")
    done = subprocess.run(
        [sys.executable, "-c", _LATE],
        env=environment(PYTHONPATH=str(place / "root")),
        cwd="/",
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_process_of_another_user_has_none_of_roots_files_open(place: Path) -> None:
    """They would still be open to root's content."""

    def tell(line: socket.socket) -> None:
        known = [number for number in range(3, 256) if _is_open(number)]
        line.sendall(json.dumps([os.getresuid(), known == [line.fileno()]]).encode())

    with (place / "root" / "secret").open("rb") as secret:
        os.set_inheritable(secret.fileno(), True)
        # Descriptors below and above the one that the process keeps.
        later = os.dup2(secret.fileno(), 200)
        try:
            with acting.start(User(_PI, _PI), tell) as line, line.makefile("rb") as told:
                assert json.loads(told.read()) == [[_PI, _PI, _PI], True]
        finally:
            os.close(later)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _look(config: Path) -> str:
    """Take a look as root's daemon does; return its log."""
    order = {"source": str(config), "text": config.read_text(), "kept": None}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "gymdbd.notices.look"],
        input=json.dumps(order),
        capture_output=True,
        check=True,
        env=environment(),
        text=True,
    )
    return done.stderr


def _shown(place: Path) -> Path:
    """Configure root's daemon to write a page and metrics into the other user's folder."""
    top = {
        "report": {"file": str(place / "pi" / "www" / "page.html")},
        "metrics": {"textfile": str(place / "pi" / "www" / "gymdbd.prom")},
    }
    (place / "pi" / "www").mkdir()
    _give(place / "pi")
    job = {"schedule": "0 3 * * *", "database": str(place / "pi" / "gym.db")}
    archive = str(place / "pi" / "archive")
    return write_config(place / "root", {"nightly": {**job, "archive": archive}}, **top)


def test_page_and_metrics_in_another_users_folder_are_that_users(place: Path) -> None:
    """They are read and written by that user's process, also by hand."""
    config, www = _shown(place), place / "pi" / "www"
    _look(config)
    assert {*_names(www)} == {"page.html", "gymdbd.prom"}
    assert (_owners(www), "not written" in _look(config)) == ({_PI}, False)
    (www / "page.html").unlink()
    assert gymdbd("-c", config, "report").returncode == 0
    assert (_owners(www), (www / "page.html").stat().st_mode & 0o777) == ({_PI}, 0o600)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_link_in_place_of_the_page_or_the_metrics_writes_nothing_of_roots(
    place: Path, kind: str
) -> None:
    """Neither a new file, such as a job of cron, nor one that happens to have the same name."""
    config, www = _shown(place), place / "pi" / "www"
    before = _names(place / "root")
    if kind == "file":
        _link(www / "page.html", place / "root" / "new.html")
    else:
        www.rmdir()
        _link(www, place / "root")
    assert "not written" in _look(config)
    gymdbd("-c", config, "report")
    made = {*_names(place / "root")} - {*before}
    assert not made & {"new.html", "page.html", "gymdbd.prom"}


@pytest.mark.parametrize(("owner", "code"), [(_PI, "not-ours"), (_PI + 1, "")])
def test_a_page_follows_a_link_of_its_own_user_and_not_of_another(
    place: Path, owner: int, code: str
) -> None:
    """In a folder where others may write, the link could make a new file of the user's anywhere."""
    shared, own = place / "shared", place / "own"
    for folder in (shared, own):
        folder.mkdir()
        folder.chmod(0o777)
    os.chown(own, _PI + 1, _PI + 1)
    (shared / "page.html").symlink_to(own / "new.html")
    os.chown(shared / "page.html", owner, owner, follow_symlinks=False)
    settings = config.load(_shown(place))
    seen = overview.take(settings, Clock())

    def write(line: socket.socket) -> None:
        try:
            report.write_once(settings, seen, shared / "page.html", "en")
        except GymdbdError as error:
            line.sendall(error.code.encode())

    with acting.start(User(_PI + 1, _PI + 1), write) as connection:
        assert connection.makefile().read() == code
    assert (own / "new.html").exists() is (code == "")


def test_that_a_peer_came_to_another_users_database_is_noted_by_that_user(place: Path) -> None:
    """Also with a key of root's, which writes nothing of its own where that user may put links."""
    peers = place / "pi" / "peers"
    peers.mkdir()
    _give(peers)
    words = ("serve", "--database", f"{place}/pi/gym.db", "--peer", "mac", "--peers")
    for folder in (peers, place / "root"):
        subprocess.run(
            [sys.executable, "-m", "gymdbd", *words, folder],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment(),
            check=False,
        )
    assert (peers / "mac").stat().st_uid == _PI
    assert not (place / "root" / "mac").exists()
