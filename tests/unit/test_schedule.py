"""When jobs are due: Debian's cron, intervals on the wall clock, and clocks that are set."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gymdbd.schedule import Cron, Interval, Schedule, missed, next_run, usual_gap

if TYPE_CHECKING:
    from collections.abc import Callable

NEW_YORK = ZoneInfo("America/New_York")
SEOUL = ZoneInfo("Asia/Seoul")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # its summer time is half an hour
MINUTE = timedelta(minutes=1)
HORIZON = timedelta(days=9)


def runs(when: Schedule, start: datetime, count: int) -> list[str]:
    """Return the next runs after `start`, as the local clock shows them."""
    assert start.tzinfo is not None
    found = []
    moment = start
    for _ in range(count):
        moment = when.next_after(moment, start.tzinfo)
        found.append(moment.astimezone(start.tzinfo).strftime("%a %d %b %H:%M %Z"))
    return found


def test_sunday_is_both_0_and_7() -> None:
    """Days of the week count from Sunday, which is 0 and 7; Monday is 1."""
    start = datetime(2026, 11, 4, tzinfo=UTC)
    assert runs(Cron("0 3 * * 0"), start, 1) == ["Sun 08 Nov 03:00 UTC"]
    assert runs(Cron("0 3 * * 7"), start, 1) == ["Sun 08 Nov 03:00 UTC"]
    assert runs(Cron("0 3 * * sun"), start, 1) == ["Sun 08 Nov 03:00 UTC"]
    assert runs(Cron("0 3 * * 1"), start, 1) == ["Mon 09 Nov 03:00 UTC"]


def test_a_day_of_the_month_or_a_day_of_the_week_is_enough() -> None:
    """Where both are restricted either makes a day a match, as crontab(5) says."""
    start = datetime(2026, 11, 10, 12, tzinfo=UTC)
    assert runs(Cron("0 3 13 * 0"), start, 3) == [
        "Fri 13 Nov 03:00 UTC",
        "Sun 15 Nov 03:00 UTC",
        "Sun 22 Nov 03:00 UTC",
    ]


def test_a_day_field_that_starts_with_a_star_must_match_as_well() -> None:
    """`*/2` in one of the two day fields is a star to cron: both must match then."""
    start = datetime(2026, 11, 1, 12, tzinfo=UTC)
    assert runs(Cron("0 3 */2 * 1"), start, 2) == ["Mon 09 Nov 03:00 UTC", "Mon 23 Nov 03:00 UTC"]


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@Daily", "0 0 * * *"),
    ],
)
def test_crons_words_mean_what_crontab_says(word: str, meaning: str) -> None:
    """Each @word is due whenever its five fields are, and is a fixed time when they are."""
    start = datetime(2026, 11, 4, 5, 6, tzinfo=SEOUL)
    assert runs(Cron(word), start, 3) == runs(Cron(meaning), start, 3)
    assert Cron(word).fixed_time == Cron(meaning).fixed_time


@pytest.mark.parametrize(
    "text",
    [
        "",
        "daily",
        "@reboot",
        "@fortnightly",
        "0 3 * *",
        "0 0 3 * * *",
        "60 3 * * *",
        "0 24 * * *",
        "0 3 0 * *",
        "0 3 32 * *",
        "0 3 * 13 *",
        "0 3 * * 8",
        "*/0 3 * * *",
        "0 3 5-1 * *",
        "0 3 * * someday",
        "0 3 30 2 *",
        "0 3 31 4,6,9,11 *",
    ],
)
def test_text_that_is_not_crons_or_never_comes_true_is_refused(text: str) -> None:
    """A schedule is refused when it is written, not found wanting on the night."""
    with pytest.raises(ValueError, match=r"five fields|not a cron schedule|no such day"):
        Cron(text)


def test_a_day_that_never_comes_is_refused_and_a_rare_one_is_not() -> None:
    """30 February is refused by the name of its field; 29 February comes in time."""
    with pytest.raises(ValueError, match="bad day-of-month"):
        Cron("0 3 30 2 *")
    assert runs(Cron("0 3 29 2 *"), datetime(2026, 11, 4, tzinfo=UTC), 1) == [
        "Tue 29 Feb 03:00 UTC"
    ]


def test_a_fixed_time_that_spring_leaves_out_runs_once_right_after_the_change() -> None:
    """In the night of the spring change 02:30 does not exist: the run is at 03:00 summer time."""
    assert runs(Cron("30 2 * * *"), datetime(2026, 3, 6, 12, tzinfo=NEW_YORK), 4) == [
        "Sat 07 Mar 02:30 EST",
        "Sun 08 Mar 03:00 EDT",
        "Mon 09 Mar 02:30 EDT",
        "Tue 10 Mar 02:30 EDT",
    ]


def test_a_fixed_time_that_autumn_repeats_runs_once() -> None:
    """In the night of the autumn change 01:30 comes twice: the run is at the first."""
    assert runs(Cron("30 1 * * *"), datetime(2026, 10, 31, 0, tzinfo=NEW_YORK), 3) == [
        "Sat 31 Oct 01:30 EDT",
        "Sun 01 Nov 01:30 EDT",
        "Mon 02 Nov 01:30 EST",
    ]


def test_a_fixed_time_is_not_due_again_when_asked_within_the_repeated_hour() -> None:
    """Whatever moment of the repeated hour is asked about, the next run is that of the next day."""
    change = datetime(2026, 11, 1, 6, tzinfo=UTC)  # 02:00 EDT, 01:00 EST
    for minutes in range(-29, 60):
        due = Cron("30 1 * * *").next_after(change + minutes * MINUTE, NEW_YORK)
        assert due == datetime(2026, 11, 2, 6, 30, tzinfo=UTC)


def test_a_starred_hour_runs_on_through_both_changes() -> None:
    """A job for every hour or every few minutes keeps its pace in real time."""
    for change in (datetime(2026, 3, 8, 7, tzinfo=UTC), datetime(2026, 11, 1, 6, tzinfo=UTC)):
        for text, step in (("0 * * * *", 60), ("*/15 * * * *", 15)):
            moment = change - timedelta(hours=3)
            for _ in range(6 * 60 // step):
                due = Cron(text).next_after(moment, NEW_YORK)
                assert due - moment == step * MINUTE
                moment = due


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("30 1 * * *", True),
        ("0,30 1-5 * * *", True),
        ("@daily", True),
        ("@hourly", False),
        ("*/5 1 * * *", False),
        ("0 */2 * * *", False),
    ],
)
def test_a_fixed_time_has_a_star_in_neither_minute_nor_hour(text: str, fixed: bool) -> None:
    """cron(8) treats jobs with a star in minute or hour apart when the clock is set."""
    assert Cron(text).fixed_time == fixed


def test_an_interval_stands_on_the_wall_clock() -> None:
    """`every: 15m` is due at the quarters of the hour, `every: 24h` at local midnight."""
    start = datetime(2026, 11, 4, 9, 7, 31, tzinfo=SEOUL)
    assert runs(Interval(15 * MINUTE), start, 3) == [
        "Wed 04 Nov 09:15 KST",
        "Wed 04 Nov 09:30 KST",
        "Wed 04 Nov 09:45 KST",
    ]
    assert runs(Interval(timedelta(days=1)), start, 1) == ["Thu 05 Nov 00:00 KST"]


def test_an_interval_stays_on_the_wall_clock_through_both_changes() -> None:
    """A day's interval is at midnight before and after a change, with no run between."""
    day = Interval(timedelta(days=1))
    assert runs(day, datetime(2026, 3, 7, 12, tzinfo=NEW_YORK), 3) == [
        "Sun 08 Mar 00:00 EST",
        "Mon 09 Mar 00:00 EDT",
        "Tue 10 Mar 00:00 EDT",
    ]
    assert runs(day, datetime(2026, 10, 31, 12, tzinfo=NEW_YORK), 3) == [
        "Sun 01 Nov 00:00 EDT",
        "Mon 02 Nov 00:00 EST",
        "Tue 03 Nov 00:00 EST",
    ]


