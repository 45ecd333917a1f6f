"""Logging in with keys: those of the agent and those in files, in the order of ssh_config(5)."""

from __future__ import annotations

import base64
import contextlib
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.pkey import OPENSSH_AUTH_MAGIC, PublicBlob

from gymdbd.remote.ssh import faults
from gymdbd.remote.ssh.algorithms import CERTIFICATE, accepts
from gymdbd.remote.ssh.known_hosts import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from gymdbd.remote.ssh.target import Target

    Labelled = tuple[paramiko.PKey, str]
    # The certificate, its public key, and its file.
    Certificate = tuple[PublicBlob, bytes, str]

_BROKEN_KEY = (
    paramiko.SSHException,
    paramiko.pkey.UnknownKeyType,
    UnsupportedAlgorithm,
    ValueError,
)


@dataclass
class Login:
    """One attempt to log in; remembers which keys were tried and which were unusable."""

    transport: paramiko.Transport
    target: Target
    tried: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    reason: str = "public key refused"

    def run(self) -> None:
        """Offer one key after the other; raises AuthenticationError if none is accepted."""
        with contextlib.closing(_Agent()) as agent:
            try:
                agent.open(self.target.agent, self.target.settings.auth_timeout_s)
            except (paramiko.SSHException, OSError) as error:
                self.unusable.append(f"the agent at {self.target.agent} ({error})")
            held = agent.get_keys()
            certificates = list(self._certificates(held))
            for plain, label in self._keys(held):
                for key, name in _certified(plain, label, certificates):
                    if self._is_allowed(key, name) and self._offer(key, name):
                        return
            # Some servers identify the user by other means, such as their network's.
            if self._offer(None, "no key"):
                return
        raise self._refused()

    def _keys(self, held: Sequence[paramiko.AgentKey]) -> Iterator[Labelled]:
        """Yield the host's own identities and the agent's other keys.

        Identities that the agent holds come first, OpenSSH's default names last, as with OpenSSH:
        a server counts every key that it refuses.
        """
        by_blob = {key.blob: key for key in held if not key.get_name().endswith(CERTIFICATE)}
        in_files: list[Path] = []
        for file in self.target.identity_files:
            key = by_blob.pop(_public_blob(file), None)
            if key is not None:
                yield key, f"{file}, in the agent"
            else:
                in_files.append(file)
        others = [] if self.target.identities_only else [(key, "agent") for key in by_blob.values()]
        if not self.target.has_own_identities:
            yield from others
        for file in in_files:
            loaded = self._load(file)
            if loaded is not None:
                yield loaded, str(file)
        if self.target.has_own_identities:
            yield from others

    def _load(self, file: Path) -> paramiko.PKey | None:
        """Load a private key; None and a note if it is absent or unusable."""
        try:
            return paramiko.PKey.from_path(file)
        except FileNotFoundError:
            # Most of the default names are absent.
            if self.target.has_own_identities:
                self.unusable.append(f"{file} does not exist")
        except (paramiko.PasswordRequiredException, TypeError):
            # The cryptography package reports a missing passphrase by TypeError.
            self.unusable.append(f"{file} needs a passphrase and the agent does not hold it")
        except OSError as error:
            self.unusable.append(f"{file} cannot be read ({error.strerror})")
        except _BROKEN_KEY as error:
            reason = f"cannot be used ({type(error).__name__})"
            if _read_public(file):
                reason = "is a public key, and the agent does not hold its private one"
            self.unusable.append(f"{file} {reason}")
        return None

    def _certificates(self, held: Sequence[paramiko.AgentKey]) -> Iterator[Certificate]:
        """Yield the certificates to offer, each with its public key."""
        beside = [file.with_name(file.name + "-cert.pub") for file in self.target.identity_files]
        for file in self.target.certificate_files or beside:
            try:
                yield _certificate(PublicBlob.from_file(str(file)), str(file))
            except FileNotFoundError:
                if self.target.certificate_files:
                    self.unusable.append(f"{file} does not exist")
            except (OSError, *_BROKEN_KEY) as error:
                self.unusable.append(f"{file} cannot be used ({type(error).__name__})")
        for key in held:
            if key.get_name().endswith(CERTIFICATE):
                with contextlib.suppress(*_BROKEN_KEY):
                    yield _certificate(PublicBlob(key.get_name(), key.blob), "in the agent")

    def _is_allowed(self, key: paramiko.PKey, label: str) -> bool:
        """Return whether PubkeyAcceptedAlgorithms has the key's kind; notes a key it refuses."""
        kind = key.public_blob.key_type if key.public_blob else key.get_name()
        # OpenSSH before 8.5 has another name for it.
        wanted = self.target.options.first
        allowed = wanted("pubkeyacceptedalgorithms") or wanted("pubkeyacceptedkeytypes")
        if accepts(allowed, kind):
            return True
        self.unusable.append(f"{label} is not among PubkeyAcceptedAlgorithms")
        return False

    def _offer(self, key: paramiko.PKey | None, label: str) -> bool:
        """Try one key, or none; return whether that was enough to log in."""
        user, began = self.target.user, time.monotonic()
        try:
            wanted = (
                self.transport.auth_publickey(user, key) if key else self.transport.auth_none(user)
            )
        except paramiko.BadAuthenticationType as error:
            if "publickey" not in error.allowed_types:
                self.reason = f"it wants {', '.join(error.allowed_types)}, and gymdbd has only keys"
            raise self._refused() from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            limit = self.target.settings.auth_timeout_s
            if time.monotonic() - began >= limit:
                raise faults.timed_out(self.target, "did not answer a login", limit) from error
            # On a live connection an SSHException is the server's answer.
            if not isinstance(error, paramiko.SSHException) or not self.transport.is_active():
                raise self._hung_up() from error
            self.tried.append(label)
            return False
        if wanted:
            # The server may still want another key.
            self.tried.append(label)
            self.reason = f"a key is good, and it also wants {', '.join(wanted)}"
        return not wanted

    def _refused(self) -> Exception:
        return faults.login_refused(self.target, self.tried, self.unusable, self.reason)

    def _hung_up(self) -> Exception:
        """Build the error for a connection that ended during login."""
        if self.tried:
            return faults.too_many_keys(self.target, self.tried)
        return faults.no_handshake(self.target, b"", "while logging in")


