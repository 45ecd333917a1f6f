"""Getting a backup back: into a live database, into a damaged one, into none."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd import partials
from gymdbd.config.kinds import RestoreConfig
from gymdbd.errors import CopyDamagedError, TargetInUseError
from gymdbd.jobs.backup import backup
from gymdbd.jobs.restore import restore
from tests.integration.test_odd_databases import _HABITS, _create, _dump
from tests.support.command import (
    ORDINARY_USER,
    ROOT,
    EventLog,
    environment,
    gymdbd,
    gymdbd_json,
    require,
)
from tests.support.databases import (
    backups,
    broken_promises,
    make_database,
    make_large_database,
    query,
    sqlite_elsewhere,
    tree,
)
from tests.support.gym import running_app
from tests.support.jobs import backup_job, context, write_config
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gymdbd.jobs.restore.result import RestoreResult

_SIDES = ("-wal", "-shm", "-journal")


class Gym:
    """A database, its archive and the configuration of its nightly job."""

    def __init__(self, folder: Path, database: Path | None = None) -> None:
        """Make the database where none is given."""
        self.database = database or make_database(folder / "gym.db")
        self.archive = folder / "archive"
        self.archive.mkdir(exist_ok=True)
        job = {"schedule": "0 3 * * *", "database": str(self.database)}
        self.config = str(write_config(folder, {"nightly": {**job, "archive": str(self.archive)}}))

    def run(self, *words: object) -> tuple[int, dict[str, Any]]:
        """Run a verb; return its exit code and its JSON."""
        return gymdbd_json("-c", self.config, *words)

    def change(self, *statements: str) -> None:
        """Change the database, as the application would."""
        with closing(sqlite3.connect(self.database)) as app, app:
            for statement in statements:
                app.execute(statement)

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the rows of the table `t` as an application sees them."""
        with closing(sqlite3.connect(self.database)) as app:
            return app.execute("SELECT id, text FROM t ORDER BY id").fetchall()


@pytest.fixture
def gym(tmp_path: Path) -> Gym:
    """Give a gym with one backup of a hundred rows."""
    gym = Gym(tmp_path)
    assert gym.run("backup")[0] == 0
    return gym


def test_the_latest_backup_comes_back_and_the_undo_brings_the_rest_back(gym: Gym) -> None:
    """The printed command undoes the restore, and its own undo restores again."""
    before = gym.rows()
    gym.change("DELETE FROM t WHERE id > 7", "INSERT INTO t (text) VALUES ('new')")
    lost = gym.rows()
    code, result = gym.run("restore", "latest")
    assert (code, result["target"], result["tables"]) == (0, str(gym.database), {"t": 100})
    assert gym.rows() == before
    undo = shlex.split(result["undo_command"])
    assert undo[0] == "gymdbd"
    assert gym.run(*undo[1:])[0] == 0
    assert gym.rows() == lost


def test_what_a_restore_overwrote_is_never_the_latest(gym: Gym) -> None:
    """To restore twice in a row does not bring the mishap back."""
    gym.change("DELETE FROM t")
    first, second = gym.run("restore", "latest")[1], gym.run("restore", "latest")[1]
    assert first["backup"] == second["backup"]
    assert len(gym.rows()) == 100
    listed = gym.run("list")[1]["backups"]
    (undo,) = [one for one in listed if one["path"] == first["undo"]]
    assert undo["note"] == "content overwritten by a restore"


