"""Disks that are truly full, and files that may not grow: writes cut short by the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults import scenes, sweeps, table
from tests.faults.scenes import LOCAL, REMOTE, Operation, Scene
from tests.support import samples
from tests.support.disks import may_mount, mounted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.sshd import SshServer
    from tests.support.zygote import Zygote

_SHORT = table.row(
    "a write cut short, the next refused",
    "a limit on the size of files, RLIMIT_FSIZE, of any number of bytes",
    "ok all the same, or one named error with a hint; nothing lost, the next run succeeds",
)
_FULL = table.row(
    "a full disk",
    "a real file system with every number of free 4 KiB blocks",
    "ok all the same, or one named error with a hint; nothing lost, the next run succeeds",
)
_OPERATIONS = [one for one in (*LOCAL, *REMOTE) if one.name != "keep"]


@pytest.mark.parametrize("part", range(2))
@pytest.mark.parametrize("operation", _OPERATIONS, ids=str)
def test_an_operation_whose_writes_are_cut_short_breaks_no_promise(
    operation: Operation, part: int, stage: Callable[[Operation], Scene]
) -> None:
    """It is done all the same or fails with an error of its own, and the next run succeeds."""
    every = [*range(0, 4096, 137), *range(4096, 66_000, 1021)][part::2]
    problems = {}
    for limit in samples.sample(every, f"short {operation} {part}"):
        scene = stage(operation)
        # Appended to by every run, it would be what meets the limit first.
        (scene.place / "log" / "gymdbd.jsonl").unlink(missing_ok=True)
        done = scene.run(*operation.arguments(scene), file_bytes=limit)
        found = sweeps.expect_whole(operation, scene, done, seen=0, excused=True)
        outcome = "ok all the same" if done.exit_code == 0 else str(done.answer.get("code"))
        if found := _SHORT.tried(outcome, found + sweeps.expect_next_run(operation, scene)):
            problems[f"{operation} with files of {limit} bytes"] = found
    table.expect_none(problems)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a small file system in memory."""
    if not may_mount():
        pytest.skip("mounting needs root")
    with mounted(tmp_path_factory.mktemp("disk"), "tmpfs", size="32m") as place:
        yield place


@pytest.mark.parametrize("operation", _OPERATIONS, ids=str)
def test_an_operation_on_a_full_disk_breaks_no_promise(
    operation: Operation, disk: Path, zygote: Zygote, sshd: SshServer
) -> None:
    """Whatever is free, it is done or fails with an error of its own; with room it succeeds."""
    folder = disk / operation.name
    folder.mkdir()
    scene = scenes.build(folder / "scene", zygote, sshd)
    scenes.begin(operation, scene)
    problems = {}
    for blocks in samples.sample(range(60), f"full {operation}"):
        scenes.again(operation, scene)
        _fill(disk, blocks)
        done = scene.run(*operation.arguments(scene))
        _fill(disk, None)
        found = sweeps.expect_whole(operation, scene, done, seen=0, excused=True)
        outcome = "ok all the same" if done.exit_code == 0 else str(done.answer.get("code"))
        if found := _FULL.tried(outcome, found + sweeps.expect_next_run(operation, scene)):
            problems[f"{operation} with {blocks} blocks free"] = found
    table.expect_none(problems)


def _fill(disk: Path, blocks_left: int | None) -> None:
    """Leave so many blocks of 4 KiB free; all there are without a number."""
    filler = disk / "filler"
    filler.unlink(missing_ok=True)
    if blocks_left is None:
        return
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(0, file.tell() - 4096 * blocks_left))
