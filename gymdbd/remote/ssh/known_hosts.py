"""The files of known host keys, read as OpenSSH reads them.

Format: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT". Read here rather than by paramiko, which stops at
the first marked line, knows no patterns and keeps one key of a type for each host.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd.remote.errors import SshConfigError

if TYPE_CHECKING:
    from pathlib import Path

_HASHED = "|1|"
_REVOKED = "@revoked"
_AUTHORITY = "@cert-authority"
_FIELDS = 3


@dataclass(frozen=True)
class KnownKey:
    """One line about the host: the key's type, the key itself, and its place in the file.

    The key of an `authority` is not the host's: it signs host certificates.
    """

    kind: str
    blob: bytes
    file: Path
    revoked: bool = False
    authority: bool = False

    @property
    def is_its_own(self) -> bool:
        """Return whether the key is the host's own and not revoked."""
        return not self.revoked and not self.authority


def find_keys(files: tuple[Path, ...], name: str, plain: str = "") -> tuple[KnownKey, ...]:
    """List the keys known for `name`: a host, `[host]:port` or an alias.

    If there is none, keys of the host without a port, `plain`, count, as with OpenSSH. An absent
    file holds none; raises SshConfigError for one that cannot be read.
    """
    lines = [(line, file) for file in files for line in _read(file).splitlines()]
    found = [key for line, file in lines if (key := _parse(line, name.lower(), file))]
    if plain and plain != name:
        known = any(key.is_its_own for key in found)
        more = [key for line, file in lines if (key := _parse(line, plain.lower(), file))]
        found += [key for key in more if not (known and key.is_its_own)]
    return tuple(found)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise SshConfigError(
            f"{file} cannot be read ({error.strerror})",
            hint=f"let this user read it (ls -l {file}): without it no host key can be checked",
        ) from error


def _parse(line: str, name: str, file: Path) -> KnownKey | None:
    """Read one line; None if it is blank, invalid, or about another host."""
    fields = line.split()
    marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
    if len(fields) < _FIELDS or fields[0].startswith("#"):
        return None
    if marker not in ("", _REVOKED, _AUTHORITY) or not _matches(fields[0], name):
        return None
    try:
        blob = base64.b64decode(fields[2], validate=True)
    except binascii.Error:
        return None
    return KnownKey(
        kind=fields[1],
        blob=blob,
        file=file,
        revoked=marker == _REVOKED,
        authority=marker == _AUTHORITY,
    )


def _matches(names: str, name: str) -> bool:
    """Return whether a line's first field matches `name`; a negated pattern always wins."""
    if names.startswith(_HASHED):
        return _matches_hash(names, name)
    matched = False
    for pattern in names.lower().split(","):
        # Only * and ? are special to OpenSSH; brackets are part of [host]:port.
        plain = pattern.removeprefix("!").replace("[", "[[]")
        if fnmatch.fnmatchcase(name, plain):
            if pattern.startswith("!"):
                return False
            matched = True
    return matched


def _matches_hash(hashed: str, name: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part) for part in hashed[len(_HASHED) :].split("|"))
    except ValueError:
        return False
    return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)


def fingerprint(blob: bytes) -> str:
    """Return a public key's fingerprint as ssh-keygen prints it: `SHA256:...`."""
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode()
    return "SHA256:" + digest.rstrip("=")
