"""The way to a host: a TCP connection, or a ProxyCommand instead of one."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, cast

from gymdbd import groups
from gymdbd.remote.ssh import faults

if TYPE_CHECKING:
    import contextlib

    from gymdbd.remote.ssh.target import Target
    from gymdbd.remote.ssh.wire import Socket

_FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
_STOP_S = 2.0
_POLL_S = 0.01


def dial(goal: Target) -> Socket:
    """Connect to the first address that answers; raises the error of the last one."""
    began = time.monotonic()
    failure: OSError | UnicodeError = OSError("the name has no address")
    family = _FAMILIES.get(goal.options.first("addressfamily"), socket.AF_UNSPEC)
    try:
        addresses = socket.getaddrinfo(goal.hostname, goal.port, family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise faults.not_connected(error, goal, time.monotonic() - began) from error
    for kind, _, protocol, _, address in addresses:
        began = time.monotonic()
        plain = socket.socket(kind, socket.SOCK_STREAM, protocol)
        try:
            plain.settimeout(goal.connect_timeout_s)
            if goal.options.first("bindaddress"):
                plain.bind((goal.options.first("bindaddress"), 0))
            plain.connect(address)
            # Small requests and answers must not wait for acknowledgements.
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            plain.close()
            failure = error
        else:
            return cast("Socket", plain)
    raise faults.not_connected(failure, goal, time.monotonic() - began) from failure


def start_proxy(goal: Target, stack: contextlib.ExitStack) -> Socket:
    """Start the ProxyCommand on one end of a socket pair; return the other end.

    paramiko's own ProxyCommand does not notice the command's end. What it prints may be secrets.
    """
    ours, theirs = socket.socketpair()
    stack.callback(ours.close)
    with theirs:
        end = theirs.fileno()
        try:
            # Without a terminal it cannot ask for a password that nobody will type.
            process = subprocess.Popen(
                goal.proxy_command,
                stdin=end,
                stdout=end,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise faults.proxy_failed(goal, error.strerror or "") from error
    stack.callback(_stop, process)
    return cast("Socket", ours)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a command and every process that it started, also those that outlive it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        groups.send(process.pid, number)
        deadline = time.monotonic() + _STOP_S
        while time.monotonic() < deadline:
            if process.poll() is not None and not groups.send(process.pid, 0):
                return
            time.sleep(_POLL_S)
