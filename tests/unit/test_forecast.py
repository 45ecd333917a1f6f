"""When a disk will be full, by what runs have seen of it."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from gymdbd.config.parts import Keep
from gymdbd.machine import forecast
from gymdbd.machine.forecast import Sample

_NOW = datetime(2026, 11, 28, 9, 0, tzinfo=UTC)
_GB = 10**9
_MB = 10**6


def _nights(
    *,
    days: int = 30,
    left: float = 100 * _GB,
    others: float = 0,
    made: int = 100 * _MB,
    growth: int = 0,
    stay: int | None = None,
    job: str = "nightly",
) -> list[Sample]:
    """Return what a backup a night has seen for `days`: `left` bytes were free before the first.

    Other things take `others` bytes a day. Each backup is larger than the one before by `growth`,
    the last has `made` bytes; `stay` of them stay.
    """
    found, sizes = [], []
    for day in range(days):
        sizes.append(made - growth * (days - 1 - day))
        held = sum(sizes[-stay:] if stay else sizes)
        found.append(
            Sample(
                at=_NOW - timedelta(days=days - 1 - day, hours=6),
                job=job,
                free=round(left - others * day - held),
                size=1000 * _GB,
                held=held,
                made=sizes[-1],
            )
        )
    return found


def _days(samples: list[Sample], keep: Keep | None, job: str = "nightly") -> int | None:
    found = forecast.of(samples, {job: keep}, _NOW)
    assert found is not None
    return found.days


def test_backups_that_stand_for_weeks_and_months_add_little() -> None:
    """Besides the week of days, which is full, one backup a week and one a month are added."""
    week = _nights(left=5 * _GB, stay=7)
    assert _days(week, Keep(daily=7)) is None
    assert _days(week, Keep(daily=7, weekly=4)) is None
    tight = _nights(left=1.5 * _GB, stay=7)
    # 0.8 GB are left, and the last backup needs 0.11: six weeks bring six more.
    assert _days(tight, Keep(daily=7, weekly=52)) in range(42, 57)


def test_backups_that_all_stay_fill_the_disk() -> None:
    """Thirty are there of 100 MB each, there is room for fifty, and the last needs a tenth more."""
    assert _days(_nights(left=5 * _GB), None) == 19


def test_a_steady_archive_is_no_forecast_of_a_full_disk() -> None:
    """Seven backups stay, and the eighth goes."""
    assert _days(_nights(left=1 * _GB, stay=7), Keep(days=7)) is None
    assert _days(_nights(left=1 * _GB, stay=7), Keep(count=7)) is None


def test_an_archive_grows_only_until_its_rule_removes_what_it_gets() -> None:
    """Ten are there; for thirty there is room, and for twenty-five there is not."""
    keep = Keep(days=30)
    assert _days(_nights(left=32 * _GB, days=10, made=1 * _GB), keep) is None
    assert _days(_nights(left=25 * _GB, days=10, made=1 * _GB), keep) == 14


def test_what_other_things_take_goes_on() -> None:
    """The archive is steady, and a log grows by a gigabyte a day."""
    samples = _nights(left=100 * _GB, others=1 * _GB, stay=7)
    found = forecast.of(samples, {"nightly": Keep(days=7)}, _NOW)
    assert found == forecast.Forecast(days=71, others=1 * _GB, backups=0)


def test_a_database_that_grows_needs_more_room_for_as_many_backups() -> None:
    """Seven stay, each of which will be larger; what they take now is not counted again."""
    samples = _nights(left=10 * _GB, made=1 * _GB, growth=10 * _MB, stay=7)
    days = _days(samples, Keep(days=7))
    # 10 GB were free before. Seven hold 6.79 GB, and 70 MB more each day; the next has 1 GB.
    assert days == next(d for d in range(400) if 10_000 - (6790 + 70 * d) < 1.1 * (1000 + 10 * d))


def test_a_large_file_that_was_there_for_some_days_does_no_harm() -> None:
    """A third of the days may be anything, the last of them as well."""
    noise = random.Random(7)
    samples = _nights(left=100 * _GB, others=100 * _MB, stay=7)
    disturbed = [
        Sample(**{**vars(sample), "free": sample.free - noise.randrange(40 * _GB)})
        if number % 4 == 0
        else sample
        for number, sample in enumerate(samples)
    ]
    found = forecast.of(disturbed, {"nightly": Keep(days=7)}, _NOW)
    assert found is not None
    assert found.others == pytest.approx(100 * _MB, rel=0.3)


def test_a_disk_that_gets_emptier_is_not_full_soon() -> None:
    """What others remove now they will not go on removing, but it is not counted against them."""
    assert _days(_nights(left=100 * _GB, others=-1 * _GB, stay=7), Keep(days=7)) is None
    # 29 GB were freed, which is room for 290 more; without the freed space of days to come.
    assert _days(_nights(left=5 * _GB, others=-1 * _GB), None) == 19 + 290


@pytest.mark.parametrize("days", [0, 1, 6])
def test_a_few_days_are_no_forecast(days: int) -> None:
    """However quickly the disk has filled in them."""
    assert forecast.of(_nights(days=days, left=1 * _GB), {"nightly": None}, _NOW) is None


def test_many_runs_of_one_day_are_no_forecast() -> None:
    """A pull every ten minutes has seen one day, too."""
    (one,) = _nights(days=1)
    samples = [
        Sample(**{**vars(one), "at": one.at - timedelta(minutes=10 * step)})
        for step in reversed(range(100))
    ]
    assert forecast.of(samples, {"nightly": None}, _NOW) is None


def test_runs_on_a_smaller_disk_or_long_ago_are_not_asked() -> None:
    """The archive has moved, or the machine was off for months; a clock may have run ahead."""
    other = [Sample(**{**vars(sample), "size": 32 * _GB}) for sample in _nights(days=20)[:-6]]
    assert forecast.of([*other, *_nights(days=6)], {"nightly": None}, _NOW) is None
    samples = _nights(left=5 * _GB)
    assert forecast.of(samples, {"nightly": None}, _NOW + timedelta(days=40)) is None
    assert forecast.of(samples, {"nightly": None}, _NOW - timedelta(days=40)) is None


def test_the_archives_of_several_jobs_on_one_disk_are_added_up() -> None:
    """Each sees what the other takes as free space that is gone, which is not told as others'."""
    first = _nights(left=400 * _GB, made=1 * _GB)
    second = _nights(left=400 * _GB, made=2 * _GB, job="hourly")
    both = [
        Sample(**{**vars(one), "free": one.free - other.held})
        for one, other in [*zip(first, second, strict=True), *zip(second, first, strict=True)]
    ]
    samples = sorted(both, key=lambda sample: sample.at)
    found = forecast.of(samples, {"nightly": None, "hourly": None}, _NOW)
    assert found is not None
    assert (round(found.others), found.backups) == (0, 3 * _GB)
    # 400 - 90 are free, and 3 GB a day go, until 2.2 GB no longer fit.
    assert found.days == 103