@pytest.mark.parametrize("zone", [NEW_YORK, LORD_HOWE])
def test_a_short_interval_keeps_its_pace_through_both_changes(zone: tzinfo) -> None:
    """A quarter of an hour is a quarter of an hour, also in the repeated one."""
    for moment in (datetime(2026, 3, 7, 20, tzinfo=UTC), datetime(2026, 10, 31, 20, tzinfo=UTC)):
        due = moment
        for count in range(1, 4 * 24):
            due = Interval(15 * MINUTE).next_after(due, zone)
            assert due == moment + count * 15 * MINUTE


@pytest.mark.parametrize(
    ("every", "text"),
    [
        (timedelta(seconds=90), "every 90s"),
        (timedelta(minutes=15), "every 15m"),
        (timedelta(hours=36), "every 36h"),
        (timedelta(days=14), "every 14d"),
    ],
)
def test_a_schedule_is_told_as_the_configuration_writes_it(every: timedelta, text: str) -> None:
    """An interval is told in its largest whole unit, cron text as it stands."""
    assert str(Interval(every)) == text
    assert str(Cron("@daily")) == "@daily"


@pytest.mark.parametrize("hours", [0.5, 1, 2.9])
def test_a_fixed_time_is_not_repeated_when_the_clock_goes_back_a_little(hours: float) -> None:
    """Set back by less than three hours over a run that was had, the next is the day after."""
    due = datetime(2026, 11, 4, 3, tzinfo=UTC)
    now = due + timedelta(minutes=10) - timedelta(hours=hours)
    later = datetime(2026, 11, 5, 3, tzinfo=UTC)
    assert next_run(Cron("0 3 * * *"), now, due, UTC) == later


