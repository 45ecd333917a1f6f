"""Power cuts: what was not flushed is lost, or some of it, at any moment of an operation."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults import powercut, sweeps, table
from tests.faults.promises import digest
from tests.faults.scenes import DAMAGED, LOCAL, REMOTE, Operation, Scene
from tests.support import samples

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_ROW = table.row(
    "power cut at any moment",
    "recorded writes replayed up to the k-th; of what was not flushed nothing, all names, all "
    "content or any part survives",
    "every backup whole, source and replica as before or as after, as after once the run has "
    "ended; the next run cleans up",
)
_WAYS = 4


@dataclass(frozen=True)
class _Recorded:
    """A run that was not disturbed: its calls, and what could be seen after it."""

    events: list[powercut.Event]
    seen: dict[str, str]
    replicas: dict[str, str]


_recorded: dict[str, _Recorded] = {}


def _moments(operation: Operation, scene: Scene, folder: Path) -> int:
    """Return at how many calls what would be found changes."""
    if operation.name not in _recorded:
        events = powercut.record(operation, scene, folder / "writes")
        _recorded[operation.name] = _Recorded(events, scene.world.looks(), _replica_of(scene))
    scene.reset()
    disk = powercut.Disk(scene.place)
    return sum(1 for _ in powercut.replay(_recorded[operation.name].events, disk))


def _replica_of(scene: Scene) -> dict[str, str]:
    """Return the digest of the replica that the last pull left, by the snapshot it is of."""
    if not scene.state.exists():
        return {}
    return {_snapshot(json.loads(scene.state.read_bytes())): digest(scene.replica)}


def _snapshot(state: dict[str, Any]) -> str:
    return json.dumps([state["sha256"], state["fingerprint"]])


def _cut(operation: Operation, scene: Scene, moment: int, way: int) -> tuple[str, list[str]]:
    """Cut the power at one moment; return what was found and which promises are broken."""
    before, replicas = scene.world.looks(), _replica_of(scene)
    disk = powercut.Disk(scene.place)
    recorded = _recorded[operation.name]
    ended = True
    for number, _ in enumerate(powercut.replay(recorded.events, disk)):
        if number == moment:
            ended = False
            break
    chance = random.Random(f"{samples.SEED} {operation} {moment}")
    disk.write_out(powercut.survivors(chance)[way])
    # A reboot changes no file. The spare is told by size and time, which tell no writing that they
    # were not flushed with: here they never do.
    replicas |= recorded.replicas
    scene.recognise(lambda state: replicas.get(_snapshot(state)) == digest(scene.replica))
    seen = scene.world.looks()
    found = []
    if ended and seen != recorded.seen:
        found.append(f"what the run had told to be done is {seen} and not {recorded.seen}")
    outcome = "as before" if seen == before else "as after"
    return outcome, found + scene.world.broken() + sweeps.expect_next_run(operation, scene)


@pytest.mark.parametrize("way", range(_WAYS))
@pytest.mark.parametrize("operation", [*LOCAL, DAMAGED, *REMOTE], ids=str)
def test_an_operation_cut_off_by_a_power_failure_breaks_no_promise(
    operation: Operation, way: int, stage: Callable[[Operation], Scene], tmp_path: Path
) -> None:
    """What a reboot finds is as before or as after, as after once the run has ended."""
    count = _moments(operation, stage(operation), tmp_path)
    problems = {}
    # The last of them is after the end.
    for moment in [*samples.sample(range(count), f"cut {operation} {way}"), count]:
        if found := _ROW.tried(*_cut(operation, stage(operation), moment, way)):
            problems[f"{moment} of {count}, way {way}"] = found
    table.expect_none(problems)
