"""A daemon that hangs ends itself, whatever hangs, and only while nobody else watches it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys

import pytest

from tests.support.command import environment
from tests.support.waiting import until

_BEGIN = """
import threading, time
from gymdbd.daemon.systemd import Notifier
from gymdbd.daemon.watchdog import Watchdog
def watching(): return [t for t in threading.enumerate() if t.name == "watchdog"]
with Watchdog(Notifier()):
"""


def _unwatched(limit_s: float) -> dict[str, str]:
    told = environment(WATCHDOG_USEC=str(int(limit_s * 1e6)))
    told.pop("NOTIFY_SOCKET", None)
    return told


def _said(script: str, told: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _BEGIN + script],
        env=told,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    # Before it, the log may say that nobody listens at the socket.
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(("socket", "threads"), [({}, 1), ({"NOTIFY_SOCKET": "@systemd"}, 0)])
def test_under_systemd_no_thread_watches(socket: dict[str, str], threads: int) -> None:
    """Systemd does: it ends the runs as well, and tells its journal."""
    assert _said("    print(len(watching()))", {**_unwatched(60), **socket}) == str(threads)


def test_what_comes_after_the_daemon_is_not_watched() -> None:
    """It waits for runs to stop, for as long as they may take."""
    script = "    (thread,) = watching()\nthread.join(20)\nprint(thread.is_alive())"
    assert _said(script, _unwatched(0.4)) == "False"


def test_a_daemon_whose_log_hangs_ends_all_the_same() -> None:
    """The log is a pipe that nobody reads; the kernel ends the process by an alarm."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    os.write(write, b"x" * 4096)
    command = [sys.executable, "-c", f"{_BEGIN}    time.sleep(60)"]
    with subprocess.Popen(command, env=_unwatched(0.2), stdout=write, stderr=write) as daemon:
        until(lambda: daemon.poll() is not None, "the end of the daemon")
    os.close(read)
    os.close(write)
    assert daemon.returncode == -signal.SIGALRM