def test_a_fixed_time_is_repeated_after_a_large_change() -> None:
    """Set back by more than three hours, the clock was wrong before: the new time holds."""
    due = datetime(2026, 11, 4, 3, tzinfo=UTC)
    assert next_run(Cron("0 3 * * *"), due - timedelta(hours=3, minutes=1), due, UTC) == due


def test_a_job_at_no_fixed_time_follows_the_clock_at_once() -> None:
    """Starred cron text and intervals are due by the new time, whatever ran before."""
    last = datetime(2026, 11, 4, 3, tzinfo=UTC)
    now = last - timedelta(hours=1)
    assert next_run(Cron("*/15 * * * *"), now, last, UTC) == now + 15 * MINUTE
    assert next_run(Interval(15 * MINUTE), now, last, UTC) == now + 15 * MINUTE


def test_a_job_without_a_past_is_next_due_after_now() -> None:
    """Without an earlier run, or with one that lies behind, only now counts."""
    now = datetime(2026, 11, 4, 2, tzinfo=UTC)
    due = datetime(2026, 11, 4, 3, tzinfo=UTC)
    assert next_run(Cron("0 3 * * *"), now, None, UTC) == due
    assert next_run(Cron("0 3 * * *"), now, due - timedelta(days=1), UTC) == due


def test_the_first_moment_since_the_last_success_is_what_was_missed() -> None:
    """After days off it is the first moment that passed; when none has, nothing was missed."""
    nightly = Cron("0 3 * * *")
    success = datetime(2026, 11, 1, 3, 0, 30, tzinfo=UTC)
    first = datetime(2026, 11, 2, 3, tzinfo=UTC)
    assert missed(nightly, success, datetime(2026, 11, 5, 12, tzinfo=UTC), UTC) == first
    assert missed(nightly, success, first, UTC) == first
    assert missed(nightly, success, first - MINUTE, UTC) is None


def test_a_job_that_never_succeeded_or_did_so_in_the_future_has_missed_nothing() -> None:
    """A fresh install does not start with a run, nor does a clock that lost its time."""
    now = datetime(2026, 11, 5, 12, tzinfo=UTC)
    assert missed(Cron("0 3 * * *"), None, now, UTC) is None
    assert missed(Cron("0 3 * * *"), now + timedelta(days=900), now, UTC) is None


def test_the_usual_gap_is_the_longest_between_the_next_runs() -> None:
    """It spans the weekend of a job for working days, and the length of an interval."""
    now = datetime(2026, 11, 4, tzinfo=UTC)
    assert usual_gap(Cron("0 3 * * *"), now, UTC) == timedelta(days=1)
    assert usual_gap(Cron("0 3 * * 1-5"), now, UTC) == timedelta(days=3)
    assert usual_gap(Interval(15 * MINUTE), now, UTC) == timedelta(minutes=15)


