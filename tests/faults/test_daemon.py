"""The daemon beside others: another daemon, commands by hand, reloads, and all its jobs at once."""

from __future__ import annotations

import contextlib
import json
import signal
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.clock import Clock, to_text
from tests.faults import promises, table
from tests.faults.promises import World
from tests.support import samples
from tests.support.command import gymdbd, gymdbd_json
from tests.support.daemon_process import DaemonProcess, running_daemon
from tests.support.databases import make_database, sqlite_elsewhere
from tests.support.jobs import write_config
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TWO = table.row(
    "two daemons",
    "a second one started at any moment of the first one's runs",
    "it says busy, by whom; the first goes on",
)
_BESIDE = table.row(
    "the daemon and commands by hand",
    "every command while the daemon backs up each second",
    "each is done or says busy; no harm, and the daemon goes on",
)
_RELOAD = table.row(
    "the configuration reloaded in mid-run",
    "SIGHUP while the run is stopped, with a good and with a faulty file",
    "the run ends as it began; the next one by the good file, by the old one where it is faulty",
)
_ALL_DUE = table.row(
    "every database due at once after a week without power",
    "one daemon with so many jobs, each last done eight days ago",
    "each is made up once, with the reason",
)
_OLD = timedelta(days=8)


def _job(folder: Path, name: str = "gym", **settings: Any) -> dict[str, Any]:
    archive = folder / f"{name}-archive"
    archive.mkdir(mode=0o700, exist_ok=True)
    if not (folder / f"{name}.db").exists():
        make_database(folder / f"{name}.db")
    return {"database": str(folder / f"{name}.db"), "archive": str(archive), **settings}


def _remember(folder: Path, *jobs: str) -> None:
    """Write the status file that a daemon of eight days ago would have left."""
    moment = to_text(Clock().now() - _OLD, UTC)
    entry = {"kind": "backup", "state": "ok", "last_success": moment, "last_run": moment}
    content = {"schema": 1, "daemon": None, "jobs": dict.fromkeys(jobs, entry)}
    (folder / "status.json").write_text(json.dumps(content))


def _runs(daemon: DaemonProcess, job: str) -> list[dict[str, Any]]:
    return list(daemon.entry(job).get("runs", []))


@contextlib.contextmanager
def _every_second(folder: Path) -> Iterator[tuple[DaemonProcess, World]]:
    """Run a daemon that backs up each second; what there is may be pruned but for the newest."""
    config = write_config(folder, {"gym": _job(folder, every="1s", keep={"count": 3})})
    world = World.of(folder, folder / "gym.db")
    with running_daemon(config) as daemon:
        yield daemon, world
        before = len(daemon.events("run finished"))
        until(lambda: len(daemon.events("run finished")) > before, "another run")
        assert daemon.stop() == 0
    # What was at work when the daemon was told to end says so.
    failed = {one["code"] for one in daemon.events("run failed")}
    assert failed <= {"stopped"}


def test_a_second_daemon_is_refused_whenever_it_comes(tmp_path: Path) -> None:
    """It ends with 3 and names the first, whose runs go on."""
    problems = {}
    with _every_second(tmp_path) as (daemon, world):
        for number in range(samples.count(3, of=20)):
            done = gymdbd("-c", daemon.config, "run")
            found = world.broken_while_at_work()
            if done.returncode != 3 or f"process {daemon.pid}" not in done.stderr:
                found.append(f"it ended with {done}")
            problems[str(number)] = _TWO.tried("busy", found)
    table.expect_none(problems)