def test_an_application_at_full_rate_sees_one_change_and_writes_on(tmp_path: Path) -> None:
    """Every connection has the restored rows afterwards, and the totals never disagree."""
    with running_app(tmp_path / "gym_system.db") as app:
        gym = Gym(tmp_path, app.database)
        app.ask("POST", "/members", {"name": "이회원"})
        code, made = gym.run("backup")
        assert code == 0
        app.ask("POST", "/members", {"name": "박회원"})
        app.ask("POST", "/writer")
        app.wait_for_commits(200)
        code, result = gym.run("restore", "latest")
        assert (code, result["backup"]) == (0, made["path"])
        assert result["how"] == "through SQLite, into the open database"
        commits = app.ask("GET", "/writer")["commits"]
        app.wait_for_commits(commits + 200)
        assert app.ask("DELETE", "/writer")["trouble"] == ""
        with closing(sqlite3.connect(app.database)) as other:
            names = [row[0] for row in other.execute("SELECT name FROM members ORDER BY id")]
        assert names[:2] == ["김회원", "이회원"]
        assert "박회원" not in names
        # One that the application's own connection sees too, and that was proven whole.
        # It holds less than the one before the restore, which makes it suspicious, not bad.
        again = gym.run("backup")[1]
        assert again["state"] in ("ok", "suspicious"), again
        assert again["path"] not in (made["path"], result["undo"])
        assert broken_promises(again["path"]) == []
        assert query(again["path"], "SELECT count(*) FROM members WHERE name = '박회원'") == [(0,)]


def test_the_undo_holds_every_commit_until_the_restore(tmp_path: Path) -> None:
    """The application has committed on while it was made; whoever read a rental finds it there."""
    with running_app(tmp_path / "gym_system.db") as app:
        gym = Gym(tmp_path, app.database)
        assert gym.run("backup")[0] == 0
        app.ask("POST", "/writer")
        app.wait_for_commits(200)
        calls = tmp_path / "calls"
        strace = [require("strace"), "-f", "-qq", "-o", str(calls), "-e", "trace=/^(rename|unlink)"]
        with counting(app.database, "rentals") as counts:
            code, result = gymdbd_json("-c", gym.config, "restore", "latest", prefix=strace)
        assert code == 0
        assert app.ask("DELETE", "/writer")["trouble"] == ""
    # Killed in between, it must not leave a record of a backup that is gone.
    lines = calls.read_text().splitlines()
    recorded = [at for at, line in enumerate(lines) if '.restored.json")' in line]
    removed = [
        at for at, line in enumerate(lines) if re.search(r"unlink.*_backup_\d+_\d+\.db\"", line)
    ]
    assert recorded[-1] < removed[0]
    before = [one for one, after in pairwise(counts) if after < one]
    assert len(before) == 1
    assert query(result["undo"], "SELECT count(*) FROM rentals")[0][0] >= before[0] > 200
    assert broken_promises(result["undo"]) == []
    assert len(backups(gym.archive)) == 2
    code, result = gym.run("undo")
    assert (code, result["tables"]["rentals"] >= before[0]) == (0, True)
    assert "interrupted" not in result["overwrote"]["restore"]


def test_nothing_is_saved_twice_where_nobody_writes(tmp_path: Path) -> None:
    """A WAL that the restore itself begins anew is not taken for somebody's commit."""
    gym = Gym(tmp_path, make_database(tmp_path / "gym.db", rows=30_000))
    assert gym.run("backup")[0] == 0
    job = RestoreConfig(
        name="restore", kind="restore", backup=backups(gym.archive)[0], target=gym.database
    )
    log = EventLog()
    with sqlite_elsewhere(gym.database, "SELECT * FROM t LIMIT 1"):
        for _ in range(2):
            restore.run(job, context(log=log))
    assert len(log.named("backup published")) == 2


@contextmanager
def counting(database: Path, table: str) -> Iterator[list[int]]:
    """Count the rows of a table over and over, as another connection sees them."""
    counts: list[int] = []
    ended = threading.Event()

    def count() -> None:
        with closing(sqlite3.connect(database)) as app:
            while not ended.is_set():
                counts.append(app.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield counts
    finally:
        ended.set()
        thread.join()


def test_a_plain_copy_over_a_live_database_is_corrupt_and_a_restore_is_not(tmp_path: Path) -> None:
    """The WAL of before is replayed over what `cp` put there; SQLite's own way goes through it."""
    gym = Gym(tmp_path)
    assert gym.run("backup")[0] == 0
    (good,) = backups(gym.archive)
    grow = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) "
        "INSERT INTO t (text) SELECT hex(randomblob(200)) FROM n"
    )

    def damage(restore_it: Any) -> list[str]:
        with sqlite_elsewhere(
            gym.database, "PRAGMA wal_autocheckpoint=0", "DELETE FROM t WHERE id % 2", grow
        ):
            restore_it()
            with closing(sqlite3.connect(gym.database)) as app:
                try:
                    found = [row[0] for row in app.execute("PRAGMA integrity_check")]
                    rows = app.execute("SELECT count(*) FROM t").fetchone()[0]
                except sqlite3.DatabaseError as error:
                    return [str(error)]
        return found if found != ["ok"] else ([] if rows == 100 else [f"{rows} rows"])

    assert damage(lambda: shutil.copyfile(good, gym.database)) != []
    for suffix in ("", *_SIDES):
        gym.database.with_name(gym.database.name + suffix).unlink(missing_ok=True)
    shutil.copyfile(good, gym.database)
    assert damage(lambda: gym.run("restore", good.name)) == []


