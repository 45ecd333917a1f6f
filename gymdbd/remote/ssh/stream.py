"""The bytes of a remote command: reads and writes that fail if nothing moves.

`Command` fails if its own bytes stall, and keeps the end of its stderr. `gymdbd.remote.ssh.wire`
watches the socket underneath.
"""

from __future__ import annotations

import contextlib
import errno
import math
import re
import time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from gymdbd.remote.errors import CommandMissingError, RemoteCommandError
from gymdbd.remote.pace import PIECE_BYTES
from gymdbd.remote.ssh.wire import stalled
from gymdbd.source.errors import GymdbdError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import paramiko

    from gymdbd.remote.pace import Pace

_Result = TypeVar("_Result")

# How long one wait lasts before stderr is drained and `check` is called.
_SLICE_S = 0.25
_PIECE_BYTES = 32 * 1024
_STDERR_BYTES = 8 * 1024
# Slower than any line, and than the digests of a database on a slow card. A request and each so
# many bytes of its answer renew the patience with the other side, up to `stall_timeout_s`.
_LEAST_BYTES_PER_S = 16
_NOT_FOUND = 127
# bash and dash name the path first, zsh last.
_MISSED = re.compile(
    r"(?<![^\s])(/[^\s:]+): (?:not found|cannot execute|no such file|permission denied)"
    r"|(?:no such file or directory|permission denied): (/[^\s:]+)",
    re.IGNORECASE,
)
_NOT_EXECUTABLE = 126


