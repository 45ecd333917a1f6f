"""Root's half of a run that acts as another user: it records what the other half reports.

The status file and the log file of root's own configuration are root's to write. So the run goes
on in a new process, which becomes that user, and reports by a pipe.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from gymdbd import acting, bounded, log
from gymdbd.machine import use
from gymdbd.runs.entry import Running
from gymdbd.runs.outcome import Ended, text
from gymdbd.runs.status import StatusFile
from gymdbd.source.errors import GymdbdError, RemoteError, to_error

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from gymdbd.acting import User
    from gymdbd.config.config import Config
    from gymdbd.config.kinds import JobConfig

_link: list[socket.socket] = []  # To the process that records, in one that acts as another user.
_reported: set[Path] = set()  # The status file, if that process writes it.


def go_on_as(user: User | None, settings: Config, jobs: Collection[str]) -> None:
    """Go on as `user`, None for root; where that user may not record, in a new process.

    Then this one records, as the user who decides about the status file and the log file, and ends
    as the new one does. Only what is reported of `jobs` is recorded.
    """
    if _link:
        return
    recorded = [place for place in home(settings) if acting.decider(place) != user]
    recorders = acting.deciders(recorded)
    if len(recorders) > 1:
        raise acting.several({acting.decider(place): place for place in home(settings)})
    if not recorded:
        _become(user)
        return
    sys.stdout.flush()
    sys.stderr.flush()
    ours, theirs = socket.socketpair()
    worker = os.fork()
    if worker:
        theirs.close()
        _become(recorders.pop())
        _keep(worker, ours, settings, jobs)
    ours.close()
    _become(user)
    _link[:] = [theirs]
    if settings.status_file in recorded:
        _reported.add(settings.status_file)
    if settings.log.file in recorded:
        log.divert_file(lambda event: _send({"do": "log", "event": event}))


def _become(user: User | None) -> None:
    if user is not None:
        acting.become(user)


def home(settings: Config) -> list[Path]:
    """Return what every run of a configuration writes, whatever its job is."""
    return [settings.status_file, *([settings.log.file] if settings.log.file else [])]


def _keep(worker: int, ours: socket.socket, settings: Config, jobs: Collection[str]) -> NoReturn:
    signal.signal(signal.SIGTERM, lambda caught, _: _forward(worker, caught))
    # A terminal sends it to both processes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    write = log.file_sink(settings.log) if settings.log.file else lambda _: None
    status = StatusFile(settings.status_file)
    # It is reset if the other process has ended without reading an answer.
    with contextlib.suppress(ConnectionResetError), ours, ours.makefile("rb") as lines:
        while line := lines.readline(bounded.MOST_BYTES):
            told = _parse(line)
            if told.get("do") == "log":
                with contextlib.suppress(OSError):
                    write(_event(told))
                continue
            answer = {}
            try:
                if told.get("job") in jobs:
                    _record(told, settings.jobs[told["job"]], status)
            except GymdbdError as error:
                answer = {"code": error.code, "message": error.message, "hint": error.hint}
            with contextlib.suppress(OSError):
                ours.sendall(json.dumps(answer).encode() + b"\n")
    _, ended = os.waitpid(worker, 0)
    if os.WIFSIGNALED(ended):
        signal.signal(os.WTERMSIG(ended), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(ended))
    # Nothing else runs on here: the verb does in the other process.
    os._exit(os.waitstatus_to_exitcode(ended))


def _forward(worker: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker, number)


def _parse(line: bytes) -> dict[str, Any]:
    with contextlib.suppress(*bounded.FAULTS):
        told = bounded.parse(line)
        if isinstance(told, dict):
            return told
    return {}


def _event(told: dict[str, Any]) -> dict[str, Any]:
    event = told.get("event")
    return event if isinstance(event, dict) else {}


def _record(told: dict[str, Any], job: JobConfig, status: StatusFile) -> None:
    """Record what the other half reports; nothing of it is trusted to have the right type."""
    content = told.get("content")
    content = content if isinstance(content, dict) else {}
    if told.get("do") == "started":
        status.run_started(job, Running.from_json(content), text(told, "due"))
    elif told.get("do") == "ended":
        ended = Ended.from_json(content)
        # What this half has written until now, such as the log, is the run's as well.
        status.run_ended(job, replace(ended, use=ended.use.plus(use.written())))
    elif told.get("do") == "accepted":
        status.accepted(job, text(told, "waiting"))
    elif told.get("do") == "rejected":
        status.rejected(job, text(told, "waiting"))


def _send(told: dict[str, Any]) -> None:
    line = json.dumps(told, ensure_ascii=False, default=str)
    _link[0].sendall(line.encode("utf-8", "surrogatepass") + b"\n")


def status_file(path: Path) -> StatusFile:
    """Return the status file at `path`, which another process writes if this one may not."""
    return _Reported(path) if path in _reported else StatusFile(path)


class _Reported(StatusFile):
    """The status file of a process that acts as another user: what it records is reported."""

    def run_started(self, job: JobConfig, running: Running, due: str | None) -> None:
        """Report that a run has started."""
        _report("started", job, content=running.to_json(), due=due)

    def run_ended(self, job: JobConfig, ended: Ended) -> None:
        """Report how a run ended."""
        _report("ended", job, content=ended.to_json())

    def accepted(self, job: JobConfig, waiting: str | None = None) -> None:
        """Report that suspicious content was accepted."""
        _report("accepted", job, waiting=waiting)

    def rejected(self, job: JobConfig, waiting: str | None = None) -> None:
        """Report that it was rejected."""
        _report("rejected", job, waiting=waiting)


def _report(what: str, job: JobConfig, **content: Any) -> None:
    """Report something and await that it is recorded; raises the error if it could not be."""
    try:
        _send({"do": what, "job": job.name, **content})
        with _link[0].makefile("rb") as answers:
            answer = _parse(answers.readline(bounded.MOST_BYTES))
    except OSError as error:
        raise RemoteError(f"root's half of this run has ended ({error.strerror})") from error
    if answer.get("message"):
        raise to_error(answer)
