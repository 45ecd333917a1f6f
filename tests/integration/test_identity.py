"""The file at the path and the file that the application has: the same, or a refusal."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.config.kinds import RestoreConfig
from gymdbd.jobs.backup import backup
from gymdbd.jobs.restore import preview, restore
from gymdbd.source import identity, processes, uses
from gymdbd.source.errors import AnotherFileError, GymdbdError
from gymdbd.source.format import PAGE_RULE, frame_offset
from gymdbd.source.probe import is_unchanged
from tests.support import engine
from tests.support.application import Application, application
from tests.support.command import ORDINARY_USER, EventLog, gymdbd_json, require
from tests.support.databases import backups, make_database, tree
from tests.support.jobs import backup_job, context, write_config
from tests.support.pulling import snapshot_of
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gymdbd.jobs.backup.result import BackupResult
    from tests.support.pulling import Peer


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """Give a database of 100 rows in a folder of its own, with a backup in `archive`."""
    (tmp_path / "live").mkdir()
    database = make_database(tmp_path / "live" / "gym.db")
    backup.run(backup_job(database, tmp_path / "archive"), context())
    return database


def _archive(live: Path) -> Path:
    return live.parent.parent / "archive"


def _back_up(live: Path, **changes: Any) -> BackupResult:
    return backup.run(backup_job(live, _archive(live), **changes), context())


def _restore_job(live: Path, **changes: Any) -> RestoreConfig:
    first = min(backups(_archive(live)), key=lambda path: path.stat().st_mtime_ns)
    return RestoreConfig(name="restore", kind="restore", backup=first, target=live, **changes)


def _serve(live: Path) -> None:
    with engine.session(live) as remote:
        remote.count_rows()


_VERBS: dict[str, Callable[[Path], object]] = {
    "backup": _back_up,
    "raw": lambda live: _back_up(live, raw=True),
    "restore": lambda live: restore.run(_restore_job(live), context()),
    "replace": lambda live: restore.run(_restore_job(live, replace=True), context()),
    "dry-run": lambda live: preview.plan(_restore_job(live), context()),
    "serve": _serve,
}


def _outcomes(live: Path) -> dict[str, str]:
    """Try every verb; return what came of each, "ok" or the code of its error."""
    found = {}
    for name, verb in _VERBS.items():
        try:
            verb(live)
            found[name] = "ok"
        except GymdbdError as error:
            found[name] = error.code
    return found


_ALL_REFUSED = dict.fromkeys(_VERBS, "another-file")


def _expect_refusal(live: Path, app: Application, *words: str) -> None:
    """See every verb refuse, change nothing, and name the process and these words."""
    before, there = tree(_archive(live)), live.read_bytes()
    assert _outcomes(live) == _ALL_REFUSED
    assert tree(_archive(live)) == before
    assert live.read_bytes() == there
    with pytest.raises(AnotherFileError) as caught:
        identity.require(live)
    assert [word for word in (f"(pid {app.pid})", *words) if word not in str(caught.value)] == []
    assert caught.value.hint != ""
    config = write_config(
        live.parent.parent,
        {"nightly": {"every": "1d", "database": str(live), "archive": str(_archive(live))}},
    )
    exit_code, answer = gymdbd_json("-c", config, "check")
    (seen,) = [one for one in answer["checks"] if one["name"] == "nightly database"]
    assert (exit_code, seen["state"], seen["message"]) == (1, "error", caught.value.message)


@contextlib.contextmanager
def _bound(file: Path, place: Path) -> Iterator[Path]:
    """Mount a file or folder at another place, too."""
    if file.is_dir():
        place.mkdir()
    else:
        place.parent.mkdir()
        place.touch()
    subprocess.run([require("mount"), "--bind", file, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def _later(path: Path) -> None:
    """Wait until the clock of the file system has gone on since the file was changed."""
    clock = path.parent.parent / "clock"

    def ticked() -> bool:
        clock.touch()
        return clock.stat().st_ctime_ns > path.stat().st_ctime_ns

    until(ticked, "a later moment")


def _linked(live: Path) -> Path:
    other = live.parent.parent / "app" / "members.db"
    other.parent.mkdir()
    other.hardlink_to(live)
    return other


def test_an_application_with_a_mount_of_the_one_file_is_named(live: Path, tmp_path: Path) -> None:
    """Its WAL lies beside its own name, and what the path leads to lacks its commits."""
    with _bound(live, tmp_path / "app" / "gym.db") as other, application(other) as app:
        app.write(50)
        _expect_refusal(live, app, str(other))
        assert (app.rows(), app.run("PRAGMA integrity_check")) == (150, "[('ok',)]")


def test_an_application_with_another_hard_link_is_named(live: Path) -> None:
    """The two names of one file have a WAL each."""
    other = _linked(live)
    with application(other) as app:
        app.write(50)
        _expect_refusal(live, app, str(other))
        assert (app.rows(), app.run("PRAGMA integrity_check")) == (150, "[('ok',)]")
        assert _back_up(other).tables == {"t": 150}


def test_an_application_without_its_locks_is_found_by_its_descriptors(live: Path) -> None:
    """It has read its own file, and closing that ended its locks."""
    with application(_linked(live)) as app:
        app.write()
        app.run("python open(sys.argv[1], 'rb').close()")
        assert _outcomes(live) == _ALL_REFUSED


def test_an_application_in_a_container_with_the_one_file_is_named(
    live: Path, tmp_path: Path
) -> None:
    """Its mounts are its own, and the path has the same text there."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    script = 'mount --bind "$1" "$2/x"; mount -t tmpfs none "$3"; touch "$4"; '
    script += 'mount --bind "$2/x" "$4"; shift 4; exec "$@"'
    (hidden / "x").touch()
    prefix = ["unshare", "--mount", "sh", "-c", script, "sh"]
    prefix += [str(live), str(hidden), str(live.parent), str(live)]
    with application(live, prefix=prefix) as app:
        app.write()
        assert _outcomes(live) == _ALL_REFUSED


