"""Where to connect and how: the configuration's settings, then OpenSSH's.

Nothing here imports paramiko, so that reading a configuration stays quick. Meanings:
ssh_config(5).
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd.remote.errors import SshConfigError
from gymdbd.remote.ssh import account, ssh_config

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gymdbd.remote.ssh.ssh_config import Options

SSH_PORT = 22
_HIGHEST_PORT = 65535
_MOST_HOPS = 8
# OpenSSH's default identities; a file may name any single one of them.
_DEFAULT_IDENTITY = re.compile(r".*/\.ssh/id_[a-z0-9_]+")
_CONNECT_TIMEOUT_S = 15.0
_KEEPALIVE_S = 15.0
_TOKEN = re.compile("%(.)")
# Shells that run nothing; OpenSSH would run a ProxyCommand by them.
_NO_SHELLS = ("", "nologin", "false")


@dataclass(frozen=True, kw_only=True)
class HostSettings:
    """A host's settings in the configuration; None means OpenSSH's setting.

    `host` is what `ssh HOST` takes. Limits in seconds: `connect_timeout_s` each for the TCP
    connection and the key exchange, `auth_timeout_s` for the login, then `stall_timeout_s`
    without a byte moving.
    """

    host: str
    user: str | None = None
    port: int | None = None
    identity_file: str | None = None
    identities_only: bool | None = None
    known_hosts: str | None = None
    host_key_alias: str | None = None
    proxy_jump: str | None = None
    proxy_command: str | None = None
    ciphers: str | None = None
    connect_timeout_s: float | None = None
    auth_timeout_s: float = 30.0
    stall_timeout_s: float = 60.0
    keepalive_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Target:
    """A host with every setting resolved; `jumps` are passed through in order.

    `options` are OpenSSH's, from which most other fields are made; `agent` is the path of the
    agent's socket.
    """

    settings: HostSettings
    options: Options
    hostname: str
    port: int
    user: str
    connect_timeout_s: float
    keepalive_s: float
    identity_files: tuple[Path, ...]
    has_own_identities: bool
    identities_only: bool
    certificate_files: tuple[Path, ...]
    agent: str
    known_hosts: tuple[Path, ...]
    host_key_alias: str
    proxy_command: tuple[str, ...]
    jumps: tuple[Target, ...]

    @property
    def name(self) -> str:
        """Return the host's name in the configuration."""
        return self.settings.host

    @property
    def place(self) -> str:
        """Return host and port for a message: `raspberry-pi (192.168.1.7 port 22)`."""
        return f"{self.name} ({self.hostname} port {self.port})"

    @property
    def host_key_name(self) -> str:
        """Return the host's name in known_hosts files."""
        if self.host_key_alias:
            return self.host_key_alias
        return self.hostname if self.port == SSH_PORT else f"[{self.hostname}]:{self.port}"


def resolve(settings: HostSettings) -> Target:
    """Resolve every setting of a host; raises SshConfigError for invalid ones."""
    return _resolve(settings, depth=0)


def _resolve(settings: HostSettings, *, depth: int) -> Target:
    options = ssh_config.ask(settings.host, user=settings.user, port=settings.port)
    port = _parse_port(settings.port or options.first("port") or SSH_PORT, settings.host)
    user = settings.user or options.first("user") or account.user()
    alias = settings.host_key_alias or options.first("hostkeyalias")
    words = _tokens(settings.host, options, user, port, alias)
    keys = [settings.identity_file] if settings.identity_file else options.all("identityfile")
    only = settings.identities_only
    known = [settings.known_hosts] if settings.known_hosts else options.known_hosts()
    jumps, command = _find_proxy(settings, options, words)
    return Target(
        settings=settings,
        options=options,
        hostname=words["h"],
        port=port,
        user=user,
        connect_timeout_s=options.number(
            "connecttimeout", settings.connect_timeout_s, _CONNECT_TIMEOUT_S
        ),
        keepalive_s=options.number("serveraliveinterval", settings.keepalive_s, _KEEPALIVE_S),
        identity_files=tuple(_path(name, words) for name in keys if name.lower() != "none"),
        has_own_identities=not _are_defaults(keys),
        identities_only=options.is_set("identitiesonly") if only is None else only,
        certificate_files=tuple(_path(text, words) for text in options.all("certificatefile")),
        agent=_find_agent(options, words),
        known_hosts=tuple(_path(name, words) for name in known),
        host_key_alias=alias,
        proxy_command=command,
        jumps=_resolve_jumps(jumps, settings, depth),
    )


