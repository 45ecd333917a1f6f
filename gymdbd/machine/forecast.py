"""When will a disk be full? Pure functions of what runs have seen of it.

What other things take from day to day goes on as it was. What the backups take does not: an archive
grows only until its rule removes as much as it gets. So the two are told apart.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from gymdbd.files import SPACE_FACTOR

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gymdbd.config.parts import Keep

WINDOW = timedelta(days=30)
_FEWEST_DAYS = 7
_HORIZON_DAYS = 365
_DAY = timedelta(days=1)
# How many days each period of a rule has.
_PERIODS = {"hourly": 1 / 24, "daily": 1, "weekly": 7, "monthly": 30, "yearly": 365}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The disk of a job's archive after a run: `free` bytes of its `size`.

    The job's backups take `held` bytes. `made` is the size of the backup that the run made, if any.
    It stands for `runs` of the same hour.
    """

    at: datetime
    job: str
    free: int
    size: int
    held: int
    made: int | None
    runs: int = 1


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """How a disk fills: in `days` the next backup does not fit; None for not within a year.

    `others` and `backups` are the bytes that are taken a day, now, by other things and by backups.
    """

    days: int | None
    others: float
    backups: float


@dataclass(frozen=True, kw_only=True)
class _Filling:
    """How a job fills an archive that holds `held` bytes of it.

    It makes `often` backups a day, each of `size`, which grows by `growth` a day. `most` of the
    newest stay, and beside them those that stand for periods: of each of some days, so many.
    """

    held: float
    often: float
    size: float
    growth: float
    most: float | None
    periods: Sequence[tuple[float, int]] = ()

    def size_in(self, days: int) -> float:
        return self.size + self.growth * days

    def more_in(self, days: int) -> float:
        """Return how many bytes more the archive will hold."""
        made = self.often * (self.size * days + self.growth * days**2 / 2)
        if self.most is None:
            return made
        # Of those that stay the oldest are the smallest.
        shrunk = self.growth * self.most**2 / (2 * self.often) if self.often else 0.0
        limit = self.most * self.size_in(days) - shrunk
        beside = sum(min(most, days / length) for length, most in self.periods)
        return min(made, max(0.0, limit - self.held) + beside * self.size_in(days))


def of(
    samples: Sequence[Sample], keep: Mapping[str, Keep | None], now: datetime
) -> Forecast | None:
    """Return how a disk will fill from `now` on, None if there are too few days to tell.

    `samples` are those of all jobs with an archive on it, by time; `keep` is the rule of each job.
    """
    recent = [sample for sample in samples if now - WINDOW <= sample.at <= now]
    if not recent:
        return None
    # One of another size is of another disk, or of before it was enlarged.
    recent = [sample for sample in recent if sample.size == recent[-1].size]
    free = _daily(recent)
    if len(free) < _FEWEST_DAYS:
        return None
    others = max(0.0, -_slope(free))
    jobs = {sample.job for sample in recent}
    fillings = [_filling([s for s in recent if s.job == job], keep.get(job)) for job in jobs]
    left = recent[-1].free
    return Forecast(
        days=_first_without_room(left, others, fillings),
        others=others,
        backups=sum(filling.more_in(1) for filling in fillings),
    )


def _first_without_room(left: float, others: float, fillings: Sequence[_Filling]) -> int | None:
    for days in range(_HORIZON_DAYS + 1):
        taken = others * days + sum(filling.more_in(days) for filling in fillings)
        needed = max(filling.size_in(days) for filling in fillings) * SPACE_FACTOR
        if left - taken < needed:
            return days
    return None


def _daily(samples: Iterable[Sample]) -> list[tuple[float, float]]:
    """Return for each day how much would be free without any backup, as of all jobs together."""
    held: dict[str, int] = {}
    found: dict[int, list[float]] = {}
    jobs = {sample.job for sample in samples}
    for sample in samples:
        held[sample.job] = sample.held
        # Until each job has been seen once, it is not known what all backups take.
        if held.keys() == jobs:
            day = int(sample.at.timestamp() // _DAY.total_seconds())
            found.setdefault(day, []).append(sample.free + sum(held.values()))
    import statistics  # noqa: PLC0415 - few statuses have a forecast

    return [(float(day), statistics.median(values)) for day, values in found.items()]


def _filling(samples: Sequence[Sample], keep: Keep | None) -> _Filling:
    """Return how a job fills its archive, by its samples in the order of time."""
    made = [(sample.at, sample.made) for sample in samples if sample.made is not None]
    runs = sum(sample.runs for sample in samples if sample.made is not None)
    days = max(1.0, (samples[-1].at - samples[0].at) / _DAY)
    # Between the first and the last of n runs there are n - 1 intervals.
    often = max(0, runs - 1) / days
    by_day = {int(at.timestamp() // _DAY.total_seconds()): size for at, size in made}
    sizes = [(float(day), float(size)) for day, size in by_day.items()]
    return _Filling(
        held=samples[-1].held,
        often=often,
        size=sizes[-1][1] if sizes else 0.0,
        growth=max(0.0, _slope(sizes)) if len(sizes) >= _FEWEST_DAYS else 0.0,
        **_rule(keep, often) if keep else {"most": None},
    )


def _rule(keep: Keep, often: float) -> dict[str, Any]:
    """Return which of the newest stay, and the periods that others stand for, if `often` a day."""
    newest, beside = max(keep.days * often, keep.count, 1), []
    for name, length in _PERIODS.items():
        most = getattr(keep, name)
        if often * length <= 1:
            # Each backup has a period to itself.
            newest = max(newest, most)
        elif length <= 1:
            newest += most
        else:
            beside.append((length, most))
    return {"most": newest, "periods": beside}


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the median of the slopes between any two points (Theil-Sen).

    A third of the points may be anything: a large file that was there for some days does no harm.
    """
    pairs = itertools.combinations(points, 2)
    import statistics  # noqa: PLC0415 - as above

    return statistics.median((y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in pairs)
