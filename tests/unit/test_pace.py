"""The pace of a transfer: how much is read in which time, by a clock that the test moves."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gymdbd.config.hours import Hours
from gymdbd.config.rate import LEAST, Limit
from gymdbd.remote.pace import BURST_S, PIECE_BYTES, Pace
from gymdbd.source import patience, replies

_PIECE = PIECE_BYTES
_MIDNIGHT = datetime(2026, 11, 28, tzinfo=UTC)


class _Time:
    """A monotonic clock that only a sleep moves, and the sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sleeps: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


def _nothing() -> None:
    pass


def _read(pace: Pace, pieces: int) -> None:
    for _ in range(pieces):
        pace.wait(_nothing)
        pace.count(_PIECE)


@given(
    rate=st.sampled_from([LEAST, 5000, 512_000, 10**9]),
    sizes=st.lists(st.integers(0, _PIECE), min_size=1, max_size=50),
    pauses=st.lists(st.floats(0, 100), min_size=50, max_size=50),
)
def test_no_more_is_read_in_any_time_than_the_limit_a_quarter_second_and_a_piece(
    rate: int, sizes: list[int], pauses: list[float]
) -> None:
    """However the other side hesitates in between."""
    clock = _Time()
    pace = Pace(lambda: rate, monotonic=clock.monotonic, sleep=clock.sleep)
    read: list[tuple[float, int]] = []
    for size, pause in zip(sizes, pauses, strict=False):
        pace.wait(_nothing)
        read.append((clock.now, size))
        pace.count(size)
        clock.now += pause
    for first, (begun, _) in enumerate(read):
        total = 0
        for at, size in read[first:]:
            total += size
            assert total <= (at - begun + BURST_S) * rate + _PIECE + 1


def test_a_source_that_brings_enough_is_read_as_fast_as_the_limit_allows() -> None:
    """The limit is no less than what it says."""
    clock = _Time()
    pace = Pace(lambda: 4 * _PIECE, monotonic=clock.monotonic, sleep=clock.sleep)
    _read(pace, 401)
    assert clock.now - 1000 == pytest.approx(100, abs=BURST_S)
    assert pace.waited_s == pytest.approx(clock.now - 1000)


def test_without_a_limit_nothing_waits() -> None:
    """Neither without one at all, nor in hours that have none."""
    clock = _Time()
    for pace in (
        Pace(monotonic=clock.monotonic, sleep=clock.sleep),
        Pace(lambda: None, monotonic=clock.monotonic, sleep=clock.sleep),
    ):
        _read(pace, 1000)
        assert (clock.sleeps, pace.waited_s) == ([], 0.0)


def test_a_stop_ends_a_wait_within_a_quarter_of_a_second() -> None:
    """At the slowest limit a piece takes half a minute; whoever may stop a pull is asked before."""
    clock, asked = _Time(), [0]
    pace = Pace(lambda: LEAST, monotonic=clock.monotonic, sleep=clock.sleep)
    pace.count(_PIECE)

    def check() -> None:
        asked[0] += 1
        if asked[0] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pace.wait(check)
    assert clock.sleeps == [0.25, 0.25]


def test_the_pace_changes_when_the_hours_of_the_limit_begin_and_end() -> None:
    """Also for who is under way, and who waits at that moment waits no longer."""
    clock = _Time()
    limit = Limit(((Hours(time(0, 1), time(0, 2)), LEAST),))

    def rate() -> int | None:
        return limit.at(_MIDNIGHT + timedelta(seconds=clock.now - 1000), UTC)

    pace = Pace(rate, monotonic=clock.monotonic, sleep=clock.sleep)
    _read(pace, 100)
    assert clock.now == 1000
    clock.now = 1000 + 60
    _read(pace, 2)
    assert 1000 + 60 + 31 <= clock.now <= 1000 + 60 + 32
    _read(pace, 100)
    assert clock.now == pytest.approx(1000 + 120, abs=0.25)


def test_the_slowest_limit_is_no_stall_for_the_other_side() -> None:
    """It gives up a client that does not take the largest piece of an answer in time."""
    assert replies.BATCH_BYTES / LEAST < patience.STALL_TIMEOUT_S / 2
