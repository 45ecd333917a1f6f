"""Calls that fail: every call on a file, of every operation, with every error it can meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults import sweeps, table
from tests.faults.scenes import LOCAL, REMOTE, Operation, Scene
from tests.support import samples

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_NO_ROOM = (
    *("openat", "write", "pwrite64", "ftruncate", "fallocate", "fsync", "fdatasync"),
    *("rename", "link", "mkdir", "copy_file_range"),
)
# Not close: strace keeps it from being made, and what stays open stays locked. Linux closes a file
# whatever it reports.
_CALLS = {
    "ENOSPC": _NO_ROOM,
    "EDQUOT": _NO_ROOM,
    "EIO": (*_NO_ROOM, "read", "pread64", "unlink", "rmdir", "getdents64", "statfs"),
    "EROFS": ("openat", "unlink", "rename", "link", "mkdir", "rmdir", "ftruncate", "fchmod"),
    "EMFILE": ("openat",),
    "EINTR": ("openat", "read", "pread64", "write", "pwrite64", "fsync", "fdatasync", "flock"),
}
_ROWS = {
    fault: table.row(
        f"{fault} at any call",
        "strace, the k-th call on a file fails",
        "ok all the same, or one named error with a hint; nothing lost, the next run succeeds",
    )
    for fault in _CALLS
}


# No code tells the two of them apart.
_NO_ROOM_FAULTS = samples.sample(("ENOSPC", "EDQUOT"), "no room")


@pytest.mark.parametrize("fault", [*_NO_ROOM_FAULTS, "EIO", "EROFS", "EMFILE", "EINTR"])
@pytest.mark.parametrize("operation", [*LOCAL, *REMOTE], ids=str)
def test_an_operation_with_a_call_that_fails_breaks_no_promise(
    operation: Operation, fault: str, stage: Callable[[Operation], Scene], tmp_path: Path
) -> None:
    """It is done all the same or fails with an error of its own, and the next run succeeds."""
    every = [
        point
        for point in sweeps.points(operation, stage(operation), tmp_path)
        if point.call in _CALLS[fault]
    ]
    problems = {
        str(point): found
        for point in samples.sample(every, f"{fault} {operation}")
        if (found := _ROWS[fault].tried(*sweeps.refuse(operation, stage(operation), point, fault)))
    }
    table.expect_none(problems)


@pytest.mark.parametrize("name", ["pull-first", "pull-bare"])
def test_a_check_that_cannot_read_a_page_finds_no_damage(
    name: str, stage: Callable[[Operation], Scene], tmp_path: Path
) -> None:
    """Of a pull that reads all that has arrived: the database over there is none the worse.

    SQLite's own check reports the page that it cannot read in the same words as a damaged one.
    """
    operation = next(one for one in REMOTE if one.name == name)
    every = [
        point
        for point in sweeps.points(operation, stage(operation), tmp_path)
        if point.call == "pread64" and ".partial>" in point.line
    ]
    problems = {
        str(point): found
        for point in samples.sample(every, f"unreadable {name}", size=2)
        if (found := _ROWS["EIO"].tried(*sweeps.refuse(operation, stage(operation), point, "EIO")))
    }
    table.expect_none(problems)