@pytest.mark.parametrize("log", ["removed", "left"])
def test_an_application_that_goes_on_in_a_replaced_file_is_named(live: Path, log: str) -> None:
    """Another file was put in its place; its WAL was removed, or left beside the new file."""
    with application(live) as app:
        app.write()
        if log == "removed":
            live.with_name("gym.db-wal").unlink()
            live.with_name("gym.db-shm").unlink()
        shutil.copyfile(backups(_archive(live))[0], live.with_name("new.db"))
        live.with_name("new.db").replace(live)
        _later(live)
        app.write(50)
        _expect_refusal(live, app, str(live))
        assert app.rows() == 151


def test_an_application_whose_file_was_moved_away_is_named(live: Path) -> None:
    """It goes on in the moved file, with the WAL of the new one."""
    with application(live) as app:
        app.write()
        live.rename(live.with_name("old.db"))
        shutil.copyfile(backups(_archive(live))[0], live)
        _later(live)
        app.write(50)
        _expect_refusal(live, app, str(live.with_name("old.db")))


def test_an_application_whose_wal_was_removed_is_named_and_can_be_saved(live: Path) -> None:
    """What it commits is in no file with a name, until it closes the database."""
    with application(live) as app:
        app.write()
        live.with_name("gym.db-wal").unlink()
        app.write(50)
        assert _outcomes(live) == _ALL_REFUSED
        assert _back_up(live, deleted=True).tables == {"t": 151}


