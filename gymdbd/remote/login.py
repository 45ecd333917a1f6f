"""Logging in with keys: those of the agent and those in files, in the order of ssh_config(5)."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm

from gymdbd.remote import faults
from gymdbd.remote.known_hosts import fingerprint
from gymdbd.remote.light import paramiko

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from gymdbd.remote.target import Target

_BROKEN_KEY = (
    paramiko.SSHException,
    paramiko.pkey.UnknownKeyType,
    UnsupportedAlgorithm,
    ValueError,
)


@dataclass
class Login:
    """One attempt to log in; remembers for the error what was tried and what could not be."""

    transport: paramiko.Transport
    target: Target
    tried: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Offer one key after the other; raises AuthenticationError when none is taken."""
        with contextlib.closing(_open_agent(self.unusable)) as agent:
            for key, label in self._keys(agent.get_keys()):
                if self._offer(key, label):
                    return
        raise faults.login_refused(self.target, self.tried, self.unusable, "public key refused")

    def _keys(self, held: Sequence[paramiko.AgentKey]) -> Iterator[tuple[paramiko.PKey, str]]:
        """Yield the host's own identities, then whatever else the agent holds."""
        by_blob = {key.asbytes(): key for key in held}
        for file in self.target.identity_files:
            agent_key = by_blob.pop(_public_blob(file), None)
            key = agent_key or self._load(file)
            if key is not None:
                yield key, _label(key, f"{file}, in the agent" if agent_key else str(file))
        if not self.target.identities_only:
            for key in by_blob.values():
                yield key, _label(key, "agent")

    def _load(self, file: Path) -> paramiko.PKey | None:
        """Load a private key; None, and a note, for one that is absent or cannot be used."""
        try:
            return paramiko.PKey.from_path(file)
        except FileNotFoundError:
            # The default names are only guesses, and most of them are absent.
            if self.target.has_own_identities:
                self.unusable.append(f"{file} does not exist")
        except (paramiko.PasswordRequiredException, TypeError):
            # The cryptography package reports a missing passphrase by TypeError.
            self.unusable.append(f"{file} needs a passphrase and the agent does not hold it")
        except OSError as error:
            self.unusable.append(f"{file} cannot be read ({error.strerror})")
        except _BROKEN_KEY as error:
            self.unusable.append(f"{file} cannot be used ({type(error).__name__})")
        return None

    def _offer(self, key: paramiko.PKey, label: str) -> bool:
        """Try one key; True when it was taken, False to go on with the next one."""
        began = time.monotonic()
        try:
            still_wanted = self.transport.auth_publickey(self.target.user, key)
        except paramiko.BadAuthenticationType as error:
            allowed = ", ".join(error.allowed_types)
            reason = f"it wants {allowed}, and gymdbd uses keys only"
            raise faults.login_refused(self.target, self.tried, self.unusable, reason) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            if time.monotonic() - began >= self.target.settings.auth_timeout_s:
                raise faults.timed_out(
                    self.target, "did not answer a login", self.target.settings.auth_timeout_s
                ) from error
            # Only an answer of the server is an SSHException while its connection stands.
            if not isinstance(error, paramiko.SSHException) or not self.transport.is_active():
                raise self._hung_up() from error
            self.tried.append(label)
            return False
        if still_wanted:
            self.tried.append(label)
            reason = f"the key is good, and it also wants {', '.join(still_wanted)}"
            raise faults.login_refused(self.target, self.tried, self.unusable, reason)
        return True

    def _hung_up(self) -> Exception:
        """Say what it means that the connection ended while we were logging in."""
        if self.tried:
            return faults.too_many_keys(self.target, self.tried)
        return faults.no_handshake(self.target, b"", "while logging in")


def _open_agent(unusable: list[str]) -> paramiko.Agent:
    """Connect to the agent of SSH_AUTH_SOCK, or to none."""
    path = os.environ.get("SSH_AUTH_SOCK")
    if not path:
        return _NoAgent()
    try:
        # paramiko would forget to close its socket, and to say why there is no agent.
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
        return paramiko.Agent()
    except (paramiko.SSHException, OSError) as error:
        unusable.append(f"the agent at SSH_AUTH_SOCK ({error})")
    return _NoAgent()


class _NoAgent(paramiko.Agent):
    """An agent without keys, where there is none or it does not answer."""

    def __init__(self) -> None:
        paramiko.agent.AgentSSH.__init__(self)


def _public_blob(file: Path) -> bytes:
    """Read the public half beside a private key, which may be locked or only in the agent."""
    try:
        words = file.with_name(file.name + ".pub").read_text("utf-8", "replace").split()
        return base64.b64decode(words[1], validate=True)
    except (OSError, IndexError, binascii.Error):
        return b""


def _label(key: paramiko.PKey, where: str) -> str:
    return f"{key.get_name()} {fingerprint(key.asbytes())} ({where})"
