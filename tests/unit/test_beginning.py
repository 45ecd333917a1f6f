"""A backup named by the beginning of its time, written as people and as ISO 8601 write times."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gymdbd.archive.beginning import matches, nearest
from gymdbd.archive.catalog import Catalog
from gymdbd.errors import BackupAmbiguousError, BackupMissingError
from gymdbd.origin import Origin, Place
from tests.support.archives import GYM, add_backup

if TYPE_CHECKING:
    from pathlib import Path

_FORMS = ["%Y%m%d_%H%M%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y%m%d%H%M%S", "%Y%m%d-%H%M"]
_YEAR = 4
moments = st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1))  # noqa: DTZ001 - names have no zone


@given(moments, st.sampled_from(_FORMS), st.integers(_YEAR, 20), moments)
def test_every_beginning_of_a_time_names_what_begins_so(
    moment: datetime, form: str, length: int, other: datetime
) -> None:
    """From the year on, in every form; another time only if its digits begin so as well."""
    word = moment.strftime(form)[:length]
    digits = "".join(filter(str.isdigit, word))
    stamp = moment.strftime("%Y%m%d_%H%M%S")
    assert matches(word, stamp, None)
    assert matches(word, stamp, "2")
    another = other.strftime("%Y%m%d_%H%M%S")
    assert matches(word, another, None) == another.replace("_", "").startswith(digits)


@pytest.mark.parametrize(
    "word", ["", "2", "202", "latest", "gym", "2026-11-28T03:00:00+09:00", "20261128_030000.db"]
)
def test_what_is_no_beginning_of_a_time_names_nothing(word: str) -> None:
    """Less than a year, a name, or more than the time."""
    assert not matches(word, "20261128_030000", None)


@given(st.lists(moments, max_size=9), moments, st.sampled_from(_FORMS), st.integers(_YEAR, 20))
def test_the_nearest_are_those_on_both_sides_of_what_nothing_begins_with(
    others: list[datetime], moment: datetime, form: str, length: int
) -> None:
    """One before and one behind it, if there are such."""
    word = moment.strftime(form)[:length]
    digits = "".join(filter(str.isdigit, word))
    stamps = [other.strftime("%Y%m%d_%H%M%S") for other in others]
    stamps = [stamp for stamp in stamps if not matches(word, stamp, None)]
    before = sorted(stamp for stamp in stamps if stamp.replace("_", "") < digits)[-1:]
    behind = sorted(stamp for stamp in stamps if stamp.replace("_", "") > digits)[:1]
    assert nearest(word, stamps) == [*before, *behind]


def test_the_number_of_a_backup_belongs_to_its_whole_time() -> None:
    """`-2` is the second of that second, and neither a day nor a minute."""
    assert matches("20261128_030000-2", "20261128_030000", "2")
    assert not matches("20261128_030000-2", "20261128_030000", None)
    assert not matches("20261128_030000-2", "20261128_030000", "3")
    assert not matches("20261128_0300-2", "20261128_030000", "2")
    assert matches("2026-2", "20260228_030000", None) is False


def test_the_digits_of_a_time_are_its_first_ones() -> None:
    """An hour alone would mean one of any day."""
    assert not matches("1128_0300", "20261128_030000", None)
    assert not matches("0300", "20261128_030000", None)


def test_a_unique_beginning_finds_its_backup_also_one_that_is_not_good(tmp_path: Path) -> None:
    """What is named is taken, whatever its verdict is."""
    for stamp in ("20261127_030000", "20261128_030000"):
        add_backup(tmp_path / f"gym_backup_{stamp}.db", verified=False)
    found = Catalog(tmp_path, UTC).find("2026-11-28")
    assert (found.path.name, found.verdict) == ("gym_backup_20261128_030000.db", "unverified")
    assert Catalog(tmp_path, UTC).find("20261127_03").path.name == "gym_backup_20261127_030000.db"


def test_a_beginning_of_several_is_refused_with_the_newest_of_them(tmp_path: Path) -> None:
    """The message names five at most, and says what to type."""
    for hour in range(10, 18):
        add_backup(tmp_path / f"gym_backup_20261128_{hour}0000.db", verified=False)
    with pytest.raises(BackupAmbiguousError) as caught:
        Catalog(tmp_path, UTC).find("20261128")
    assert "of 8 backups" in caught.value.message
    assert "3 more, and gym_backup_20261128_130000.db, " in caught.value.message
    assert "gym_backup_20261128_120000.db" not in caught.value.message
    assert "the whole name, or add --database PATH if they are of several" in caught.value.hint
    with pytest.raises(BackupAmbiguousError) as caught:
        Catalog(tmp_path, UTC).find("20261128", Origin("gym", ()))
    assert "type more of the time or the whole name; gymdbd list" in caught.value.hint


def test_both_backups_of_one_second_can_be_named(tmp_path: Path) -> None:
    """The whole time is that of the first, whose name has no number; less of it is of both."""
    first, second = "gym_backup_20261128_030000.db", "gym_backup_20261128_030000-2.db"
    add_backup(tmp_path / second)
    catalog = Catalog(tmp_path, UTC)
    assert catalog.find("20261128_030000").path.name == second
    add_backup(tmp_path / first)
    assert catalog.find("20261128_030000-2").path.name == second
    assert catalog.find("2026-11-28 03:00:00").path.name == first
    with pytest.raises(BackupAmbiguousError, match=re.escape(f": {second}, {first}")):
        catalog.find("20261128_0300")


def test_of_several_databases_the_one_that_is_meant_is_taken(tmp_path: Path) -> None:
    """A beginning that two of them share is unique for each; one of another's names nothing."""
    add_backup(tmp_path / "gym_backup_20261128_030000.db")
    add_backup(tmp_path / "pool_backup_20261128_030000.db", source="/srv/pool.db")
    add_backup(tmp_path / "pool_backup_20261127_030000.db", source="/srv/pool.db")
    catalog = Catalog(tmp_path, UTC)
    with pytest.raises(BackupAmbiguousError, match=r"gym_backup_.*, pool_backup_"):
        catalog.find("20261128")
    pool = Origin("pool", (Place("raspberry-pi", "/srv/pool.db"),))
    assert catalog.find("20261128", GYM).stem == "gym"
    assert catalog.find("20261128", pool).stem == "pool"
    with pytest.raises(BackupMissingError):
        catalog.find("20261127", GYM)