@pytest.fixture
def shared() -> Iterator[Path]:
    """Give a database that every user may write."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o777)
    live = make_database(place / "gym.db")
    live.chmod(0o666)
    yield live
    shutil.rmtree(place)


def test_the_locks_alone_tell_where_descriptors_may_not_be_seen(
    shared: Path, tmp_path: Path
) -> None:
    """The application runs as another user, and gymdbd without the right to look into it."""
    live, archive = shared, tmp_path / "archive"
    other = live.with_name("members.db")
    other.hardlink_to(live)
    words = ("backup", "--database", live, "--archive", archive)
    with application(other, user=65534) as app:
        app.write()
        exit_code, answer = gymdbd_json(*words, prefix=ORDINARY_USER)
        assert (exit_code, answer["code"]) == (1, "another-file"), answer
        assert f"(pid {app.pid})" in answer["error"]
    with application(live, user=65534) as app:
        app.write()
        for suffix in ("-wal", "-shm"):
            live.with_name(live.name + suffix).chmod(0o666)
        exit_code, answer = gymdbd_json(*words, prefix=ORDINARY_USER)
        assert (exit_code, answer.get("tables")) == (0, {"t": 101}), answer


def test_a_process_that_nobody_may_look_into_and_that_may_not_write_is_no_trouble(
    shared: Path, tmp_path: Path
) -> None:
    """Its lock is that of a reader by another name, who commits nothing."""
    shared.chmod(0o644)
    other = shared.with_name("members.db")
    other.hardlink_to(shared)
    words = ("backup", "--database", shared, "--archive", tmp_path / "archive")
    with application(f"file:{other}?mode=ro", user=65534) as reader:
        assert reader.rows() == 100
        exit_code, answer = gymdbd_json(*words, prefix=ORDINARY_USER)
        assert (exit_code, answer.get("tables")) == (0, {"t": 100}), answer


# What is no fault.


def _expect_no_refusal(live: Path, rows: int = 100) -> list[str]:
    """See a backup and a pull succeed with all rows; return the remarks of `check`."""
    assert _back_up(live).tables == {"t": rows}
    assert _back_up(live, raw=True).tables == {"t": rows}
    with engine.session(live) as remote:
        assert remote.count_rows() == {"t": rows}
    remarks = [text for text, _ in identity.remarks(live, uses.look(live))]
    # Not even root may look into every process.
    return [text for text in remarks if "could not be looked into" not in text]


def test_a_second_name_with_nobody_there_is_a_remark(live: Path) -> None:
    """That is what `cp -al` and rsync's --link-dest leave."""
    _linked(live)
    (remark,) = _expect_no_refusal(live)
    assert "2 names" in remark


def test_a_program_that_copies_the_files_under_another_name_is_no_application(live: Path) -> None:
    """It has the main file open, and a WAL that is another; it is not connected."""
    other = _linked(live)
    log = other.with_name(other.name + "-wal")
    log.write_bytes(b"of last week")
    with application(":memory:") as copier:
        copier.run(f"python files = open({str(other)!r}, 'rb'), open({str(log)!r}, 'rb')")
        assert len(_expect_no_refusal(live)) == 1


def test_a_program_that_has_a_replaced_file_open_to_read_is_a_remark(live: Path) -> None:
    """So is every reader of a replica after each pull, also one that could write."""
    with application(f"file:{live}?mode=ro") as reader, application(live) as idle:
        assert (reader.rows(), idle.rows()) == (100, 100)
        for suffix in ("-wal", "-shm"):
            live.with_name(live.name + suffix).unlink()
        make_database(live.with_name("new.db"), rows=120).replace(live)
        remarks = _expect_no_refusal(live, 120)
        told = [text.partition(" has a file that was ")[0] for text in remarks]
        assert told == [str(processes.named(one.pid)) for one in (reader, idle)]


def test_the_same_path_in_other_mounts_is_another_file(live: Path) -> None:
    """A container has a database at this path too, and goes on in its removed one."""
    script = 'mount -t tmpfs none "$1"; shift; exec "$@"'
    prefix = ["unshare", "--mount", "sh", "-c", script, "sh", str(live.parent)]
    with application(live, prefix=prefix) as container, application(live) as app:
        container.run("PRAGMA journal_mode=WAL")
        container.run("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)")
        app.write()
        container.run(f"python [os.unlink({str(live)!r} + end) for end in ('', '-wal')]")
        container.write()
        assert container.rows() == 1
        assert _expect_no_refusal(live, 101) == []
    assert _restore_job(live, replace=True).target == live