def test_nothing_is_changed_by_a_dry_run(gym: Gym) -> None:
    """It tells which backup, its verdict, and what would come and go."""
    gym.change(
        "DELETE FROM t WHERE id > 40", "CREATE TABLE late (n)", "INSERT INTO late VALUES (1)"
    )
    before = tree(gym.archive), gym.rows()
    code, plan = gym.run("restore", "latest", "--dry-run")
    assert (code, plan["verdict"], plan["dry_run"]) == (0, "verified", True)
    assert plan["tables"] == {"late": {"now": 1, "then": None}, "t": {"now": 40, "then": 100}}
    assert (tree(gym.archive), gym.rows()) == before
    text = gymdbd("-c", gym.config, "restore", "latest", "--dry-run").stdout
    assert "60 rows more" in text
    assert "table is dropped" in text
    assert "Nothing has been changed." in text


def test_a_dry_run_refuses_what_the_restore_refuses(gym: Gym) -> None:
    """With the same error and exit code, after it has told the plan all the same."""
    (backup,) = backups(gym.archive)
    with sqlite_elsewhere(gym.database, "SELECT * FROM t LIMIT 1"):
        for words in (["--replace"], ["--to", str(backup)]):
            code, refused = gym.run("restore", "latest", *words)
            assert (code, refused["state"]) != (0, "ok")
            dry_code, plan = gym.run("restore", "latest", *words, "--dry-run")
            expected = [refused[name] for name in ("state", "error", "hint", "code")]
            assert [plan[name] for name in ("state", "error", "hint", "code")] == expected
            assert (dry_code, plan["backup"]) == (code, str(backup))
        words = ["-c", str(gym.config), "restore", "latest", "--replace", "--dry-run"]
        told = gymdbd(*words).stdout
    assert "The restore would be refused: " in told
    assert gym.run("restore", "latest", "--replace", "--dry-run")[0] == 0


def test_a_time_takes_the_newest_backup_that_is_not_younger(gym: Gym) -> None:
    """In local time, as people write it; before the first backup there is none."""
    (first,) = backups(gym.archive)
    stamp = first.name.rpartition("_backup_")[2].removesuffix(".db")
    day, clock = stamp.split("_")
    moment = f"{day[:4]}-{day[4:6]}-{day[6:]} {clock[:2]}:{clock[2:4]}:{clock[4:]}"
    plan = gym.run("restore", "--at", moment, "--dry-run")[1]
    assert plan["backup"] == str(first)
    code, result = gym.run("restore", "--at", "2001-02-03")
    assert (code, result["code"]) == (1, "backup-missing")
    for nonsense in ("gestern", "2999-01-01"):
        code, result = gym.run("restore", "--at", nonsense)
        assert (code, result["code"]) == (2, "time")


def test_a_damaged_backup_is_refused_and_the_target_is_untouched(gym: Gym) -> None:
    """What is to save the day is read as a whole first."""
    (path,) = backups(gym.archive)
    data = bytearray(path.read_bytes())
    data[5000] ^= 4
    path.write_bytes(data)
    gym.change("DELETE FROM t WHERE id > 7")
    before = gym.rows()
    code, result = gym.run("restore", path.name)
    assert (code, result["code"]) == (1, "backup-damaged")
    assert gym.rows() == before
    assert len(backups(gym.archive)) == 1


