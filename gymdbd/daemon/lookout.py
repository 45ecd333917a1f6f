"""The daemon's looks: it starts a child that takes one, and never waits for it.

A look is started when the state of a job has changed, when the last look asked for the next one,
and otherwise every five minutes. There is never more than one, and one that hangs is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from gymdbd import bounded, disk, groups
from gymdbd.log import logger
from gymdbd.notices import store
from gymdbd.runs.entry import instant
from gymdbd.source.errors import GymdbdError

if TYPE_CHECKING:
    from datetime import datetime

    from gymdbd.clock import Clock
    from gymdbd.config.config import Config
    from gymdbd.runs.entry import Status
    from gymdbd.runs.status import StatusFile

_EVERY_S = 300.0
# After one that was killed, for which a message may wait.
_AGAIN_S = 30.0
# Jobs that fail and succeed by turns, every few seconds, must not keep the machine busy.
_LEAST_S = 10.0
_SOON_S = 0.5
# What a look does at most: 15 s for dead disks, 100 s to wait for another, 90 s to tell.
_DEADLINE_S = 240.0
_GRACE_S = 5.0


class Lookout:
    """Starts the looks of one daemon; `turn` is called at each turn of its loop."""

    def __init__(self, status: StatusFile, now: Clock, *, deadline_s: float = _DEADLINE_S) -> None:
        self._status = status
        self._clock = now
        self._deadline_s = deadline_s
        self._due = now.monotonic()
        self._started = now.monotonic() - _LEAST_S
        self._known: tuple[Any, ...] | None = None
        self._states: dict[str, tuple[Any, ...]] = {}
        self._kept: Any = None
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def soon(self) -> None:
        """Let the next look be taken at the next turn."""
        self._due = self._clock.monotonic()

    def turn(self, settings: Config) -> None:
        """Start a look if one is due and none is at work."""
        if self._have_states_changed():
            self._due = min(self._due, self._started + _LEAST_S)
        if self._thread is not None and self._thread.is_alive():
            return
        ticks = self._clock.monotonic()
        if ticks < self._due:
            return
        self._started, self._due = ticks, ticks + _EVERY_S
        order = {"source": str(settings.source), "text": settings.text, "kept": self._kept}
        self._thread = threading.Thread(
            target=self._look, args=[json.dumps(order).encode()], name="look", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Let a look that is at work finish, for a few seconds, and then kill it."""
        if self._thread is None:
            return
        self._thread.join(_GRACE_S)
        if self._thread.is_alive() and self._process is not None:
            self._process.kill()

    def _have_states_changed(self) -> bool:
        """Return whether a job has another state than at the last turn, whoever ran it."""
        with contextlib.suppress(OSError, GymdbdError):
            facts = os.stat(self._status.path)  # noqa: PTH116 - each turn pays for it
            known = facts.st_ino, facts.st_mtime_ns, facts.st_size
            if known != self._known:
                before, self._known = self._states, known
                self._states = _states(self._status.read())
                return self._states != before
        return False

    def _look(self, order: bytes) -> None:
        """Take a look in a child, on a thread of its own."""
        try:
            answer = self._answer(order)
        except OSError as error:
            logger().error("look not started", **_told(disk.system_error(error)))
        except subprocess.TimeoutExpired:
            logger().error(
                "look hung and was ended",
                error=f"it took longer than {self._deadline_s:.0f} s",
                hint="look for a dead disk or network mount (dmesg)",
            )
        else:
            self._kept = answer.get("kept")
            wish = answer.get("in_s")
            if isinstance(wish, (int, float)):
                self._due = min(self._due, self._clock.monotonic() + max(_SOON_S, wish))

    def _answer(self, order: bytes) -> dict[str, Any]:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "gymdbd.notices.look"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=groups.environment(),
        )
        self._process = process
        try:
            output, _ = process.communicate(order, self._deadline_s)
        except subprocess.TimeoutExpired:
            process.kill()
            # One that waits for a dead disk does not end even so.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=_GRACE_S)
            raise
        with contextlib.suppress(*bounded.FAULTS):
            answer = bounded.parse(output)
            if isinstance(answer, dict):
                return answer
        logger().error(
            "look failed",
            error=f"the process ended with {process.returncode} before it was done",
            hint="look at the log just before this, and for the out-of-memory killer (dmesg)",
        )
        return {"kept": self._kept, "in_s": _AGAIN_S}


def _told(error: GymdbdError) -> dict[str, str]:
    return {"error": error.message, "hint": error.hint}


def _states(found: Status) -> dict[str, tuple[Any, ...]]:
    return {
        name: (entry.state, entry.code, entry.result.waiting if entry.result else None)
        for name, entry in found.jobs.items()
    }


def last_sign(status: StatusFile) -> datetime | None:
    """Return when a daemon was last known to be alive; None if none has ever taken a look."""
    alive = store.read(status.path).alive
    if alive is None:
        return None
    signs: list[datetime | None] = [alive]
    with contextlib.suppress(GymdbdError):
        found = status.read()
        signs.append(instant(found.daemon.started_at) if found.daemon else None)
        for entry in found.jobs.values():
            signs += [instant(run.ended_at) for run in entry.runs if run.due][:1]
    return max((sign for sign in signs if sign), default=None)