def _tokens(host: str, options: Options, user: str, port: int, alias: str) -> dict[str, str]:
    """Return the values of the letters after a `%`; `ssh -G` leaves some unexpanded."""
    folder = account.folder()
    machine = os.uname().nodename
    words = {
        "%": "%",
        "L": machine.partition(".")[0],
        "h": options.first("hostname") or host,
        "i": str(os.getuid()),
        "k": alias or options.first("host") or host,
        "l": machine,
        "n": options.first("host") or host,
        "p": str(port),
        "r": user,
    }
    with contextlib.suppress(SshConfigError):
        words["u"] = account.user()
    if folder:
        words["d"] = str(folder.parent)
    return words


def _expand(text: str, words: Mapping[str, str]) -> str:
    return _TOKEN.sub(lambda token: words.get(token[1], token[0]), text)


def _path(text: str, words: Mapping[str, str]) -> Path:
    return account.expand(os.path.expandvars(_expand(text, words)))


def _find_proxy(
    settings: HostSettings, options: Options, words: Mapping[str, str]
) -> tuple[str, tuple[str, ...]]:
    """Return ProxyJump and ProxyCommand, at most one of them not empty."""
    jump, command = settings.proxy_jump or "", settings.proxy_command or ""
    if jump and command:
        raise SshConfigError(
            f"{settings.host} has both proxy_jump and proxy_command",
            hint="leave one of them out",
        )
    if command:
        try:
            parts = [] if command.lower() == "none" else shlex.split(command)
        except ValueError as error:
            raise SshConfigError(
                f"proxy_command of {settings.host} cannot be split into words: {command!r} "
                f"({error})",
                hint="balance its quotes",
            ) from error
        return "", tuple(_expand(part, words) for part in parts)
    if jump:
        return ("" if jump.lower() == "none" else jump), ()
    command = options.first("proxycommand")
    if command:
        # The user's shell runs it, as with OpenSSH.
        shell = os.environ.get("SHELL", "")
        if Path(shell).name in _NO_SHELLS:
            shell = "/bin/sh"
        return "", (shell, "-c", f"exec {_expand(command, words)}")
    return _expand(options.first("proxyjump"), words), ()


def _resolve_jumps(text: str, settings: HostSettings, depth: int) -> tuple[Target, ...]:
    """Resolve `[user@]host[:port],...`; only the first hop may have jump hosts of its own."""
    if depth > _MOST_HOPS and text:
        raise SshConfigError(
            f"{settings.host} is reached through more than {_MOST_HOPS} jump hosts",
            hint="look for a ProxyJump that leads back to itself in ~/.ssh/config",
        )
    jumps: list[Target] = []
    for position, item in enumerate(filter(None, (part.strip() for part in text.split(",")))):
        user, _, address = item.removeprefix("ssh://").rpartition("@")
        host, port = _split_port(address)
        hop = HostSettings(
            host=host,
            user=user or None,
            port=_parse_port(port, item) if port else None,
            # Later hops are reached from the hop before, whatever the files set for them.
            proxy_jump=None if position == 0 else "none",
            known_hosts=settings.known_hosts,
            connect_timeout_s=settings.connect_timeout_s,
            auth_timeout_s=settings.auth_timeout_s,
            stall_timeout_s=settings.stall_timeout_s,
            keepalive_s=settings.keepalive_s,
        )
        target = _resolve(hop, depth=depth + 1)
        jumps.extend((*target.jumps, target))
    return tuple(jumps)


def _split_port(address: str) -> tuple[str, str]:
    """Split `host:port`, `[v6]:port`, `host` or a bare IPv6 address."""
    if address.startswith("["):
        host, _, rest = address[1:].partition("]")
        return host, rest.removeprefix(":")
    if address.count(":") == 1:
        host, _, port = address.partition(":")
        return host, port
    return address, ""


def _parse_port(value: object, host: str) -> int:
    text = str(value)
    if text.isascii() and text.isdigit() and 0 < int(text) <= _HIGHEST_PORT:
        return int(text)
    raise SshConfigError(
        f"{host} has the port {text!r}, which is not a number from 1 to {_HIGHEST_PORT}",
        hint="mend Port in ~/.ssh/config, or the host's port in the configuration",
    )


def _are_defaults(identities: Sequence[str]) -> bool:
    """Return whether these are OpenSSH's default names: nobody lists all of them."""
    return len(identities) != 1 and all(map(_DEFAULT_IDENTITY.fullmatch, identities))


def _find_agent(options: Options, words: Mapping[str, str]) -> str:
    """Return the path of the agent's socket; "" for none."""
    name = next(iter(options.all("identityagent")), "SSH_AUTH_SOCK")
    if name == "SSH_AUTH_SOCK":
        return os.environ.get(name, "")
    return "" if name.lower() == "none" else str(_path(name, words))
