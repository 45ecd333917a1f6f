"""Groups of processes: a program that was started, and all that it started."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What systemd gives a service for itself alone.
_NOT_INHERITED = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_POLL_S = 0.05
_CHUNK = 65536


class Finished(NamedTuple):
    """How a program ended: its exit code, None if it took too long, and what it printed."""

    code: int | None
    output: bytes


def environment() -> dict[str, str]:
    """Return the environment for a process of ours that is not the service itself."""
    return {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}


def send(group: int, number: int) -> bool:
    """Send a signal to the processes of a group, or none with 0; return whether any is left.

    macOS refuses (EPERM) if only zombies are left, where Linux does nothing.
    """
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def run(
    command: Sequence[str],
    *,
    given: bytes = b"",
    environment: Mapping[str, str] | Mapping[bytes, bytes] | None = None,
    timeout_s: float,
    most: int,
) -> Finished:
    """Run a program with `given` as its input; return its end and at most `most` bytes of output.

    It gets a session of its own, all of which is killed when the program ends or takes too long.
    What it prints on standard error is dropped: it may be a secret. Raises OSError if the program
    cannot be started.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    try:
        return _converse(process, given, time.monotonic() + timeout_s, most)
    finally:
        send(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None  # noqa: S101 - both were requested
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def _converse(
    process: subprocess.Popen[bytes], given: bytes, deadline: float, most: int
) -> Finished:
    """Feed a process and read what it prints until it has ended, or the deadline is reached."""
    assert process.stdin is not None  # noqa: S101 - both were requested
    assert process.stdout is not None  # noqa: S101
    left, output = memoryview(given), bytearray()
    with selectors.DefaultSelector() as pipes:
        os.set_blocking(process.stdin.fileno(), False)
        pipes.register(process.stdin, selectors.EVENT_WRITE)
        pipes.register(process.stdout, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            # A process that it has left behind may keep the pipe open: its own end is what counts.
            code = process.poll()
            ready = pipes.select(_POLL_S if code is None else 0) if pipes.get_map() else []
            for key, _ in ready:
                if key.fileobj is process.stdin:
                    left = _feed(key.fd, left)
                    if not left:
                        pipes.unregister(process.stdin)
                        process.stdin.close()
                elif chunk := os.read(key.fd, _CHUNK):
                    # What is too long is dropped: the program must not wait, nor we grow.
                    output.extend(chunk[: most - len(output)])
                else:
                    pipes.unregister(process.stdout)
            if code is not None and not ready:
                return Finished(code, bytes(output))
            if not pipes.get_map():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL_S)
    return Finished(None, bytes(output))


def _feed(descriptor: int, left: memoryview) -> memoryview:
    """Write as much as a pipe takes; return the rest, nothing if the program reads no more."""
    try:
        return left[os.write(descriptor, left[:_CHUNK]) :]
    except BrokenPipeError:
        return left[:0]
