"""When a replica is checked: what a state file says of the last check, and what it may not say."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.config.kinds import PullConfig
from gymdbd.jobs.pull import checking
from gymdbd.jobs.pull.replica import State
from tests.support.databases import make_database

if TYPE_CHECKING:
    from pathlib import Path

_NOW = datetime(2026, 11, 28, 9, 0, tzinfo=UTC)


def _is_due(tmp_path: Path, **known: Any) -> bool:
    job = PullConfig(
        name="pull",
        kind="pull",
        host="pi",
        remote_database="/srv/gym.db",
        replica=tmp_path / "gym.db",
        check_every=timedelta(hours=1),
    )
    of_old: dict[str, Any] = {
        "host": "pi",
        "remote_database": "/srv/gym.db",
        "fingerprint": None,
        "pulled_at": "2026-11-28T08:59:00+00:00",
        "compared_at": "2026-11-28T08:00:00+00:00",
        "md5": "",
        "sha256": "",
        "tables": {},
    }
    return checking.is_due(job, State(**of_old, **known), _NOW)


@pytest.mark.parametrize(
    ("known", "due"),
    [
        ({"check_s": 0.05, "checked_at": "2026-11-28T08:03:01+00:00"}, False),
        ({"check_s": 0.05, "checked_at": "2026-11-28T08:03:00+00:00"}, True),
        ({"check_s": 0.049, "checked_at": "2026-11-28T08:59:00+00:00"}, True),
    ],
)
def test_a_check_is_due_when_it_is_quick_or_the_last_one_is_long_ago(
    tmp_path: Path, known: dict[str, Any], *, due: bool
) -> None:
    """Less than 50 ms is worth no thought; an hour is over after 57 minutes."""
    assert _is_due(tmp_path, **known) == due


def test_a_daily_pull_is_checked_in_full_each_day() -> None:
    """Even if a run begins a few seconds earlier in its day than the one before."""
    before = (_NOW - timedelta(days=1) + timedelta(seconds=5)).isoformat()
    assert checking.has_passed(before, timedelta(days=1), _NOW)


@pytest.mark.parametrize(
    "known",
    [
        {},
        {"check_s": 0.5},
        {"check_s": None, "checked_at": "2026-11-28T08:59:00+00:00"},
        {"check_s": "long", "checked_at": "2026-11-28T08:59:00+00:00"},
        {"check_s": 0.5, "checked_at": "yesterday"},
        {"check_s": 0.5, "checked_at": None},
        {"check_s": 0.5, "checked_at": "2026-11-28T09:00:01+00:00"},
    ],
)
def test_a_check_is_due_when_the_last_one_is_unknown(tmp_path: Path, known: dict[str, Any]) -> None:
    """Another release wrote the state, somebody has edited it, or a clock was wrong."""
    assert _is_due(tmp_path, **known)


@pytest.mark.parametrize(
    ("statement", "ordinary"),
    [
        ("INSERT INTO t VALUES (1000, 'v')", True),
        ("DELETE FROM t", True),
        ("CREATE INDEX i ON t (text)", False),
        ("VACUUM", False),
        ("PRAGMA user_version=7", False),
        ("PRAGMA application_id=7", False),
    ],
)
def test_what_is_more_than_an_ordinary_commit_shows_in_the_header(
    tmp_path: Path, statement: str, *, ordinary: bool
) -> None:
    """Its pages may all be others, or checked by other rules."""
    old, new = make_database(tmp_path / "old.db", mode="delete"), tmp_path / "new.db"
    new.write_bytes(old.read_bytes())
    with closing(sqlite3.connect(new, isolation_level=None)) as connection:
        connection.execute(statement)
    assert checking.is_ordinary(old, new) == ordinary
