"""A damaged database is saved as it is before anything else is advised."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.archive import sealed
from gymdbd.archive.catalog import Catalog
from gymdbd.errors import DiskFullError, WriteFailedError
from gymdbd.jobs.backup import backup, damaged
from gymdbd.jobs.context import Context
from gymdbd.source.errors import SourceCorruptError, SourceEmptyError, SourceNotADatabaseError
from gymdbd.source.format import WAL, beside
from tests.support import samples
from tests.support.application import application
from tests.support.command import EventLog, gymdbd, gymdbd_json
from tests.support.databases import backups, make_database, query, sqlite_elsewhere
from tests.support.disks import may_mount, mounted
from tests.support.jobs import backup_job, context
from tests.support.pulling import Peer, identity

if TYPE_CHECKING:
    from collections.abc import Callable


def _spoil_index(path: Path) -> None:
    """Leave an index without its rows."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE INDEX i ON t(text)")
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = 'CREATE INDEX i ON t(text) WHERE id > 90' "
            "WHERE name = 'i'"
        )


def _spoil_page(path: Path) -> None:
    """Overwrite a page of a table, as a failing disk does."""
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 4096)


def _spoil_schema(path: Path) -> None:
    """Let an index begin at a page that is not there."""
    _spoil_index(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_master SET rootpage = 9999 WHERE name = 'i'")


def _spoil_name(path: Path) -> None:
    """Flip the one bit that makes the name of a table a blob: SQLite goes on reading it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_master SET name = CAST(name AS BLOB) WHERE name = 't'")


def _spoil_text(path: Path) -> None:
    """Take a text away under its index, as a disk that loses writes does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE VIRTUAL TABLE notes USING fts5(text)")
        connection.execute("INSERT INTO notes SELECT text FROM t")
        connection.execute("UPDATE notes_content SET c0 = 'gone' WHERE id = 7")


def _spoil_header(path: Path) -> None:
    """Overwrite what says that it is a database."""
    with path.open("r+b") as file:
        file.write(b"\xff" * 100)


def _empty(path: Path) -> None:
    """Leave nothing but the WAL of a database."""
    wal = path.with_name(path.name + "-wal")
    with sqlite_elsewhere(path, "INSERT INTO t(text) VALUES ('only in the WAL')"):
        content = wal.read_bytes()
    path.write_bytes(b"")
    wal.write_bytes(content)


SPOIL: dict[str, Callable[[Path], None]] = {
    "index": _spoil_index,
    "page": _spoil_page,
    "schema": _spoil_schema,
    "name": _spoil_name,
    "text": _spoil_text,
    "header": _spoil_header,
    "empty": _empty,
}
_NAMED = (SourceCorruptError, SourceNotADatabaseError, SourceEmptyError)


def _copies(archive: Path, name: str = "gym") -> list[Path]:
    return sorted((archive / f"{name}.damaged").glob("*.db"))


def _fail(database: Path, archive: Path, **changes: Any) -> str:
    with pytest.raises(_NAMED) as caught:
        backup.run(backup_job(database, archive), context(**changes))
    assert ".recover" in caught.value.hint
    copy = damaged.copy_of(caught.value)
    assert copy is not None
    return copy


@pytest.mark.parametrize("how", sorted(SPOIL))
def test_a_damaged_source_is_saved_as_it_is_and_is_no_backup(tmp_path: Path, how: str) -> None:
    """Every byte of the file and its WAL, in a folder that nothing lists; the source untouched."""
    database, archive = make_database(tmp_path / "gym.db"), tmp_path / "archive"
    backup.run(backup_job(database, archive), context())
    good = backups(archive)
    SPOIL[how](database)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("gym.db*")}
    (copy,) = [Path(_fail(database, archive))]
    assert [copy] == _copies(archive)
    assert copy.read_bytes() == before["gym.db"]
    if wal := before.get("gym.db-wal"):
        assert copy.with_name(copy.name + "-wal").read_bytes() == wal
    assert {path.name: path.read_bytes() for path in before_files(tmp_path, before)} == {
        name: data for name, data in before.items() if not name.endswith("-shm")
    }
    assert (copy.stat().st_mode & 0o777, copy.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    record = sealed.read(copy.with_name(copy.name + ".json"))
    assert record is not None
    assert record["source"] == str(database)
    catalog = Catalog(archive, context().clock.zone)
    assert [one.path for one in catalog.backups()] == good
    assert catalog.sweep() == []
    assert catalog.find("latest").path == good[0]


def before_files(folder: Path, before: dict[str, bytes]) -> list[Path]:
    """List the files that were there, but the index of the WAL."""
    return [folder / name for name in before if not name.endswith("-shm")]


def test_the_first_and_the_newest_copy_stay(tmp_path: Path) -> None:
    """Another database's copies in the same folder are none of them."""
    archive = tmp_path / "archive"
    database = make_database(tmp_path / "gym.db")
    (tmp_path / "other").mkdir()
    other = make_database(tmp_path / "other" / "gym.db")
    _spoil_index(database)
    _spoil_index(other)
    theirs = Path(_fail(other, archive))
    made = []
    for number in range(4):
        with closing(sqlite3.connect(database)) as application:
            application.execute(f"PRAGMA user_version={number + 1}")
        made.append(Path(_fail(database, archive)))
    assert _copies(archive) == sorted([theirs, made[0], made[-1]])


def test_the_newest_copy_stays_until_its_successor_is_there(tmp_path: Path) -> None:
    """A run that is stopped while it copies leaves the two that there are, and no part."""
    archive = tmp_path / "archive"
    database = make_database(tmp_path / "gym.db")
    _spoil_index(database)
    for _ in range(2):
        _fail(database, archive)
    before = _copies(archive)

    def full(_: Path) -> None:
        raise DiskFullError("no space left")

    with pytest.raises(DiskFullError):
        damaged.keep(damaged.here(database), archive, "why", context(), full, size=0)
    assert _copies(archive) == before
    assert [path for path in (archive / "gym.damaged").iterdir() if path.name[0] == "."] == []


def test_without_room_for_twice_its_size_nothing_is_copied(tmp_path: Path) -> None:
    """The failure says so, and is that of the database all the same."""
    database = make_database(tmp_path / "gym.db", rows=20_000)
    _spoil_index(database)
    size = database.stat().st_size
    with mounted(tmp_path, "tmpfs", size=f"{size * 17 // 10240}k") as disk:
        log = EventLog()
        with pytest.raises(SourceCorruptError) as caught:
            backup.run(backup_job(database, disk / "archive"), Context(log=log))
        assert _copies(disk / "archive") == []
    assert "could not be saved as it is" in caught.value.hint
    assert len(log.named("damaged database not saved")) == 1


def test_a_wrong_path_is_not_taken_for_a_damaged_database(tmp_path: Path) -> None:
    """What never was backed up and is no database is not copied."""
    text = tmp_path / "notes.txt"
    text.write_text("no database " * 1000)
    with pytest.raises(SourceNotADatabaseError) as caught:
        backup.run(backup_job(text, tmp_path / "archive"), context())
    assert caught.value.result is None
    assert not (tmp_path / "archive" / "notes.damaged").exists()


def test_copying_a_database_in_use_keeps_this_processs_locks(tmp_path: Path) -> None:
    """Another process still finds a reader of this one in its way."""
    database = make_database(tmp_path / "gym.db", mode="delete")
    uri = f"file:{database}?mode=ro"
    write = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)\n"
        "connection.execute('DELETE FROM t')\n"
    )
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM t").fetchone()
        damaged.preserve(database, tmp_path / "archive", "why", context())
        command = [sys.executable, "-c", write, str(database)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "database is locked" in done.stderr


def test_the_copy_holds_what_is_only_in_the_wal(tmp_path: Path) -> None:
    """An application has it open and has committed; its WAL is copied with it."""
    database = make_database(tmp_path / "gym.db", rows=5)
    with closing(sqlite3.connect(database, isolation_level=None)) as app:
        app.execute("PRAGMA wal_autocheckpoint=0")
        app.execute("INSERT INTO t(text) VALUES ('only in the WAL')")
        copy = damaged.preserve(database, tmp_path / "archive", "why", context())
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (6,)


@pytest.mark.parametrize(
    ("how", "method"),
    [(how, method) for how in sorted(SPOIL) for method in samples.sample(("query", "scp"), how)],
)
def test_an_emergency_saves_what_is_damaged(peer: Peer, how: str, method: str) -> None:
    """No step keeps another from being tried; what can be had is had, and the run fails."""
    peer.database.unlink(missing_ok=True)
    make_database(peer.database)
    SPOIL[how](peer.database)
    content = peer.database.read_bytes()
    code, result = gymdbd_json("-c", peer.config(method=method), "emergency")
    states = [(one["name"], one["state"]) for one in result["steps"]]
    assert states == [("backup there", "skipped"), ("pull", "failed"), ("backup here", "skipped")]
    assert (code, result["safe_copies"]) == (1, [])
    (copy,) = _copies(peer.archive, peer.replica.stem)
    assert result["damaged_copies"] == [{"host": None, "path": str(copy)}]
    assert copy.stat().st_size == len(content)
    # What has arrived already is saved, and that is marked as needing no WAL.
    if method != "scp" or how not in ("index", "text"):
        assert copy.read_bytes()[20:] == content[20:]
    assert not peer.replica.exists()
    assert not peer.partial.exists()


def test_a_failed_pull_of_an_emergency_still_pins_what_is_here(peer: Peer) -> None:
    """The replica of before is copied into the archive."""
    peer.pull()
    before = identity(peer.replica)
    _spoil_page(peer.database)
    code, result = gymdbd_json("-c", peer.config(), "emergency")
    states = [(one["name"], one["state"]) for one in result["steps"]]
    assert states == [("backup there", "skipped"), ("pull", "failed"), ("backup here", "ok")]
    assert code == 1
    assert len(result["safe_copies"]) == 1
    assert len(result["damaged_copies"]) == 1
    assert identity(peer.replica) == before


@pytest.mark.parametrize("method", ["query", "scp"])
def test_a_pull_of_a_damaged_database_names_the_copy_of_it(peer: Peer, method: str) -> None:
    """To a person as to a program: what failed, what to do, and where the damaged one lies."""
    _spoil_page(peer.database)
    done = gymdbd("-c", peer.config(method=method), "pull")
    (copy,) = _copies(peer.archive, peer.replica.stem)
    assert (done.returncode, done.stdout) == (1, "")
    assert " is damaged" in done.stderr
    assert str(copy) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_person_is_told_where_a_damaged_database_lies(peer: Peer) -> None:
    """The last lines name it, and what reads the rest."""
    _spoil_page(peer.database)
    done = gymdbd("-c", peer.config(), "emergency")
    (copy,) = _copies(peer.archive, peer.replica.stem)
    assert "safe copies   none" in done.stdout
    assert f"damaged copy  {copy}" in done.stdout
    assert ".recover" in done.stdout


def test_the_same_damage_is_saved_once(tmp_path: Path) -> None:
    """A backup every minute does not write it again and again; what changes since is saved."""
    database, archive = make_database(tmp_path / "gym.db"), tmp_path / "archive"
    archive.mkdir()
    _spoil_page(database)
    first = _fail(database, archive)
    facts = identity(Path(first))
    assert _fail(database, archive) == first
    # Written anew with the same bytes it is the same.
    database.write_bytes(database.read_bytes())
    assert _fail(database, archive) == first
    assert [str(one) for one in _copies(archive)] == [first]
    assert identity(Path(first)) == facts
    with database.open("ab") as file:
        file.write(b"more")
    assert _fail(database, archive) != first
    assert len(_copies(archive)) == 2


@pytest.mark.parametrize("how", ["index", "page"])
def test_a_damaged_database_is_fetched_once(peer: Peer, how: str) -> None:
    """Pulls go on failing and name the copy; none brings the same state again."""
    peer.database.unlink()
    make_database(peer.database)
    peer.pull()
    SPOIL[how](peer.database)
    with closing(sqlite3.connect(peer.database, isolation_level=None)) as application:
        application.execute("PRAGMA user_version=1")
        told, planned = [], []
        for _ in range(3):
            log = EventLog()
            with pytest.raises(SourceCorruptError) as caught:
                peer.pull(log=log, verify="full")
            told.append(damaged.copy_of(caught.value))
            planned.append(len(log.named("pull planned")))
        (copy,) = _copies(peer.archive, peer.replica.stem)
        assert told == [str(copy)] * 3
        assert planned == [1, 0, 0]
        application.execute("PRAGMA user_version=2")
        with pytest.raises(SourceCorruptError):
            peer.pull(verify="full")
        assert len(_copies(peer.archive, peer.replica.stem)) == 2


def test_a_copy_of_a_database_in_use_is_one_state_of_it(tmp_path: Path) -> None:
    """Its WAL begins anew all the time, and each commit adds two rows."""
    database = make_database(tmp_path / "gym.db", rows=5000)
    insert = "INSERT INTO t(text) VALUES (1);"
    with application(database) as app:
        app.run("PRAGMA wal_autocheckpoint=20")
        app.run("PRAGMA synchronous=OFF")
        app.begin(f"python while True: connection.executescript('BEGIN; {insert * 2} COMMIT')")
        for _ in range(4):
            copy = damaged.preserve(database, tmp_path / "archive", "why", context())
            with closing(sqlite3.connect(copy)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                (rows,) = connection.execute("SELECT count(*) FROM t").fetchone()
            assert (rows > 5000, rows % 2) == (True, 0)


@pytest.mark.skipif(not may_mount(), reason="file systems cannot be mounted here")
def test_a_copy_that_was_cut_short_is_none(tmp_path: Path) -> None:
    """Somebody else took the room meanwhile: that is an error, and no part of it stays."""
    database = make_database(tmp_path / "gym.db", rows=5000)
    with mounted(tmp_path, "tmpfs", size="256k") as disk:
        with pytest.raises(WriteFailedError):
            damaged.preserve(database, disk, "why", context(), room=0)
        assert list((disk / "gym.damaged").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_saves_belongs_to_the_owner_of_the_database(tmp_path: Path) -> None:
    """It is they who will read what can still be read."""
    database = make_database(tmp_path / "gym.db")
    os.chown(database, 65534, 65534)
    copy = damaged.preserve(database, tmp_path / "archive", "why", context())
    assert (copy.stat().st_uid, copy.stat().st_gid) == (65534, 65534)


@pytest.mark.parametrize("how", ["sound", "page", "header"])
def test_an_emergency_needs_no_archive(peer: Peer, how: str) -> None:
    """If it cannot be written, what there is goes into a folder beside the replica."""
    peer.database.unlink()
    make_database(peer.database)
    if how != "sound":
        SPOIL[how](peer.database)
    peer.archive.write_text("no folder")
    code, result = gymdbd_json("-c", peer.config(), "emergency")
    place = peer.replica.parent / "emergency"
    if how == "sound":
        assert (code, [one["path"] for one in result["safe_copies"]]) == (
            0,
            [str(peer.replica), str(backups(place)[0])],
        )
    else:
        (copy,) = _copies(place, peer.replica.stem)
        assert (code, result["damaged_copies"]) == (1, [{"host": None, "path": str(copy)}])
    assert peer.archive.read_text() == "no folder"


def test_a_raw_backup_without_the_wal_that_sqlite_no_longer_needs_is_no_damage(
    tmp_path: Path,
) -> None:
    """The error names the file that ended early; the default backup is whole, and nothing froze."""
    database, archive = make_database(tmp_path / "gym.db"), tmp_path / "archive"
    words = ["backup", "--database", database, "--archive", archive, "--skip-checkpoint"]
    with sqlite_elsewhere(database, "DELETE FROM t", "PRAGMA wal_checkpoint(FULL)"):
        os.truncate(beside(database, WAL), 5000)
        code, told = gymdbd_json(*words, "--raw")

        assert (code, told["code"]) == (1, "source-unreadable")
        assert f"{database}-wal ends after 5000 of" in told["error"]
        assert "omit --raw" in told["hint"]
        assert gymdbd(*words).returncode == 0
    assert [query(path, "SELECT count(*) FROM t") for path in backups(archive)] == [[(0,)]]
    assert sorted({*archive.glob("*.damaged"), *archive.glob(".*frozen*")}) == []
