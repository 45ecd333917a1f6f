"""One SSH connection: found in `~/.ssh/config`, its host key checked, bounded in every wait.

With `gymdbd.remote.login` the only user of paramiko. Everything that paramiko and its sockets
raise leaves as one of our errors (gymdbd.remote.translation).
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from gymdbd.errors import GymdbdError, HostNotFoundError
from gymdbd.remote import account, faults, ssh_config, target
from gymdbd.remote.known_hosts import find_keys
from gymdbd.remote.light import paramiko
from gymdbd.remote.login import Login
from gymdbd.remote.sftp import Client, RemoteFiles
from gymdbd.remote.stream import Channel, Session, Socket, Wire, lost, stalled
from gymdbd.remote.translation import STUMBLES, TRANSLATIONS, garbled, translate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gymdbd.remote.target import HostSettings, Target

# The most that one channel may hold unread. Medians on loopback, 150 MB over an exec channel, MB/s:
# 1 MiB 383, 2 MiB 384, 4 MiB 360, 16 MiB 144, 64 MiB 134 (paramiko copies what has piled up).
# Four MiB still fill a link of 100 MB/s and 40 ms. A packet of more than 32 KiB sshd never sends.
_WINDOW_BYTES = 4 * 1024 * 1024
_PACKET_BYTES = 32 * 1024
# paramiko prefers AES-CTR; GCM needs no separate MAC: aes128-gcm 424 MB/s, aes256-gcm 356,
# aes128-ctr 271, measured as above. CBC and 3DES are not offered at all.
_CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)
_RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")
_OPEN_PROHIBITED = 1

# paramiko's thread logs, with a traceback, what the caller gets as an exception anyway.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


def resolve(settings: HostSettings, config_file: Path | None = None) -> Target:
    """Look a host up in `~/.ssh/config` and lay the settings over it; raises SshConfigError."""
    try:
        folder = account.folder()
        path = config_file or (folder / "config" if folder else Path(os.devnull))
        return target.resolve(settings, lambda host: ssh_config.lookup(path, host, _parse_config))
    except paramiko.ssh_exception.CouldNotCanonicalize as error:
        raise HostNotFoundError(
            f"{settings.host} cannot be completed to a full name ({error})",
            hint="check CanonicalDomains in ~/.ssh/config, and the network",
        ) from error
    except (paramiko.SSHException, KeyError, ValueError) as error:
        # KeyError and ValueError: CanonicalizeHostname without, or with odd, companions.
        raise faults.bad_config(str(error)) from error


def _parse_config(lines: str, host: str) -> paramiko.SSHConfigDict:
    # paramiko asks for the name of this user even if nothing needs it.
    with account.lent_name():
        return paramiko.SSHConfig.from_text(lines).lookup(host)


class _Transport(paramiko.Transport):
    """paramiko's, of whose thread every end is an SSHException, an EOFError or an OSError.

    That thread ends with whatever it stumbles over in what the peer has said, and its callers get
    the same: InvalidTag of the cryptography package for a bit that was flipped on the way of
    AES-GCM, ValueError for a point that is on no curve.
    """

    def get_exception(self) -> Exception | None:
        """Return what the thread has ended with since this was last asked, or None."""
        error = super().get_exception()
        if error is None or isinstance(error, (paramiko.SSHException, EOFError, OSError)):
            return error
        return garbled(error)


def _do_nothing() -> None:
    """Do nothing."""


@contextlib.contextmanager
def connect(goal: Target, *, check: Callable[[], None] = _do_nothing) -> Iterator[Connection]:
    """Open a connection, by way of the jump hosts; leaving the block ends it.

    `check` is called at least every quarter of a second while a command is waited for, and may
    raise to end it. Raises a RemoteError saying what is wrong and what to do about it.
    """
    with contextlib.ExitStack() as stack:
        connection: Connection | None = None
        for hop in (*goal.jumps, goal):
            connection = _connect(hop, connection, stack, check)
        assert connection is not None  # noqa: S101 - the last hop is always there
        yield connection


def _connect(
    goal: Target, via: Connection | None, stack: contextlib.ExitStack, check: Callable[[], None]
) -> Connection:
    """Reach one hop, check its key, log in."""
    proxy: IO[bytes] | None = None
    if via is not None:
        plain = via.forward(goal)
    elif goal.proxy_command:
        plain, proxy = _start_proxy(goal, stack)
    else:
        plain = _dial(goal)
    wire = Wire(plain, stall_timeout_s=goal.settings.stall_timeout_s)
    stack.callback(wire.close)
    # A socket is all that paramiko's Transport wants; its annotation says more than it needs.
    transport = _Transport(
        cast("socket.socket", wire),
        default_window_size=_WINDOW_BYTES,
        default_max_packet_size=_PACKET_BYTES,
    )
    stack.callback(_end, transport)
    try:
        _shake_hands(transport, wire, goal)
    except GymdbdError as error:
        if proxy is not None and wire.bytes_received == 0:
            raise faults.proxy_failed(goal, _read_tail(proxy)) from error
        raise
    Login(transport, goal).run()
    transport.set_keepalive(int(goal.settings.keepalive_s))
    return Connection(goal, transport, wire, check)


def _end(transport: paramiko.Transport) -> None:
    # Otherwise the timer of a handshake that failed keeps the interpreter alive.
    transport.packetizer.complete_handshake()
    transport.close()


def _dial(goal: Target) -> Socket:
    """Connect to the first address that answers; raises what the last one had to say."""
    began = time.monotonic()
    failure: OSError | UnicodeError = OSError("the name has no address")
    try:
        addresses = socket.getaddrinfo(goal.hostname, goal.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise faults.not_connected(error, goal, time.monotonic() - began) from error
    for family, kind, protocol, _, address in addresses:
        began = time.monotonic()
        plain = socket.socket(family, kind, protocol)
        try:
            plain.settimeout(goal.settings.connect_timeout_s)
            plain.connect(address)
            # Questions and answers must not wait for each other's acknowledgements.
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            plain.close()
            failure = error
        else:
            return cast("Socket", plain)
    raise faults.not_connected(failure, goal, time.monotonic() - began) from failure


def _start_proxy(goal: Target, stack: contextlib.ExitStack) -> tuple[Socket, IO[bytes]]:
    """Start the ProxyCommand on one end of a socket pair; return the other end and its stderr.

    paramiko's own ProxyCommand neither notices the command's end nor reads its stderr.
    """
    ours, theirs = socket.socketpair()
    said = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack is one
    stack.callback(ours.close)
    with theirs:
        end = theirs.fileno()
        try:
            process = subprocess.Popen(goal.proxy_command, stdin=end, stdout=end, stderr=said)
        except OSError as error:
            raise faults.proxy_failed(goal, str(error)) from error
    stack.callback(_stop, process)
    return cast("Socket", ours), said


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _read_tail(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read()[-500:].decode("utf-8", "replace").strip()


def _shake_hands(transport: paramiko.Transport, wire: Wire, goal: Target) -> None:
    """Agree on keys, then check the host's; raises when it is not the one we know."""
    known = find_keys(goal.known_hosts, goal.host_key_name)
    _set_algorithms(transport, goal, [key.kind for key in known if not key.revoked])
    limit = goal.settings.connect_timeout_s
    transport.banner_timeout = transport.handshake_timeout = limit
    transport.auth_timeout = goal.settings.auth_timeout_s
    began = time.monotonic()
    try:
        # A server that sends line after line has its time limited by this one.
        transport.start_client(timeout=2 * limit)
        key = transport.get_remote_server_key()
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise _no_handshake(error, transport, wire, goal, time.monotonic() - began) from error
    kind, blob = key.get_name(), key.asbytes()
    matching = [entry for entry in known if entry.blob == blob]
    if not matching or any(entry.revoked for entry in matching):
        raise faults.host_key_refused(goal, kind, blob, known)


