"""Databases of another user: nothing stays beside them that the owner could not use."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import everyone, forgetful
from tests.support.application import application
from tests.support.command import environment, gymdbd_json
from tests.support.databases import backups, make_database, query, sqlite_elsewhere
from tests.support.jobs import write_config
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

_APP, _OTHER, _WEB = 12001, 12002, 12003
# The application, and a user of the application's group.
AS_APP = [
    *everyone.ENVIRONMENT,
    "setpriv",
    f"--reuid={_APP}",
    f"--regid={_APP}",
    f"--groups={_WEB}",
]
AS_OTHER = [
    *everyone.ENVIRONMENT,
    "setpriv",
    f"--reuid={_OTHER}",
    f"--regid={_OTHER}",
    f"--groups={_APP}",
]
_SIDES = ("-wal", "-shm", "-journal")


@pytest.fixture
def place() -> Iterator[Path]:
    """Give a folder that every user may enter, with an archive for each."""
    everyone.install()
    folder = Path(tempfile.mkdtemp(prefix="gymdbd-users-"))
    folder.chmod(0o755)
    for name, owner in (("bk", _OTHER), ("app", _APP)):
        (folder / name).mkdir()
        os.chown(folder / name, owner, owner)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _make(place: Path, *, mode: str = "wal", bits: int = 0o644, group: int = _APP) -> Path:
    """Make the application's database, idle, in a folder of its group's."""
    folder = place / "data"
    folder.mkdir(exist_ok=True)
    database = make_database(folder / "gym.db", mode=mode)
    os.chown(database, _APP, group)
    database.chmod(bits)
    os.chown(folder, _APP, _APP)
    folder.chmod(0o770)
    return database


def _sides(database: Path) -> list[str]:
    return [end for end in _SIDES if database.with_name(database.name + end).exists()]


def _write_as_app(database: Path) -> None:
    """Let the application start, write a row and end."""
    script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
    script += "c.execute(\"INSERT INTO t (text) VALUES ('app')\"); c.commit(); c.close()"
    subprocess.run([*AS_APP, sys.executable, "-c", script, str(database)], check=True)


@pytest.mark.parametrize("bits", [0o644, 0o660, 0o666], ids=oct)
@pytest.mark.parametrize("flags", [(), ("--raw",), ("--skip-checkpoint",)])
def test_a_backup_by_another_user_leaves_nothing_beside_an_idle_database(
    place: Path, bits: int, flags: tuple[str, ...]
) -> None:
    """It holds all rows, and the application starts afterwards and writes."""
    database = _make(place, bits=bits)
    words = ("backup", "--database", database, "--archive", place / "bk", *flags)
    code, result = gymdbd_json(*words, prefix=AS_OTHER)
    assert (code, result.get("tables")) == (0, {"t": 100})
    assert _sides(database) == []
    _write_as_app(database)
    code, result = gymdbd_json(*words, prefix=AS_OTHER)
    assert (code, result.get("tables")) == (0, {"t": 101})


def test_the_checkpoint_of_an_idle_database_of_another_users_is_left_out(place: Path) -> None:
    """With the reason; the backup is made, and its manifest knows the journal mode."""
    database = _make(place, bits=0o666)
    code, result = gymdbd_json(
        "backup", "--database", database, "--archive", place / "bk", prefix=AS_OTHER
    )
    assert code == 0
    assert "belongs to another user" in result["checkpoint"]["skipped"]
    (backup,) = backups(place / "bk")
    assert '"journal_mode": "wal"' in backup.with_name(backup.name + ".json").read_text()


def test_who_may_not_write_what_a_crash_left_does_not_wait_for_it(place: Path) -> None:
    """The backup is made at once, with every row."""
    database = _make(place, bits=0o666)
    index = database.with_name(database.name + "-shm")
    with forgetful.running(database, prefix=tuple(AS_APP)) as app:
        before, older = app.committed, index.read_bytes()
        until(lambda: app.committed > before + 1, "two more commits")
        last = app.kill()
    # As if it had been killed after its commit was in the WAL and before it was in the index.
    index.write_bytes(older)
    for end in ("-wal", "-shm"):
        database.with_name(database.name + end).chmod(0o644)
    words = ("backup", "--database", database, "--archive", place / "bk")
    code, result = gymdbd_json(*words, prefix=AS_OTHER)
    assert (code, result["tables"]["commits"] >= last) == (0, True)
    assert "may not write" in result["checkpoint"]["skipped"]
    assert result["timings"]["checkpoint"] < 4


def test_while_the_application_runs_another_user_checkpoints_as_before(place: Path) -> None:
    """The application's own files are there, stay its own, and it goes on."""
    database = _make(place, bits=0o664)
    with forgetful.running(database, prefix=tuple(AS_APP)) as app:
        code, result = gymdbd_json(
            "backup", "--database", database, "--archive", place / "bk", prefix=AS_OTHER
        )
        app.commit_more()
        last = app.kill()
    owners = {database.with_name(database.name + end).stat().st_uid for end in ("-wal", "-shm")}
    assert (code, result["checkpoint"]["skipped"], owners) == (0, "", {_APP})
    assert forgetful.missing(database, 1, last) == []


