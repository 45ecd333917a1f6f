"""The socket under an SSH connection: it counts all bytes and never waits for ever."""

from __future__ import annotations

import errno
import time
from typing import Protocol

from gymdbd.source.errors import ConnectionLostError, StalledError
from gymdbd.words import SSH_LOG

_HEAD_BYTES = 256


class Socket(Protocol):
    """What paramiko needs of a socket; a channel through a jump host is one too."""

    def send(self, data: bytes, /) -> int:
        """Send some of the data; TimeoutError if none can be sent now."""

    def recv(self, size: int, /) -> bytes:
        """Receive at least a byte, or b"" at the end; TimeoutError if there is none now."""

    def settimeout(self, value: float | None, /) -> None:
        """Set how long `send` and `recv` wait, in seconds."""

    def close(self) -> None:
        """Close it."""


class Wire:
    """A socket that counts its bytes and fails if its peer takes none for too long.

    paramiko retries for ever if a send times out. So a send without progress for
    `stall_timeout_s` fails here, and `stalled` says why. `broken` is true as soon as the socket
    has failed or ended, which paramiko's thread notices later. `head` keeps the first bytes
    received, to name the peer if it is not SSH.
    """

    def __init__(self, socket: Socket, *, stall_timeout_s: float) -> None:
        self._socket = socket
        self._stall_timeout_s = stall_timeout_s
        self._blocked_since: float | None = None
        # paramiko reads this private attribute of sockets when it ends its thread.
        self._closed = False
        self.stalled = False
        self.broken = False
        self.head = b""
        self.bytes_sent = 0
        self.bytes_received = 0

    def send(self, data: bytes) -> int:
        """Send some of the data; BrokenPipeError if the peer took none for too long."""
        try:
            sent = self._socket.send(data)
        except TimeoutError:
            now = time.monotonic()
            self._blocked_since = self._blocked_since or now
            if now - self._blocked_since < self._stall_timeout_s:
                raise
            self.stalled = True
            raise BrokenPipeError(errno.EPIPE, "the peer takes no bytes") from None
        except OSError:
            self.broken = True
            raise
        self._blocked_since = None
        self.bytes_sent += sent
        return sent

    def recv(self, size: int) -> bytes:
        """Receive at least a byte, or b"" at the end."""
        try:
            data = self._socket.recv(size)
        except TimeoutError:
            raise
        except OSError:
            self.broken = True
            raise
        self.broken = self.broken or not data
        if self.bytes_received < _HEAD_BYTES:
            self.head += data[: _HEAD_BYTES - self.bytes_received]
        self.bytes_received += len(data)
        return data

    def settimeout(self, value: float | None) -> None:
        """Set how long `send` and `recv` wait, in seconds."""
        self._socket.settimeout(value)

    def close(self) -> None:
        """Close the socket."""
        self._closed = True
        self._socket.close()


def stalled(what: str, after_s: float) -> StalledError:
    """Build the error for a connection on which nothing moves."""
    return StalledError(
        f"no byte has moved, or hardly any, for {after_s:g} s while waiting for {what}",
        hint="the network or the other machine is stuck; the next run goes on where this one "
        "stopped. For a link that is only slow, raise stall_timeout",
    )


def lost(place: str, reason: str) -> ConnectionLostError:
    """Build the error for a connection that broke."""
    return ConnectionLostError(
        f"the connection to {place} was lost{f' ({reason})' if reason else ''}",
        hint="the next run goes on where this one stopped; if it keeps happening, look at the "
        f"network and at {SSH_LOG}",
    )
