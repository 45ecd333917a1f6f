"""The local copy: how a change is noticed, who is in the way, how it is saved and replaced."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd import files, lock
from gymdbd.archive import manifest as manifests
from gymdbd.archive import proof
from gymdbd.archive.catalog import Catalog
from gymdbd.clock import Clock
from gymdbd.config.kinds import PullConfig
from gymdbd.config.parts import Keep
from gymdbd.errors import BusyError, FolderMissingError, ReplicaInUseError, StoppedError
from gymdbd.jobs.pull import old_replica
from gymdbd.jobs.pull.replica import Replica, State
from gymdbd.source import processes
from tests.support.databases import make_database, query, sqlite_elsewhere
from tests.support.jobs import context

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.archive.backup import Backup

_PULLED_AT = "2026-11-23T09:00:00+00:00"
_SIDE_FILES = ("-wal", "-shm", "-journal")


def _nothing() -> None:
    """Let the waiting go on."""


def _state(database: Path, **changes: Any) -> State:
    """Return what a pull would know of the snapshot in `database`."""
    sums = proof.checksums(database)
    facts: dict[str, Any] = {
        "host": "raspberry-pi",
        "remote_database": "/srv/gym.db",
        "fingerprint": {"journal_mode": "wal"},
        "pulled_at": _PULLED_AT,
        "compared_at": _PULLED_AT,
        "md5": sums.md5,
        "sha256": sums.sha256,
        "tables": {"t": 100},
    }
    return State(**{**facts, **changes})


def _side(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


@pytest.fixture
def replica(tmp_path: Path) -> Replica:
    """Give a replica as a pull leaves it."""
    (tmp_path / "local").mkdir()
    replica = Replica(tmp_path / "local" / "gym.db")
    make_database(replica.partial, mode="delete")
    replica.publish(_state(replica.partial))
    return replica


def test_a_published_replica_is_unchanged(replica: Replica) -> None:
    """Its state is read back as it was given, with the identity of the file."""
    state = replica.state()
    assert state is not None
    assert replace(state, identity=[]) == _state(replica.path)
    assert replica.change(state) == ""
    assert not replica.partial.exists()


def test_a_replica_that_is_not_there_has_not_changed(tmp_path: Path) -> None:
    """The first pull makes it; there is nothing to save."""
    replica = Replica(tmp_path / "gym.db")
    assert (replica.exists, replica.state(), replica.change(None)) == (False, None, "")


def test_a_replica_without_a_state_is_somebodys(replica: Replica) -> None:
    """A database that was there before the first pull is not overwritten unsaved."""
    assert replica.change(None) == "no pull of ours made it"


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"schema": 2}', "[" * 100_000, "\xff"])
def test_a_state_that_cannot_be_used_is_none(replica: Replica, text: str) -> None:
    """The next pull then compares everything."""
    path = replica.path.with_name(".gym.db.pull.json")
    assert path.exists()
    path.write_bytes(text.encode("latin-1"))
    assert replica.state() is None


def test_a_state_of_odd_names_survives(replica: Replica) -> None:
    """Tables may be called anything, bytes that are no text included."""
    make_database(replica.partial, mode="delete")
    tables = {"회원": 1, 'quo"te': 2, "\udcff": 3}
    replica.publish(_state(replica.partial, tables=tables))
    state = replica.state()
    assert state is not None
    assert state.tables == tables


def test_a_replica_of_another_size_has_changed(replica: Replica) -> None:
    """Also where somebody set its time back."""
    facts = replica.path.stat()
    os.truncate(replica.path, facts.st_size + 4096)
    os.utime(replica.path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert "size or time" in replica.change(replica.state())


def test_a_replica_of_another_time_has_changed(replica: Replica) -> None:
    """A nanosecond is enough."""
    facts = replica.path.stat()
    os.utime(replica.path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    assert "size or time" in replica.change(replica.state())


def test_a_replica_that_was_replaced_has_changed(replica: Replica) -> None:
    """Another file of the same size and time is another file."""
    shutil.copy2(replica.path, replica.path.with_name("other"))
    replica.path.with_name("other").replace(replica.path)
    assert "size or time" in replica.change(replica.state())


def test_a_replica_with_a_wal_has_changed(replica: Replica) -> None:
    """What stands only in the WAL is a change too; an empty one, which readers leave, is none."""
    wal = _side(replica.path, "-wal")
    wal.write_bytes(b"")
    assert replica.change(replica.state()) == ""
    wal.write_bytes(b"x")
    assert replica.change(replica.state()) == "a -wal with changes lies beside it"


def test_a_replica_is_followed_through_a_link(replica: Replica) -> None:
    """The file is replaced, and the link still leads to it."""
    link = replica.path.with_name("link.db")
    link.symlink_to("gym.db")
    linked = Replica(link)
    make_database(linked.partial, rows=7, mode="delete")
    linked.publish(_state(linked.partial))
    assert link.is_symlink()
    assert query(replica.path, "SELECT count(*) FROM t") == [(7,)]


def test_publishing_removes_the_side_files_of_the_old_replica(replica: Replica) -> None:
    """A stale WAL beside a new database would be replayed over it."""
    for suffix in _SIDE_FILES:
        _side(replica.path, suffix).write_bytes(b"stale")
    make_database(replica.partial, rows=7, mode="delete")
    replica.publish(_state(replica.partial))
    names = {one.name for one in replica.path.parent.iterdir()}
    assert names == {"gym.db", ".gym.db.pull.json"}
    assert query(replica.path, "SELECT count(*) FROM t") == [(7,)]


def test_the_side_files_are_gone_before_the_new_replica_has_its_name(replica: Replica) -> None:
    """A crash between the two leaves the old replica alone, never the new one with an old WAL.

    Without its partial the rename fails, which is where a crash would be.
    """
    before = replica.path.read_bytes()
    for suffix in _SIDE_FILES:
        _side(replica.path, suffix).write_bytes(b"stale")
    state = replica.state()
    assert state is not None
    with pytest.raises(FolderMissingError):
        replica.publish(state)
    assert [_side(replica.path, suffix).exists() for suffix in _SIDE_FILES] == [False] * 3
    assert replica.path.read_bytes() == before


@pytest.mark.parametrize(("unknown", "has_spare"), [("", True), ("nobody tells", False)])
def test_a_replica_whose_users_are_unknown_leaves_no_spare(
    replica: Replica, unknown: str, *, has_spare: bool
) -> None:
    """To keep the old file it would have to be opened, which ends SQLite's lock on it."""
    make_database(replica.partial, mode="delete")
    replica.unknown = unknown
    new = _state(replica.partial, fingerprint={"journal_mode": "wal", "page_size": 4096})
    replica.publish(new, [1])
    state = replica.state()
    assert state is not None
    assert (state.spare is not None) == has_spare


