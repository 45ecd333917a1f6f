"""Runs in the service's place, tries what the service has no business with, and notes the outcome.

For the Python of the guest, standard library only; without ctypes, which the service may not load.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_STATE = Path("/var/lib/gymdbd")


def _socket(family: int, kind: int = socket.SOCK_STREAM) -> Callable[[], None]:
    return lambda: socket.socket(family, kind).close()


def _program(*command: str) -> Callable[[], None]:
    def run() -> None:
        assert shutil.which(command[0]), command
        subprocess.run(command, check=True, capture_output=True)

    return run


def _set_uid_bit() -> None:
    path = _STATE / "probe-bits"
    path.touch()
    path.chmod(0o700 | stat.S_ISUID)


def _become_root() -> None:
    done = subprocess.run(["/usr/bin/sudo", "-n", "true"], check=True, capture_output=True)
    assert done.returncode == 0


def _device() -> None:
    os.mknod(_STATE / "probe-device", stat.S_IFBLK | 0o600, os.makedev(254, 0))


_ATTEMPTS: dict[str, Callable[[], object]] = {
    "an ordinary file in the state folder": lambda: (_STATE / "probe-file").write_text("x"),
    "a Unix socket": _socket(socket.AF_UNIX),
    "an IPv4 socket": _socket(socket.AF_INET),
    "an IPv6 socket": _socket(socket.AF_INET6),
    "a netlink socket": _socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "a packet socket": _socket(socket.AF_PACKET, socket.SOCK_RAW),
    "memory to write and to run": lambda: mmap.mmap(-1, 4096, prot=7).close(),
    "becoming root by sudo": _become_root,
    "a set-uid file": _set_uid_bit,
    "a device": _device,
    "a user namespace": _program("unshare", "--user", "true"),
    "a mount": _program("mount", "-t", "tmpfs", "tmpfs", "/mnt"),
    "the clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(0)),
    "the hostname": lambda: socket.sethostname("other"),
    "real-time scheduling": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "a better nice value": lambda: os.setpriority(os.PRIO_PROCESS, 0, -5),
    "a kernel variable": lambda: Path("/proc/sys/kernel/hostname").write_text("other"),
    "the kernel's log": lambda: Path("/dev/kmsg").read_bytes(),
    "a signal to another": lambda: os.kill(1, signal.SIGCONT),
    "another root": lambda: os.chroot("/tmp"),  # noqa: S108 - it must not work
}


def main() -> None:
    """Try everything and write what happened: done or refused."""
    found = {}
    for name, attempt in _ATTEMPTS.items():
        try:
            attempt()
        except (OSError, subprocess.CalledProcessError):
            found[name] = "refused"
        else:
            found[name] = "done"
    (_STATE / "probe.json").write_text(json.dumps(found))


main()
