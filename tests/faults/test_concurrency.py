"""Two at once: a second command at every moment of a first one, and many databases together."""

from __future__ import annotations

import json
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from tests.faults import promises, sweeps, table
from tests.faults.scenes import LOCAL, REMOTE, Operation, Scene
from tests.support import samples
from tests.support.command import GYMDBD, environment
from tests.support.databases import make_database
from tests.support.jobs import write_config
from tests.support.zygote import Zygote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.faults.tracing import Point

_PAIR = table.row(
    "two commands at once",
    "the first stopped at any call, the second run to its end or as far as it gets, then both",
    "each is done, waits or says busy; no harm",
)
_MANY = table.row(
    "many databases at once", "a process each, one status file", "every backup made and told"
)
_PATIENCE_S = 2.0
_BY_NAME = {one.name: one for one in (*LOCAL, *REMOTE)}
_PAIRS = [
    *(("backup", second) for second in ("backup", "prune", "restore", "verify", "keep")),
    ("backup", "restore-replace"),
    *(("restore", second) for second in ("backup", "prune", "restore-replace")),
    *(("restore-replace", second) for second in ("backup", "restore")),
    *(("prune", second) for second in ("prune", "backup", "restore", "keep", "verify")),
    *(("verify", second) for second in ("prune", "backup", "keep")),
    *(("drill", second) for second in ("backup", "prune")),
    ("pull", "pull"),
]


@pytest.fixture(scope="module")
def second_zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """Run another, since the first waits for its run to end."""
    with Zygote(tmp_path_factory.mktemp("second")) as zygote:
        yield zygote


def _meet(
    first: Operation, second: Operation, scene: Scene, point: Point, other: Zygote
) -> tuple[str, list[str]]:
    """Run the second in the middle of the first; return the outcome and what is broken."""
    words = second.arguments(scene)
    # Which backup the words name is told before the first one prunes.
    second.allow(scene)
    found: list[str] = []
    outcome: list[str] = []

    def expect() -> None:
        scene.world.take_down()
        first.allow(scene)
        second.allow(scene)

    def run_second() -> None:
        done = other.run("-c", scene.config, *words, "--json")
        outcome.append("done" if done.exit_code == 0 else str(done.answer.get("code")))
        found.extend(promises.told_wrongly(done.answer, done.exit_code))

    thread = threading.Thread(target=run_second)

    def act() -> None:
        # With a backup that one has published, the other may prune those before.
        expect()
        thread.start()
        # Whoever waits for the first to be done gets on when the first does.
        thread.join(_PATIENCE_S)
        expect()

    done = sweeps.interrupt(first, scene, point, act)
    thread.join()
    expect()
    found += promises.told_wrongly(done.answer, done.exit_code)
    ended = "done" if done.exit_code == 0 else str(done.answer.get("code"))
    found += scene.world.broken() + sweeps.expect_next_run(first, scene)
    return f"{ended} and {outcome[0]}", found


@pytest.mark.parametrize(("first", "second"), _PAIRS)
def test_two_commands_at_once_do_no_harm(
    first: str,
    second: str,
    stage: Callable[[Operation], Scene],
    second_zygote: Zygote,
    tmp_path: Path,
) -> None:
    """Whenever the second comes, each is done or says that the other is at work."""
    one, other = _BY_NAME[first], _BY_NAME[second]
    every = sweeps.points(one, stage(one), tmp_path)[:: 5 if samples.EVERYTHING else 1]
    problems = {}
    for point in samples.sample(every, f"{first} {second}"):
        if found := _PAIR.tried(*_meet(one, other, stage(one), point, second_zygote)):
            problems[f"{second} before {point} of {first}"] = found
    table.expect_none(problems)


def test_many_databases_are_backed_up_at_once(tmp_path: Path) -> None:
    """Processes that share a status file each write their own entry, and none is lost."""
    count = samples.count(12, of=50)
    jobs = {}
    for number in range(count):
        archive = tmp_path / f"archive{number}"
        archive.mkdir(mode=0o700)
        database = make_database(tmp_path / f"gym{number}.db")
        jobs[f"job{number}"] = {
            "every": "1d",
            "database": str(database),
            "archive": str(archive),
        }
    world = promises.World.of(tmp_path, *tmp_path.glob("*.db"))
    config = write_config(tmp_path, jobs)
    running = [
        subprocess.Popen(
            [*GYMDBD, "-c", str(config), "backup", name, "--json"],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name in jobs
    ]
    found = [f"exit {one.wait(120)}" for one in running if one.wait(120)]
    entries = json.loads((tmp_path / "status.json").read_bytes())["jobs"]
    found += [f"no entry of {name}" for name in jobs if entries.get(name, {}).get("state") != "ok"]
    found += world.broken() + world.left_behind()
    table.expect_none({"many": _MANY.tried("ok", found, times=count)})