def test_a_destroyed_database_is_replaced_and_kept_as_it_was(gym: Gym) -> None:
    """The hint leads to --replace; owner's mode and WAL mode are as before; the undo is a copy."""
    gym.database.chmod(0o640)
    wreck = b"this is no database" * 500
    gym.database.write_bytes(wreck)
    for suffix in _SIDES:
        gym.database.with_name(gym.database.name + suffix).write_bytes(b"stale")
    code, result = gym.run("restore", "latest")
    assert (code, result["state"]) == (1, "failed")
    assert "--replace" in result["hint"]
    assert gym.database.read_bytes() == wreck
    code, result = gym.run("restore", "latest", "--replace")
    assert (code, result["how"]) == (0, "as a new file in its place")
    assert not any(gym.database.with_name(gym.database.name + end).exists() for end in _SIDES)
    assert gym.database.stat().st_mode & 0o777 == 0o640
    with closing(sqlite3.connect(gym.database)) as app:
        assert app.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert app.execute("SELECT count(*) FROM t").fetchone() == (100,)
    assert len(backups(gym.archive)) == 1
    with sqlite_elsewhere(gym.database, "DELETE FROM t") as process:
        process.kill()
    assert gym.database.with_name("gym.db-wal").stat().st_size > 0
    subprocess.run(result["undo_command"], shell=True, check=True)  # noqa: S602 - as a person would
    assert gym.database.read_bytes() == wreck
    assert gym.database.stat().st_mode & 0o777 == 0o640
    left = [end for end in _SIDES if gym.database.with_name(gym.database.name + end).exists()]
    assert left == ["-wal", "-journal"]
    assert gym.database.with_name("gym.db-wal").read_bytes() == b"stale"


def test_replacing_is_refused_while_somebody_has_the_database_open(gym: Gym) -> None:
    """It says who."""
    with sqlite_elsewhere(gym.database, "SELECT * FROM t") as process:
        code, result = gym.run("restore", "latest", "--replace")
    assert (code, result["code"]) == (1, "target-in-use")
    assert f"(pid {process.pid})" in result["error"]


def _replacing(gym: Gym, meddle: Callable[[Path], None]) -> None:
    """Replace the database by its backup; meddle once, as soon as the copy lies beside it."""
    job = RestoreConfig(
        name="restore",
        kind="restore",
        backup=backups(gym.archive)[0],
        target=gym.database,
        replace=True,
    )
    met: list[Path] = []

    def check() -> None:
        for partial in partials.left(gym.database.parent):
            if not met:
                met.append(partial)
                meddle(partial)

    try:
        restore.run(job, context(check=check))
    finally:
        assert len(met) == 1
        assert not met[0].exists()


