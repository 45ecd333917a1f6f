"""What makes the content of a new backup doubted, and what does not."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gymdbd.archive.gates import Content, Limits, emptied, suspicions
from gymdbd.sqlite import freshness
from tests.support.archives import manifest

_LIMITS: dict[str, Any] = {"max_row_drop": 20, "max_size_drop": 50, "ignore_rows": 10}


def _doubts(
    before: dict[str, int], now: dict[str, int], *, pages: int = 20, **limits: Any
) -> list[str]:
    old, new = manifest(tables=before, page_count=20), manifest(tables=now, page_count=pages)
    return suspicions(old, new, Limits(**{**_LIMITS, **limits}))


@pytest.mark.parametrize(
    ("before", "now", "doubted"),
    [
        (100, 80, False),
        (100, 79, True),
        (100, 200, False),
        (344, 0, True),
        (9, 0, False),
        (10, 0, True),
        (40, 31, False),
        (1_000_000, 799_999, True),
    ],
)
def test_a_table_that_falls_by_more_than_its_limit_is_doubted(
    before: int, now: int, *, doubted: bool
) -> None:
    """A fall by just the limit is believed, and so is one of fewer than ten rows."""
    found = _doubts({"members": before}, {"members": now})
    assert bool(found) is doubted
    if doubted:
        assert found == [f"table members fell from {before} to {now} rows, more than 20 %"]


def test_a_table_has_the_limit_that_is_set_for_it() -> None:
    """Others keep the general one; a limit of 100 % is never passed."""
    before = {"events": 1000, "members": 1000, "queue": 1000}
    now = {"events": 150, "members": 150, "queue": 0}
    found = _doubts(before, now, tables={"events": 90, "queue": 100})
    assert found == ["table members fell from 1000 to 150 rows, more than 20 %"]


def test_a_table_that_is_gone_is_doubted_however_small() -> None:
    """A new one is not."""
    found = _doubts({"a": 1, "b": 3}, {"a": 1, "c": 0})
    assert found == ["table b is gone, it had 3 rows"]


def test_a_name_goes_before_a_pattern_and_the_first_pattern_before_the_next() -> None:
    """100 % exempts a table that is gone as well."""
    before = {"log_a": 100, "log_b": 100, "log_kept": 100, "logs": 100}
    tables = {"log_*": 100, "*": 30, "log_kept": 20}
    found = _doubts(before, {"log_b": 0, "log_kept": 75, "logs": 75}, tables=tables)
    assert found == ["table log_kept fell from 100 to 75 rows, more than 20 %"]
    assert _doubts({"a": 5}, {}, max_row_drop=100) == ["table a is gone, it had 5 rows"]


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({"a": 344}, {"a": 1}, []),
        ({"a": 344}, {"a": 0}, ["table a is empty, it had 344 rows"]),
        ({"a": 1, "b": 3}, {"a": 1}, ["table b is gone, it had 3 rows"]),
        ({"queue": 9, "b": 3}, {"queue": 0, "b": 3}, []),
        ({"queue": 10, "b": 3}, {"queue": 0, "b": 3}, ["table queue is empty, it had 10 rows"]),
        ({"a": 2, "b": 3}, {"a": 0, "b": 0}, ["no table holds a row, there were 5"]),
        ({"a": 0}, {"a": 0}, []),
    ],
)
def test_without_limits_only_what_is_emptied_or_gone_is_doubted(
    before: dict[str, int], now: dict[str, int], expected: list[str]
) -> None:
    """A queue of a few rows may be empty; a database that has lost all of its rows may not."""
    assert emptied(Content(before, 1), Content(now, 1)) == expected


def test_a_table_that_cannot_be_counted_is_not_doubted() -> None:
    """It is there: its rows may only be unknown to this SQLite."""
    before, now = Content({"a": 5, "b": 90}, 1), Content({"a": 5}, 1, uncounted=["b"])
    limits = Limits(max_row_drop=20, max_size_drop=50, ignore_rows=10)
    assert (suspicions(before, now, limits), emptied(before, now)) == ([], [])
    nothing = Content({"a": 0}, 1, uncounted=["b"])
    assert emptied(before, nothing) == []


def test_a_database_that_shrinks_by_more_than_its_limit_is_doubted() -> None:
    """By just the limit it is believed."""
    assert _doubts({}, {}, pages=10) == []
    found = _doubts({}, {}, pages=9)
    assert found == ["the database shrank from 81920 to 36864 bytes, more than 50 %"]


_MOMENT = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-23 03:00:00",
        "2026-11-23T03:00:00Z",
        "2026-11-23T12:00:00+09:00",
        " 2026-11-23 03:00 ",
        int(_MOMENT.timestamp()),
        _MOMENT.timestamp(),
        int(_MOMENT.timestamp() * 1000),
        2461367.625,
    ],
)
def test_every_form_of_time_means_the_same_instant(value: str | float) -> None:
    """Text with and without an offset, seconds, milliseconds, Julian days."""
    assert freshness.to_moment(value, UTC) == _MOMENT


def test_a_text_without_an_offset_is_time_of_the_zone() -> None:
    """As the application wrote it."""
    assert freshness.to_moment("2026-11-23 12:00:00", ZoneInfo("Asia/Seoul")) == _MOMENT


@pytest.mark.parametrize("value", [None, "", "yesterday", b"2026", 0, 12, -1e300, float("inf")])
def test_what_is_no_time_is_none(value: freshness.Value) -> None:
    """Nothing is guessed, and nothing raised."""
    assert freshness.to_moment(value, UTC) is None


def test_the_newest_value_of_a_column_is_its_greatest() -> None:
    """Any case of the names will do, as in SQL; an unknown column is an error, not a text."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute('CREATE TABLE "대여 1" ("at ""x" TEXT)')
        assert freshness.newest(connection, "대여 1", 'at "x') is None
        connection.execute("INSERT INTO \"대여 1\" VALUES ('2026-01-02'), ('2026-01-03'), (NULL)")
        assert freshness.newest(connection, "대여 1", 'AT "X') == "2026-01-03"
        for table, column in (("대여 1", "gone"), ("gone", "at")):
            with pytest.raises(sqlite3.Error, match="no such column"):
                freshness.newest(connection, table, column)
