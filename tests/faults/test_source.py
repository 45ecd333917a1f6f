"""The live database in every bad state, and changed by others while it is being backed up."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults import promises, scenes, sweeps, table
from tests.faults.promises import content, digest
from tests.faults.scenes import Operation, Scene
from tests.support import ledger, samples
from tests.support.application import application
from tests.support.command import ORDINARY_USER, gymdbd, gymdbd_json, require
from tests.support.databases import make_database, sqlite_elsewhere
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.zygote import Finished

_BACKUP = Operation(
    "source",
    lambda scene: ["backup", "nightly", "--skip-checkpoint"],  # noqa: ARG005
    allow=lambda scene: scene.world.may_go.update(scene.archive.glob("*_backup_*.db")),
    job="nightly",
)
_STATE = table.row(
    "the source in a bad state",
    "made so before the run",
    "an error of its own each, at once; source and backups untouched, good again when it is",
)
_FLIPPED = table.row(
    "a byte of the source flipped",
    "any byte of the header, the pages or the WAL",
    "what an application would read, or a named error and pruning frozen",
)
_SAVED = table.row(
    "a damaged source",
    "its header, its schema or its other pages overwritten before the run, and its WAL",
    "saved as it is, byte for byte, and named; no backup, source and backups untouched",
)
_CUT = table.row(
    "the source or its WAL cut short",
    "truncated to any length",
    "what an application would read, or a named error and pruning frozen",
)
_MEANWHILE = table.row(
    "the source changed in mid-backup",
    "the backup stopped at any call, the change made, the backup let go on",
    "one whole state, before or after, or a named error",
)
_HELD = table.row(
    "the source in use",
    "another process that locks, reads or writes for the whole time",
    "backed up whole, or an error that names the process",
)
_NAMES = table.row(
    "odd names", "database and folder called so", "backed up, told and listed as usual"
)
_ANOTHER = table.row(
    "the application has another file than the path",
    "a hard link, a mount of the one file, another file put in its place, its removal",
    "refused by name, nothing changed; what was removed is saved all the same",
)
_FLIPS = 400


@pytest.fixture
def scene(stage: Callable[[Operation], Scene]) -> Scene:
    """Give a scene in which the source is good."""
    return stage(_BACKUP)


def _back_up(scene: Scene, prefix: list[str] | None = None) -> tuple[Finished, list[str]]:
    """Back the source up as it is; return how that ended and which promises are broken."""
    from tests.support.zygote import Finished  # noqa: PLC0415 - a type, and made here only

    before = {
        path: digest(path)
        for path in scene.place.glob("gym.db*")
        if path.is_file() and path.stat().st_mode & 0o400
    }
    before = {path: was for path, was in before.items() if not path.name.endswith("-shm")}
    scene.world.databases[scene.database] = {content(scene.database)}
    seen = len(scene.events())
    if prefix is None:
        done = scene.run(*_BACKUP.arguments(scene))
    else:
        whole = gymdbd("-c", scene.config, *_BACKUP.arguments(scene), "--json", prefix=prefix)
        done = Finished(whole.returncode, whole.stdout, whole.stderr)
    # Where nothing may be written the status cannot be told either.
    excused = not scene.place.stat().st_mode & 0o200
    found = sweeps.expect_whole(_BACKUP, scene, done, seen=seen, excused=excused)
    found += [
        f"{path} was written or removed"
        for path, was in before.items()
        if not path.exists() or digest(path) != was
    ]
    return done, found + scene.world.left_behind()


def _heal(scene: Scene) -> list[str]:
    """Make the source good again; return what is wrong with the next run."""
    for path in scene.place.glob("gym*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    for path in scene.saved.glob("gym*"):
        shutil.copy2(path, scene.place)
    scene.world.databases[scene.database] = {content(scene.database)}
    return sweeps.expect_next_run(_BACKUP, scene)


def _replace_by(make: Callable[[Path], object]) -> Callable[[Scene], None]:
    def apply(scene: Scene) -> None:
        for path in scene.place.glob("gym.db*"):
            path.unlink()
        make(scene.database)

    return apply


def _loop(path: Path) -> None:
    path.symlink_to("gym2.db")
    path.with_name("gym2.db").symlink_to(path.name)


def _crash_with_hot_journal(path: Path) -> None:
    """Kill a process that has spilled half a transaction into a database with a journal."""
    make_database(path, mode="delete", rows=2000)
    script = (
        "import os, signal, sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('PRAGMA cache_size=5')\n"
        "connection.execute('BEGIN')\n"
        "connection.execute(\"UPDATE t SET text = upper(text) || 'x'\")\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, path], check=False)


_STATES: dict[str, tuple[Callable[[Scene], None], str]] = {
    "missing": (_replace_by(lambda path: None), "source-missing"),  # noqa: ARG005
    "empty": (_replace_by(lambda path: path.touch()), "source-empty"),
    "a folder": (_replace_by(lambda path: path.mkdir()), "source-not-a-file"),
    "a pipe": (_replace_by(os.mkfifo), "source-not-a-file"),
    "a loop of links": (_replace_by(_loop), "source-not-a-file"),
    "a link to nothing": (_replace_by(lambda path: path.symlink_to("no")), "source-missing"),
    "text": (_replace_by(lambda path: path.write_text("x" * 9999)), "source-not-a-database"),
    "zeros": (_replace_by(lambda path: path.write_bytes(bytes(8192))), "source-not-a-database"),
    "a hot journal": (_replace_by(_crash_with_hot_journal), "source-unreadable"),
}


@pytest.mark.parametrize("state", _STATES)
def test_a_source_in_a_bad_state_has_an_error_of_its_own(scene: Scene, state: str) -> None:
    """Nothing is created, written or lost, and all is well again when the source is."""
    make, code = _STATES[state]
    make(scene)
    done, found = _back_up(scene)
    found += [] if done.answer.get("code") == code else [f"expected {code}: {done}"]
    table.expect_none({state: _STATE.tried(code, found + _heal(scene))})


def test_a_link_to_the_source_is_followed(scene: Scene) -> None:
    """The backup holds what the file behind it does, its WAL included."""
    for path in scene.place.glob("gym.db*"):
        path.rename(scene.place / "here" / path.name)
    scene.database.symlink_to(scene.place / "here" / "gym.db")
    held = {content(scene.place / "here" / "gym.db")}
    scene.world.databases = {scene.place / "here" / "gym.db": held}
    done = scene.run(*_BACKUP.arguments(scene))
    found = sweeps.expect_whole(_BACKUP, scene, done, seen=0)
    if done.exit_code != 0 or [content(one) for one in scene.world.new_backups()] != [*held]:
        found.append(f"it ended with {done}")
    scene.database.unlink()
    table.expect_none({"link": _STATE.tried("a link is followed", found + _heal(scene))})


@pytest.mark.parametrize("what", ["gym.db", "gym.db-wal", "."])
def test_a_source_that_may_not_be_used_has_an_error_of_its_own(scene: Scene, what: str) -> None:
    """An ordinary user is told so; a folder that may only be read does not keep it from reading."""
    path = scene.place / what
    mode = path.stat().st_mode
    expected = {"source-unreadable"}
    if what == ".":
        # The status file and the locks lie in it: the run cannot even begin, or has no -shm.
        expected |= {"not-writable", None}  # type: ignore[arg-type]
    try:
        path.chmod(0o500 if what == "." else 0)
        done, found = _back_up(scene, ORDINARY_USER)
    finally:
        path.chmod(mode)
    found += [] if done.answer.get("code") in expected else [f"expected {expected}: {done}"]
    table.expect_none({what: _STATE.tried(str(done.answer.get("code")), found + _heal(scene))})


def _damage(scene: Scene, name: str, change: Callable[[bytearray], None]) -> tuple[str, list[str]]:
    path = scene.place / name
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    for side in ("-shm",):
        scene.database.with_name(scene.database.name + side).unlink(missing_ok=True)
    done, found = _back_up(scene)
    code = str(done.answer.get("code")) if done.exit_code else "ok, as an application reads it"
    if done.exit_code and scene.world.new_backups() and code != "suspicious":
        found.append("it failed and left a backup")
    return code, found + _heal(scene)


@pytest.mark.parametrize("part", range(10))
@pytest.mark.parametrize("name", ["gym.db", "gym.db-wal"])
def test_a_flipped_byte_is_never_backed_up_unseen(
    stage: Callable[[Operation], Scene], name: str, part: int
) -> None:
    """The backup is what an application reads, or there is an error and the earlier ones stay."""
    size = (stage(_BACKUP).place / name).stat().st_size
    chance = random.Random(samples.SEED)
    every = [*range(100), *(chance.randrange(size) for _ in range(_FLIPS - 100))][part::10]
    problems = {}
    for offset in samples.sample(every, f"flip {name} {part}"):

        def flip(data: bytearray, at: int = offset) -> None:
            data[at] ^= 0xFF

        if found := _FLIPPED.tried(*_damage(stage(_BACKUP), name, flip)):
            problems[f"{name} at {offset}"] = found
    table.expect_none(problems)


_SPOILT = {
    "header and WAL": slice(0, 100),
    "schema and WAL": slice(100, 4096),
    "pages": slice(4096, None),
}


@pytest.mark.parametrize("part", sorted(_SPOILT))
def test_a_damaged_source_is_saved_as_it_is(scene: Scene, part: str) -> None:
    """The error names the copy, which is no backup, and the next run of a good source is good."""
    where = _SPOILT[part]
    path, wal = scene.place / "gym.db", scene.place / "gym.db-wal"
    data = bytearray(path.read_bytes())
    data[where] = b"\xff" * len(data[where])
    path.write_bytes(data)
    if part.endswith("WAL"):
        # It has pages of its own in place of these.
        wal.write_bytes(b"\xff" * wal.stat().st_size)
    scene.place.joinpath("gym.db-shm").unlink(missing_ok=True)
    log = wal.read_bytes()
    done, found = _back_up(scene)
    copies = [copy.read_bytes() for copy in scene.archive.glob("gym.damaged/*.db")]
    logs = [copy.read_bytes() for copy in scene.archive.glob("gym.damaged/*.db-wal")]
    found += [] if (copies, logs) == ([bytes(data)], [log]) else ["it was not saved as it is"]
    found += [] if "gym.damaged" in str(done.answer.get("hint")) else ["nobody is told where"]
    code = str(done.answer.get("code"))
    table.expect_none({part: _SAVED.tried(code, found + _heal(scene))})


@pytest.mark.parametrize("part", range(5))
@pytest.mark.parametrize("name", ["gym.db", "gym.db-wal"])
def test_a_source_cut_short_is_never_backed_up_unseen(
    stage: Callable[[Operation], Scene], name: str, part: int
) -> None:
    """The backup is what an application reads, or there is an error and the earlier ones stay."""
    size = (stage(_BACKUP).place / name).stat().st_size
    every = [*range(3), *range(10, 64, 9), *range(100, size, 997)][part::5]
    problems = {}
    for length in samples.sample(every, f"cut {name} {part}"):

        def cut(data: bytearray, at: int = length) -> None:
            del data[at:]

        if found := _CUT.tried(*_damage(stage(_BACKUP), name, cut)):
            problems[f"{name} to {length}"] = found
    table.expect_none(problems)


def _remove(scene: Scene) -> None:
    for path in scene.place.glob("gym.db*"):
        path.unlink()


def _replace(scene: Scene) -> None:
    """Put another database in its place, as a deployment does."""
    new = make_database(scene.place / "new.db", rows=125, mode="delete")
    _remove(scene)
    new.rename(scene.database)


def _overwrite(scene: Scene) -> None:
    """Copy an older state over it while it is in use, as nobody should."""
    shutil.copyfile(min(scene.archive.glob("*_backup_*.db")), scene.database)
    scene.database.with_name("gym.db-wal").unlink(missing_ok=True)


def _truncate(scene: Scene) -> None:
    os.truncate(scene.database, 0)


def _sql(*statements: str) -> Callable[[Scene], None]:
    def apply(scene: Scene) -> None:
        # In a process of its own: a close here would drop locks of nobody but this process.
        with closing(sqlite3.connect(scene.database, isolation_level=None, timeout=0.2)) as one:
            for statement in statements:
                with contextlib.suppress(sqlite3.OperationalError):
                    one.execute(statement).fetchall()

    return apply


_CHANGES: dict[str, Callable[[Scene], None]] = {
    "removed": _remove,
    "replaced": _replace,
    "copied over": _overwrite,
    "truncated": _truncate,
    "vacuumed": _sql("DELETE FROM t WHERE id % 20 = 0", "VACUUM"),
    "written": _sql("INSERT INTO t (text) SELECT text FROM t LIMIT 9"),
    "checkpointed": _sql("PRAGMA wal_checkpoint(TRUNCATE)", "UPDATE t SET text = id"),
    "given a journal": _sql("PRAGMA journal_mode=DELETE", "UPDATE t SET text = id"),
    "given another schema": _sql("ALTER TABLE t ADD more", "CREATE INDEX i ON t (text)"),
    "given other pages": _sql("PRAGMA journal_mode=DELETE", "PRAGMA page_size=1024", "VACUUM"),
}


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("change", _CHANGES)
def test_a_source_that_is_changed_in_mid_backup_gives_one_state_or_an_error(
    stage: Callable[[Operation], Scene], change: str, part: int, tmp_path: Path
) -> None:
    """Whatever is done to it and when, a backup holds what it held before or after."""
    every = sweeps.points(_BACKUP, stage(_BACKUP), tmp_path)
    problems = {}
    for point in samples.sample(every[part :: 12 if samples.EVERYTHING else 3], f"{change} {part}"):
        scene = stage(_BACKUP)
        before, seen = content(scene.database), len(scene.events())

        def make(scene: Scene = scene, before: str = before) -> None:
            _CHANGES[change](scene)
            scene.world.databases[scene.database] = {before, content(scene.database)}

        done = sweeps.interrupt(_BACKUP, scene, point, make)
        scene.world.databases[scene.database].add(content(scene.database))
        found = sweeps.expect_whole(_BACKUP, scene, done, seen=seen)
        outcome = str(done.answer.get("code")) if done.exit_code else "one whole state"
        if found := _MEANWHILE.tried(outcome, found + _heal(scene)):
            problems[f"{change} before {point}"] = found
    table.expect_none(problems)


@contextlib.contextmanager
def _exclusively_locked(scene: Scene) -> Iterator[None]:
    lock = ("PRAGMA locking_mode=EXCLUSIVE", "BEGIN EXCLUSIVE")
    with sqlite_elsewhere(scene.database, *lock, "INSERT INTO t (text) VALUES (1)"):
        yield


@contextlib.contextmanager
def _pinned(scene: Scene) -> Iterator[None]:
    with sqlite_elsewhere(scene.database, "BEGIN", "SELECT count(*) FROM t"):
        scenes.write_rows(scene.database, 3)
        scene.world.databases[scene.database] = {content(scene.database)}
        yield


@contextlib.contextmanager
def _in_a_transaction(scene: Scene) -> Iterator[None]:
    with sqlite_elsewhere(scene.database, "BEGIN IMMEDIATE", "INSERT INTO t (text) VALUES (1)"):
        yield


@pytest.mark.parametrize(
    ("use", "code"),
    [(_exclusively_locked, "source-locked"), (_pinned, None), (_in_a_transaction, None)],
)
def test_a_source_in_use_is_backed_up_or_its_user_named(
    scene: Scene, use: Any, code: str | None
) -> None:
    """Readers and writers do not matter; an exclusive lock is waited for and then told."""
    seen = len(scene.events())
    with use(scene):
        done = scene.run(*_BACKUP.arguments(scene))
        found = sweeps.expect_whole(_BACKUP, scene, done, seen=seen)
    if done.answer.get("code") != code or (code and "(pid " not in done.answer["error"]):
        found.append(f"expected {code}: {done}")
    scene.reset()
    table.expect_none({str(code): _HELD.tried(code or "ok", found)})


def _link(database: Path) -> Path:
    other = database.with_name("members.db")
    other.hardlink_to(database)
    return other


def _mount(database: Path) -> Path:
    other = database.with_name("mounted.db")
    other.touch()
    subprocess.run([require("mount"), "--bind", database, other], check=True)
    return other


def _put_another(database: Path) -> None:
    make_database(database.with_name("new.db")).replace(database)
    started = database.stat().st_ctime_ns
    clock = database.with_name("clock")

    def ticked() -> bool:
        clock.touch()
        return clock.stat().st_ctime_ns > started

    until(ticked, "a later moment")


def _take_away(database: Path) -> None:
    for path in database.parent.glob(f"{database.name}*"):
        path.unlink()


@pytest.mark.parametrize("change", [_link, _mount, _put_another, _take_away])
def test_a_source_that_is_not_the_applications_file_is_refused(
    tmp_path: Path, change: Callable[[Path], Path | None]
) -> None:
    """The error names the process; of what was removed there is a good backup besides."""
    database = make_database(tmp_path / "gym.db")
    name = change(database) if change in (_link, _mount) else None
    try:
        with application(name or database) as app:
            app.write(5)
            if name is None:
                change(database)
                app.write(5)
            words = ("backup", "--database", database, "--archive", tmp_path / "archive")
            exit_code, answer = gymdbd_json(*words)
            found = [] if (exit_code, answer["code"]) == (1, "another-file") else [str(answer)]
            found += [] if f"(pid {app.pid})" in answer["error"] else [str(answer)]
            rows = {"t": app.rows()} if change is _take_away else None
            found += [] if answer.get("tables") == rows else [str(answer)]
    finally:
        if change is _mount:
            subprocess.run(["umount", "--lazy", str(name)], check=True)
    table.expect_none({change.__name__: _ANOTHER.tried("another-file", found)})


def test_a_writer_at_full_rate_does_not_break_a_backup(scene: Scene) -> None:
    """Every backup of a database that is written all the while is whole."""
    scene.database.unlink()
    scene.database.with_name("gym.db-wal").unlink()
    database = ledger.create(scene.place / "ledger.db")
    problems = {}
    with ledger.writing(database):
        for number in range(samples.count(20, of=200)):
            done = scene.run("backup", "--database", database, "--archive", scene.place / "ledgers")
            found = promises.told_wrongly(done.answer, done.exit_code)
            if done.exit_code == 0:
                path = scene.place / "ledgers" / done.answer["path"]
                found += ledger.check_copy(path).problems
            if found := _HELD.tried("ok under a writer" if not found else "", found):
                problems[str(number)] = found
    table.expect_none(problems)


_ODD = [
    "with space.db",
    "quo'te\".db",
    "new\nline.db",
    "김체육관.db",
    "%20?x=y#z.db",
    "-rf.db",
    ".hidden.db",
    b"\xff\xfe.db",
    "x_backup_20261123_030000.db",
]


@pytest.mark.parametrize("name", _ODD, ids=repr)
def test_a_database_of_any_name_is_backed_up(
    scene: Scene, name: str | bytes, tmp_path: Path
) -> None:
    """Its backup is good, and list and restore find it."""
    folder = tmp_path / os.fsdecode(name).removesuffix(".db")
    folder.mkdir()
    database = make_database(folder / os.fsdecode(name))
    archive = folder / "archive"
    world = promises.World.of(folder, database)
    found = []
    for words in (
        ("backup", "--database", database, "--archive", archive),
        ("backup", "--database", database, "--archive", archive, "--raw"),
        ("list", "--archive", archive),
        ("restore", "latest", "--archive", archive, "--to", folder / "back.db"),
    ):
        done = scene.zygote.run(*words, "--json")
        found += [] if done.exit_code == 0 else [f"{words[0]}: {done}"]
        found += world.broken() + world.left_behind()
    if content(folder / "back.db") != content(database):
        found.append("what came back is not what was there")
    table.expect_none({repr(name): _NAMES.tried("ok", found)})
