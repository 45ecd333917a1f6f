"""Pings of a dead man's switch around a run, with the meaning that Healthchecks gives them.

`URL/start` when a run begins, `URL` when it was good, `URL/fail` with the error when it was not;
all three with the same `rid`. A run has one process that pings, so that they arrive in their order,
and the run never waits for them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from gymdbd import groups
from gymdbd.config.secrets import Secret
from gymdbd.errors import ReceiverRefusedError, StoppedError
from gymdbd.notices.channels.letter import cut
from gymdbd.notices.limits import limited
from gymdbd.source.errors import GymdbdError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gymdbd.config.config import Config
    from gymdbd.config.kinds import JobConfig
    from gymdbd.runs.outcome import Outcome

_ATTEMPTS = 3
_DELAY_S = 2.0
# With a job that runs every few seconds and a receiver that hangs, more would gather.
_MOST_AT_ONCE = 3
# A pipe takes two lines of this size without a reader, on macOS as well.
_MOST_BYTES = 8192
_MOST_TOLD = 1000
_PATH = re.compile(r"(?<![\w/])(?:~[\w.-]*)?/[^\s,;:()'\"]+")


class Pings:
    """The pings of this process, by job; `begin` and what it returns neither wait nor raise."""

    def __init__(self) -> None:
        self._at_work: dict[str, set[int]] = {}

    def begin(
        self, settings: Config, job: JobConfig, *, by_hand: bool = False
    ) -> Callable[[Outcome], None]:
        """Ping that a run of a job begins; the result is to be called with how it ended.

        A job without `ping` pings nothing, and neither does one whose pings before are stuck.
        """
        if job.ping is None:
            return lambda _: None
        at_work = self._at_work.setdefault(job.name, set())
        at_work -= {pid for pid in at_work if _has_ended(pid)}
        if len(at_work) >= _MOST_AT_ONCE:
            return lambda _: None
        log = {**vars(settings.log), "file": settings.log.file and str(settings.log.file)}
        order = {"job": job.name, "url": job.ping.packed(), "log": log, "by_hand": by_hand}
        try:
            pid, pipe = _start(is_quiet=by_hand)
        except OSError:
            return lambda _: None  # The machine lacks memory or processes, which the run will tell.
        at_work.add(pid)
        _write(pipe, order)

        def end(outcome: Outcome) -> None:
            # A run that was stopped is made up for, and pings then.
            if outcome.code != StoppedError.code:
                _write(pipe, {"error": None if outcome.is_good else _told(job, outcome)})
            os.close(pipe)

        return end


def _start(*, is_quiet: bool) -> tuple[int, int]:
    """Start a process that pings; return its id, and the pipe to its input.

    One that `is_quiet` has no standard error: a program that reads that of a run would wait for it.
    """
    reading, writing = os.pipe()
    outputs = (1, 2) if is_quiet else (1,)
    try:
        os.set_blocking(writing, False)
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-m", __name__],
            groups.environment(),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, reading, 0),
                *((os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in outputs),
            ],
            # A Ctrl-C in the terminal is for the run alone.
            setsid=True,
        )
    except OSError:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    return pid, writing


def _has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _write(pipe: int, content: dict[str, Any]) -> None:
    """Write a line if the pipe takes it at once: the run must not wait."""
    data = json.dumps(content).encode() + b"\n"
    if len(data) <= _MOST_BYTES:
        with contextlib.suppress(OSError):
            os.write(pipe, data)


def _told(job: JobConfig, outcome: Outcome) -> str:
    """Return the error of a run without its paths, which are nobody's business over there."""
    text = f"{outcome.code or outcome.state}: {outcome.error}"
    known = {str(value) for value in vars(job).values() if isinstance(value, Path)}
    known.add(str(getattr(job, "remote_database", "")))
    for path in sorted(known - {"", "/"}, key=len, reverse=True):
        text = text.replace(path, "\u2026")
    return cut(_PATH.sub("\u2026", text), _MOST_TOLD)


def main() -> int:
    """Be the process that pings: read the order, ping the start, await the end, and ping that."""
    import uuid  # noqa: PLC0415 - not for the daemon

    with open(0, "rb", closefd=False) as stream:
        order = json.loads(stream.readline() or b"{}")
        # It was too long for the pipe.
        if "url" not in order:
            return 0
        rid = str(uuid.uuid4())
        secret = Secret.unpacked(order["url"])
        # If it fails, the ping of the end says so.
        with contextlib.suppress(GymdbdError):
            _ping(secret, "/start", rid)
        line = stream.readline()
    if line:
        error = json.loads(line)["error"]
        trouble = _persist(secret, "" if error is None else "/fail", rid, error or "")
        if trouble:
            _log(order, trouble)
    return 0


def _persist(secret: Secret, path: str, rid: str, body: str) -> GymdbdError | None:
    """Ping until it is taken, three times at most; return the last error."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _ping(secret, path, rid, body)
        except GymdbdError as error:
            if not error.transient or attempt == _ATTEMPTS:
                return error
            time.sleep(_DELAY_S * attempt)
        else:
            break
    return None


def _ping(secret: Secret, path: str, rid: str, body: str = "") -> None:
    from gymdbd.notices.channels import web  # noqa: PLC0415 - the daemon imports this module

    with limited():
        parts = urlsplit(secret.read().strip())
        query = f"{parts.query}&rid={rid}" if parts.query else f"rid={rid}"
        url = urlunsplit(parts._replace(path=parts.path.rstrip("/") + path, query=query))
        answer = web.post(url, body.encode(), {"Content-Type": "text/plain; charset=utf-8"})
    # Healthchecks answers so, with status 200, to the id of a check that does not exist.
    if answer.strip().lower() == b"ok (not found)":
        raise ReceiverRefusedError(
            "the receiver of the pings knows no check of this URL",
            hint="compare the URL with the one that the check has over there",
        )


def _log(order: dict[str, Any], error: GymdbdError) -> None:
    from gymdbd import log  # noqa: PLC0415 - if there is something to log
    from gymdbd.config.config import LogConfig  # noqa: PLC0415

    file = order["log"]["file"]
    settings = LogConfig(**{**order["log"], "file": Path(file) if file else None})
    log.configure(settings, by_hand=order["by_hand"])
    log.logger().warning(
        "ping not received", job=order["job"], reason=error.message, remedy=error.hint
    )


if __name__ == "__main__":
    sys.exit(main())