def test_commands_by_hand_beside_the_daemon_do_no_harm(tmp_path: Path) -> None:
    """Each is done or says that another run is at work, and the daemon's own runs succeed."""
    archive = tmp_path / "gym-archive"
    commands: list[list[object]] = [
        ["backup", "gym"],
        ["prune", "--archive", archive, "--keep-count", 2],
        ["verify", "--all", "--archive", archive],
        ["restore", "latest", "--archive", archive],
        ["restore", "latest", "--archive", archive, "--to", tmp_path / "elsewhere.db"],
        ["list", "--archive", archive],
        ["status"],
    ]
    problems = {}
    with _every_second(tmp_path) as (daemon, world):
        until(lambda: daemon.events("run finished"), "a backup")
        world.databases[tmp_path / "elsewhere.db"] = {
            "nothing",
            *world.databases[tmp_path / "gym.db"],
        }
        for number in range(samples.count(2, of=20)):
            for words in commands:
                exit_code, answer = gymdbd_json("-c", daemon.config, *words)
                found = promises.told_wrongly(answer, exit_code) + world.broken_while_at_work()
                outcome = "done" if exit_code == 0 else str(answer["code"])
                if outcome not in ("done", "busy"):
                    found.append(f"it ended with {answer}")
                problems[f"{number} {words[0]}"] = _BESIDE.tried(outcome, found)
    problems["left"] = world.left_behind()
    table.expect_none(problems)


@pytest.mark.parametrize("faulty", [False, True], ids=["good", "faulty"])
def test_a_reload_in_mid_run_does_not_touch_the_run(tmp_path: Path, *, faulty: bool) -> None:
    """It ends as it began; the jobs are then those of the new file, or of the old one."""
    old = {"gym": _job(tmp_path, schedule="0 3 * * *", busy_timeout="60s")}
    new = {**old, "other": _job(tmp_path, "other", every="1d")}
    _remember(tmp_path, "gym")
    world = World.of(tmp_path, tmp_path / "gym.db")
    lock = ("PRAGMA locking_mode=EXCLUSIVE", "BEGIN EXCLUSIVE")
    with running_daemon(write_config(tmp_path, old)) as daemon:
        with sqlite_elsewhere(tmp_path / "gym.db", *lock):
            daemon.wait_for_event("run started")
            write_config(tmp_path, {**new, **({"bad": {"kind": "no"}} if faulty else {})})
            daemon.process.send_signal(signal.SIGHUP)
            daemon.wait_for_state("READY=1", times=2)
        (run,) = until(lambda: _runs(daemon, "gym"), "the run to end", within_s=60)
        found = [] if run["state"] == "ok" else [f"it ended with {run}"]
        if not faulty:
            # The daemon says that it is ready before it writes down what is planned.
            until(lambda: daemon.entry("other").get("next_run"), "the new job to be planned")
        refused = daemon.events("configuration refused, the old one stays")
        if len(refused) != faulty or bool(daemon.entry("other").get("next_run")) == faulty:
            found.append(f"refused: {refused}, planned: {daemon.entry('other')}")
        assert daemon.stop() == 0
    table.expect_none({str(faulty): _RELOAD.tried("ok", found + world.broken())})


def test_all_that_was_missed_in_a_week_is_made_up_once(tmp_path: Path) -> None:
    """However many jobs there are, each runs once, and says what it is made up for."""
    names = [f"gym{number}" for number in range(samples.count(12, of=50))]
    config = write_config(
        tmp_path, {one: _job(tmp_path, one, schedule="0 3 * * *") for one in names}
    )
    _remember(tmp_path, *names)
    world = World.of(tmp_path, *tmp_path.glob("*.db"))
    with running_daemon(config) as daemon:
        until(lambda: all(_runs(daemon, one) for one in names), "every run", within_s=200)
        found = [
            f"{one}: {runs}"
            for one in names
            if len(runs := _runs(daemon, one)) != 1
            or runs[0]["state"] != "ok"
            or not runs[0]["reason"].startswith("made up: the run due at ")
        ]
        assert daemon.stop() == 0
    found += world.broken() + world.left_behind()
    found += [] if len(world.new_backups()) == len(names) else ["not one backup each"]
    table.expect_none({"all": _ALL_DUE.tried("made up once", found, times=len(names))})