def test_a_reader_keeps_the_old_replica_while_it_is_replaced(replica: Replica) -> None:
    """It goes on seeing the whole old state."""
    with closing(sqlite3.connect(f"{replica.path.as_uri()}?mode=ro", uri=True)) as reader:
        reader.execute("SELECT * FROM t LIMIT 1").fetchone()
        make_database(replica.partial, rows=7, mode="delete")
        replica.publish(_state(replica.partial))
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (100,)


def test_a_process_that_may_write_to_the_replica_is_named(replica: Replica) -> None:
    """After the time to wait; the replica is left alone."""
    with sqlite_elsewhere(replica.path, "SELECT * FROM t") as other:
        started = time.monotonic()
        with pytest.raises(ReplicaInUseError, match=rf"pid {other.pid}\)") as caught:
            replica.await_free(timedelta(0), _nothing)
        assert time.monotonic() - started < 5
    assert "mode=ro" in caught.value.hint
    assert replica.change(replica.state()) == ""


def test_a_process_that_only_reads_the_replica_is_not_in_the_way(replica: Replica) -> None:
    """It keeps the old file."""
    with sqlite_elsewhere(f"{replica.path.as_uri()}?mode=ro", "SELECT * FROM t") as other:
        assert [one.pid for one in processes.holders(replica.path)] == [other.pid]
        replica.await_free(timedelta(0), _nothing)


def test_a_writer_is_waited_for(replica: Replica) -> None:
    """As soon as it is gone the work goes on."""
    with sqlite_elsewhere(replica.path, "SELECT * FROM t") as other:
        replica.await_free(timedelta(seconds=30), other.kill)
        assert other.wait() != 0


def test_a_stopped_run_does_not_wait_for_a_writer(replica: Replica) -> None:
    """What the check raises ends the waiting."""

    def check() -> None:
        raise StoppedError("stopped")

    with sqlite_elsewhere(replica.path, "SELECT * FROM t"), pytest.raises(StoppedError):
        replica.await_free(timedelta(seconds=30), check)


def test_what_a_crash_left_half_done_is_rolled_back(replica: Replica) -> None:
    """A journal with content is what makes the file whole again: it is used, not removed."""
    with sqlite_elsewhere(
        replica.path, "PRAGMA cache_size=1", "BEGIN", "UPDATE t SET text = text || 'half done'"
    ) as other:
        other.kill()
        other.wait()
    assert _side(replica.path, "-journal").stat().st_size > 0
    replica.roll_back()
    assert [one for one in _SIDE_FILES if _side(replica.path, one).exists()] == []
    sound = [("ok",)]
    assert query(replica.path, "PRAGMA integrity_check") == sound
    assert query(replica.path, "SELECT count(*) FROM t WHERE text LIKE '%done'") == [(0,)]