def test_after_a_move_to_another_machine_the_backups_of_the_name_are_meant(tmp_path: Path) -> None:
    """By a beginning as by `latest`: none was made of the database where it is now."""
    add_backup(tmp_path / "gym_backup_20261128_030000.db")
    add_backup(tmp_path / "pool_backup_20261128_030000.db", source="/srv/pool.db")
    moved = Origin("gym", (Place("new-pi", "/srv/elsewhere/gym.db"),))
    catalog = Catalog(tmp_path, UTC)
    assert catalog.find("latest", moved).stem == "gym"
    assert catalog.find("20261128", moved).stem == "gym"


def test_before_the_first_good_backup_the_oldest_one_is_named(tmp_path: Path) -> None:
    """With how much later it was made; one that is not good is not named."""
    for day in ("28", "29"):
        created = f"2026-11-{day}T03:00:00+00:00"
        add_backup(tmp_path / f"gym_backup_202611{day}_030000.db", created_at=created)
    add_backup(tmp_path / "gym_backup_20261101_030000.db", verified=False)
    with pytest.raises(BackupMissingError) as caught:
        Catalog(tmp_path, UTC).at(datetime(2026, 11, 28, tzinfo=UTC))
    assert caught.value.message.endswith(
        " made at or before 2026-11-28 00:00+00:00; the oldest, gym_backup_20261128_030000.db, "
        "was made 3 h after that"
    )
    exact = datetime(2026, 11, 28, 3, tzinfo=UTC)
    assert Catalog(tmp_path, UTC).at(exact).created == exact
