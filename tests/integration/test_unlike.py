"""Every verb works on a database of which this SQLite cannot check everything, and says so."""

from __future__ import annotations

import dataclasses
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from gymdbd.archive import manifest as manifests
from gymdbd.archive.backup import VERIFIED
from gymdbd.archive.catalog import LATEST, Catalog
from gymdbd.config.kinds import DrillConfig, RestoreConfig, VerifyConfig
from gymdbd.config.parts import Probe
from gymdbd.jobs.backup import backup
from gymdbd.jobs.backup.result import Counts
from gymdbd.jobs.drill import drill
from gymdbd.jobs.restore import restore
from gymdbd.jobs.verify import verify
from tests.support import samples
from tests.support.command import EventLog, gymdbd, gymdbd_json
from tests.support.databases import backups
from tests.support.jobs import backup_job, context
from tests.support.unlike import UNCHECKABLE, VIOLATED, as_application, make

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.archive.backup import Backup
    from tests.support.pulling import Peer

ALL = {**UNCHECKABLE, **VIOLATED}
_SOME = (
    "function in an index",
    "function in a generated column",
    "collation of a key",
    "tokenizer",
    "newer view",
    "newer table",
    "NULL",
)
_BY_COPY = ("function in an index", "newer view", "NULL")


def _latest(archive: Path) -> Backup:
    return Catalog(archive, context().clock.zone).find(LATEST)


def _members(path: Path) -> list[tuple[object, ...]]:
    """Read what the application reads; it understands its own schema."""
    with closing(as_application(path)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        if not connection.execute("SELECT count(*) FROM pragma_table_info('members')").fetchone()[
            0
        ]:
            return connection.execute("SELECT * FROM plain").fetchall()
        return connection.execute("SELECT at FROM members ORDER BY at").fetchall()


@pytest.mark.parametrize(
    ("kind", "raw"),
    [*((kind, False) for kind in sorted(ALL)), *((kind, True) for kind in _SOME)],
)
def test_it_is_backed_up_verified_restored_and_drilled(
    tmp_path: Path, kind: str, raw: bool
) -> None:
    """The backup is good and the newest; its manifest and verify say what is not checked."""
    source = make(tmp_path / "app.db", ALL[kind], wal=True)
    archive = tmp_path / "archive"
    rows = _members(source)
    with closing(as_application(source)) as application:
        application.execute("PRAGMA writable_schema=ON")
        application.execute("INSERT INTO plain VALUES (2)")
        made = backup.run(backup_job(source, archive, raw=raw), context())
    found = _latest(archive)
    assert found.verdict == VERIFIED
    manifest = manifests.read(found.path)
    assert manifest is not None
    assert manifest.unchecked + manifest.remarks != []
    assert made.remarks != []
    assert manifest.tables["plain"] == 2
    origin = backup_job(source, archive).origin
    assert Catalog(archive, context().clock.zone).frozen(origin) == ""

    verified = verify.run(VerifyConfig(name="v", kind="verify", archive=archive), context())
    (told,) = verified.backups
    assert (told.verdict, told.problems) == (VERIFIED, [])
    assert any(remark in told.remarks for remark in made.remarks)

    with closing(as_application(source)) as application:
        application.execute("PRAGMA writable_schema=ON")
        application.execute("DELETE FROM plain")
        job = RestoreConfig(name="r", kind="restore", backup=found.path, target=source)
        restore.run(job, context())
        assert application.execute("SELECT * FROM plain").fetchall() == [(1,), (2,)]
    for changes in ({"replace": True}, {"target": tmp_path / "other.db"}):
        done = dataclasses.replace(job, **changes)
        restore.run(done, context())
        if kind != "newer table":
            assert _members(done.target) == rows
    answers = drill.run(
        DrillConfig(
            name="d",
            kind="drill",
            archive=archive,
            database=source,
            probes=(Probe(sql="SELECT count(*) FROM plain", expect="2"),),
        ),
        context(),
    )
    assert answers.tables["plain"] == 2


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        *((kind, "query") for kind in samples.sample(_SOME, "query", size=3)),
        *((kind, "scp") for kind in samples.sample(_BY_COPY, "copy")),
    ],
)
def test_it_is_pulled_again_and_again(peer: Peer, kind: str, method: str) -> None:
    """The replica is equal, and what was saved of the one before counts as good."""
    peer.database.unlink(missing_ok=True)
    make(peer.database, ALL[kind], wal=True)
    result = peer.pull(method=method)
    assert result.remarks != []
    for number in (2, 3):
        with closing(as_application(peer.database)) as application:
            application.execute("PRAGMA writable_schema=ON")
            application.execute("INSERT INTO plain VALUES (?)", (number,))
        result = peer.pull(method=method)
        assert result.tables["plain"] == number
        assert result.remarks != []
        assert _latest(peer.archive).verdict == VERIFIED
    (saved, _) = backups(peer.archive)
    manifest = manifests.read(saved)
    assert manifest is not None
    assert len(manifest.unchecked) + len(manifest.remarks) == 1


