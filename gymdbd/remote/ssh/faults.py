"""Builders of the errors of an SSH connection: their texts and remedies.

`gymdbd.remote.ssh.ssh` decides which one applies.
"""

from __future__ import annotations

import errno
import shlex
import socket
import sys
from pathlib import PurePath
from typing import TYPE_CHECKING

from gymdbd.remote.errors import (
    AuthenticationError,
    ChannelRefusedError,
    ConnectRefusedError,
    ConnectTimeoutError,
    HostKeyChangedError,
    HostKeyUnknownError,
    HostNotFoundError,
    NoRouteError,
    ProxyError,
    SshProtocolError,
)
from gymdbd.remote.ssh.known_hosts import fingerprint
from gymdbd.source.errors import ConnectionLostError, GymdbdError
from gymdbd.words import SSH_LOG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gymdbd.remote.ssh.known_hosts import KnownKey
    from gymdbd.remote.ssh.target import Target

_NO_ROUTE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN)
# A router's "no route" takes a while; a refusal by the system itself takes none.
_INSTANT_S = 0.1
_LOCAL_NETWORK = (
    "macOS keeps background programs out of the local network until they are allowed: "
    "System Settings > Privacy & Security > Local Network, switch on the entry for this "
    "Python (Terminal being allowed does not help), then restart the agent"
)
# What sshd writes in the place of its banner when it is too busy to serve us.
_OVERLOADED = (b"Exceeded MaxStartups", b"Not allowed at this time")
_SHOWN_BYTES = 60


def not_connected(
    error: OSError | UnicodeError, target: Target, elapsed_s: float, platform: str = sys.platform
) -> GymdbdError:
    """Build the error for a connection to the host that failed."""
    place, number = target.place, getattr(error, "errno", None)
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return HostNotFoundError(
            f"{target.name}: the name {target.hostname!r} has no address ({error})",
            hint=_no_name_hint(target, platform),
        )
    if isinstance(error, ConnectionRefusedError):
        return ConnectRefusedError(
            f"{place} refused the connection",
            hint="the machine is up, but no SSH server listens there: check the port, and switch "
            "the SSH server on over there (enable its service ssh; on a Mac, Remote Login)",
        )
    if isinstance(error, TimeoutError):
        return timed_out(target, "did not answer", target.connect_timeout_s)
    if number in _NO_ROUTE:
        return NoRouteError(
            f"there is no route to {place} ({error.strerror})",
            hint=_no_route_hint(number, elapsed_s, platform),
        )
    return ConnectionLostError(
        f"{place} cannot be reached ({error}){_ignored(target, 'BindInterface')}",
        hint="check the network; the next run tries again",
    )


def _ignored(target: Target, *keywords: str) -> str:
    """Name the keywords that are set for a host and that only OpenSSH uses, not gymdbd."""
    found = [word for word in keywords if target.options.is_set(word.lower())]
    return f"; gymdbd does not use {' and '.join(found)} as ssh would" if found else ""


def _no_name_hint(target: Target, platform: str) -> str:
    hint = (
        "check that this machine is on the network and the name is right; "
        f"set HostName for {target.name} in ~/.ssh/config, perhaps as NAME.local or an address"
    )
    # Names of the local network are asked for in that network.
    is_local = target.hostname.rstrip(".").endswith(".local")
    return f"{hint}. {_LOCAL_NETWORK}" if platform == "darwin" and is_local else hint


def _no_route_hint(number: int | None, elapsed_s: float, platform: str) -> str:
    hint = "check that both machines are on the same network, and the address (ping it)"
    # A host of the local network that is off is EHOSTDOWN there.
    if platform != "darwin" or number != errno.EHOSTUNREACH:
        return hint
    return _LOCAL_NETWORK if elapsed_s < _INSTANT_S else f"{hint}. {_LOCAL_NETWORK}"


def timed_out(target: Target, what: str, after_s: float) -> ConnectTimeoutError:
    """Build the error for a host that took too long."""
    return ConnectTimeoutError(
        f"{target.place} {what} within {after_s:g} s",
        hint="the machine may be off, asleep or overloaded, or a firewall drops the packets; "
        "for a slow link raise connect_timeout",
    )