def test_an_archive_that_is_new_on_the_disk_hides_nothing() -> None:
    """What it takes was free before, for all that is known: other things go on as they did."""
    samples = _nights(others=1 * _GB, stay=7)
    moved = [
        Sample(**{**vars(sample), "job": "moved", "held": 50 * _GB, "made": None})
        for sample in samples[15:]
    ]
    both = sorted([*samples, *moved], key=lambda sample: sample.at)
    found = forecast.of(both, {"nightly": Keep(days=7), "moved": Keep(days=7)}, _NOW)
    assert found is not None
    assert round(found.others) == 1 * _GB


def test_a_pull_that_changes_nothing_sees_the_disk_and_makes_no_backup() -> None:
    """What its archive will take follows only from the runs that made one."""
    samples = [
        Sample(**{**vars(sample), "made": sample.made if number % 3 == 0 else None, "held": 0})
        for number, sample in enumerate(_nights(days=28, others=1 * _GB, stay=1))
    ]
    found = forecast.of(samples, {"nightly": None}, _NOW)
    assert found is not None
    assert (found.others, round(found.backups)) == (1 * _GB, round(100 * _MB * 9 / 27))


def test_a_sample_stands_for_the_runs_of_its_hour() -> None:
    """Of ten backups in an hour only the last is looked at, and all of them take room."""
    samples = [Sample(**{**vars(sample), "runs": 10}) for sample in _nights(left=100 * _GB)]
    found = forecast.of(samples, {"nightly": None}, _NOW)
    assert found is not None
    assert round(found.backups / _MB) == round(100 * 299 / 29)


def test_a_database_that_shrinks_frees_nothing_in_days_to_come() -> None:
    """It may grow again; 1695 MB are free, and each backup takes 100."""
    assert _days(_nights(left=6 * _GB, growth=-3 * _MB), None) == 16


def test_backups_that_the_rule_has_not_removed_yet_are_not_counted_as_free() -> None:
    """Of thirty, seven are to stay; until the others are gone, 68 GB are left."""
    samples = _nights(left=100 * _GB, others=1 * _GB)
    found = forecast.of(samples, {"nightly": Keep(days=7)}, _NOW)
    assert found == forecast.Forecast(days=68, others=1 * _GB, backups=0)


def test_runs_of_one_hour_are_not_taken_for_those_of_every_hour() -> None:
    """Seven were made by hand ten days ago, which is six a day and not a hundred and more."""
    samples = _nights(left=900 * _GB, stay=7)
    at = _NOW - timedelta(days=10)
    facts = {**vars(samples[-1]), "job": "by-hand", "held": 0, "made": 1 * _GB}
    begun = [Sample(**{**facts, "at": at + timedelta(minutes=10 * step)}) for step in range(7)]
    both = sorted([*samples, *begun], key=lambda sample: sample.at)
    found = forecast.of(both, {"nightly": Keep(days=7), "by-hand": None}, _NOW)
    assert found is not None
    assert found.backups == 6 * _GB