@pytest.mark.parametrize("user", [None, AS_APP], ids=["root", "owner"])
def test_what_stays_beside_an_idle_database_has_its_owner_group_and_mode(
    place: Path, user: list[str] | None
) -> None:
    """Whether root or the owner left it, in a group that is not the process's own."""
    database = _make(place, bits=0o660, group=_WEB)
    code, _ = gymdbd_json("backup", "--database", database, "--archive", place / "app", prefix=user)
    assert code == 0
    facts = [database.with_name(database.name + end).stat() for end in _sides(database)]
    assert [(one.st_uid, one.st_gid, one.st_mode & 0o777) for one in facts] == [
        (_APP, _WEB, 0o660) for _ in facts
    ]
    _write_as_app(database)


def test_an_owner_who_is_not_in_the_group_of_the_database_leaves_nothing(place: Path) -> None:
    """Side files without that group would shut out the others of it."""
    database = _make(place, bits=0o660, group=12009)
    words = ("backup", "--database", database, "--archive", place / "app")
    code, result = gymdbd_json(*words, prefix=AS_APP)
    assert (code, result.get("tables"), _sides(database)) == (0, {"t": 100}, [])


def test_a_restore_of_an_idle_database_of_another_users_is_refused(place: Path) -> None:
    """By name, with nothing changed and nothing left, also if it would be a new file."""
    database = _make(place, bits=0o666)
    archive = place / "bk"
    assert (
        gymdbd_json("backup", "--database", database, "--archive", archive, prefix=AS_OTHER)[0] == 0
    )
    _write_as_app(database)
    (backup,) = backups(archive)
    for flags in ((), ("--replace",)):
        code, result = gymdbd_json("restore", backup, "--to", database, *flags, prefix=AS_OTHER)
        assert (code, result.get("code"), _sides(database)) == (1, "not-owner", [])
    assert database.stat().st_uid == _APP
    _write_as_app(database)
    assert query(database, "SELECT count(*) FROM t") == [(102,)]


def test_an_idle_database_is_read_whole_or_again_while_its_application_comes_and_goes(
    place: Path,
) -> None:
    """Each of its starts writes a pair of rows and brings its WAL in at the end."""
    database = _make(place, bits=0o664)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE pairs (one, two)")
    os.chown(database, _APP, _APP)
    for end in _sides(database):
        database.with_name(database.name + end).unlink()
    script = (
        "import sqlite3, sys, time\n"
        "for number in range(10**6):\n"
        "    c = sqlite3.connect(sys.argv[1], timeout=20, isolation_level=None)\n"
        "    c.execute('BEGIN')\n"
        "    c.execute('INSERT INTO pairs VALUES (?, ?)', (number, bytes(9000)))\n"
        "    c.execute('INSERT INTO t (text) VALUES (?)', (number,))\n"
        "    c.execute('COMMIT')\n"
        "    c.close()\n"
        "    time.sleep(0.3)\n"
    )
    command = [*AS_APP, sys.executable, "-c", script, str(database)]
    with subprocess.Popen(command) as process:
        try:
            outcomes = [
                gymdbd_json(
                    "backup", "--database", database, "--archive", place / "bk", prefix=AS_OTHER
                )
                for _ in range(6)
            ]
            assert process.poll() is None
        finally:
            process.kill()
    made = [result["tables"] for code, result in outcomes if code == 0]
    assert [one["t"] - one["pairs"] for one in made] == [100] * len(made)
    assert {result["code"] for code, result in outcomes if code} <= {
        "source-moved",
        "source-locked",
    }
    assert len(made) > 0
    owners = {database.with_name(database.name + end).stat().st_uid for end in _sides(database)}
    assert owners <= {_APP}


