"""A real `gymdbd run`, with a real socket that hears what it tells systemd."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.command import GYMDBD, environment
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass
class DaemonProcess:
    """The daemon of the configuration at `config`, and what it has said so far."""

    config: Path
    process: subprocess.Popen[bytes]
    socket: socket.socket
    log: Path
    messages: list[str] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self.process.pid

    def heard(self) -> list[str]:
        """Return every state that it has sent to the notify socket, one a line."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.messages += self.socket.recv(65536).decode().splitlines()
        return self.messages

    def wait_for_state(self, state: str, *, times: int = 1, within_s: float = 20.0) -> None:
        """Wait until a state that begins with `state` has been sent so many times."""
        until(
            lambda: sum(one.startswith(state) for one in self.heard()) >= times,
            f"{state} in {self.messages}; log: {self.log.read_text()[-2000:]}",
            within_s=within_s,
        )

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events called `name` in the log, the runs' own included."""
        lines = self.log.read_text().splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [one for one in found if one["event"] == name]

    def wait_for_event(self, name: str, *, within_s: float = 20.0) -> dict[str, Any]:
        """Wait for an event and return the newest one of that name."""
        found = until(lambda: self.events(name), f"event {name}", within_s=within_s)
        return dict(found[-1])

    def entry(self, job: str) -> dict[str, Any]:
        """Return a job's entry in the status file."""
        path = self.config.with_name("status.json")
        content = json.loads(path.read_text()) if path.exists() else {"jobs": {}}
        return dict(content["jobs"].get(job, {}))

    def children(self) -> list[int]:
        """Return the processes of its runs, not of its looks."""
        found: list[str] = []
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            # A thread may have ended since it was listed.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found += (task / "children").read_text().split()
        return [int(pid) for pid in found if "gymdbd.runs" in _command(pid)]

    def stop(self, number: signal.Signals = signal.SIGTERM, *, within_s: float = 30.0) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(within_s)


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@contextlib.contextmanager
def running_daemon(
    config: Path, *, watchdog_s: float = 30.0, prefix: Sequence[str] = (), **extra: str
) -> Iterator[DaemonProcess]:
    """Start the daemon, wait until it says READY=1, and see to it that it ends.

    `prefix` is a command that becomes the daemon, and `extra` goes into its environment. A turn
    takes a third of `watchdog_s`.
    """
    name = f"gymdbd-test-{os.getpid()}-{secrets.token_hex(4)}"
    path = config.with_name("daemon.log")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify,
        path.open("ab") as stderr,
    ):
        notify.bind(f"\0{name}")
        notify.setblocking(False)
        process = subprocess.Popen(
            [*prefix, *GYMDBD, "-c", str(config), "run"],
            env=environment(
                NOTIFY_SOCKET=f"@{name}", WATCHDOG_USEC=str(int(watchdog_s * 1e6)), **extra
            ),
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
        )
        daemon = DaemonProcess(config, process, notify, path)
        try:
            daemon.wait_for_state("READY=1")
            yield daemon
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
