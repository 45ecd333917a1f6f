"""What every sweep over the calls of an operation does: count them, and check what comes after."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from typing import TYPE_CHECKING

from tests.faults import promises, tracing
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.scenes import Operation, Scene
    from tests.faults.tracing import Point
    from tests.support.zygote import Finished

_POLL_S = 0.02
_counted: dict[str, list[Point]] = {}


def points(operation: Operation, scene: Scene, folder: Path) -> list[Point]:
    """Return every call that the operation makes, counted once."""
    if operation.name not in _counted:
        log = folder / "calls"
        with tracing.counting(log) as tracer:
            done = scene.run(*operation.arguments(scene), traced=tracer)
        assert done.exit_code == 0, done
        _counted[operation.name] = tracing.points(log, scene.place)
    return _counted[operation.name]


def expect_whole(
    operation: Operation, scene: Scene, done: Finished, *, seen: int, excused: bool = False
) -> list[str]:
    """Return what is wrong with how a run that a fault met ended, and with what it left.

    `seen` is how many events there were before. `excused` says that the fault met the log or the
    status file, so that they need not tell of it.
    """
    world, events = scene.world, scene.events()[seen:]
    told = promises.told_wrongly(done.answer, done.exit_code)
    if operation.job and not excused:
        told += promises.logged_wrongly(done.exit_code, events)
        state = scene.status(operation.job).get("state")
        if (state in ("ok", "unchanged")) != (done.exit_code == 0):
            told.append(f"it exited with {done.exit_code}, its status is {state}")
    if done.exit_code != 0 and operation.job == "nightly" and not world.new_backups():
        world.may_go = set()
    if "Traceback" in done.stderr:
        told.append(done.stderr)
    return told + world.broken()


def expect_next_run(operation: Operation, scene: Scene) -> list[str]:
    """Run the operation again without a fault; return what is wrong with it or after it."""
    scene.world.take_down()
    operation.allow(scene)
    seen = len(scene.events())
    done = scene.run(*operation.arguments(scene))
    found = [] if done.exit_code == 0 else [f"it ended with {done}"]
    found += expect_whole(operation, scene, done, seen=seen) + scene.world.left_behind()
    return [f"after the next run: {one}" for one in found]


def kill(operation: Operation, scene: Scene, point: Point) -> tuple[str, list[str]]:
    """Kill the operation at one point; return the outcome and which promises are broken."""
    before = scene.world.looks()
    with tracing.injecting(point, "signal=KILL") as tracer:
        done = scene.run(*operation.arguments(scene), traced=tracer)
    if done.exit_code == -signal.SIGKILL:
        outcome = "as before" if scene.world.looks() == before else "as after"
        return outcome, scene.world.broken() + expect_next_run(operation, scene)
    if done.exit_code == 1 and done.answer.get("code") == "ssh-config":
        # Each process has a count of its own: it was the ssh that is asked for the configuration.
        return "its ssh", scene.world.broken() + expect_next_run(operation, scene)
    found = [] if done.exit_code == 0 else [f"it ended with {done}"]
    return "was done before", found + expect_next_run(operation, scene)


def refuse(operation: Operation, scene: Scene, point: Point, fault: str) -> tuple[str, list[str]]:
    """Let one call fail; return the outcome and which promises are broken."""
    seen = len(scene.events())
    log = scene.zygote.folder / "refused"
    with tracing.injecting(point, f"error={fault}", log) as tracer:
        done = scene.run(*operation.arguments(scene), traced=tracer)
    # Not what was counted: where the run takes another way, the k-th call is another one.
    refused = tracing.refused(log)
    excused = any(word in refused for word in ("status.json", "/log/", "config.yaml"))
    found = expect_whole(operation, scene, done, seen=seen, excused=excused)
    outcome = "ok all the same" if done.exit_code == 0 else str(done.answer.get("code"))
    if not refused:
        outcome = "was done before"
    return outcome, found + expect_next_run(operation, scene)


def interrupt(
    operation: Operation, scene: Scene, point: Point, action: Callable[[], None]
) -> Finished:
    """Stop the operation right before one of its calls, do `action`, and let it go on to its end.

    Where the operation ends without getting there, the action is done after it.
    """
    told: list[BaseException] = []
    ended = threading.Event()

    log = scene.zygote.folder / "stops"
    log.write_text("")

    def act(pid: int) -> None:
        try:
            until(
                lambda: _has_stopped_or_ended(log, pid),
                f"process {pid} to stop or end",
                within_s=120,
            )
            action()
        except BaseException as error:  # noqa: BLE001 - the test raises it where it can be seen
            told.append(error)
        # Each of its threads, and of the programs that it starts, stops at its own such call.
        _go_on(log, pid)
        while not ended.wait(_POLL_S):
            _go_on(log, pid)

    with tracing.injecting(point, "signal=STOP", log) as tracer:
        threads: list[threading.Thread] = []

        def traced(pid: int) -> None:
            tracer(pid)
            threads.append(threading.Thread(target=act, args=(pid,)))
            threads[0].start()

        done = scene.run(*operation.arguments(scene), traced=traced)
        ended.set()
        threads[0].join()
    for error in told:
        raise error
    return done


def _go_on(log: Path, pid: int) -> None:
    text = log.read_text(errors="replace")
    # strace pads a process id to five characters.
    stopped = re.findall(r"^(\d+) +--- stopped by SIGSTOP ---", text, re.MULTILINE)
    for process in {pid, *map(int, stopped)}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)


def _has_stopped_or_ended(log: Path, pid: int) -> bool:
    """Look into what strace has written: a process's state tells its own stops from ours not."""
    text = log.read_text(errors="replace")
    ended = re.search(rf"^{pid} +\+\+\+ ", text, re.MULTILINE)
    return "--- stopped by SIGSTOP ---" in text or ended is not None