def test_check_tells_another_user_what_will_happen_and_leaves_nothing(place: Path) -> None:
    """The database is looked into all the same."""
    database = _make(place, bits=0o666)
    config = place / "config.yaml"
    config.write_text(
        f"status_file: {place / 'bk' / 's.json'}\njobs:\n  n: {{kind: backup, "
        f'schedule: "0 3 * * *", database: {database}, archive: {place / "bk"}}}\n'
    )
    code, result = gymdbd_json("-c", config, "check", prefix=AS_OTHER)
    found = {one["name"]: one for one in result["checks"]}
    assert (found["n database"]["state"], found["n rights"]["state"]) == ("ok", "warning")
    assert "is not the owner" in found["n rights"]["message"]
    assert (code, _sides(database)) == (0, [])


def test_what_a_crash_left_without_its_index_is_left_to_the_owner(place: Path) -> None:
    """Another user's new -shm would keep the owner out; the owner's own backup brings it back."""
    database = _make(place, bits=0o644)
    with sqlite_elsewhere(database, "INSERT INTO t (text) VALUES ('later')") as process:
        process.kill()
        until(lambda: process.poll() is not None, "the application is gone")
    database.with_name("gym.db-shm").unlink()
    for end in ("", "-wal"):
        os.chown(database.with_name(database.name + end), _APP, _APP)
    words = ("backup", "--database", database, "--archive")
    code, result = gymdbd_json(*words, place / "bk", prefix=AS_OTHER)
    assert (code, result["code"]) == (1, "source-unreadable")
    assert ("a crash left" in result["error"], _sides(database)) == (True, ["-wal"])
    code, result = gymdbd_json(*words, place / "app", prefix=AS_APP)
    assert (code, result["tables"]) == (0, {"t": 101})


def test_serving_and_probing_an_idle_database_of_another_users_leave_nothing(place: Path) -> None:
    """The pages are those of the main file, and the next pull hears that nothing has changed."""
    database = _make(place, bits=0o644)
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from gymdbd.source.probe import is_unchanged\n"
        "from gymdbd.source import fingerprint\n"
        "from gymdbd.source.pages import open_pages\n"
        "with open_pages(Path(sys.argv[1])) as pages:\n"
        "    pages.load()\n"
        "    size = len(pages.read(1, pages.count))\n"
        "    rows = pages.snapshot.count_rows()\n"
        "    pages.snapshot.confirm()\n"
        "    now = fingerprint.take(pages)\n"
        "file = (now.device, now.inode, now.ctime_ns, now.size)\n"
        "frame = (now.frames, now.checksum_one, now.checksum_two)\n"
        "same = is_unchanged(sys.argv[1], file, frame, bytes.fromhex(now.salts), None)\n"
        "print(now.journal_mode, now.method, size == now.size, rows, same)\n"
    )
    done = subprocess.run(
        [*AS_OTHER, sys.executable, "-c", script, str(database)],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert (done.stdout, done.stderr) == ("wal main-file True {'t': 100} True\n", "")
    assert _sides(database) == []


_LEAVE = (
    "try:\\n rescue.__exit__(None, None, None)\\nexcept Exception as error:\\n print(error.code)"
)


def test_rows_for_an_idle_database_that_was_written_meanwhile_are_refused(place: Path) -> None:
    """Another user reads it without locks: what it lacked may be no single state of it."""
    database = _make(place)
    backup = Path(shutil.copy(database, place / "backup.db"))
    with application(":memory:", prefix=AS_OTHER) as other:
        other.run("python from pathlib import Path; from gymdbd.rows.rescue import Rescue")
        other.run("python from gymdbd.sqlite.sides import Side")
        sides = f"Side(Path({str(backup)!r})), live=Side(Path({str(database)!r}), live=True)"
        assert other.run(f"python rescue = Rescue({sides})") == "done"
        _write_as_app(database)
        assert other.run(f"python exec('{_LEAVE}')") == "source-moved"


def test_a_user_who_cannot_know_what_was_told_does_not_tell_it_again(place: Path) -> None:
    """Whether the file that has it cannot be read, or cannot be made."""
    jobs = {"check": {"kind": "verify", "every": "1h", "archive": str(place / "bk")}}
    to = {"owner": {"command": ["/bin/false"]}}
    (place / "bk" / "notices.json").touch(mode=0o600)
    for status in (place / "bk" / "status.json", place / "status.json"):
        config = write_config(place, jobs, notify={"to": to}, status_file=str(status))
        config.chmod(0o644)
        code, result = gymdbd_json("-c", config, "notify", prefix=AS_OTHER)
        assert (code, result["code"]) == (1, "not-allowed")
