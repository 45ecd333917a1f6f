"""Limits of transfers: bytes a second with their unit, always or in hours of the day."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gymdbd.config import config
from gymdbd.config.hours import Hours
from gymdbd.config.kinds import PullConfig
from gymdbd.config.rate import Limit, rate
from gymdbd.errors import ConfigError

_BERLIN = ZoneInfo("Europe/Berlin")
_SEOUL = ZoneInfo("Asia/Seoul")
_NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
_DAY = Hours(time(8), time(22))
_NIGHT = Hours(time(22), time(6))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500KiB/s", 500 * 1024),
        ("500 KiB/s", 500 * 1024),
        ("1.5MiB/s", 1536 * 1024),
        ("4096B/s", 4096),
        ("1GiB/s", 1024**3),
        ("1KiB/s", 1024),
        ("1024GiB/s", 1024**4),
    ],
)
def test_a_rate_has_a_unit_of_bytes_a_second(text: str, expected: int) -> None:
    """As sizes have theirs, and a second."""
    assert rate(text) == expected


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("500", "in bytes, not in bits; a line of 4 Mbit/s brings 488KiB/s"),
        ("500k", "in bytes, not in bits; a line of 4 Mbit/s brings 488KiB/s"),
        ("4Mbit", "in bytes, not in bits, it is 488KiB/s"),
        ("4 Mbit/s", "in bytes, not in bits, it is 488KiB/s"),
        ("4Mbps", "in bytes, not in bits, it is 488KiB/s"),
        ("500kb/s", "in bytes, not in bits, it is 61KiB/s, and if you mean bytes, 488KiB/s"),
        ("500kB/s", "write 488KiB/s"),
        ("500 kByte/s", "write 488KiB/s"),
        ("500KiB", "write 500KiB/s"),
        ("100MB/s", "write 95MiB/s"),
        ("4kbit", "in bytes, not in bits, it is 1KiB/s"),
        ("0", "in bytes, not in bits"),
        ("1025GiB/s", "to 1024GiB/s"),
        ("0KiB/s", "for no limit, leave it out"),
        ("1000B/s", "expected from 1KiB/s"),
        ("-5KiB/s", "expected bytes a second"),
        ("fast", "expected bytes a second with their unit, such as 500KiB/s (got fast)"),
        ("", "(got nothing)"),
    ],
)
def test_what_is_no_rate_is_refused_with_what_to_write(text: str, advice: str) -> None:
    """A number alone, bits, decimal units, nothing a second."""
    with pytest.raises(ValueError, match=r"expected") as caught:
        rate(text)
    assert advice in str(caught.value)


def _parse(limit: str) -> Limit | None:
    job = config.parse(
        "status_file: /s.json\njobs:\n  pull:\n    kind: pull\n    every: 1d\n    host: pi\n"
        f"    remote_database: /a.db\n    replica: /b.db\n    limit: {limit}\n",
        Path("/config.yaml"),
    ).jobs["pull"]
    assert isinstance(job, PullConfig)
    return job.limit


def test_a_limit_holds_always_or_in_some_hours() -> None:
    """Several hours may have their own, also over midnight."""
    assert _parse("500KiB/s") == Limit(((None, 512_000),))
    assert _parse('{"08:00-22:00": 500KiB/s, 22:00-06:00: 2MiB/s}') == Limit(
        ((_DAY, 512_000), (_NIGHT, 2 * 1024**2))
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("500", "jobs.pull.limit: expected bytes a second"),
        ("0", "jobs.pull.limit: expected bytes a second"),
        ("", "jobs.pull.limit: expected bytes a second"),
        ("[500KiB/s]", "jobs.pull.limit: expected"),
        ("{}", 'jobs.pull.limit: expected a limit, such as {"08:00-22:00": 500KiB/s}'),
        ('{"8-22": 500KiB/s}', "jobs.pull.limit.8-22: expected two times of the day"),
        ('{"08:00-08:00": 1MiB/s}', "jobs.pull.limit.08:00-08:00: expected two times"),
        ('{"08:00-22:00": 500}', "jobs.pull.limit.08:00-22:00: expected bytes a second"),
        (
            '{"08:00-22:00": 1MiB/s, "21:00-07:00": 2MiB/s}',
            "jobs.pull.limit.21:00-07:00: these hours overlap",
        ),
        (
            '{"21:00-07:00": 1MiB/s, "22:00-23:00": 2MiB/s}',
            "jobs.pull.limit.22:00-23:00: these hours overlap",
        ),
        (
            '{"22:00-23:00": 2MiB/s, "21:00-07:00": 1MiB/s}',
            "jobs.pull.limit.21:00-07:00: these hours overlap",
        ),
    ],
)
def test_a_limit_that_is_none_is_a_fault_of_the_configuration(text: str, fault: str) -> None:
    """It names the hours that are wrong."""
    with pytest.raises(ConfigError) as caught:
        _parse(text)
    assert [found for found in caught.value.faults if f": {fault}" in found]


@pytest.mark.parametrize(
    ("local", "expected"),
    [("07:59", None), ("08:00", 5000), ("21:59", 5000), ("22:00", 9000), ("05:59", 9000)],
)
def test_the_hours_are_those_of_the_local_day(local: str, expected: int | None) -> None:
    """Outside of all of them there is no limit."""
    limit = Limit(((_DAY, 5000), (_NIGHT, 9000)))
    at = time.fromisoformat(local)
    moment = datetime(2026, 11, 28, at.hour, at.minute, tzinfo=_SEOUL).astimezone(UTC)
    assert limit.at(moment, _SEOUL) == expected


def test_an_hour_that_comes_twice_is_limited_twice_and_one_that_is_skipped_never() -> None:
    """In the night in which the clocks change, the clock on the wall decides."""
    limit = Limit(((Hours(time(2), time(3)), 5000),))
    autumn = datetime(2026, 10, 24, 23, 30, tzinfo=UTC)
    assert [limit.at(autumn + timedelta(hours=n), _BERLIN) for n in range(4)] == [
        *(None, 5000, 5000, None)
    ]
    spring = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
    assert [limit.at(spring + timedelta(hours=n), _BERLIN) for n in range(3)] == [None] * 3


def test_the_time_that_a_limit_takes_ends_with_its_hours() -> None:
    """Half an hour at 1,000 bytes a second is 1.8 MB; the rest comes at once."""
    limit = Limit(((Hours(time(9), time(12, 30)), 1000),))
    assert limit.seconds(600_000, _NOON, UTC) == 600
    assert limit.seconds(1_800_000, _NOON, UTC) == 1800
    assert limit.seconds(10**12, _NOON, UTC) == 1800
    assert limit.seconds(10**12, _NOON + timedelta(minutes=29, seconds=45), UTC) == 15
    assert limit.seconds(10**12, _NOON + timedelta(hours=1), UTC) == 0
    assert Limit(((None, 1000),)).seconds(10**9, _NOON, UTC) == 10**6


@given(
    size=st.integers(0, 10**8),
    second=st.integers(0, 86_400),
    rates=st.tuples(st.integers(1024, 10**5), st.integers(1024, 10**5)),
    zone=st.sampled_from([UTC, _BERLIN, _SEOUL]),
)
def test_in_the_time_that_a_limit_takes_so_many_bytes_may_travel(
    size: int, second: int, rates: tuple[int, int], zone: ZoneInfo
) -> None:
    """Summed up second by second, while there is a limit at all."""
    limit = Limit(((Hours(time(8), time(12)), rates[0]), (Hours(time(12), time(7)), rates[1])))
    begin = datetime(2026, 10, 25, tzinfo=UTC) + timedelta(seconds=second)
    took = limit.seconds(size, begin, zone)
    moments = (begin + timedelta(seconds=n) for n in range(0, int(took), 60))
    allowed = [limit.at(moment, zone) for moment in moments]
    assert None not in allowed
    summed = sum((found or 0) * 60 for found in allowed)
    assert (
        abs(summed - size) <= 3 * 60 * max(rates)
        or limit.at(begin + timedelta(seconds=took + 1), zone) is None
    )