def test_a_container_with_the_folder_elsewhere_has_the_same_wal(live: Path, tmp_path: Path) -> None:
    """It is named as who has the database open, and --replace does not pull it from under it."""
    (tmp_path / "data").mkdir()
    script = 'mount --bind "$1" "$2"; shift 2; exec "$@"'
    prefix = ["unshare", "--mount", "sh", "-c", script, "sh", str(live.parent)]
    with application(tmp_path / "data" / "gym.db", prefix=[*prefix, str(tmp_path / "data")]) as app:
        app.write()
        assert _expect_no_refusal(live, 101) == []
        with pytest.raises(GymdbdError, match=rf"\(pid {app.pid}\)") as caught:
            restore.run(_restore_job(live, replace=True), context())
        assert caught.value.code == "target-in-use"
        assert restore.run(_restore_job(live), context()).tables == {"t": 100}
        assert app.rows() == 100


def test_a_removed_file_in_a_container_with_the_folder_elsewhere_is_found(
    live: Path, tmp_path: Path
) -> None:
    """The name that it has there is another; the folder is the same."""
    (tmp_path / "data").mkdir()
    script = 'mount --bind "$1" "$2"; shift 2; exec "$@"'
    prefix = ["unshare", "--mount", "sh", "-c", script, "sh", str(live.parent)]
    with application(tmp_path / "data" / "gym.db", prefix=[*prefix, str(tmp_path / "data")]) as app:
        app.write()
        make_database(live.with_name("new.db")).replace(live)
        _later(live)
        app.write()
        assert _outcomes(live) == _ALL_REFUSED


@pytest.mark.parametrize("name", ["same", "another"])
def test_a_rollback_journal_has_no_wal_to_miss(tmp_path: Path, name: str) -> None:
    """The locks on the file itself keep readers and writers apart, whatever its names."""
    (tmp_path / "live").mkdir()
    live = make_database(tmp_path / "live" / "gym.db", mode="delete")
    with application(live if name == "same" else _linked(live)) as app:
        app.write()
        app.run("BEGIN")
        app.rows()
        remarks = _expect_no_refusal(live, 101)
        app.run("ROLLBACK")
        app.write()
        assert len(remarks) == (0 if name == "same" else 1)
        assert _back_up(live).tables == {"t": 102}


def test_an_application_that_has_lost_its_locks_is_no_other(live: Path) -> None:
    """It has our main file and our WAL."""
    with application(live) as app:
        app.write()
        app.run("python open(sys.argv[1], 'rb').close()")
        assert _back_up(live, checkpoint="none").tables == {"t": 101}
        assert uses.look(live).uses == []


def test_an_application_that_has_not_read_yet_is_no_other(live: Path) -> None:
    """It has no WAL open, nor a lock."""
    with application(live), application(f"file:{_linked(live)}?mode=rw"):
        assert len(_expect_no_refusal(live)) == 1


def test_what_a_child_has_inherited_and_does_not_use_is_no_use(live: Path) -> None:
    """Its parent has closed that WAL, which removed it, and has another one now."""
    with application(live) as app:
        app.write()
        app.run("python child = os.fork() or (os.close(1), __import__('signal').pause())")
        child = until(lambda: _children(app.pid), "a child")
        app.run("python connection.close(); connection = sqlite3.connect(sys.argv[1])")
        app.run("python connection.isolation_level = None")
        app.write()
        try:
            assert [use.lost for use in uses.look(live).uses] == [False]
            assert _back_up(live).tables == {"t": 102}
        finally:
            os.kill(child, 9)


def _children(pid: int) -> int:
    found = subprocess.run(
        [require("pgrep"), "-P", str(pid)], capture_output=True, text=True, check=False
    )
    return int(found.stdout or 0)