def no_handshake(target: Target, said: bytes, reason: str) -> GymdbdError:
    """Build the error for a failed handshake with a peer that sent `said` first."""
    if said and not said.startswith((b"SSH-", *_OVERLOADED)):
        return SshProtocolError(
            f"what answers at {target.place} is not an SSH server: it said {said[:_SHOWN_BYTES]!r}",
            hint="check the port; a proxy or a login page of the network may stand between",
        )
    busy = said.decode("ascii", "replace").strip() if said.startswith(_OVERLOADED) else reason
    return ConnectionLostError(
        f"{target.place} closed the connection before any login{f' ({busy})' if busy else ''}",
        hint="its SSH server may be starting, overloaded (MaxStartups) or blocking this address; "
        f"see {SSH_LOG}",
    )


def incompatible(target: Target, reason: str) -> SshProtocolError:
    """Build the error for a host whose SSH is incompatible with ours."""
    return SshProtocolError(
        f"no SSH session with {target.place}: {reason}",
        hint="once in a while bytes are damaged on the way, and the next run succeeds; otherwise "
        "bring the SSH server there, or paramiko here, up to date, and leave Ciphers out if it is "
        "set for the host",
    )


def host_key_refused(
    target: Target, kind: str, blob: bytes, known: Sequence[KnownKey], reason: str = ""
) -> HostKeyUnknownError:
    """Build the error for a host key that is not known, has changed, or was revoked.

    `reason` says why the host's known authority does not vouch for the key.
    """
    shown = f"{target.place} shows the {kind} key {fingerprint(blob)}"
    own = [key for key in known if key.is_its_own]
    same_kind = [key for key in own if key.kind == kind]
    if any(key.revoked and key.blob == blob for key in known):
        return HostKeyChangedError(
            f"{shown}, which is marked as revoked",
            hint=f"somebody may be listening in; {_compare(kind)}, and make the machine a new key",
        )
    if same_kind:
        words = ["ssh-keygen", "-R", target.host_key_name, "-f", str(same_kind[0].file)]
        forget = shlex.join(words)
        expected = ", ".join(fingerprint(key.blob) for key in same_kind)
        return HostKeyChangedError(
            f"{shown}, but {same_kind[0].file} has {expected}",
            hint="the machine was set up anew, or somebody is listening in; "
            f"{_compare(kind)}. Only if they agree: {forget} && {_learn(target, kind)}",
        )
    others = ", ".join(sorted({key.kind for key in own}))
    only = f" (only {others})" if others else ""
    vouched = f"; no @cert-authority of it vouches for the key: {reason}" if reason else ""
    return HostKeyUnknownError(
        f"{shown}, and no such key is known for {target.host_key_name}{only}{vouched}"
        f"{_ignored_checks(target)}",
        hint=f"{_compare(kind)}. Only if they agree: {_learn(target, kind)}",
    )


def _compare(kind: str) -> str:
    return (
        "compare the fingerprint with what the machine itself says: "
        f"ssh-keygen -lf /etc/ssh/ssh_host_{_file_word(kind)}_key.pub"
    )


def _ignored_checks(target: Target) -> str:
    """Name the settings of a host that would let OpenSSH accept an unknown key."""
    names = ("KnownHostsCommand", "VerifyHostKeyDNS", "NoHostAuthenticationForLocalhost")
    if target.options.first("stricthostkeychecking") in ("false", "no", "off", "accept-new"):
        return "; gymdbd checks host keys whatever StrictHostKeyChecking says"
    return _ignored(target, *names)


def _learn(target: Target, kind: str) -> str:
    """Write the command that adds the host's key to the known ones."""
    if target.host_key_alias or target.jumps or target.proxy_command:
        # ssh-keyscan can neither use a jump host nor write an alias.
        port = ["-p", str(target.port)] if target.settings.port else []
        return shlex.join(["ssh", *port, target.name, "true"])
    words = ["ssh-keyscan", "-p", str(target.port), "-t", _file_word(kind), target.hostname]
    return f"{shlex.join(words)} >> {shlex.quote(str(_first_file(target)))}"


def _first_file(target: Target) -> str:
    return str(target.known_hosts[0]) if target.known_hosts else "~/.ssh/known_hosts"


