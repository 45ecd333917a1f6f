"""Killed anywhere: SIGKILL at every system call on files, of every operation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults import sweeps, table
from tests.faults.scenes import LOCAL, REMOTE, Operation, Scene
from tests.support import samples

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_STRATA = samples.count(3, of=8)
_STATUS = table.row(
    "killed while the status is written",
    "of all these the calls on the status file and its lock",
    "the file is whole, as before or as after; nothing else is different",
)
_ROWS = {
    operation.name: table.row(
        f"killed anywhere: {operation.name}",
        "strace, SIGKILL at the k-th call on a file",
        "state as before or as after, the next run cleans up",
    )
    for operation in (*LOCAL, *REMOTE)
}


@pytest.mark.parametrize("part", range(_STRATA))
@pytest.mark.parametrize("operation", [*LOCAL, *REMOTE], ids=str)
def test_an_operation_killed_at_any_call_breaks_no_promise(
    operation: Operation, part: int, stage: Callable[[Operation], Scene], tmp_path: Path
) -> None:
    """Everything is as before or as after, and the next run succeeds and leaves nothing about."""
    every = sweeps.points(operation, stage(operation), tmp_path)
    problems = {}
    for point in samples.sample(every[part::_STRATA], f"kill {operation} {part}"):
        outcome, found = sweeps.kill(operation, stage(operation), point)
        problems[str(point)] = _ROWS[operation.name].tried(outcome, found)
        if "status.json" in point.line:
            _STATUS.tried(outcome, found)
    table.expect_none(problems)


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("name", ["backup", "pull"])
def test_a_status_killed_in_mid_writing_is_whole(
    name: str, part: int, stage: Callable[[Operation], Scene], tmp_path: Path
) -> None:
    """Of the calls on the status file more than a sample of all the calls would meet."""
    operation = next(one for one in (*LOCAL, *REMOTE) if one.name == name)
    every = sweeps.points(operation, stage(operation), tmp_path)
    writing = [point for point in every if "status.json" in point.line]
    problems = {
        str(point): _STATUS.tried(*sweeps.kill(operation, stage(operation), point))
        for point in samples.sample(writing[part::3], f"{name} {part}")
    }
    table.expect_none(problems)


def test_a_bare_pull_begins_with_the_old_replica(stage: Callable[[Operation], Scene]) -> None:
    """Or with shared blocks: its sweeps would otherwise be those of a copy."""
    operation = next(one for one in REMOTE if one.name == "pull-bare")
    assert stage(operation).good(*operation.arguments(stage(operation)))["copied"] in (
        "spare",
        "clone",
    )
