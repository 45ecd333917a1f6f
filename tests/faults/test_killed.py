"""Killed anywhere: SIGKILL at every system call on files, of every operation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults import sweeps, table
from tests.faults.scenes import LOCAL, REMOTE, Operation, Scene

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_STRATA = 8
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
    problems = {
        str(point): found
        for point in table.sample(every[part::_STRATA], f"kill {operation} {part}")
        if (found := _ROWS[operation.name].tried(*sweeps.kill(operation, stage(operation), point)))
    }
    table.expect_none(problems)
