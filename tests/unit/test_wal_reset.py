"""The WAL-reset bug is told once, for all machines that have it, with what can be done there."""

import sqlite3

from gymdbd.jobs import wal_reset
from gymdbd.jobs.finding import OK, WARNING, Check
from gymdbd.source.database import has_wal_reset_bug


def test_this_machine_is_named_if_its_sqlite_has_the_bug() -> None:
    """Otherwise its SQLite is a good one, and no word is lost about the bug."""
    state = WARNING if has_wal_reset_bug() else OK
    found = wal_reset.told_once([wal_reset.here()])
    assert [(check.name, check.state) for check in found] == [("sqlite", state)]
    assert sqlite3.sqlite_version in found[0].message
    assert ("WAL-reset bug" in found[0].message) == has_wal_reset_bug()


def test_every_sqlite_with_the_bug_is_named_in_one_warning() -> None:
    """Two jobs that pull from one machine name it once, and other checks stay where they were."""
    met = [wal_reset.met("3.40.1", "pi"), wal_reset.met("3.47.0", "this machine")]
    other = Check("pi host", OK, "it answers")
    first, second = wal_reset.told_once([met[1], other, *met])
    assert first.message.startswith(
        "SQLite 3.47.0 on this machine and SQLite 3.40.1 on pi have the WAL-reset bug: "
    )
    assert (first.name, first.state, second) == ("sqlite", WARNING, other)


def test_the_remedies_are_those_of_the_release() -> None:
    """Debian has no repaired one to update to; the others are told which those are."""
    (debian,) = wal_reset.told_once([wal_reset.met("3.40.1", "pi")])
    (other,) = wal_reset.told_once([wal_reset.met("3.47.0", "mac")])
    assert "apt-get changelog libsqlite3-0" in debian.hint
    assert "Debian" not in other.hint
    for told in (debian, other):
        assert "3.51.3, 3.50.7 and 3.44.6" in told.hint
        assert "PRAGMA wal_autocheckpoint=0" in told.hint


def test_a_good_sqlite_here_does_not_stand_beside_the_warning() -> None:
    """One question has one answer, whoever asks by name."""
    good, pi = Check("sqlite", OK, "SQLite 3.53.0"), wal_reset.met("3.40.1", "pi")
    assert wal_reset.told_once([good]) == [good]
    assert [check.state for check in wal_reset.told_once([good, pi])] == [WARNING]


def test_the_warning_stands_at_the_first_of_many_machines() -> None:
    """All are named, with what helps on any of them, and no other fault of a SQLite is hidden."""
    other, fault = Check("config", OK, "read"), Check("sqlite", WARNING, "it has no FTS5")
    met = [wal_reset.met("3.47.0", "mac"), *(wal_reset.met("3.40.1", pi) for pi in ("a", "b"))]
    first, told, last = wal_reset.told_once([other, *met, fault])
    assert (first, last) == (other, fault)
    assert [f"on {name} " in told.message for name in ("mac", "a", "b")] == [True] * 3
    assert "Debian" in told.hint
    (alone,) = wal_reset.told_once(met[:1])
    assert alone.message.startswith("SQLite 3.47.0 on mac has the WAL-reset bug: ")
