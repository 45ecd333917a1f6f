"""Runs of gymdbd that cost no start-up: each is a fork of one process that has all imported.

A sweep makes thousands of runs, and Python's start-up under a tracer takes far longer than a run
on a small database. `python -m tests.support.zygote` reads one request a line, as JSON, forks, and
writes the child's process id and later its exit code. The child is a process like any other: it
runs the command line, and can be traced, killed and refused calls.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import importlib
import json
import os
import pkgutil
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import gymdbd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType


ROOT = Path(__file__).resolve().parents[2]
# With this, a Python becomes a double of a Mac's, which its own processes are to stay.
DARWIN_PATH = f"{ROOT / 'tests' / 'support' / 'darwin'}:{ROOT}"
PYTHONPATH = DARWIN_PATH if sys.platform == "darwin" else str(ROOT)
# What an interpreter looks at when it starts, and a fork of it no more.
_AT_START = ("PYTHON", "LANG", "LC_")


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
    """The process that forks; `run` gives one run of the command line after another.

    `extra` goes into its environment and that of each run.
    """

    def __init__(self, folder: Path, **extra: str) -> None:
        self.folder = folder
        self._extra = extra
        # Pipes, which no fault of a file system meets.
        self._streams = [folder / "stdout", folder / "stderr"]
        for path in self._streams:
            os.mkfifo(path)
        self._readers = [os.open(one, os.O_RDONLY | os.O_NONBLOCK) for one in self._streams]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.zygote"],
            cwd=ROOT,
            env=self._environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def __enter__(self) -> Zygote:
        """Wait until it has imported all."""
        assert self._line() == "ready"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self.end()

    def end(self) -> None:
        """End it, as the end of the context does."""
        for descriptor in self._readers:
            os.close(descriptor)
        self._process.communicate(timeout=30)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": PYTHONPATH, **self._extra}

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = b""
        while not line.endswith(b"\n") and (part := os.read(self._process.stdout.fileno(), 1)):
            line += part
        return line.decode().strip()

    def run(
        self,
        *arguments: object,
        traced: Callable[[int], None] | None = None,
        file_bytes: int | None = None,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Finished:
        """Run the command line to its end.

        `traced(pid)` is called before it does anything, and may attach a tracer. `file_bytes` is
        the longest file that it may write: a write across that is cut short, the next refused.
        `environment` is added to the one that it has.
        """
        request = {
            "arguments": [str(one) for one in arguments],
            "streams": [str(one) for one in self._streams],
            "held": traced is not None,
            "file_bytes": file_bytes,
            "cwd": str(cwd or Path.cwd()),
            "umask": _umask(),
            "environment": {**self._environment(), **(environment or {})},
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        pid = int(self._line())
        if traced is not None:
            traced(pid)
            os.kill(pid, signal.SIGUSR1)
        said = [bytearray(), bytearray()]
        while self._is_at_work(said):
            pass
        exit_code, max_rss_kib = map(int, self._line().split())
        self._listen(said, self._readers)
        stdout, stderr = (one.decode(errors="replace") for one in said)
        return Finished(exit_code, stdout, stderr, max_rss_kib)

    def _is_at_work(self, said: list[bytearray]) -> bool:
        """Wait until the run prints something, and add that to `said`, or ends."""
        assert self._process.stdout is not None
        ended = self._process.stdout.fileno()
        ready, _, _ = select.select([ended, *self._readers], [], [])
        self._listen(said, ready)
        return ended not in ready

    def _listen(self, said: list[bytearray], ready: list[int]) -> None:
        for place, descriptor in enumerate(self._readers):
            while descriptor in ready and (part := _read(descriptor)):
                said[place] += part


@functools.cache
def shared(python_path: str = PYTHONPATH) -> Zygote:
    """Return the one of this process of the tests, which ends with it."""
    folder = Path(tempfile.mkdtemp(prefix="gymdbd-zygote-"))
    zygote = Zygote(folder, PYTHONPATH=python_path).__enter__()
    atexit.register(shutil.rmtree, zygote.folder, ignore_errors=True)
    atexit.register(zygote.end)
    return zygote


def startup() -> dict[str, str]:
    """Return the variables that an interpreter looks at when it starts."""
    return {name: value for name, value in os.environ.items() if name.startswith(_AT_START)}


def _read(descriptor: int) -> bytes:
    """Return what is in a pipe now; nothing at its end too."""
    try:
        return os.read(descriptor, 65536)
    except BlockingIOError:
        return b""


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _be_the_run(request: dict[str, Any], answers: IO[str]) -> int:
    for number, path in enumerate(request["streams"], start=1):
        descriptor = os.open(path, os.O_WRONLY)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    os.umask(request["umask"])
    os.chdir(request["cwd"])
    if request["held"]:
        # Let any process of this user trace this one, which Yama would not (PR_SET_PTRACER).
        ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)
    # Only now, so that no tracer sees a call of what came before.
    answers.write(f"{os.getpid()}\n")
    answers.flush()
    if request["held"]:
        signal.sigwait({signal.SIGUSR1})
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
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
