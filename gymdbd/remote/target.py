"""Where to connect and how: the YAML's overrides laid over what `~/.ssh/config` says.

No part of it imports paramiko, so that reading a configuration costs nothing; `gymdbd.remote.ssh`
passes in the look-up. Meanings: ssh_config(5).
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymdbd.errors import SshConfigError
from gymdbd.remote import account
from gymdbd.remote.ssh_config import split

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Lookup = Callable[[str], Mapping[str, Any]]

SSH_PORT = 22
_HIGHEST_PORT = 65535
_MOST_HOPS = 8
_GLOBAL_KNOWN_HOSTS = (Path("/etc/ssh/ssh_known_hosts"), Path("/etc/ssh/ssh_known_hosts2"))
_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")


@dataclass(frozen=True, kw_only=True)
class HostSettings:
    """What the YAML says of a host; None leaves the word to `~/.ssh/config`.

    `host` is an alias of that file, a name or an address. Durations are seconds: each of TCP
    connect and key exchange gets `connect_timeout_s`, logging in gets `auth_timeout_s`, and
    afterwards `stall_timeout_s` may pass without a byte moving.
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
    connect_timeout_s: float = 15.0
    auth_timeout_s: float = 30.0
    stall_timeout_s: float = 60.0
    keepalive_s: float = 15.0


@dataclass(frozen=True, kw_only=True)
class Target:
    """A host with every question answered; `jumps` are passed through in order."""

    settings: HostSettings
    hostname: str
    port: int
    user: str
    identity_files: tuple[Path, ...]
    has_own_identities: bool
    identities_only: bool
    known_hosts: tuple[Path, ...]
    host_key_alias: str | None
    proxy_command: tuple[str, ...]
    jumps: tuple[Target, ...]
    ciphers: str

    @property
    def name(self) -> str:
        """Return what people call the host."""
        return self.settings.host

    @property
    def place(self) -> str:
        """Return host and port for a message: `raspberry-pi (192.168.1.7 port 22)`."""
        return f"{self.name} ({self.hostname} port {self.port})"

    @property
    def host_key_name(self) -> str:
        """Return the name under which known_hosts files keep the key."""
        if self.host_key_alias:
            return self.host_key_alias
        return self.hostname if self.port == SSH_PORT else f"[{self.hostname}]:{self.port}"


def resolve(settings: HostSettings, lookup: Lookup) -> Target:
    """Answer every question about a host; raises SshConfigError for answers that cannot be."""
    return _resolve(settings, lookup, depth=0)


def _resolve(settings: HostSettings, lookup: Lookup, *, depth: int) -> Target:
    if depth > _MOST_HOPS:
        raise SshConfigError(
            f"{settings.host} is reached through more than {_MOST_HOPS} jump hosts",
            hint="look for a ProxyJump that leads back to itself in ~/.ssh/config",
        )
    said = lookup(settings.host)
    jumps, command = _find_proxy(settings, said)
    hostname = str(said.get("hostname", settings.host))
    port = _parse_port(settings.port or said.get("port", SSH_PORT), settings.host)
    user = str(settings.user or said.get("user") or account.user())
    words = {"%h": hostname, "%p": str(port), "%r": user}
    chosen_keys = [settings.identity_file] if settings.identity_file else said.get("identityfile")
    only = settings.identities_only
    return Target(
        settings=settings,
        hostname=hostname,
        port=port,
        user=user,
        identity_files=_find_identities(chosen_keys),
        has_own_identities=bool(chosen_keys),
        identities_only=_says_yes(said, "identitiesonly") if only is None else only,
        known_hosts=_find_known_hosts(settings, said),
        host_key_alias=settings.host_key_alias or said.get("hostkeyalias"),
        proxy_command=tuple(_expand(word, words) for word in split(command, settings.host)),
        jumps=_resolve_jumps(jumps, settings, lookup, depth),
        ciphers=settings.ciphers or str(said.get("ciphers", "")),
    )


