"""The moments that people name, in zones whose clocks change by an hour, half of one, or a day."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gymdbd import when
from gymdbd.errors import MomentError

SEOUL = ZoneInfo("Asia/Seoul")
BERLIN = ZoneInfo("Europe/Berlin")
# A Sunday.
NOW = datetime(2026, 11, 29, 15, 6, tzinfo=SEOUL)
ZONES = [
    SEOUL,
    BERLIN,
    ZoneInfo("America/Santiago"),  # its clocks change at midnight
    ZoneInfo("America/Havana"),
    ZoneInfo("Australia/Lord_Howe"),  # by half an hour
    ZoneInfo("Asia/Kathmandu"),
    UTC,
]
zones = st.sampled_from(ZONES)
moments = st.integers(1_420_000_000, 2_080_000_000).map(
    lambda second: datetime.fromtimestamp(second, UTC)
)
times = st.times().map(lambda moment: moment.replace(second=0, microsecond=0))
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
MOST = timedelta(hours=2)  # by which clocks change in these zones, and more


def parsed(text: str, now: datetime = NOW, zone: ZoneInfo = SEOUL) -> str:
    """Return what `text` names, as the clocks of `zone` show it."""
    return when.parse(text, now, zone).astimezone(zone).isoformat(" ", "seconds")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("14:00", "2026-11-29 14:00:00+09:00"),
        ("15:06", "2026-11-29 15:06:00+09:00"),
        ("16:00", "2026-11-28 16:00:00+09:00"),
        ("9:05:30", "2026-11-29 09:05:30+09:00"),
        ("now", "2026-11-29 15:06:00+09:00"),
        ("today", "2026-11-29 15:06:00+09:00"),
        ("today 14:00", "2026-11-29 14:00:00+09:00"),
        ("yesterday", "2026-11-28 23:59:59+09:00"),
        ("Yesterday  14:00", "2026-11-28 14:00:00+09:00"),
        ("tuesday", "2026-11-24 23:59:59+09:00"),
        ("Tue 14:00", "2026-11-24 14:00:00+09:00"),
        ("sunday", "2026-11-22 23:59:59+09:00"),
        ("Sun 14:00", "2026-11-29 14:00:00+09:00"),
        ("Sun 16:00", "2026-11-22 16:00:00+09:00"),
        ("3d", "2026-11-26 15:06:00+09:00"),
        ("2h", "2026-11-29 13:06:00+09:00"),
        ("30m", "2026-11-29 14:36:00+09:00"),
        ("1w", "2026-11-22 15:06:00+09:00"),
        ("3 days ago", "2026-11-26 15:06:00+09:00"),
        ("2026-11-20", "2026-11-20 00:00:00+09:00"),
        ("2026-11-20 14:00", "2026-11-20 14:00:00+09:00"),
        ("2026-11-20T14:00:00Z", "2026-11-20 23:00:00+09:00"),
        ("2026-11-28T03:00:00-05:00", "2026-11-28 17:00:00+09:00"),
    ],
)
def test_a_moment_is_named_as_people_name_it(text: str, expected: str) -> None:
    """Every form of a time that the help names, on a Sunday afternoon in Seoul."""
    assert parsed(text) == expected


def test_what_has_come_since_a_day_has_come_since_its_beginning() -> None:
    """For a list, `yesterday` begins at midnight; a moment is the same for both."""
    since = {text: when.since(text, NOW, SEOUL) for text in ("yesterday", "tuesday", "today")}
    assert {
        "yesterday": datetime(2026, 11, 28, tzinfo=SEOUL),
        "tuesday": datetime(2026, 11, 24, tzinfo=SEOUL),
        "today": datetime(2026, 11, 29, tzinfo=SEOUL),
    } == since
    assert when.parse("Tue 14:00", NOW, SEOUL) == when.since("Tue 14:00", NOW, SEOUL)


def test_of_a_time_that_the_clocks_showed_twice_the_first_is_meant() -> None:
    """In Berlin it was 02:30 twice; an offset says which."""
    now = datetime(2026, 10, 26, tzinfo=UTC)
    assert parsed("2026-10-25 02:30", now, BERLIN) == "2026-10-25 02:30:00+02:00"
    assert parsed("yesterday 02:30", now, BERLIN) == "2026-10-25 02:30:00+02:00"
    assert parsed("2026-10-25 02:30+01:00", now, BERLIN) == "2026-10-25 02:30:00+01:00"


def test_a_time_that_the_clocks_skipped_is_counted_from_before_the_change() -> None:
    """In Berlin it was never 02:30: half an hour after 02:00 the clocks showed 03:30."""
    now = datetime(2026, 3, 30, tzinfo=UTC)
    assert parsed("2026-03-29 02:30", now, BERLIN) == "2026-03-29 03:30:00+02:00"
    assert parsed("yesterday 02:30", now, BERLIN) == "2026-03-29 03:30:00+02:00"


@pytest.mark.parametrize("text", ["2026-11-29 15:07", "today 16:00", "2099-01-01", "9999-12-31"])
def test_what_has_not_come_yet_is_refused_with_both_times(text: str) -> None:
    """The message has what was understood and what time it is, so that a wrong clock is seen."""
    with pytest.raises(MomentError, match="not come yet: it is 2026-11-29 15:06") as caught:
        when.parse(text, NOW, SEOUL)
    assert "the clock of this machine" in caught.value.hint
    with pytest.raises(MomentError):
        when.since(text, NOW, SEOUL)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "14", "2026", "25:00", "14:60", "3", "-3d", "3 months", "999999w"),
        *("0001-01-01", "tues 14:00", "yesterday 14", "14:00 yesterday", "tomorrow", "2026-02-30"),
    ],
)
def test_what_names_no_time_is_refused_with_examples(text: str) -> None:
    """Whoever typed it sees all forms that there are."""
    with pytest.raises(MomentError, match="no time is called") as caught:
        when.parse(text, NOW, SEOUL)
    assert when.EXAMPLES in caught.value.hint


@pytest.mark.parametrize(
    ("text", "zone"),
    [("0001-01-01T00:00Z", "America/New_York"), ("9999-12-31T23:00Z", "Asia/Seoul")],
)
def test_what_no_clock_of_the_zone_can_show_names_no_time(text: str, zone: str) -> None:
    """In UTC it is within the calendar."""
    with pytest.raises(MomentError, match="no time is called"):
        when.parse(text, NOW, ZoneInfo(zone))


def test_every_example_of_the_hint_is_understood() -> None:
    """What the message advises to type is accepted."""
    for text in when.EXAMPLES.replace(" or ", ", ").split(", "):
        when.parse(text.strip('"'), NOW, SEOUL)


@given(
    st.one_of(
        st.text(),
        st.from_regex(r"\A[0-9: ymdhTuesday-]{1,20}\Z"),
        st.datetimes().map(str),
        st.dates().map(str),
    ),
    moments,
    zones,
)
def test_any_text_is_a_moment_that_has_passed_or_is_refused_by_name(
    text: str, now: datetime, zone: ZoneInfo
) -> None:
    """Nothing else is raised, whatever is typed."""
    try:
        named, since = when.parse(text, now, zone), when.since(text, now, zone)
    except MomentError:
        return
    assert UTC == named.tzinfo == since.tzinfo
    assert since <= named <= now


@given(moments, st.booleans(), zones)
def test_iso_8601_means_what_it_always_meant(moment: datetime, aware: bool, zone: ZoneInfo) -> None:
    """Text that Python reads is taken as Python reads it, and as local without an offset."""
    local = moment.astimezone(zone)
    text = (local if aware else local.replace(tzinfo=None)).isoformat()
    read = datetime.fromisoformat(text)
    now = moment + MOST
    assert (read if aware else read.replace(tzinfo=zone)) - when.parse(text, now, zone) == (
        timedelta()
    )
    midnight = datetime.combine(local.date(), time(), zone)
    assert midnight.astimezone(UTC) == when.parse(str(local.date()), now, zone)


@given(times, moments, zones)
def test_a_time_of_day_is_the_last_one_that_has_passed(
    clock_time: time, now: datetime, zone: ZoneInfo
) -> None:
    """It is not a day ago, but for the hour by which the clocks may have changed."""
    named = when.parse(f"{clock_time:%H:%M}", now, zone)
    assert now - timedelta(days=1) - MOST < named <= now
    _assert_shows(clock_time, named, zone)


@given(st.sampled_from(DAYS), st.booleans(), times, moments, zones)
def test_a_day_of_the_week_with_a_time_is_the_last_such_moment(
    day: str, short: bool, clock_time: time, now: datetime, zone: ZoneInfo
) -> None:
    """It is within the last week, on that day."""
    named = when.parse(f"{day[:3] if short else day} {clock_time:%H:%M}", now, zone)
    assert now - timedelta(days=7) - MOST < named <= now
    _assert_shows(clock_time, named, zone)
    assert day == DAYS[named.astimezone(zone).weekday()]


@given(st.sampled_from(["yesterday", *DAYS]), moments, zones)
def test_a_whole_day_is_from_its_first_to_its_last_second(
    day: str, now: datetime, zone: ZoneInfo
) -> None:
    """A second before and after it the date is another one; it is a day before today."""
    first, last = when.since(day, now, zone), when.parse(day, now, zone)
    shown = _date(first, zone)
    assert shown == _date(last, zone)
    second = timedelta(seconds=1)
    assert shown != _date(first - second, zone)
    assert shown != _date(last + second, zone)
    back = (_date(now, zone) - shown).days
    assert (back == 1) if day == "yesterday" else (1 <= back <= 7)
    assert day in ("yesterday", DAYS[shown.weekday()])


@given(st.integers(0, 5000), st.sampled_from(["s", "m", "h", "d"]), st.booleans(), moments, zones)
def test_an_age_is_exact(number: int, unit: str, ago: bool, now: datetime, zone: ZoneInfo) -> None:
    """A day has 24 hours, also if the clocks changed."""
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
    named = when.parse(f"{number}{unit}{' ago' * ago}", now, zone)
    assert timedelta(seconds=number * seconds) == now - named


def _date(moment: datetime, zone: ZoneInfo) -> date:
    return moment.astimezone(zone).date()


def _assert_shows(clock_time: time, moment: datetime, zone: ZoneInfo) -> None:
    """Assert that the clocks show this time at `moment`, or skipped it that day."""
    shown = moment.astimezone(zone)
    wanted = datetime.combine(shown.date(), clock_time, zone)
    skipped = wanted.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != wanted.replace(
        tzinfo=None
    )
    assert clock_time == shown.time() or skipped