def _file_word(kind: str) -> str:
    """Turn `ecdsa-sha2-nistp256` into the word that ssh-keygen and file names use."""
    return "ecdsa" if kind.startswith("ecdsa") else kind.removeprefix("ssh-")


def _locked_key_hint(platform: str) -> str:
    """Return what to do about a key with a passphrase that the agent does not hold."""
    own = "use a key of its own without a passphrase, which may only pull (gymdbd authorize)"
    if platform == "darwin":
        return (
            "the SSH agent of a Mac is empty after each restart: store the passphrase once "
            "(ssh-add --apple-use-keychain) and run ssh-add --apple-load-keychain at each login; a "
            f"LaunchDaemon has no agent. Or {own}"
        )
    return f"give the key to the agent (ssh-add) and set SSH_AUTH_SOCK for this process, or {own}"


def login_refused(
    target: Target,
    tried: Sequence[str],
    unusable: Sequence[str],
    reason: str,
    platform: str = sys.platform,
) -> AuthenticationError:
    """Build the error for a host that refused all our keys; names them, never their content."""
    keys = "; ".join(tried) if tried else "none"
    skipped = f"; not usable: {'; '.join(unusable)}" if unusable else ""
    port = f" -p {target.port}" if target.settings.port or target.port != 22 else ""  # noqa: PLR2004 - SSH's port
    beyond = _ignored(
        target,
        *("ControlPath", "GSSAPIAuthentication", "HostbasedAuthentication", "PKCS11Provider"),
    )
    if any("passphrase" in line for line in unusable):
        hint = _locked_key_hint(platform)
    elif tried:
        hint = f"let the key in: ssh-copy-id{port} {target.user}@{target.hostname}; check the user"
    else:
        hint = (
            f"make a key (ssh-keygen -t ed25519) and let it in: "
            f"ssh-copy-id{port} {target.user}@{target.hostname}"
        )
    return AuthenticationError(
        f"{target.place} does not let {target.user} in ({reason}); keys tried: {keys}{skipped}",
        hint=hint + beyond,
    )


def too_many_keys(target: Target, tried: Sequence[str]) -> AuthenticationError:
    """Build the error for a host that hung up while we were still offering keys."""
    return AuthenticationError(
        f"{target.place} hung up on {target.user} after refusing {len(tried)} keys: "
        f"{'; '.join(tried)}",
        hint=f"name the right key for {target.name} in ~/.ssh/config (IdentityFile and "
        "IdentitiesOnly yes), so that the others are not offered first",
    )


def forwarding_failed(target: Target, via: Target, text: str, *, forbidden: bool) -> GymdbdError:
    """Build the error for a jump host that did not connect us to the target."""
    if forbidden:
        return ChannelRefusedError(
            f"the jump host {via.place} does not forward to {target.place} ({text})",
            hint="its sshd_config must have AllowTcpForwarding yes, and the key no restrict",
        )
    return ProxyError(
        f"the jump host {via.place} cannot reach {target.place} ({text})",
        hint="check that the target is up, and its HostName as the jump host sees it",
    )


def proxy_failed(target: Target, reason: str) -> ProxyError:
    """Build the error for a ProxyCommand that cannot be started, for a `reason`, or ended early."""
    shell = target.proxy_command[1:2] == ("-c",)
    without = (
        "" if shell else "; it is started without a shell: no pipes, redirections or variables"
    )
    # Its arguments and what it prints may be secrets, and this goes into the log.
    words = target.proxy_command[-1].split() if shell else target.proxy_command
    name = PurePath(words[0] if words else "").name
    why = f": {reason}" if reason else ""
    return ProxyError(
        f"the ProxyCommand of {target.place} ({name}) did not get through{why}",
        hint=f"run it by hand to see what it prints{without}{_ignored(target, 'ProxyUseFdpass')}",
    )


def channel_refused(target: Target, what: str, reason: str) -> ChannelRefusedError:
    """Build the error for a host that accepts the login but refuses our request."""
    return ChannelRefusedError(
        f"{target.place} refuses {what} ({reason})",
        hint="a key restricted by command= serves only that command; for SFTP its sshd_config "
        f"needs Subsystem sftp. See {SSH_LOG}",
    )
