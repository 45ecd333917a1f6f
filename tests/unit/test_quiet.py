"""When quiet hours begin and end, on the clock of the machine."""

from __future__ import annotations

from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest

from gymdbd.config.hours import Hours
from gymdbd.notices import quiet

_NIGHT = Hours(time(22), time(7))
_NOON = Hours(time(12), time(14))


@pytest.mark.parametrize(
    ("hours", "at", "is_quiet"),
    [
        (_NIGHT, time(21, 59), False),
        (_NIGHT, time(22), True),
        (_NIGHT, time(6, 59), True),
        (_NIGHT, time(7), False),
        (_NOON, time(11, 59), False),
        (_NOON, time(12), True),
        (_NOON, time(13, 59), True),
        (_NOON, time(14), False),
    ],
)
def test_quiet_hours_have_their_first_minute_and_not_their_last(
    hours: Hours, at: time, *, is_quiet: bool
) -> None:
    """A message that waits for their end is told at it, over midnight or not."""
    zone = ZoneInfo("Asia/Seoul")
    now = datetime(2026, 11, 23, at.hour, at.minute, tzinfo=zone).astimezone(UTC)
    assert quiet.is_quiet(hours, now, zone) is is_quiet


@pytest.mark.parametrize(
    ("at", "day"),
    [(time(6, 59), 23), (time(7), 24), (time(21), 24), (time(23), 24)],
)
@pytest.mark.parametrize("zone", ["Asia/Seoul", "America/Los_Angeles", "UTC"])
def test_quiet_hours_end_at_the_next_such_time_of_the_local_day(
    zone: str, at: time, day: int
) -> None:
    """Never at this moment, which would be a look without an end, and whatever day it is in UTC."""
    local = ZoneInfo(zone)
    now = datetime(2026, 11, 23, at.hour, at.minute, tzinfo=local)
    assert quiet.end(_NIGHT, now, local) == datetime(2026, 11, day, 7, tzinfo=local)


def test_quiet_hours_end_tonight_where_it_is_tomorrow_in_utc() -> None:
    """In the west, the evening is another day of UTC than the afternoon."""
    local = ZoneInfo("America/Los_Angeles")
    now = datetime(2026, 11, 23, 20, tzinfo=local).astimezone(UTC)
    evening = Hours(time(18), time(22))
    assert quiet.end(evening, now, local) == datetime(2026, 11, 23, 22, tzinfo=local)
