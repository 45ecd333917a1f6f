"""Places that are gone at any moment, and a status that cannot be written: who is told what."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults import table
from tests.support import samples
from tests.support.command import gymdbd, gymdbd_json
from tests.support.databases import backups, make_database, tree
from tests.support.disks import may_mount, mounted
from tests.support.jobs import write_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_GONE = table.row(
    "a folder that is gone",
    "each place that a configuration names moved away, and each set of them",
    "the run that needs one fails and names it, every other is good; no folder is created",
)
_STATUS_FULL = table.row(
    "the disk of the status file is full",
    "a real file system with every number of free 4 KiB blocks, with and without a reserve",
    "each failure is recorded if there was a reserve; status never says ok while runs fail",
)
_PLACES = ("status", "log", "near", "far", "instance")
_NEEDED = {"to-near": {"near", "instance"}, "to-far": {"far", "instance"}}


def _stage(folder: Path) -> Path:
    """Write a configuration whose jobs and files each lie in a place of their own."""
    for name in _PLACES:
        (folder / name).mkdir(mode=0o700)
    database = str(make_database(folder / "instance" / "gym.db"))
    jobs = {
        f"to-{name}": {"database": database, "archive": str(folder / name), "every": "1h"}
        for name in ("near", "far")
    }
    status, log = str(folder / "status/status.json"), str(folder / "log/gymdbd.log")
    return write_config(folder, jobs, status_file=status, log={"format": "json", "file": log})


def _expect(config: Path, gone: set[str]) -> list[str]:
    """Run every job while some places are gone; return what is not as it should be."""
    folder, problems = config.parent, []
    for job, needed in _NEEDED.items():
        code, answer = gymdbd_json("-c", config, "backup", job)
        told = str(answer.get("error"))
        missing = needed & gone
        if code != bool(missing):
            problems.append(f"{job} exits with {code}: {told}")
        if missing and not any(str(folder / name) in told for name in missing):
            problems.append(f"{job} does not name {missing}: {told}")
    for words in (("list",), ("schedule",), ("check",), ("status",)):
        done = gymdbd("-c", config, *words)
        if done.returncode == 2 and words != ("status",):
            problems.append(f"{words} is refused: {done.stderr}")
    return problems + [f"{name} was created" for name in gone if (folder / name).exists()]


def test_whatever_is_gone_only_what_needs_it_fails(tmp_path: Path) -> None:
    """Every set of places at once would be 32 tries; a sample of each size is as telling."""
    config = _stage(tmp_path)
    problems = {}
    every = [{name for n, name in enumerate(_PLACES) if bits >> n & 1} for bits in range(1, 32)]
    for size in range(1, len(_PLACES)):
        of_size = [one for one in every if len(one) == size]
        for gone in samples.sample(of_size, f"gone {size}"):
            before = {name: tree(tmp_path / name) for name in ("near", "far")}
            for name in gone:
                (tmp_path / name).rename(tmp_path / f"{name}.away")
            found = _expect(config, gone)
            for name in gone:
                (tmp_path / f"{name}.away").rename(tmp_path / name)
            after = {name: tree(tmp_path / name) for name in ("near", "far")}
            found += [
                f"{path} is lost or changed"
                for name, files in before.items()
                for path, digest in files.items()
                if after[name].get(path) != digest
            ]
            if found := _GONE.tried("as expected", found):
                problems[f"without {sorted(gone)}"] = found
    table.expect_none(problems)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Give a small file system in memory."""
    if not may_mount():
        pytest.skip("mounting needs root")
    with mounted(tmp_path, "tmpfs", size="8m") as place:
        yield place


def _fill(disk: Path, blocks_left: int) -> None:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(0, file.tell() - 4096 * blocks_left))


@pytest.mark.parametrize("held", [True, False], ids=["reserve", "no reserve"])
def test_a_status_on_a_full_disk_never_says_ok_while_runs_fail(disk: Path, *, held: bool) -> None:
    """What is free may be enough for the status, for a part of it, or for nothing."""
    folder = disk
    (folder / "archive").mkdir()
    database = make_database(folder / "gym.db", rows=1000)
    job = {"database": str(database), "archive": str(folder / "archive"), "every": "1h"}
    config = write_config(folder, {"nightly": job})
    problems = {}
    for blocks in samples.sample(range(20), f"status {held}"):
        (disk / "filler").unlink(missing_ok=True)
        assert gymdbd("-c", config, "backup").returncode == 0
        if not held:
            (folder / ".status.json.reserve").unlink()
        _fill(disk, blocks)
        found = _try(config, recorded=held)
        if found := _STATUS_FULL.tried("failing", found):
            problems[f"{blocks} blocks free"] = found
        for backup in backups(folder / "archive")[:-1]:
            for path in (backup, backup.with_name(f"{backup.name}.json")):
                path.unlink(missing_ok=True)
    table.expect_none(problems)


def _try(config: Path, *, recorded: bool) -> list[str]:
    """Let runs fail, and return what the status does not say about it."""
    problems = []
    for count in (1, 2):
        code, answer = gymdbd_json("-c", config, "backup")
        if (code, answer["code"]) != (1, "disk-full"):
            problems.append(f"the run ends with {code}, {answer['code']}")
        code, told = gymdbd_json("-c", config, "status")
        entry: dict[str, Any] = told["jobs"]["nightly"]
        if (code, entry["health"]) != (2, "failing"):
            problems.append(f"status is {code}, {entry['health']}: {json.dumps(entry)[:300]}")
        if recorded and entry["consecutive_failures"] != count:
            problems.append(f"{entry['consecutive_failures']} of {count} failures are recorded")
    return problems
