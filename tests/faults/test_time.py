"""A clock that cannot be trusted: it jumps at every step of a run, and repeats an hour."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from gymdbd.clock import Clock
from gymdbd.config import config
from gymdbd.runs.runner import Run
from gymdbd.runs.status import StatusFile
from tests.faults import table
from tests.faults.scenes import Operation, Scene, by_age
from tests.support import samples

if TYPE_CHECKING:
    from collections.abc import Callable

_JUMP = table.row(
    "the clock jumps at any step of a run",
    "a clock that jumps at its k-th reading",
    "the backup is good, nothing young is pruned, nothing at all while the clock is wrong",
)
_HOUR = table.row(
    "runs in one second, in the repeated hour, after 2038",
    "a clock set so",
    "every backup keeps a name of its own and its place in the order",
)
_BACKUP = Operation("time", lambda scene: ["backup", "nightly"])  # noqa: ARG005
_READINGS = 12


@dataclass(frozen=True)
class _Clock(Clock):
    """A clock that jumps by `jump` when it is read for the `at`th time."""

    start: datetime = field(default_factory=lambda: Clock().now())
    jump: timedelta = timedelta(0)
    at: int = 0
    readings: list[int] = field(default_factory=list)

    def now(self) -> datetime:
        """Return the instant, a second after the one before."""
        self.readings.append(1)
        count = len(self.readings)
        return (
            self.start + timedelta(seconds=count) + (self.jump if count > self.at else timedelta(0))
        )


def _run(scene: Scene, clock: Clock) -> list[str]:
    """Run the nightly backup by that clock; return what is wrong."""
    settings = config.load(scene.config)
    status = StatusFile(settings.status_file)
    ended = Run(job=settings.jobs["nightly"], reason="test", status=status, clock=clock).execute()
    found = [] if ended.outcome.state == "ok" else [f"it ended with {ended}"]
    return found + scene.world.broken() + scene.world.left_behind()


@pytest.mark.parametrize("jump", ["1970", "-1 d", "-1 h", "+1 h", "+1 d", "+10 a"])
def test_a_clock_that_jumps_at_any_step_costs_no_backup(
    jump: str, stage: Callable[[Operation], Scene]
) -> None:
    """The rule counts, so that the newest stay; with a clock in the past nothing goes."""
    now = Clock().now()
    by = {
        "1970": datetime(1970, 1, 2, tzinfo=UTC) - now,
        "-1 d": timedelta(days=-1),
        "-1 h": timedelta(hours=-1),
        "+1 h": timedelta(hours=1),
        "+1 d": timedelta(days=1),
        "+10 a": timedelta(days=3652),
    }[jump]
    problems = {}
    for at in samples.sample(range(_READINGS), f"jump {jump}"):
        scene = stage(_BACKUP)
        before = by_age(scene)
        # Read once before the first backup has its time, a clock in the past lets nothing go.
        scene.world.may_go = set(before[:-1]) if by > timedelta(0) or at > 1 else set()
        found = _run(scene, _Clock(start=now, jump=by, at=at))
        scene.world.take_down()
        scene.world.may_go = set(scene.world.backups)
        # The clock is right again.
        found += _run(scene, _Clock())
        if found := _JUMP.tried("ok", found):
            problems[f"{jump} at reading {at}"] = found
    table.expect_none(problems)


@pytest.mark.parametrize(
    ("moments", "zone"),
    [
        (["2027-10-31T00:30:00", "2027-10-31T01:30:00", "2027-10-31T02:30:00"], "Europe/Berlin"),
        (["2027-03-28T00:59:58", "2027-03-28T01:00:01"], "Europe/Berlin"),
        (["2038-01-19T03:14:07", "2038-01-19T03:14:08"], "Asia/Seoul"),
        (["2106-02-07T06:28:15", "2106-02-07T06:28:16"], "Asia/Seoul"),
        (["2028-02-29T12:00:00"] * 3, "Asia/Seoul"),
    ],
)
def test_backups_of_odd_moments_keep_their_order(
    moments: list[str], zone: str, stage: Callable[[Operation], Scene]
) -> None:
    """None takes the name of another, and the newest two stay."""
    scene = stage(_BACKUP)
    problems = {}
    for moment in moments:
        scene.world.may_go = set(by_age(scene)[:-1])
        start = datetime.fromisoformat(moment).replace(tzinfo=UTC)
        known = set(scene.archive.glob("*.db"))
        found = _run(scene, _Clock(zone=ZoneInfo(zone), start=start))
        new = set(scene.archive.glob("*.db")) - known
        found += [] if len(new) == 1 else [f"new: {new}"]
        scene.world.backups = {}
        problems[moment] = _HOUR.tried("ok", found)
    left = len(list(scene.archive.glob("*_backup_*.db")))
    problems["left"] = [] if left == 2 else [f"{left} are left"]
    table.expect_none(problems)