def test_processes_that_come_and_go_are_no_trouble(live: Path) -> None:
    """A look meets some that end under it."""
    with subprocess.Popen(["sh", "-c", "while :; do /bin/true; done"]) as crowd:
        try:
            assert [uses.look(live).uses for _ in range(20)] == [[]] * 20
        finally:
            crowd.kill()


def test_an_application_that_opens_and_closes_all_the_time_is_no_other(live: Path) -> None:
    """Whoever closes a database last removes its WAL, also while somebody looks."""
    with application(live) as app:
        app.write()
        app.begin(
            "python while True: connection.close(); connection = sqlite3.connect(sys.argv[1]); "
            "connection.execute('DELETE FROM t'); connection.commit()"
        )
        found = [use for _ in range(40) for use in uses.look(live).uses if use.lost]
        assert (found, app.process.poll()) == ([], None)


# Pulls, and where there is no /proc.


@pytest.mark.parametrize("method", ["query", "scp"])
def test_a_pull_refuses_a_database_that_is_open_by_another_name(peer: Peer, method: str) -> None:
    """Also one that would find nothing new; the replica stays as it is."""
    peer.pull(method=method)
    peer.pull(method=method)
    before = snapshot_of(peer.replica.parent)
    other = peer.database.with_name("members.db")
    other.hardlink_to(peer.database)
    with application(other) as app:
        app.run("PRAGMA wal_autocheckpoint=0")
        app.run("CREATE TABLE new (x)")
        with pytest.raises(AnotherFileError, match=rf"\(pid {app.pid}\)"):
            peer.pull(method=method)
        assert snapshot_of(peer.replica.parent) == before
    with application(peer.database) as app:
        app.run("CREATE TABLE IF NOT EXISTS more (x)")
        assert "more" in peer.pull(method=method).tables


def test_a_copy_by_scp_without_a_python_there_goes_on_and_says_so(peer: Peer) -> None:
    """What cannot be seen is no reason to refuse."""
    log = EventLog()
    peer.pull(method="scp", ssh={"python": "/nonexistent/python"}, log=log)
    (seen,) = log.named("who has the database open was not seen")
    assert seen["reason"] != ""


def test_a_pull_that_finds_nothing_new_looks_who_has_the_file_open(tmp_path: Path) -> None:
    """The probe leaves any doubt to the serving side."""
    (tmp_path / "live").mkdir()
    # A process anywhere that has a removed file of the same name open is a doubt.
    live = make_database(tmp_path / "live" / f"{uuid.uuid4().hex}.db")
    with application(live) as app:
        app.write()
        with engine.session(live) as remote:
            known = remote.fingerprint
        file = (known.device, known.inode, known.ctime_ns, known.size)
        frame = (known.frames, known.checksum_one, known.checksum_two)
        assert known.method == PAGE_RULE
        salts, last = bytes.fromhex(known.salts), frame_offset(known.frames, known.page_size)
        assert is_unchanged(str(live), file, frame, salts, last)
        with application(f"file:{_linked(live)}?mode=ro") as other:
            other.rows()
            ctime_ns = live.stat().st_ctime_ns
            file = (known.device, known.inode, ctime_ns, known.size)
            assert not is_unchanged(str(live), file, frame, salts, last)


def test_lsof_tells_another_wal_where_there_is_no_proc(live: Path) -> None:
    """It tells no times, so that a replaced file is not found; `check` says so."""
    require("lsof")
    nowhere = Path("/nonexistent")
    with application(live) as app:
        app.write()
        identity.require(live, proc=nowhere)
        remarks = [text for text, _ in identity.remarks(live, uses.look(live, proc=nowhere))]
        assert ["cannot be seen here" in text for text in remarks] == [True]
    with application(_linked(live)) as app:
        app.write()
        with pytest.raises(AnotherFileError, match=rf"\(pid {app.pid}\)"):
            identity.require(live, proc=nowhere)