class Command:
    """A running remote command: `reader` is its stdout, `writer` its stdin, both binary.

    Every call raises StalledError after `stall_timeout_s` without a byte, or with hardly any,
    ConnectionLostError when the connection breaks, and whatever `check` raises. What `pace` makes
    the reader wait is no stall. `guard` translates paramiko's errors; `lost` returns the error that
    broke the connection, None while it is alive.
    """

    def __init__(
        self,
        session: paramiko.Channel,
        argv: tuple[str, ...],
        *,
        stall_timeout_s: float,
        guard: Callable[[], AbstractContextManager[None]],
        lost: Callable[[], GymdbdError | None],
        check: Callable[[], None],
        pace: Pace,
    ) -> None:
        self._session = session
        self._pace = pace
        self._argv = argv
        self._stall_timeout_s = stall_timeout_s
        self._guard = guard
        self._lost = lost
        self._check = check
        self._stderr = bytearray()
        self._patience_s = stall_timeout_s
        self._ends_at = math.inf
        session.settimeout(min(_SLICE_S, stall_timeout_s))
        self.reader = Stdout(self)
        self.writer = Stdin(self)

    def end_within(self, seconds: float) -> None:
        """Raise StalledError for what is not done so many seconds from now, `pace` aside."""
        self._ends_at = time.monotonic() + seconds

    def receive(self, size: int) -> bytes:
        """Return at most `size` bytes of stdout, b"" at its end."""
        self._ends_at += self._pace.wait(self._check)
        size = min(size, PIECE_BYTES) if self._pace.rate else size
        # After a stall, who goes on all the same begins anew.
        allowed_s, self._patience_s = self._patience_s, self._stall_timeout_s
        begun = time.monotonic()
        data = self._wait_for(lambda: self._session.recv(size), allowed_s)
        left_s = allowed_s - (time.monotonic() - begun) + len(data) / _LEAST_BYTES_PER_S
        self._patience_s = min(left_s, self._stall_timeout_s)
        self._pace.count(len(data))
        if not data and not self._session.eof_received:
            error = self._lost()
            if error is not None:
                raise error
        return data

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """Send all of `data` to stdin; raises BrokenPipeError if the command takes no more.

        Then read its remaining output and call `explain_end`.
        """
        self._patience_s = self._stall_timeout_s
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            piece = bytes(view[done : done + _PIECE_BYTES])
            sent = self._wait_for(
                lambda piece=piece: self._send_some(piece),  # type: ignore[misc]
                self._stall_timeout_s,
            )
            if not sent:
                raise self._lost() or BrokenPipeError(errno.EPIPE, "the command takes no more")
            done += sent
        return done

    def _send_some(self, piece: bytes) -> int:
        try:
            return self._session.send(piece)
        except TimeoutError:
            raise
        except OSError:
            # "Socket is closed": the command or the connection has ended.
            return 0

    def _wait_for(self, operation: Callable[[], _Result], within_s: float) -> _Result:
        """Repeat an operation until it does not time out."""
        deadline = min(time.monotonic() + within_s, self._ends_at)
        while True:
            self._check()
            if time.monotonic() > self._ends_at:
                # Bytes that come one by one never let an operation time out.
                raise stalled(self._argv[0], self._stall_timeout_s)
            with self._guard(), contextlib.suppress(TimeoutError):
                return operation()
            self._drain_stderr()
            if time.monotonic() > deadline:
                raise stalled(self._argv[0], self._stall_timeout_s)

    def _drain_stderr(self) -> None:
        """Read stderr: unread it would fill the window and stop stdout."""
        with self._guard():
            while self._session.recv_stderr_ready():
                data = self._session.recv_stderr(_PIECE_BYTES)
                if not data:
                    return
                self._stderr += data
                del self._stderr[:-_STDERR_BYTES]

    def close_stdin(self) -> None:
        """Tell the command that no more will come."""
        with self._guard():
            self._session.shutdown_write()

    def stderr_tail(self) -> str:
        """Return the last 8 KiB of the command's stderr."""
        self._drain_stderr()
        return self._stderr.decode("utf-8", "replace").strip()

    def exit_status(self) -> int | None:
        """Wait for the command's end and return its exit status, or None if a signal ended it.

        Read the reader to its end first: unread output keeps the command from ending.
        """
        deadline = time.monotonic() + self._stall_timeout_s
        while not self._session.exit_status_ready():
            self._check()
            self._drain_stderr()
            if time.monotonic() > deadline:
                raise stalled(self._argv[0], self._stall_timeout_s)
            time.sleep(0.01)
        status = self._session.recv_exit_status()
        if status >= 0:
            return status
        error = self._lost()
        if error is not None:
            raise error
        return None

    def explain_end(self) -> GymdbdError:
        """Build the error for a command that ended unexpectedly."""
        try:
            status = self.exit_status()
        except GymdbdError as error:
            return error
        program = self._argv[0]
        said = self.stderr_tail()
        tail = f": {said[-500:]}" if said else ""
        if status in (_NOT_FOUND, _NOT_EXECUTABLE) or said == f"{program}: Command not found.":
            if _is_another(said, program):
                return CommandMissingError(
                    f"the key is let in for a command that the other machine cannot run{tail}",
                    hint="its line in ~/.ssh/authorized_keys there names it (command=): install "
                    "gymdbd there again, or replace the line by a new one of gymdbd authorize",
                )
            return CommandMissingError(
                f"the other machine cannot run {program}{tail}",
                hint=f"install it there (sudo apt install {program}), or see that a shell without "
                f"a terminal finds it: ssh HOST command -v {program}",
            )
        ended = "was killed by a signal" if status is None else f"ended with status {status}"
        return RemoteCommandError(
            f"{program} on the other machine {ended} before it was done{tail}",
            hint="run the same command over ssh by hand to see what it says"
            if said or status is None
            else "see that ssh HOST true succeeds: the account's login shell over there (getent "
            "passwd USER) may be one that runs nothing",
        )


def _is_another(said: str, program: str) -> bool:
    """Return whether a shell misses a program other than the requested one."""
    found = [one for match in _MISSED.finditer(said) if (one := match[1] or match[2])]
    return any(PurePosixPath(missed).name != PurePosixPath(program).name for missed in found)


class Stdout:
    """A command's stdout as a binary file."""

    def __init__(self, command: Command) -> None:
        self._command = command

    def read(self, size: int) -> bytes:
        """Return from 1 to `size` bytes, or b"" at the end."""
        return self._command.receive(size)


class Stdin:
    """A command's stdin as a binary file."""

    def __init__(self, command: Command) -> None:
        self._command = command

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write all of `data`."""
        return self._command.send(data)

    def flush(self) -> None:
        """Do nothing: every write is sent at once."""

    def close(self) -> None:
        """Tell the command that no more will come."""
        self._command.close_stdin()