def _find_proxy(settings: HostSettings, said: Mapping[str, Any]) -> tuple[str, str]:
    """Return ProxyJump and ProxyCommand, at most one of them not empty: the first one said."""
    if settings.proxy_jump or settings.proxy_command:
        jump, command = settings.proxy_jump or "", settings.proxy_command or ""
        if jump and command:
            raise SshConfigError(
                f"{settings.host} has both proxy_jump and proxy_command",
                hint="leave one of them out",
            )
    else:
        first = next((key for key in said if key in ("proxyjump", "proxycommand")), "")
        jump = str(said.get(first) or "") if first == "proxyjump" else ""
        command = str(said.get(first) or "") if first == "proxycommand" else ""
    return ("" if jump.lower() == "none" else jump), ("" if command.lower() == "none" else command)


def _resolve_jumps(
    text: str, settings: HostSettings, lookup: Lookup, depth: int
) -> tuple[Target, ...]:
    """Resolve `[user@]host[:port],...`; only the first hop may have jump hosts of its own."""
    jumps: list[Target] = []
    for position, item in enumerate(filter(None, (part.strip() for part in text.split(",")))):
        user, _, address = item.removeprefix("ssh://").rpartition("@")
        host, port = _split_port(address)
        hop = HostSettings(
            host=host,
            user=user or None,
            port=_parse_port(port, item) if port else None,
            # Later hops are reached from the hop before, whatever the file says of them.
            proxy_jump=None if position == 0 else "none",
            known_hosts=settings.known_hosts,
            connect_timeout_s=settings.connect_timeout_s,
            auth_timeout_s=settings.auth_timeout_s,
            stall_timeout_s=settings.stall_timeout_s,
            keepalive_s=settings.keepalive_s,
        )
        target = _resolve(hop, lookup, depth=depth + 1)
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


def _find_identities(chosen: list[str] | None) -> tuple[Path, ...]:
    if chosen:
        return tuple(account.expand(name) for name in chosen if name.lower() != "none")
    folder = account.folder()
    return tuple(folder / name for name in _DEFAULT_KEYS) if folder else ()


def _find_known_hosts(settings: HostSettings, said: Mapping[str, Any]) -> tuple[Path, ...]:
    if settings.known_hosts:
        return (account.expand(settings.known_hosts),)
    text = said.get("userknownhostsfile")
    if text is None:
        folder = account.folder()
        own = (folder / "known_hosts", folder / "known_hosts2") if folder else ()
        return (*own, *_GLOBAL_KNOWN_HOSTS)
    files = [name for name in split(str(text), settings.host) if name.lower() != "none"]
    return (*(account.expand(name) for name in files), *_GLOBAL_KNOWN_HOSTS)


def choose_ciphers(
    target: Target, available: Sequence[str], preferred: Sequence[str]
) -> tuple[str, ...]:
    """Choose and order ciphers as the host's Ciphers line says, among those that paramiko has.

    `+`, `-` and `^` before a list add to, take from, or go before the preferred ones.
    """
    order = [name for name in preferred if name in available]
    sign, names = target.ciphers[:1], target.ciphers.lstrip("+-^").split(",")
    wanted = [name for name in names if name in available]
    if sign == "+":
        chosen = [*order, *wanted]
    elif sign == "^":
        chosen = [*wanted, *order]
    elif sign == "-":
        chosen = [name for name in order if not any(fnmatch.fnmatchcase(name, n) for n in names)]
    else:
        chosen = wanted if target.ciphers else order
    if chosen:
        return tuple(dict.fromkeys(chosen))
    raise SshConfigError(
        f"none of the ciphers {target.ciphers!r} set for {target.name} can be used",
        hint=f"leave Ciphers out, or name one of {', '.join(available)}",
    )


def _says_yes(said: Mapping[str, Any], key: str) -> bool:
    return str(said.get(key, "no")).lower() in ("yes", "true")


def _expand(word: str, words: dict[str, str]) -> str:
    """Put host, port and user into a word of a proxy command that the YAML gave."""
    for token, value in words.items():
        word = word.replace(token, value)
    return word.replace("%%", "%")
