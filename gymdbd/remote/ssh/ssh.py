"""One SSH connection: found in `~/.ssh/config`, its host key checked, bounded in every wait.

With `gymdbd.remote.ssh.login` the only user of paramiko. Everything that paramiko and its sockets
raise leaves as one of our errors (gymdbd.remote.ssh.translation).
"""

from __future__ import annotations

import contextlib
import logging
import shlex
import threading
from typing import TYPE_CHECKING, cast

import paramiko

from gymdbd.remote.pace import PIECE_BYTES, Pace
from gymdbd.remote.ssh import dial, faults
from gymdbd.remote.ssh.handshake import Transport, shake_hands
from gymdbd.remote.ssh.login import Login
from gymdbd.remote.ssh.sftp import RemoteFiles
from gymdbd.remote.ssh.stream import Command
from gymdbd.remote.ssh.target import resolve
from gymdbd.remote.ssh.translation import STUMBLES, TRANSLATIONS, garbled, translate
from gymdbd.remote.ssh.wire import Socket, Wire, lost, stalled
from gymdbd.source.errors import GymdbdError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence

    from gymdbd.remote.ssh.target import Target

__all__ = ["Connection", "connect", "resolve"]

# The most that one channel may hold unread. Medians on loopback, 150 MB over an exec channel, MB/s:
# 1 MiB 383, 2 MiB 384, 4 MiB 360, 16 MiB 144, 64 MiB 134 (paramiko copies the backlog).
# Four MiB still fill a link of 100 MB/s and 40 ms. sshd never sends a packet above 32 KiB.
_WINDOW_BYTES = 4 * 1024 * 1024
_PACKET_BYTES = 32 * 1024
_OPEN_PROHIBITED = 1

# paramiko's thread logs, with a traceback, errors that it also raises to the caller.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


def _do_nothing() -> None:
    """Do nothing."""


@contextlib.contextmanager
def connect(
    goal: Target, *, check: Callable[[], None] = _do_nothing, pace: Pace | None = None
) -> Iterator[Connection]:
    """Open a connection, through any jump hosts; leaving the block ends it.

    While a command runs, `check` is called at least every quarter of a second and may raise to
    end it. What commands print, and files, are read at `pace`. Raises a RemoteError that says what
    is wrong and what to do.
    """
    with contextlib.ExitStack() as stack:
        connection: Connection | None = None
        for hop in (*goal.jumps, goal):
            connection = _connect(hop, connection, stack, check, pace or Pace())
        assert connection is not None  # noqa: S101 - the last hop is always there
        yield connection


def _connect(
    goal: Target,
    via: Connection | None,
    stack: contextlib.ExitStack,
    check: Callable[[], None],
    pace: Pace,
) -> Connection:
    """Reach one hop, check its key, log in."""
    if via is not None:
        plain = via.forward(goal)
    elif goal.proxy_command:
        plain = dial.start_proxy(goal, stack)
    else:
        plain = dial.dial(goal)
    wire = Wire(plain, stall_timeout_s=goal.settings.stall_timeout_s)
    stack.callback(wire.close)
    # paramiko's Transport needs only a socket, though its annotation asks for more.
    transport = Transport(
        cast("socket.socket", wire),
        default_window_size=_WINDOW_BYTES,
        default_max_packet_size=_PACKET_BYTES,
    )
    stack.callback(_end, transport)
    try:
        shake_hands(transport, wire, goal)
    except GymdbdError as error:
        if via is None and goal.proxy_command and wire.bytes_received == 0:
            raise faults.proxy_failed(goal, "") from error
        raise
    Login(transport, goal).run()
    transport.set_keepalive(int(goal.keepalive_s))
    return Connection(goal, transport, wire, check, pace)


def _end(transport: Transport) -> None:
    # Otherwise the timer of a handshake that failed keeps the interpreter alive.
    transport.packetizer.complete_handshake()
    transport.close()