def test_a_replica_without_a_journal_is_not_touched_by_a_roll_back(replica: Replica) -> None:
    """It is still what the pull left."""
    replica.roll_back()
    assert replica.change(replica.state()) == ""


def test_an_unchanged_replica_is_saved_as_a_second_name(replica: Replica, tmp_path: Path) -> None:
    """No byte is copied, and replacing the replica leaves the saved one as it is."""
    target = tmp_path / "saved.db"
    replica.save_as(target)
    assert target.samefile(replica.path)
    make_database(replica.partial, rows=7, mode="delete")
    replica.publish(_state(replica.partial))
    assert query(target, "SELECT count(*) FROM t") == [(100,)]


def test_a_replica_on_another_file_system_is_saved_as_a_copy(
    replica: Replica, tmp_path: Path
) -> None:
    """A name cannot lead across; here the target's name is taken, which fails in the same way."""
    target = tmp_path / "saved.db"
    target.write_text("left by a crash")
    replica.save_as(target)
    assert not target.samefile(replica.path)
    assert target.read_bytes() == replica.path.read_bytes()


class _FixedClock(Clock):
    """A clock that stands still a little after the pull."""

    def now(self) -> datetime:
        """Return that instant."""
        return datetime(2026, 11, 23, 10, 0, 0, tzinfo=UTC)


def _job(replica: Replica, **changes: Any) -> PullConfig:
    settings: dict[str, Any] = {"keep": Keep(count=2), **changes}
    return PullConfig(
        name="pull",
        kind="pull",
        host="raspberry-pi",
        remote_database="/srv/gym.db",
        replica=replica.path,
        **settings,
    )


def _saved(replica: Replica) -> list[Backup]:
    return Catalog(_job(replica).archive_folder, UTC).backups()


def test_saving_an_unchanged_replica_makes_a_verified_backup(replica: Replica) -> None:
    """Described from what its own pull has proven, dated by it, in a folder of its own."""
    run = context(clock=_FixedClock(zone=UTC))
    path = old_replica.save(_job(replica), replica, replica.state(), run)
    assert path == replica.path.parent / "backups" / "gym_backup_20261123_090000.db"
    assert path.samefile(replica.path)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    (backup,) = _saved(replica)
    assert backup.verdict == "verified"
    found = manifests.read(path)
    assert found is not None
    sums = proof.checksums(path)
    assert (found.md5, found.sha256, found.size) == (sums.md5, sums.sha256, sums.size)
    assert (found.host, found.source, found.method) == ("raspberry-pi", "/srv/gym.db", "pull-query")
    assert (found.tables, found.journal_mode, found.page_size) == ({"t": 100}, "wal", 4096)


def test_saving_a_changed_replica_makes_a_backup_of_the_change(replica: Replica) -> None:
    """With the rows that stand only in its WAL; it is a file of its own."""
    with sqlite_elsewhere(
        replica.path, "PRAGMA journal_mode=WAL", "INSERT INTO t (text) VALUES ('local')"
    ) as other:
        other.kill()
        other.wait()
    path = old_replica.save(_job(replica), replica, None, context(clock=_FixedClock(zone=UTC)))
    assert query(path, "SELECT count(*) FROM t") == [(101,)]
    assert [one.verdict for one in _saved(replica)] == ["verified"]
    assert not path.samefile(replica.path)


def test_a_replica_too_damaged_for_a_backup_is_kept_as_it_is(replica: Replica) -> None:
    """Under a name that is never pruned, with a warning; pruning is not frozen for it."""
    with replica.path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)
    run = context(clock=_FixedClock(zone=UTC))
    path = old_replica.save(_job(replica), replica, None, run)
    assert path.name == "gym_damaged_20261123_100000.db"
    assert path.parent.name == "gym.damaged"
    assert path.read_bytes() == replica.path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(run.log.named("damaged database saved as it is")) == 1  # type: ignore[attr-defined] # an EventLog
    assert _saved(replica) == []
    assert Catalog(path.parent.parent, UTC).frozen(_job(replica).origin) == ""


@pytest.mark.parametrize("content", [b"", b"no database " * 500, b"damaged"])
def test_the_wal_of_a_damaged_replica_is_kept_with_it(replica: Replica, content: bytes) -> None:
    """It may hold the only rows that can be rescued."""
    with sqlite_elsewhere(
        replica.path, "PRAGMA journal_mode=WAL", "INSERT INTO t (text) VALUES ('local')"
    ) as other:
        other.kill()
        other.wait()
    whole = replica.path.read_bytes()
    damaged = whole[:4096] + b"\xff" * 4096 + whole[8192:] if content == b"damaged" else content
    replica.path.write_bytes(damaged)
    log = _side(replica.path, "-wal").read_bytes()
    replica.roll_back()
    path = old_replica.save(_job(replica), replica, None, context(clock=_FixedClock(zone=UTC)))
    assert path.name == "gym_damaged_20261123_100000.db"
    assert path.parent.name == "gym.damaged"
    assert path.read_bytes() == damaged
    assert _side(path, "-wal").read_bytes() == log