def test_list_verify_and_backup_tell_a_person(tmp_path: Path) -> None:
    """Each names the index, and SQLite's version; list is short."""
    source = make(tmp_path / "app.db", ALL["function in an index"])
    archive = tmp_path / "archive"
    done = gymdbd("backup", "--database", source, "--archive", archive)
    assert done.returncode == 0
    assert "not checked: the indexes of table members (unknown function: year_of())" in done.stdout
    listed = gymdbd("list", "--archive", archive)
    assert "could not be checked completely" in listed.stdout
    assert "verified" in listed.stdout
    assert "year_of" in gymdbd("verify", "--all", "--archive", archive).stdout
    (told,) = gymdbd_json("list", "--archive", archive)[1]["backups"]
    assert (told["verdict"], len(told["unchecked"]), told["remarks"]) == (VERIFIED, 1, [])


@pytest.mark.parametrize("kind", sorted(ALL))
def test_the_other_tables_are_compared(tmp_path: Path, kind: str) -> None:
    """`diff` and the nightly count say which table they could not compare, and do the rest."""
    source, archive = make(tmp_path / "app.db", ALL[kind]), tmp_path / "archive"
    backup.run(backup_job(source, archive), context())
    with closing(as_application(source)) as application:
        application.execute("PRAGMA writable_schema=ON")
        application.execute("INSERT INTO plain VALUES (2)")
    log = EventLog()
    made = backup.run(backup_job(source, archive), context(log=log))
    assert log.named("changes not counted") == []
    assert made.changes is not None
    assert made.changes.tables["plain"] == Counts(added=1, changed=0, removed=0)
    expected = {"collation of a key", "collation of a parent key", "newer table"}
    assert (made.changes.not_compared is not None) == (kind in expected)


def test_diff_prints_why_a_table_is_not_compared(tmp_path: Path) -> None:
    """The others are, and the exit code is that of a comparison."""
    source, archive = make(tmp_path / "app.db", ALL["newer table"]), tmp_path / "archive"
    backup.run(backup_job(source, archive), context())
    done = gymdbd("diff", backups(archive)[0], "--database", source)
    assert done.returncode == 0
    assert "cannot read it" in done.stdout


@pytest.mark.parametrize("kind", ["collation of a key", "function in an index", "newer view"])
def test_check_and_status_tell_what_is_not_checked(tmp_path: Path, kind: str) -> None:
    """Before the first backup check says it, afterwards status; neither takes it for a fault."""
    source = make(tmp_path / "app.db", UNCHECKABLE[kind])
    (tmp_path / "archive").mkdir()
    config = tmp_path / "gymdbd.yaml"
    config.write_text(
        f"status_file: {tmp_path}/status.json\njobs:\n  nightly:\n    kind: backup\n"
        f"    every: 1h\n    database: {source}\n    archive: {tmp_path}/archive\n"
    )
    looked = gymdbd("-c", config, "check")
    (line,) = [one for one in looked.stdout.splitlines() if "nightly unchecked" in one]
    assert line.startswith("ok ")
    assert f"by SQLite {sqlite3.sqlite_version}" in line
    assert gymdbd("-c", config, "backup").returncode == 0
    told = gymdbd("-c", config, "status")
    assert told.returncode == 0
    assert f"by SQLite {sqlite3.sqlite_version}" in told.stdout


def test_info_only_tells_what_is_not_understood_over_there(peer: Peer) -> None:
    """Of a newer table neither the definition nor the rows are known to the SQLite of the host."""
    peer.database.unlink()
    make(peer.database, UNCHECKABLE["newer table"], wal=True)
    told = gymdbd("-c", peer.config(), "pull", "--info-only")
    assert told.returncode == 0
    (line,) = [one for one in told.stdout.splitlines() if one.startswith("unknown")]
    assert line.startswith("unknown        what its schema says of members (")
    assert line.endswith(", table members")
    looked = gymdbd("-c", peer.config(), "check")
    assert (
        "unchecked: unknown on the other machine: what its schema says of members ("
        in looked.stdout
    )