def _damage(path: Path) -> None:
    """Let the root page of the first table be no page of a tree."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_database_that_is_opened_during_its_replacement_stays(gym: Gym, *, damaged: bool) -> None:
    """Whoever opened it would write on into a file that has no name any more."""
    gym.change("CREATE TABLE late (n)", "INSERT INTO late VALUES (1)")
    if damaged:
        _damage(gym.database)
    before = gym.database.read_bytes()
    with ExitStack() as application:

        def open_it(partial: Path) -> None:
            del partial
            opened = sqlite_elsewhere(gym.database, "PRAGMA user_version")
            application.enter_context(opened)

        with pytest.raises(TargetInUseError):
            _replacing(gym, open_it)
        assert gym.database.read_bytes() == before


@pytest.mark.parametrize("manifest", [True, False])
def test_a_copy_that_is_not_the_backup_replaces_nothing(gym: Gym, *, manifest: bool) -> None:
    """A disk that takes other bytes than it was given is found while the old rows are there."""
    if not manifest:
        backups(gym.archive)[0].with_name(f"{backups(gym.archive)[0].name}.json").unlink()
    gym.change("DELETE FROM t WHERE id > 7")
    with pytest.raises(CopyDamagedError, match="differs from the backup"):
        _replacing(gym, _damage)
    assert len(gym.rows()) == 7


def test_a_stale_wal_is_gone_for_good_before_another_file_has_its_databases_name(
    gym: Gym,
) -> None:
    """After a power cut between the two it would be replayed over what was restored."""
    _damage(gym.database)
    wal = gym.database.with_name("gym.db-wal")
    wal.write_bytes(b"all there is" * 1000)
    calls = gym.database.parent / "calls"
    traced = "trace=unlink,unlinkat,rename,renameat,renameat2,fsync,fdatasync"
    strace = [require("strace"), "-f", "-qq", "-y", "-o", str(calls), "-e", traced]
    done = gymdbd("-c", gym.config, "restore", "latest", "--replace", prefix=strace)
    assert done.returncode == 0, done.stderr
    lines = calls.read_text().splitlines()
    (removed,) = [at for at, line in enumerate(lines) if "unlink" in line and f'{wal}"' in line]
    (named,) = [at for at, line in enumerate(lines) if f'"{gym.database}")' in line]
    flushed = [line for line in lines[removed:named] if f"<{gym.database.parent}>)" in line]
    assert flushed != []


def test_a_database_that_stays_locked_is_left_alone(gym: Gym) -> None:
    """After the busy timeout it says who holds the lock."""
    gym.change("DELETE FROM t WHERE id > 7")
    with sqlite_elsewhere(gym.database, "BEGIN IMMEDIATE") as process:
        code, result = gym.run("restore", "latest")
    assert (code, result["code"]) == (1, "source-locked")
    assert f"(pid {process.pid})" in result["error"]
    assert len(gym.rows()) == 7


def test_a_database_that_is_gone_comes_back(gym: Gym) -> None:
    """There is nothing to undo then."""
    for suffix in ("", *_SIDES):
        gym.database.with_name(gym.database.name + suffix).unlink(missing_ok=True)
    code, result = gym.run("restore", "latest")
    assert (code, result["how"], result["undo"]) == (0, "as a new file", None)
    assert len(gym.rows()) == 100


def test_a_backup_is_restored_to_another_place_without_a_configuration(
    gym: Gym, tmp_path: Path
) -> None:
    """By its path, with --to."""
    (path,) = backups(gym.archive)
    target = tmp_path / "a 'look'.db"
    code, result = gymdbd_json("restore", path, "--to", target)
    assert (code, result["target"]) == (0, str(target))
    assert query(target, "SELECT count(*) FROM t") == [(100,)]
    code, result = gymdbd_json("restore", path)
    assert (code, "--to" in result["hint"]) == (2, True)


def test_another_page_size_in_wal_mode_leads_to_replacing(gym: Gym) -> None:
    """SQLite cannot change it there: nothing is changed, and the hint says what can."""
    gym.database.unlink()
    _create(gym.database, "PRAGMA page_size=1024", "PRAGMA journal_mode=WAL", "CREATE TABLE a (n)")
    code, result = gym.run("restore", "latest")
    assert (code, result["code"]) == (1, "target-refused")
    assert "its pages have 1024 bytes, those of the backup 4096" in result["error"]
    code, result = gym.run("restore", "latest", "--replace")
    assert code == 0
    assert len(gym.rows()) == 100
    assert gym.run(*shlex.split(result["undo_command"])[1:])[0] == 0
    assert query(gym.database, "PRAGMA page_size") == [(1024,)]


@pytest.mark.parametrize("habit", _HABITS)
@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
def test_every_kind_of_table_comes_back(
    tmp_path: Path, habit: str, mode: str, encoding: str
) -> None:
    """Into a database of other content its dump comes back, and what its header says."""
    head = (f"PRAGMA encoding='{encoding}'", f"PRAGMA journal_mode={mode}", "PRAGMA user_version=9")
    source = _create(tmp_path / "헬스장.db", *head, *_HABITS[habit])
    expected = _dump(source), _facts(source)
    made = backup.run(backup_job(source, tmp_path / "archive"), context())
    _create(source, "CREATE TABLE other (n)", "INSERT INTO other VALUES (1)")
    _restore(tmp_path / "archive" / made.path.rpartition("/")[2], source)
    assert (_dump(source), _facts(source)) == expected


def _facts(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as app:
        names = ("encoding", "journal_mode", "user_version", "page_size")
        return [app.execute(f"PRAGMA {name}").fetchone()[0] for name in names]


def _restore(path: Path, target: Path, **changes: Any) -> RestoreResult:
    job = RestoreConfig(name="restore", kind="restore", backup=path, target=target, **changes)
    return restore.run(job, context())


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
@pytest.mark.parametrize("raw", [False, True])
def test_every_page_size_comes_back(tmp_path: Path, page_size: int, raw: bool) -> None:
    """Also of a raw backup, with what is only in its WAL."""
    source = tmp_path / "source.db"
    with closing(sqlite3.connect(source, isolation_level=None)) as app:
        app.execute(f"PRAGMA page_size={page_size}")
        app.execute("PRAGMA journal_mode=WAL")
        make_database(source)
        app.execute("PRAGMA wal_autocheckpoint=0")
        app.execute("INSERT INTO t (text) VALUES ('only in the WAL')")
        job = backup_job(source, tmp_path / "archive", checkpoint="none", raw=raw)
        backup.run(job, context())
        app.execute("DELETE FROM t")
        before = tree(tmp_path / "archive")
        _restore(backups(tmp_path / "archive")[0], source)
        assert app.execute("SELECT count(*) FROM t").fetchone() == (101,)
    assert before.items() <= tree(tmp_path / "archive").items()


def test_a_database_larger_than_a_gibibyte_is_backed_up_and_comes_back(
    tmp_path: Path, large: Path
) -> None:
    """The page at offset 1 GiB, which SQLite never uses, stops neither."""
    source = tmp_path / "large.db"
    made = backup.run(backup_job(large, tmp_path / "archive"), context())
    assert made.size == large.stat().st_size > 2**30
    _create(source, "PRAGMA journal_mode=WAL", "CREATE TABLE other (n)")
    _restore(tmp_path / "archive" / made.path.rpartition("/")[2], source)
    assert query(source, "SELECT word FROM last") == [("written beyond everything else",)]
    for path in tmp_path.glob("**/*.db*"):
        path.unlink()


def test_a_killed_restore_leaves_the_old_state_and_the_next_one_works(tmp_path: Path) -> None:
    """Half of the pages are written when SIGKILL comes; an application sees the old rows."""
    source = make_large_database(tmp_path / "gym.db", size_mib=256)
    gym = Gym(tmp_path, source)
    gym.change("PRAGMA journal_mode=WAL", "CREATE TABLE t (id INTEGER PRIMARY KEY, text)")
    assert gym.run("backup")[0] == 0
    gym.change("DELETE FROM t", "INSERT INTO t VALUES (1, 'after')")
    wal = source.with_name("gym.db-wal")
    with sqlite_elsewhere(source, "SELECT * FROM t"):
        command = [sys.executable, "-m", "gymdbd", "-c", gym.config, "restore", "latest"]
        with subprocess.Popen(command, cwd=ROOT, env=environment()) as process:
            until(lambda: wal.exists() and wal.stat().st_size > 2**26, "pages are written")
            os.kill(process.pid, signal.SIGKILL)
        assert gym.rows() == [(1, "after")]
        with closing(sqlite3.connect(source)) as app:
            assert app.execute("PRAGMA quick_check").fetchone() == ("ok",)
        assert gym.run("restore", "latest")[0] == 0
    assert gym.rows() == []


@pytest.mark.parametrize("call", ["unlink,unlinkat", "rename,renameat,renameat2"])
def test_a_killed_replacement_leaves_the_old_rows_or_the_new(gym: Gym, call: str) -> None:
    """What was only in the WAL of the old file is in the file before that WAL goes."""
    gym.change("DELETE FROM t WHERE id > 50")
    with sqlite_elsewhere(
        gym.database, "PRAGMA wal_autocheckpoint=0", "DELETE FROM t WHERE id > 7"
    ) as process:
        process.kill()
    wal = gym.database.with_name("gym.db-wal")
    assert wal.stat().st_size > 0
    strace = [require("strace"), "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
    strace += ["-P", str(wal)] if "unlink" in call else []
    killed = 0
    while killed < 20:
        inject = ["-e", f"inject={call}:signal=KILL:when={killed + 1}"]
        done = gymdbd("-c", gym.config, "restore", "latest", "--replace", prefix=[*strace, *inject])
        assert len(gym.rows()) in (7, 100)
        if done.returncode == 0:
            break
        killed += 1
    assert 0 < killed < 20
    assert gym.run("restore", "latest", "--replace")[0] == 0
    assert len(gym.rows()) == 100


def test_a_backup_is_never_restored_into(gym: Gym, tmp_path: Path) -> None:
    """Neither by its name nor by a second name of its file; nothing changes."""
    first = backups(gym.archive)[0]
    assert gym.run("backup")[0] == 0
    linked = tmp_path / "linked.db"
    os.link(first, linked)
    before = tree(gym.archive)
    for target in (*backups(gym.archive), linked):
        for flags in ((), ("--replace",)):
            code, result = gym.run("restore", first.name, "--to", target, *flags)
            assert (code, "is itself a backup" in result["error"]) == (2, True)
    assert before.items() <= tree(gym.archive).items()
    assert len(backups(gym.archive)) == 2


def test_what_this_user_may_not_write_is_refused_before_anything_is_saved(gym: Gym) -> None:
    """The hint is about the user, and not about another way of restoring."""
    gym.database.chmod(0o444)
    before = tree(gym.archive)
    code, result = gymdbd_json("-c", gym.config, "restore", "latest", prefix=ORDINARY_USER)
    assert (code, result["code"]) == (1, "not-writable")
    assert "application's user" in result["hint"]
    assert tree(gym.archive) == before


def test_an_archive_that_cannot_be_written_is_restored_from(gym: Gym, tmp_path: Path) -> None:
    """To a new file; over a database the way back could not be saved, so that it is refused."""
    gym.archive.chmod(0o555)
    (path,) = backups(gym.archive)
    target = tmp_path / "new.db"
    words = ("restore", path, "--to", target)
    assert gymdbd_json(*words, prefix=ORDINARY_USER)[0] == 0
    assert query(target, "SELECT count(*) FROM t") == [(100,)]
    code, result = gymdbd_json(*words, prefix=ORDINARY_USER)
    assert (code, result["code"]) == (1, "not-writable")
    assert "copy the backup" in result["hint"]


def test_a_disk_that_fills_up_leaves_the_old_rows(gym: Gym) -> None:
    """It is called what it is."""
    gym.change("DELETE FROM t WHERE id > 7")
    wal = gym.database.with_name("gym.db-wal")
    with sqlite_elsewhere(gym.database, "SELECT * FROM t"):
        strace = [require("strace"), "-f", "-qq", "-o", "/dev/null", "-P", str(wal)]
        strace += ["-e", "trace=pwrite64", "-e", "inject=pwrite64:error=ENOSPC"]
        code, result = gymdbd_json("-c", gym.config, "restore", "latest", prefix=strace)
        assert (code, result["code"]) == (1, "disk-full")
        assert len(gym.rows()) == 7


def test_readers_in_rollback_journal_mode_only_delay_a_restore(tmp_path: Path) -> None:
    """They come and go until the restore has them all wait, and then see it whole."""
    gym = Gym(tmp_path, make_database(tmp_path / "gym.db", rows=20_000, mode="delete"))
    assert gym.run("backup")[0] == 0
    gym.change("DELETE FROM t")
    with counting(gym.database, "t") as counts:
        assert gym.run("restore", "latest")[0] == 0
        until(lambda: counts[-1] == 20_000, "the reader sees the restored rows")
    assert set(counts) == {0, 20_000}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_what_root_restores_stays_its_users() -> None:
    """The user whose database it is can read the undo, restore, and back up afterwards."""
    # That user may not enter the folders of the tests.
    with tempfile.TemporaryDirectory(prefix="gymdbd-restore-") as name:
        folder = Path(name)
        gym = Gym(folder, make_database(folder / "gym.db"))
        assert gym.run("backup")[0] == 0
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 12345, 12345)
        assert gym.run("restore", "latest")[0] == 0
        assert gym.run("restore", "latest", "--replace")[0] == 0
        owners = {path: path.stat().st_uid for path in folder.rglob("*")}
        assert set(owners.values()) == {12345}


def test_one_of_backup_and_time_must_be_given(gym: Gym) -> None:
    """Neither, or both, is a slip."""
    assert gym.run("restore")[0] == 2
    assert gym.run("restore", "latest", "--at", "2026-11-20")[0] == 2
