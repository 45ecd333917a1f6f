"""The beginning of an SSH connection: key exchange, and checking the host's key."""

from __future__ import annotations

import base64
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import paramiko
from paramiko.kex_curve25519 import KexCurve25519

from gymdbd.remote.errors import SshConfigError
from gymdbd.remote.ssh import algorithms, certificate, faults
from gymdbd.remote.ssh.known_hosts import KnownKey, find_keys
from gymdbd.remote.ssh.translation import garbled, translate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gymdbd.remote.ssh.target import Target
    from gymdbd.remote.ssh.wire import Wire
    from gymdbd.source.errors import GymdbdError

# paramiko has only this method's old name; a server may offer only the current one.
_CURVE = "curve25519-sha256"
_BASE: Any = paramiko.Transport
_REVOKED_BINARY = b"SSHKRL\n\0"


class Transport(paramiko.Transport):
    """paramiko's, whose thread ends only with an SSHException, an EOFError or an OSError.

    paramiko's own passes on to its callers whatever the peer's bytes make it raise: InvalidTag of
    the cryptography package for a bit that was flipped under AES-GCM, ValueError for a point that
    is on no curve.
    """

    _kex_info: ClassVar[dict[str, type]] = {**_BASE._kex_info, _CURVE: KexCurve25519}  # noqa: SLF001
    _preferred_kex = tuple(dict.fromkeys((*_BASE._preferred_kex, _CURVE)))  # noqa: SLF001
    host_key_algorithms: tuple[str, ...] = ()

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """Return the kinds of host keys to request; paramiko would put certificates last."""
        return self.host_key_algorithms

    def get_exception(self) -> Exception | None:
        """Return the error that ended the thread, once; None if there is none."""
        error = super().get_exception()
        if error is None or isinstance(error, (paramiko.SSHException, EOFError, OSError)):
            return error
        return garbled(error)


def shake_hands(transport: Transport, wire: Wire, goal: Target) -> None:
    """Exchange keys, then check the host's key; raises if it is not the known one."""
    plain = "" if goal.host_key_alias else goal.hostname
    known = find_keys(goal.known_hosts, goal.host_key_name, plain)
    _set_algorithms(transport, goal, known)
    transport.banner_timeout = transport.handshake_timeout = goal.connect_timeout_s
    transport.auth_timeout = goal.settings.auth_timeout_s
    began = time.monotonic()
    try:
        # This one limits a server that sends line after line.
        transport.start_client(timeout=2 * goal.connect_timeout_s)
        key = transport.get_remote_server_key()
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise _no_handshake(error, transport, wire, goal, time.monotonic() - began) from error
    _check_host_key(key, goal, known)


def _set_algorithms(transport: Transport, goal: Target, known: Sequence[KnownKey]) -> None:
    """Offer what the host's configuration allows, fast and known algorithms first."""
    options = transport.get_security_options()
    wanted = goal.options.first
    options.ciphers = algorithms.choose(
        goal.settings.ciphers or wanted("ciphers"), options.ciphers, algorithms.CIPHERS, "Ciphers"
    )
    options.kex = algorithms.choose(
        wanted("kexalgorithms"), options.kex, options.kex, "KexAlgorithms"
    )
    options.digests = algorithms.choose(wanted("macs"), options.digests, options.digests, "MACs")
    plain = options.key_types
    every = (*plain, *(name + algorithms.CERTIFICATE for name in plain))
    allowed = algorithms.choose(wanted("hostkeyalgorithms"), every, every, "HostKeyAlgorithms")
    transport.host_key_algorithms = algorithms.order_host_keys(allowed, known)


def _check_host_key(key: paramiko.PKey, goal: Target, known: Sequence[KnownKey]) -> None:
    kind, blob = key.get_name(), key.asbytes()
    known = [*known, *_read_revoked(goal, kind, blob)]
    revoked = {entry.blob for entry in known if entry.revoked}
    authorities = [entry.blob for entry in known if entry.authority and entry.blob not in revoked]
    reason = "it shows no certificate" if authorities else ""
    shown = key.public_blob
    if authorities and shown is not None and blob not in revoked:
        reason = certificate.refuse(
            shown.key_type, shown.key_blob, authorities, goal.host_key_alias or goal.hostname
        )
        if not reason:
            return
    own = [entry.blob for entry in known if entry.is_its_own]
    if blob not in own or blob in revoked:
        raise faults.host_key_refused(goal, kind, blob, known, reason)


def _read_revoked(goal: Target, kind: str, blob: bytes) -> list[KnownKey]:
    """Return the key once for each file of RevokedHostKeys that names it."""
    files = map(Path, goal.options.paths("revokedhostkeys"))
    return [KnownKey(kind, blob, file, revoked=True) for file in files if _names(file, kind, blob)]


def _names(file: Path, kind: str, blob: bytes) -> bool:
    """Return whether a list of public keys, or one made by `ssh-keygen -k`, names a key."""
    text = base64.b64encode(blob)
    try:
        data = file.read_bytes()
        if not data.startswith(_REVOKED_BINARY):
            return text in data.split()
        command = ["ssh-keygen", "-Q", "-f", str(file), "/dev/stdin"]
        line = f"{kind} ".encode() + text
        done = subprocess.run(command, input=line, capture_output=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SshConfigError(
            f"RevokedHostKeys {file} cannot be read ({error})",
            hint="let this user read it, or leave it out of the configuration of ssh",
        ) from error
    return done.returncode != 0


def _no_handshake(
    error: Exception, transport: Transport, wire: Wire, goal: Target, elapsed_s: float
) -> GymdbdError:
    """Distinguish silence, hanging up, something that is not SSH, and no common algorithm."""
    spoke_ssh = transport.remote_version.startswith("SSH-")
    if elapsed_s >= goal.connect_timeout_s and (spoke_ssh or not wire.head):
        return faults.timed_out(goal, "accepts connections, but does not start SSH", elapsed_s)
    if spoke_ssh and not isinstance(error, (EOFError, OSError)):
        return translate(error, goal)
    return faults.no_handshake(goal, wire.head, str(error))