class Connection:
    """A session with a host whose key was checked and that accepted our login."""

    def __init__(
        self,
        goal: Target,
        transport: Transport,
        wire: Wire,
        check: Callable[[], None],
        pace: Pace,
    ) -> None:
        self.target = goal
        self.pace = pace
        self._transport = transport
        self._wire = wire
        self._check = check

    @property
    def bytes_sent(self) -> int:
        """Return how many bytes were sent over the network, SSH's own included."""
        return self._wire.bytes_sent

    @property
    def bytes_received(self) -> int:
        """Return how many bytes were received over the network, SSH's own included."""
        return self._wire.bytes_received

    @property
    def cipher(self) -> str:
        """Return the negotiated cipher of the data that we receive."""
        return str(getattr(self._transport, "remote_cipher", ""))

    def run(self, argv: Sequence[str]) -> Command:
        """Start a command; for a key with `command=` sshd starts that one instead."""
        with self._guard(), self._limit():
            session = self._open_session()
            try:
                session.exec_command(shlex.join(argv))
            except paramiko.SSHException as error:
                raise self.lost() or faults.channel_refused(
                    self.target, f"to run {argv[0]}", str(error)
                ) from error
        return Command(
            session,
            tuple(argv),
            stall_timeout_s=self.target.settings.stall_timeout_s,
            guard=self._guard,
            lost=self.lost,
            check=self._check,
            pace=self.pace,
        )

    @contextlib.contextmanager
    def sftp(self) -> Iterator[RemoteFiles]:
        """Open the other machine's files; raises ChannelRefusedError if there is no SFTP."""
        with self._guard(), self._limit():
            session = self._open_session()
            session.settimeout(self.target.settings.stall_timeout_s)
            try:
                session.invoke_subsystem("sftp")
                client = paramiko.SFTPClient(session)
            except (paramiko.SSHException, paramiko.SFTPError, EOFError) as error:
                raise self.lost() or faults.channel_refused(
                    self.target, "SFTP", str(error)
                ) from error
        yield RemoteFiles(client, guard=self._guard, check=self._check, pace=self.pace)
        # Not closed after a failure: that could wait for a peer that is gone.
        with self._guard(), self._limit():
            client.close()

    def forward(self, goal: Target) -> Socket:
        """Open a tunnel through this host to the next one."""
        limit = goal.connect_timeout_s
        try:
            channel = self._transport.open_channel(
                "direct-tcpip", (goal.hostname, goal.port), ("127.0.0.1", 0), timeout=limit
            )
        except paramiko.ChannelException as error:
            forbidden = error.code == _OPEN_PROHIBITED
            raise faults.forwarding_failed(
                goal, self.target, error.text, forbidden=forbidden
            ) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise self.lost() or faults.forwarding_failed(
                goal, self.target, str(error), forbidden=False
            ) from error
        return cast("Socket", channel)

    def confirm(self) -> None:
        """Check that the other side still answers; raises StalledError if it does not.

        For a command that works silently: any answer will do, even a refusal.
        """
        with self._guard(), self._limit():
            self._transport.global_request("keepalive@openssh.com", wait=True)
        error = self.lost()
        if error is not None:
            raise error

    def _window(self) -> int:
        """Return how much may arrive unread: with a limit, a second's worth of it."""
        rate = self.pace.rate
        return _WINDOW_BYTES if rate is None else max(PIECE_BYTES, min(rate, _WINDOW_BYTES))

    def _open_session(self) -> paramiko.Channel:
        try:
            return self._transport.open_session(
                self._window(), timeout=self.target.settings.stall_timeout_s
            )
        except paramiko.ChannelException as error:
            raise faults.channel_refused(self.target, "a session", error.text) from error

    @contextlib.contextmanager
    def _limit(self) -> Iterator[None]:
        """End the connection if paramiko, which has no limit here, waits too long."""
        timer = threading.Timer(self.target.settings.stall_timeout_s, self._give_up)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _give_up(self) -> None:
        self._wire.stalled = True
        self._transport.close()

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """Turn paramiko's exceptions into our errors."""
        try:
            yield
        except TimeoutError as error:
            raise stalled(self.target.place, self.target.settings.stall_timeout_s) from error
        except tuple(TRANSLATIONS) as error:
            raise self.lost() or translate(error, self.target) from error
        except STUMBLES as error:
            raise self.lost() or translate(garbled(error), self.target) from error

    def lost(self) -> GymdbdError | None:
        """Return the error that ended the connection, None while it is alive."""
        if self._wire.stalled:
            return stalled(self.target.place, self.target.settings.stall_timeout_s)
        if self._wire.broken or not self._transport.is_active():
            return lost(self.target.place, str(self._transport.saved_exception or ""))
        return None
