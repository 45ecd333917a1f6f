"""What is kept here rots, and what tells of the runs cannot be written."""

from __future__ import annotations

import contextlib
import fcntl
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults import promises, table
from tests.faults.promises import World, content, digest
from tests.faults.scenes import Operation, Scene, by_age
from tests.support import samples
from tests.support.command import ORDINARY_USER, gymdbd
from tests.support.databases import make_database
from tests.support.jobs import write_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_ROT = table.row(
    "a backup rots on the disk",
    "any bit of the newest backup or its manifest flipped, or its end missing",
    "verify fails and names it; latest and pruning pass over it, the others stay as they are",
)
_UNTOLD = table.row(
    "log or status cannot be written",
    "a folder without the right to write, a folder in the file's place, a lock held for ever",
    "the run is done all the same and says so on stderr; it does not hang",
)
_VERIFY = Operation("rot", lambda scene: ["verify", "--all", "--archive", scene.archive])


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("suffix", ["", ".json"], ids=["backup", "manifest"])
def test_a_backup_that_rots_is_found_and_counts_as_none(
    suffix: str, part: int, stage: Callable[[Operation], Scene]
) -> None:
    """Whichever bit it is; a good one is restored and kept in its stead."""
    path = by_age(stage(_VERIFY))[-1]
    size = path.with_name(path.name + suffix).stat().st_size
    every = [*range(0, size, max(1, size // 400)), -size // 2][part::4]
    problems = {}
    for at in samples.sample(every, f"rot {suffix} {part}"):
        scene = stage(_VERIFY)
        found = _rot(scene, path, suffix, at)
        problems[f"{suffix} at {at}"] = _ROT.tried("found", found)
    table.expect_none(problems)


def _rot(scene: Scene, path: Path, suffix: str, at: int) -> list[str]:
    """Damage the newest backup there, or cut it where `at` is below zero; return what is wrong."""
    rotten = path.with_name(path.name + suffix)
    data = bytearray(rotten.read_bytes())
    if at < 0:
        del data[at:]
    else:
        data[at] ^= 1 << (at % 8)
    rotten.write_bytes(data)
    others = {one: digest(one) for one in by_age(scene)[:-1]}
    done = scene.run(*_VERIFY.arguments(scene))
    found = promises.told_wrongly(done.answer, done.exit_code)
    if done.answer.get("code") != "backup-damaged" or path.name not in done.answer["error"]:
        found.append(f"verify said {done}")
    back = scene.place / "here" / "back.db"
    scene.good("restore", "latest", "--archive", scene.archive, "--to", back)
    if content(back) != content(by_age(scene)[-2]):
        found.append("latest was not the newest good one")
    scene.good("prune", "--archive", scene.archive, "--keep-count", 1)
    if not by_age(scene)[:-1] or digest(by_age(scene)[-2]) != others[by_age(scene)[-2]]:
        found.append("the newest good one was pruned or changed")
    return found


@contextlib.contextmanager
def _no_right_to_write(path: Path) -> Iterator[None]:
    path.parent.chmod(0o500)
    yield
    path.parent.chmod(0o700)


@contextlib.contextmanager
def _a_folder_in_its_place(path: Path) -> Iterator[None]:
    path.mkdir()
    yield
    path.rmdir()


@contextlib.contextmanager
def _a_lock_held(path: Path) -> Iterator[None]:
    """Hold the lock as a process that was stopped in mid-writing does."""
    named = f".__{path.name}.lock" if path.suffix == ".jsonl" else f".{path.name}.lock"
    with path.with_name(named).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# What `backup gym` does, by a process that waits half a second for the lock of the status file.
_HASTY = """
import sys
from pathlib import Path
from gymdbd import log
from gymdbd.config import config
from gymdbd.runs.runner import Run
from gymdbd.runs.status import StatusFile
settings = config.load(Path(sys.argv[sys.argv.index("-c", 1) + 1]))
log.configure(settings.log, by_hand=True)
status = StatusFile(settings.status_file, lock_wait_s=0.5)
sys.exit(Run(job=settings.jobs["gym"], reason="test", status=status).execute().outcome.exit_code)
"""


@pytest.mark.parametrize(
    "trouble",
    [_no_right_to_write, _a_folder_in_its_place, _a_lock_held],
    ids=["no-right", "a-folder", "locked"],
)
@pytest.mark.parametrize("name", ["log/gymdbd.jsonl", "told/status.json"], ids=["log", "status"])
def test_a_run_that_cannot_be_told_is_done_all_the_same(
    name: str, trouble: Any, tmp_path: Path
) -> None:
    """The backup is made, stderr has what is wrong, and afterwards all is told again."""
    for folder in ("archive", "log", "told"):
        (tmp_path / folder).mkdir(mode=0o700)
    database = make_database(tmp_path / "gym.db")
    job = {"every": "1d", "database": str(database), "archive": str(tmp_path / "archive")}
    log = {"format": "json", "file": str(tmp_path / "log" / "gymdbd.jsonl")}
    status = str(tmp_path / "told" / "status.json")
    config = write_config(tmp_path, {"gym": job}, log=log, status_file=status)
    world = World.of(tmp_path, database)
    is_waited_for = trouble is _a_lock_held and "status" in name
    hasty = [sys.executable, "-c", _HASTY] if is_waited_for else []
    with trouble(tmp_path / name):
        words = ("-c", config, "backup", "gym", "--json")
        done = gymdbd(*words, prefix=[*ORDINARY_USER, *hasty])
    found = [] if done.returncode == 0 and world.new_backups() else [f"it ended with {done}"]
    if "Traceback" in done.stderr or (tmp_path / name).name not in done.stderr:
        found.append(f"stderr has {done.stderr}")
    after = gymdbd("-c", config, "backup", "gym", "--json", prefix=ORDINARY_USER)
    if after.returncode != 0 or after.stderr or not (tmp_path / name).is_file():
        found.append(f"afterwards: {after}")
    found += world.broken() + world.left_behind()
    table.expect_none({name: _UNTOLD.tried("done", found)})
