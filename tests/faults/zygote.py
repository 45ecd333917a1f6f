"""Runs of gymdbd that cost no start-up: each is a fork of one process that has all imported.

A sweep makes thousands of runs, and Python's start-up under a tracer takes far longer than a run
on a small database. `python -m tests.faults.zygote` reads one request a line, as JSON, forks, and
writes the child's process id and later its exit code. The child is a process like any other: it
runs the command line, and can be traced, killed and refused calls.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import pkgutil
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import gymdbd
from tests.support.command import ROOT, environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType


@dataclass(frozen=True)
class Finished:
    """How a run ended: its exit code (a signal's number below zero), what it printed and took."""

    exit_code: int
    stdout: str
    stderr: str
    max_rss_kib: int = 0

    @property
    def answer(self) -> dict[str, Any]:
        """Return the JSON object that it printed; empty where it printed none."""
        try:
            return dict(json.loads(self.stdout))
        except ValueError:
            return {}


class Zygote:
    """The process that forks; `run` gives one run of the command line after another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Pipes, which no fault of a file system meets; a run prints far less than they hold.
        self._streams = [folder / "stdout", folder / "stderr"]
        for path in self._streams:
            os.mkfifo(path)
        self._readers = [os.open(one, os.O_RDONLY | os.O_NONBLOCK) for one in self._streams]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote"],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Zygote:
        """Wait until it has imported all."""
        assert self._read() == "ready"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        for descriptor in self._readers:
            os.close(descriptor)
        self._process.communicate(timeout=30)

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def run(
        self,
        *arguments: object,
        traced: Callable[[int], None] | None = None,
        file_bytes: int | None = None,
    ) -> Finished:
        """Run the command line to its end.

        `traced(pid)` is called before it does anything, and may attach a tracer. `file_bytes` is
        the longest file that it may write: a write across that is cut short, the next refused.
        """
        request = {
            "arguments": [str(one) for one in arguments],
            "streams": [str(one) for one in self._streams],
            "held": traced is not None,
            "file_bytes": file_bytes,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        pid = int(self._read())
        if traced is not None:
            traced(pid)
            os.kill(pid, signal.SIGUSR1)
        exit_code, max_rss_kib = map(int, self._read().split())
        said = [_drain(one) for one in self._readers]
        return Finished(exit_code, said[0], said[1], max_rss_kib)


def _drain(descriptor: int) -> str:
    """Return what is in a pipe that nobody writes to any more."""
    parts = []
    while part := os.read(descriptor, 65536):
        parts.append(part)
    return b"".join(parts).decode(errors="replace")


def _be_the_run(request: dict[str, Any], answers: IO[str]) -> int:
    for number, path in enumerate(request["streams"], start=1):
        descriptor = os.open(path, os.O_WRONLY)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if request["held"]:
        # Let any process of this user trace this one, which Yama would not (PR_SET_PTRACER).
        ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)
    # Only now, so that no tracer sees a call of what came before.
    answers.write(f"{os.getpid()}\n")
    answers.flush()
    if request["held"]:
        signal.sigwait({signal.SIGUSR1})
    if request["file_bytes"] is not None:
        # A write beyond the limit is to fail, and not to be a signal that ends the process.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_bytes"], hard))
    from gymdbd import cli  # noqa: PLC0415 - imported long ago, but not where the tests import this

    sys.argv = ["gymdbd", *request["arguments"]]
    try:
        exit_code = cli.main(request["arguments"])
    except SystemExit as end:
        exit_code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - as the interpreter would
        sys.excepthook(*sys.exc_info())
        exit_code = 1
    try:
        sys.stdout.flush()
    except OSError:
        # As the interpreter does when what was printed cannot be written.
        exit_code = exit_code or 120
    return exit_code


def _import_all() -> None:
    """Import what a run would: an import that is refused a call is none of our faults."""
    for module in pkgutil.walk_packages(gymdbd.__path__, "gymdbd."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ("concurrent_log_handler", "rich.console", "rich.progress", "rich.table"):
        importlib.import_module(name)


def main() -> None:
    """Serve until the standard input ends."""
    _import_all()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    answers = os.fdopen(os.dup(1), "w")
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os._exit(_be_the_run(json.loads(line), answers))
        _, status, used = os.wait4(pid, 0)
        answers.write(f"{os.waitstatus_to_exitcode(status)} {used.ru_maxrss}\n")
        answers.flush()


if __name__ == "__main__":
    main()