@st.composite
def a_field(draw: st.DrawFn, low: int, high: int) -> tuple[str, frozenset[int]]:
    """Draw one field of cron text together with the numbers that it stands for."""
    shape = draw(st.sampled_from(["star", "step", "list", "range", "range step"]))
    if shape == "star":
        return "*", frozenset(range(low, high + 1))
    step = draw(st.integers(1, high - low))
    if shape == "step":
        return f"*/{step}", frozenset(range(low, high + 1, step))
    first, last = sorted(draw(st.tuples(st.integers(low, high), st.integers(low, high))))
    if shape == "list":
        return f"{first},{last}", frozenset({first, last})
    if shape == "range":
        return f"{first}-{last}", frozenset(range(first, last + 1))
    assume(first < last)  # `5-5/2` is not worth an argument
    return f"{first}-{last}/{step}", frozenset(range(first, last + 1, step))


@st.composite
def a_cron(draw: st.DrawFn) -> tuple[Cron, Callable[[datetime], bool]]:
    """Draw cron text for any month, and an oracle that says which local minutes it means."""
    drawn = [draw(a_field(*bounds)) for bounds in ((0, 59), (0, 23), (1, 31), (0, 7))]
    (minute, minutes), (hour, hours), (day, days), (weekday, weekdays) = drawn
    both = day.startswith("*") or weekday.startswith("*")

    def is_due(local: datetime) -> bool:
        on_day = local.day in days
        on_weekday = local.isoweekday() in weekdays or local.isoweekday() % 7 in weekdays
        on = on_day and on_weekday if both else on_day or on_weekday
        return on and local.hour in hours and local.minute in minutes

    return Cron(f"{minute} {hour} {day} * {weekday}"), is_due


def first_by_the_minute(
    is_due: Callable[[datetime], bool], moment: datetime, zone: tzinfo
) -> datetime | None:
    """Try one minute after the other up to the horizon."""
    candidate = moment.replace(second=0, microsecond=0) + MINUTE
    while candidate <= moment + HORIZON:
        if is_due(candidate.astimezone(zone)):
            return candidate
        candidate += MINUTE
    return None


# Nine days from any of these are free of changes of the clock in all the zones.
QUIET = st.datetimes(datetime(2026, 5, 1), datetime(2026, 9, 1)).map(  # noqa: DTZ001 - hypothesis wants it so
    lambda naive: naive.replace(tzinfo=UTC)
)
EVER = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)).map(  # noqa: DTZ001
    lambda naive: naive.replace(tzinfo=UTC)
)
ZONES = st.sampled_from([UTC, NEW_YORK, SEOUL, LORD_HOWE])


@settings(max_examples=60, deadline=None)
@given(cron=a_cron(), moment=QUIET, zone=ZONES)
def test_the_next_run_is_the_first_minute_that_cron_means(
    cron: tuple[Cron, Callable[[datetime], bool]], moment: datetime, zone: tzinfo
) -> None:
    """Trying every minute by hand finds the same one, or none within the horizon."""
    when, is_due = cron
    due = when.next_after(moment, zone)
    expected = first_by_the_minute(is_due, moment, zone)
    assert expected == (due if due <= moment + HORIZON else None)


@settings(max_examples=200, deadline=None)
@given(cron=a_cron(), moment=EVER, zone=ZONES, later=st.integers(0, 10**6))
def test_the_next_run_by_cron_is_later_and_never_runs_backwards(
    cron: tuple[Cron, Callable[[datetime], bool]], moment: datetime, zone: tzinfo, later: int
) -> None:
    """At any moment, through every change of the clock: it is later, and asking later is later."""
    when, _ = cron
    due = when.next_after(moment, zone)
    assert due > moment
    assert when.next_after(moment + timedelta(seconds=later), zone) >= due