def test_a_replica_that_was_not_summed_up_is_proven_when_it_is_saved(replica: Replica) -> None:
    """Its manifest says what is true of it; one that rotted since is kept as a damaged one."""
    run = context(clock=_FixedClock(zone=UTC))
    state = replace(_state(replica.path), md5="", sha256="")
    path = old_replica.save(_job(replica), replica, state, run)
    sums = proof.checksums(replica.path)
    found = manifests.read(path)
    assert found is not None
    assert (found.md5, found.sha256) == (sums.md5, sums.sha256)
    path.unlink()
    with replica.path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)
    assert "_damaged_" in old_replica.save(_job(replica), replica, state, run).name


def test_saving_prunes_by_the_jobs_rule(replica: Replica) -> None:
    """Of five pulls the newest two stay."""
    run = context(clock=_FixedClock(zone=UTC))
    for hour in range(5):
        make_database(replica.partial, rows=hour, mode="delete")
        moment = f"2026-11-23T0{hour}:00:00+00:00"
        replica.publish(_state(replica.partial, pulled_at=moment, tables={"t": hour}))
        old_replica.save(_job(replica), replica, replica.state(), run)
    names = [one.path.name for one in _saved(replica)]
    assert names == ["gym_backup_20261123_040000.db", "gym_backup_20261123_030000.db"]


def test_a_second_name_left_by_a_crash_is_dropped(replica: Replica) -> None:
    """A run that saved and then died has to save again; its backup is still the replica itself.

    Whoever then writes to the replica would write into the archive.
    """
    run = context(clock=_FixedClock(zone=UTC))
    first = old_replica.save(_job(replica), replica, replica.state(), run)
    with closing(sqlite3.connect(replica.path)) as connection:
        connection.execute("INSERT INTO t (text) VALUES ('local')")
        connection.commit()
    second = old_replica.save(_job(replica), replica, None, run)
    assert [one.path for one in _saved(replica)] == [second]
    assert query(second, "SELECT count(*) FROM t") == [(101,)]
    assert not second.samefile(replica.path)
    leftovers = run.log.named("leftover of an interrupted run removed")  # type: ignore[attr-defined] # an EventLog
    assert leftovers == [{"path": str(first)}]


def test_a_saved_replica_that_was_replaced_is_no_second_name(replica: Replica) -> None:
    """The backups of earlier pulls stay."""
    run = context(clock=_FixedClock(zone=UTC))
    old_replica.save(_job(replica), replica, replica.state(), run)
    make_database(replica.partial, rows=7, mode="delete")
    moment = "2026-11-23T09:30:00+00:00"
    replica.publish(_state(replica.partial, pulled_at=moment))
    old_replica.save(_job(replica), replica, replica.state(), run)
    assert len(_saved(replica)) == 2


def test_saving_waits_for_the_archives_lock(replica: Replica) -> None:
    """And can be stopped meanwhile."""
    folder = replica.path.parent / "backups"
    files.make_folder(folder)

    def check() -> None:
        raise BusyError("enough")

    with lock.hold([lock.archive_lock(folder)]), pytest.raises(BusyError, match="enough"):
        old_replica.save(_job(replica), replica, replica.state(), context(check=check))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("is_checked", "no"),
        ("tables", 5),
        ("tables", {"t": "many"}),
        ("pulled_at", "yesterday"),
        ("pulled_at", 5),
        ("fingerprint", "x"),
        ("suspicious", "x"),
        ("remarks", [None]),
        ("identity", 5),
        ("md5", None),
        ("of_a_later_release", 1),
        ("schema", 2),
    ],
)
def test_a_state_that_was_edited_is_none(tmp_path: Path, name: str, value: object) -> None:
    """Nothing is believed of it, and no pull fails on it: the next one takes all anew."""
    replica = Replica(tmp_path / "replica.db")
    known: dict[str, object] = {
        "host": "pi",
        "remote_database": "/gym.db",
        "fingerprint": None,
        "md5": "",
        "sha256": "",
    }
    times = {"pulled_at": _PULLED_AT, "compared_at": _PULLED_AT}
    known |= {**times, "schema": 1, "md5": "", "sha256": "", "tables": {"t": 1}}
    path = tmp_path / ".replica.db.pull.json"
    path.write_text(json.dumps(known))
    assert replica.state() is not None
    path.write_text(json.dumps({**known, name: value}))
    assert replica.state() is None