class _Agent(paramiko.agent.AgentSSH):
    """The agent at the path that the configuration names; without keys if there is none."""

    def open(self, path: str, timeout_s: float) -> None:
        """Request its keys; paramiko's own uses SSH_AUTH_SOCK and waits for ever."""
        if path:
            connection = socket.socket(socket.AF_UNIX)
            self._conn = connection
            connection.settimeout(timeout_s)
            connection.connect(path)
            self._connect(connection)  # type: ignore[attr-defined]

    def close(self) -> None:
        """Close the connection."""
        self._close()  # type: ignore[attr-defined]


def _certificate(found: PublicBlob, where: str) -> Certificate:
    """Read a certificate's public key."""
    kind = found.key_type.removesuffix(CERTIFICATE)
    return found, paramiko.PKey.from_type_string(kind, found.key_blob).asbytes(), where


def _certified(
    key: paramiko.PKey, where: str, certificates: Sequence[Certificate]
) -> Iterator[Labelled]:
    """Yield a key with each of its certificates, then alone."""
    label = f"{key.get_name()} {fingerprint(key.asbytes())} ({where})"
    for certificate, blob, source in certificates:
        if blob == key.asbytes():
            key.public_blob = certificate
            yield key, f"{label}, certificate {source}"
    key.public_blob = None
    yield key, label


def _public_blob(file: Path) -> bytes:
    """Find the public key of a private key that is locked or only in the agent; b"" if none."""
    public = _read_public(file) or _read_public(file.with_name(file.name + ".pub"))
    if public:
        return public
    try:
        lines = file.read_bytes().split(b"\n")
        data = b"".join(line.strip() for line in lines if not line.startswith(b"-----"))
        message = paramiko.Message(base64.b64decode(data).removeprefix(OPENSSH_AUTH_MAGIC))
        for _ in ("cipher", "derivation", "its options"):
            message.get_binary()
        message.get_int()
        return message.get_binary()
    except (OSError, ValueError):
        return b""


def _read_public(file: Path) -> bytes:
    """Read a public key; b"" if there is none."""
    try:
        return PublicBlob.from_file(str(file)).key_blob
    except (OSError, ValueError, paramiko.SSHException):
        return b""
