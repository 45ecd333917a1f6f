"""What a backup tells of the changes since the one before it, and that it costs no backup."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from gymdbd.archive import marks
from gymdbd.archive.catalog import Catalog
from gymdbd.clock import Clock
from gymdbd.errors import StoppedError
from gymdbd.jobs.backup import backup, changes
from gymdbd.jobs.backup.result import BackupResult, Changes
from gymdbd.jobs.result import plain
from gymdbd.origin import here as origin_of
from tests.support.command import EventLog
from tests.support.databases import backups, tree
from tests.support.jobs import backup_job, context

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.jobs.context import Context

_SCHEMA = """
CREATE TABLE members (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE rentals (id INTEGER PRIMARY KEY, member_id INTEGER);
INSERT INTO members (name) VALUES ('김회원'), ('이회원'), ('박회원');
"""


class _Nights(Clock):
    """A clock that is a day further each time that it is asked for the date."""

    day = datetime(2026, 11, 20, 3, tzinfo=UTC)

    def now(self) -> datetime:
        """Return three in the morning of the next day."""
        _Nights.day += timedelta(days=1)
        return _Nights.day


def _database(tmp_path: Path, *statements: str) -> Path:
    path = tmp_path / "gym.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        for statement in statements:
            connection.executescript(statement)
    return path


def _night(database: Path, archive: Path, **settings: Any) -> tuple[BackupResult, Context]:
    here = context(clock=_Nights())
    return backup.run(backup_job(database, archive, **settings), here), here


def _events(here: Context, name: str) -> list[dict[str, Any]]:
    assert isinstance(here.log, EventLog)
    return here.log.named(name)


def test_a_backup_tells_what_has_changed_since_the_one_before(tmp_path: Path) -> None:
    """One line in the log, and the numbers of each table in the result; the first has none."""
    archive = tmp_path / "archive"
    first, here = _night(_database(tmp_path, _SCHEMA), archive)
    assert (first.changes, _events(here, "changes since the backup before")) == (None, [])
    database = _database(
        tmp_path,
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION SELECT x + 1 FROM n LIMIT 14) "
        "INSERT INTO rentals (member_id) SELECT x FROM n",
        "INSERT INTO members (name) VALUES ('최회원')",
        "UPDATE members SET name = '정회원' WHERE id IN (1, 2)",
    )
    second, here = _night(database, archive)
    expected = {
        "previous": first.path,
        "digest": "rentals +14, members +1 ~2 -0",
        "tables": {
            "members": {"added": 1, "changed": 2, "removed": 0},
            "rentals": {"added": 14, "changed": 0, "removed": 0},
        },
    }
    assert plain(second.changes) == expected
    (event,) = _events(here, "changes since the backup before")
    assert event == {"path": second.path, **expected}
    third, _ = _night(database, archive)
    assert third.changes == Changes(previous=second.path, digest="nothing", tables={})


def test_only_a_good_backup_of_the_same_database_is_compared_with(tmp_path: Path) -> None:
    """A damaged one and one of another database are passed over."""
    archive = tmp_path / "archive"
    database = _database(tmp_path, _SCHEMA)
    first, _ = _night(database, archive)
    second, _ = _night(database, archive)
    marks.change(backups(archive)[-1], problems=["it has rotted"])
    other = tmp_path / "other.db"
    other.write_bytes(database.read_bytes())
    other_night, _ = _night(other, archive)
    third, _ = _night(database, archive)
    assert other_night.changes is None
    changes = (second.changes, third.changes)
    assert [told and told.previous for told in changes] == [first.path] * 2


def test_trouble_with_the_backup_before_is_a_warning(tmp_path: Path) -> None:
    """The new backup is published all the same, and nothing is left beside either."""
    archive = tmp_path / "archive"
    database = _database(tmp_path, _SCHEMA, "CREATE TABLE large (v)")
    with closing(sqlite3.connect(database)) as connection:
        connection.executemany("INSERT INTO large VALUES (?)", [("x" * 500,)] * 100)
        connection.commit()
    first, _ = _night(database, archive)
    with open(first.path, "r+b") as file:  # noqa: PTH123 - a text
        file.seek(4096)
        file.write(b"\xff" * 20_000)
    second, here = _night(database, archive)
    (warning,) = _events(here, "changes not counted")
    assert (second.changes, first.path in warning["reason"]) == (None, True)
    assert len(tree(archive)) == 4


def test_it_gives_up_when_it_would_take_too_long(tmp_path: Path) -> None:
    """After half of the backup's time it ends with a warning that names the key to leave it out."""
    archive = tmp_path / "archive"
    database = _database(tmp_path, _SCHEMA)
    with closing(sqlite3.connect(database)) as connection:
        connection.executemany("INSERT INTO rentals (member_id) VALUES (?)", [(1,)] * 100_000)
        connection.commit()
    _night(database, archive)
    second, _ = _night(database, archive)

    class Slow(Clock):
        """A clock on which every look takes ten seconds."""

        passed = 0.0

        def monotonic(self) -> float:
            """Return a time ten seconds later than before."""
            self.passed += 10
            return self.passed

    here = context(clock=Slow())
    catalog = Catalog(archive, UTC)
    assert (
        changes.tell(catalog.look(), origin_of(database), backups(archive)[-1], here, 0.0) is None
    )
    assert (
        changes.tell(
            catalog.look(), origin_of(database), backups(archive)[-1], context(clock=Slow()), 1e6
        )
        is not None
    )
    (warning,) = _events(here, "changes not counted")
    assert "count_changes" in warning["hint"]
    assert second.changes is not None


def test_being_stopped_while_counting_is_no_failure_of_the_backup(tmp_path: Path) -> None:
    """It is published already; what comes after it may end the run."""
    archive = tmp_path / "archive"
    database = _database(tmp_path, _SCHEMA)
    with closing(sqlite3.connect(database)) as connection:
        connection.executemany("INSERT INTO rentals (member_id) VALUES (?)", [(1,)] * 100_000)
        connection.commit()
    _night(database, archive)
    _night(database, archive)

    def stop() -> None:
        raise StoppedError("stopped by SIGTERM")

    here = context(check=stop)
    assert (
        changes.tell(
            Catalog(archive, UTC).look(), origin_of(database), backups(archive)[-1], here, 0.0
        )
        is None
    )
    assert [one["reason"] for one in _events(here, "changes not counted")] == ["stopped by SIGTERM"]


def test_raw_backups_and_a_job_that_does_not_want_it_have_none(tmp_path: Path) -> None:
    """No warning either: there is nothing to mend."""
    archive = tmp_path / "archive"
    database = _database(tmp_path, _SCHEMA)
    with closing(sqlite3.connect(database)) as app:
        app.execute("INSERT INTO rentals (member_id) VALUES (1)")
        app.commit()
        _night(database, archive)
        raw, here = _night(database, archive, raw=True, checkpoint="none")
        unwanted, other = _night(database, archive, count_changes=False)
    assert (raw.changes, unwanted.changes) == (None, None)
    assert [event["reason"] for event in _events(here, "changes not counted")] == ["a raw backup"]
    for one in (here, other):
        assert isinstance(one.log, EventLog)
        assert [level for level, _, _ in one.log.events if level == "warning"] == []
