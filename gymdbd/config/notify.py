"""The configuration of notices: when they are sent, and the channels to those who are told."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from gymdbd.config import hours, urls, values
from gymdbd.config.document import items, join, key, scalar, section
from gymdbd.config.scalars import DURATION, FLAG, NUMBER, TEXT
from gymdbd.config.secrets import Secret, secret

if TYPE_CHECKING:
    import yaml

    from gymdbd.config.document import Document

# What to do if nobody would be told.
NOBODY = (
    "add a channel, for example notify: {to: {owner: {url: {file: /etc/gymdbd/ntfy}}}}, and try it "
    "with gymdbd notify --test; config.example.yaml has the others"
)
_ADDRESS = re.compile(r"[^@\s<>,;:\"()\[\]\\]+@[^@\s<>,;:\"()\[\]\\]+")
_IMPLICIT_TLS_PORT = 465
_LAST_PORT = 65535


def _address(value: str) -> str:
    if not _ADDRESS.fullmatch(value) or not value.isascii() or not value.isprintable():
        raise ValueError("expected one e-mail address, such as boss@example.com")
    return value


_ADDRESS_KEY = scalar(_address, "str")


@dataclass(frozen=True, kw_only=True)
class SmtpConfig:
    """A mail server: `tls` is implicit, starttls, or none, which only this machine may have."""

    host: str = key(TEXT)
    port: int = key(NUMBER, 587)
    tls: str | None = key(scalar(values.one_of("starttls", "implicit", "none"), "str"), None)
    user: str | None = key(TEXT, None)
    password: Secret | None = key(secret, None)

    @property
    def encryption(self) -> str:
        """Return `tls`, or what its port usually has."""
        return self.tls or ("implicit" if self.port == _IMPLICIT_TLS_PORT else "starttls")

    def faults(self) -> list[str]:
        """Return an error if a login has one half, or if anybody on the way could read the mail."""
        found = []
        if (self.user is None) != (self.password is None):
            found.append("expected user and password, or neither")
        if not 1 <= self.port <= _LAST_PORT:
            found.append(f"expected port: a number from 1 to {_LAST_PORT} (got {self.port})")
        if self.tls == "none" and not urls.is_loopback(self.host):
            found.append("expected tls: starttls or implicit (none is allowed to localhost only)")
        return found


@dataclass(frozen=True, kw_only=True)
class ChannelConfig:
    """A way to tell somebody: exactly one of a URL, an e-mail address, macOS and a command.

    Without `smtp`, an e-mail is handed to the sendmail of this machine.
    """

    name: str
    url: Secret | None = key(secret, None)
    format: str | None = key(scalar(values.one_of("text", "json", "slack", "discord"), "str"), None)
    email: str | None = key(_ADDRESS_KEY, None)
    sender: str | None = key(_ADDRESS_KEY, None)
    smtp: SmtpConfig | None = key(section(SmtpConfig), None)
    macos: bool = key(FLAG, default=False)
    command: tuple[str, ...] = key(items(scalar(values.text, "str", "int", "float")), ())

    def faults(self) -> list[str]:
        """Return the errors of the channel as a whole."""
        found = []
        if sum(map(bool, (self.url, self.email, self.macos, self.command))) != 1:
            found.append("expected one of url, email, macos: true and command")
        if self.format and not self.url:
            found.append("expected format only beside url")
        if (self.smtp or self.sender) and not self.email:
            found.append("expected smtp and sender only beside email")
        if self.url and self.url.literal:
            found += _url_faults(self.url.literal)
            if self.format not in (None, "text") and not urls.is_web(self.url.literal):
                found.append("expected format only for a URL with https://")
        return found


def _url_faults(url: str) -> list[str]:
    try:
        urls.split(url)
    except ValueError as error:
        return [str(error)]
    return []


def ping_url(document: Document, node: yaml.Node, keypath: str) -> Secret | None:
    """Read the URL that a job pings, or where it is."""
    found = secret(document, node, keypath)
    if found and found.literal:
        urls.split(found.literal)
        if not urls.is_web(found.literal):
            raise ValueError("expected a URL with https://")
    return found


def _channels(document: Document, node: yaml.Node, keypath: str) -> dict[str, ChannelConfig]:
    """Read the channels by their names."""
    channels = {}
    entries = document.entries(node, keypath)
    if not entries:
        raise ValueError("expected at least one channel, such as owner: {url: {file: PATH}}")
    for name, (name_node, channel_node) in entries.items():
        try:
            values.job_name(name)
        except ValueError as error:
            document.fault(name_node, join(keypath, name), str(error))
        channel = document.section(channel_node, ChannelConfig, join(keypath, name), name=name)
        channels.update({name: channel} if channel else {})
    return channels


@dataclass(frozen=True, kw_only=True)
class NotifyConfig:
    """Who is told, in which language, and when."""

    language: str = key(scalar(values.one_of("en", "ko"), "str"), "en")
    after: timedelta = key(DURATION, timedelta(minutes=10))
    remind_every: timedelta = key(DURATION, timedelta(hours=24))
    quiet: hours.Hours | None = key(scalar(hours.parse, "str"), None)
    to: dict[str, ChannelConfig] = key(_channels)