@settings(max_examples=200, deadline=None)
@given(seconds=st.integers(1, 90000), moment=EVER, zone=ZONES, later=st.integers(0, 10**6))
def test_an_interval_is_the_first_moment_on_the_wall_clocks_grid(
    seconds: int, moment: datetime, zone: tzinfo, later: int
) -> None:
    """It is later than now, on the grid of local time or right after a gap in it."""
    every = timedelta(seconds=seconds)
    due = Interval(every).next_after(moment, zone)
    midnight = datetime(1970, 1, 1)  # noqa: DTZ001 - local time, to count on
    changed = offset(due, zone) != offset(due - timedelta(seconds=1), zone)

    assert due > moment
    assert changed or (due.astimezone(zone).replace(tzinfo=None) - midnight) % every == timedelta()
    if offset(due, zone) == offset(moment, zone):
        assert due - moment <= every
    assert Interval(every).next_after(moment + timedelta(seconds=later), zone) >= due


def offset(moment: datetime, zone: tzinfo) -> timedelta:
    """Return how far local time is ahead of UTC."""
    return moment.astimezone(zone).utcoffset() or timedelta()


@pytest.mark.parametrize(
    ("zone", "day", "expected"),
    [
        (
            "America/Santiago",
            datetime(2026, 9, 5, tzinfo=UTC),
            ["Sat 05 Sep 00:00", "Sun 06 Sep 01:00", "Mon 07 Sep 00:00"],
        ),
        (
            "Africa/Cairo",
            datetime(2026, 4, 22, 23, tzinfo=UTC),
            ["Fri 24 Apr 01:00", "Sat 25 Apr 00:00", "Sun 26 Apr 00:00"],
        ),
        (
            "Asia/Beirut",
            datetime(2026, 3, 28, tzinfo=UTC),
            ["Sun 29 Mar 01:00", "Mon 30 Mar 00:00", "Tue 31 Mar 00:00"],
        ),
        (
            "America/Havana",
            datetime(2026, 3, 7, 6, tzinfo=UTC),
            ["Sun 08 Mar 01:00", "Mon 09 Mar 00:00", "Tue 10 Mar 00:00"],
        ),
        (  # The midnight that comes twice.
            "America/Havana",
            datetime(2026, 10, 31, 12, tzinfo=UTC),
            ["Sun 01 Nov 00:00", "Mon 02 Nov 00:00", "Tue 03 Nov 00:00"],
        ),
        (  # Samoa had no 30 December in 2011.
            "Pacific/Apia",
            datetime(2011, 12, 28, 12, tzinfo=UTC),
            ["Thu 29 Dec 00:00", "Sat 31 Dec 00:00", "Sun 01 Jan 00:00"],
        ),
    ],
)
def test_a_days_interval_keeps_its_pace_over_a_midnight_that_is_missing_or_repeated(
    zone: str, day: datetime, expected: list[str]
) -> None:
    """If the clocks leave midnight out, the run is right after the change, and no day is lost."""
    told = runs(Interval(timedelta(hours=24)), day.astimezone(ZoneInfo(zone)), 3)
    assert expected == [text.rpartition(" ")[0] for text in told]


def changes(zone: tzinfo, year: int) -> list[tuple[datetime, timedelta]]:
    """Return half a day before each change of the clocks in a year, and by how much they change."""
    half = timedelta(hours=12)
    moments = [datetime(year, 1, 1, tzinfo=UTC) + n * half for n in range(2 * 366)]
    by = [(moment, abs(offset(moment + half, zone) - offset(moment, zone))) for moment in moments]
    return [(moment, change) for moment, change in by if change]


@pytest.mark.parametrize("year", [2011, 2026])
def test_runs_are_never_further_apart_than_the_interval_and_the_change_of_the_clocks(
    year: int,
) -> None:
    """In every zone, around every change: nor are they nearer than the interval without it."""
    odd = itertools.cycle([40, 45, 60, 61, 90, 120, 150, 720, 1441, 2 * 1440, 7 * 1440])
    found = []
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        for moment, change in changes(zone, year):
            for every in (
                timedelta(minutes=minutes) for minutes in (15, 6 * 60, 24 * 60, next(odd))
            ):
                before = Interval(every).next_after(moment - every, zone)
                while before < moment + timedelta(days=1):
                    due = Interval(every).next_after(before, zone)
                    if not every - change <= due - before <= every + change or due <= before:
                        found.append(f"{name}: every {every}: {before} and then {due}")
                    before = due
    assert found == []