def _no_handshake(
    error: Exception, transport: paramiko.Transport, wire: Wire, goal: Target, elapsed_s: float
) -> GymdbdError:
    """Tell apart silence, hanging up, something that is not SSH, and no common algorithm."""
    spoke_ssh = transport.remote_version.startswith("SSH-")
    if elapsed_s >= goal.settings.connect_timeout_s and (spoke_ssh or not wire.head):
        return faults.timed_out(goal, "accepts connections, but does not start SSH", elapsed_s)
    if spoke_ssh and not isinstance(error, (EOFError, OSError)):
        return translate(error, goal)
    return faults.no_handshake(goal, wire.head, str(error))


def _set_algorithms(
    transport: paramiko.Transport, goal: Target, known_kinds: Sequence[str]
) -> None:
    """Prefer AES-GCM, and those host keys that we know already."""
    options = transport.get_security_options()
    options.ciphers = target.choose_ciphers(goal, options.ciphers, _CIPHERS)
    signatures = [
        name for kind in known_kinds for name in (_RSA_SIGNATURES if kind == "ssh-rsa" else (kind,))
    ]
    # Sorting is stable: among the known, and among the others, paramiko's order stays.
    options.key_types = tuple(sorted(options.key_types, key=lambda name: name not in signatures))


class Connection:
    """A session with a host that was recognised and let us in."""

    def __init__(
        self,
        goal: Target,
        transport: paramiko.Transport,
        wire: Wire,
        check: Callable[[], None],
    ) -> None:
        self.target = goal
        self._transport = transport
        self._wire = wire
        self._check = check

    @property
    def bytes_sent(self) -> int:
        """Return how many bytes have gone over the network, SSH's own included."""
        return self._wire.bytes_sent

    @property
    def bytes_received(self) -> int:
        """Return how many bytes have come over the network, SSH's own included."""
        return self._wire.bytes_received

    @property
    def cipher(self) -> str:
        """Return the cipher that was agreed on for what we receive."""
        return str(getattr(self._transport, "remote_cipher", ""))

    def run(self, argv: Sequence[str]) -> Channel:
        """Start a command; a key with `command=` starts its own command instead."""
        with self._guard(), self._limit():
            session = self._open_session()
            try:
                session.exec_command(shlex.join(argv))
            except paramiko.SSHException as error:
                raise self.lost() or faults.channel_refused(
                    self.target, f"to run {argv[0]}", str(error)
                ) from error
        return Channel(
            cast("Session", session),
            tuple(argv),
            stall_timeout_s=self.target.settings.stall_timeout_s,
            guard=self._guard,
            lost=self.lost,
            check=self._check,
        )

    @contextlib.contextmanager
    def sftp(self) -> Iterator[RemoteFiles]:
        """Open the other machine's files; raises ChannelRefusedError where there is no SFTP."""
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
        yield RemoteFiles(cast("Client", client), guard=self._guard, check=self._check)
        # Not closed when something failed: that could wait for a peer that is gone.
        with self._guard(), self._limit():
            client.close()

    def forward(self, goal: Target) -> Socket:
        """Open a way through this host to the next one."""
        limit = goal.settings.connect_timeout_s
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
        """Ask whether the other side is still there; raises StalledError where nothing answers.

        For a command that works in silence: any answer will do, a refusal too.
        """
        with self._guard(), self._limit():
            self._transport.global_request("keepalive@openssh.com", wait=True)
        error = self.lost()
        if error is not None:
            raise error

    def _open_session(self) -> paramiko.Channel:
        try:
            return self._transport.open_session(timeout=self.target.settings.stall_timeout_s)
        except paramiko.ChannelException as error:
            raise faults.channel_refused(self.target, "a session", error.text) from error

    @contextlib.contextmanager
    def _limit(self) -> Iterator[None]:
        """End the connection if what paramiko waits for without a limit does not come."""
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
        """Turn what paramiko raises into one of our errors."""
        try:
            yield
        except TimeoutError as error:
            raise stalled(self.target.place, self.target.settings.stall_timeout_s) from error
        except tuple(TRANSLATIONS) as error:
            raise self.lost() or translate(error, self.target) from error
        except STUMBLES as error:
            raise self.lost() or translate(garbled(error), self.target) from error

    def lost(self) -> GymdbdError | None:
        """Say how the connection ended, or None while it stands."""
        if self._wire.stalled:
            return stalled(self.target.place, self.target.settings.stall_timeout_s)
        if self._wire.broken or not self._transport.is_active():
            return lost(self.target.place, str(self._transport.saved_exception or ""))
        return None
