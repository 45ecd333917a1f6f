"""A line of `authorized_keys` that lets a key only read one database: sshd(8)."""

from __future__ import annotations

import base64
import binascii
import shlex
import struct
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd.errors import UsageError
from gymdbd.remote.ssh.known_hosts import fingerprint

if TYPE_CHECKING:
    from pathlib import Path

# Kinds that work unattended (a key on a token, sk-, needs a touch each time), with the bytes of the
# last number in such a key: RSA has any.
_KINDS = {
    "ssh-ed25519": 32,
    "ecdsa-sha2-nistp256": 65,
    "ecdsa-sha2-nistp384": 97,
    "ecdsa-sha2-nistp521": 133,
    "ssh-rsa": None,
}
_PRIVATE = ("PRIVATE KEY", "PuTTY-User-Key-File")
_LEAST_RSA_BITS = 2048


@dataclass(frozen=True)
class PublicKey:
    """One public key: its kind, the key in base64, and its comment."""

    kind: str
    blob: str
    comment: str

    @property
    def fingerprint(self) -> str:
        """Return its fingerprint as `ssh-keygen -l` prints it."""
        return fingerprint(base64.b64decode(self.blob))


def read_key(text: str) -> PublicKey:
    """Read the one public key in `text`, as ssh-keygen writes it to a .pub file.

    Raises UsageError for anything else: a private key (never quoted), several keys, options
    before it, a kind that a pull cannot use, a damaged key.
    """
    if any(word in text for word in _PRIVATE):
        raise UsageError(
            "that is a private key, which must never leave the machine it was made on",
            hint="give the public one, the file of the same name that ends in .pub",
        )
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if len(lines) != 1:
        raise UsageError(
            f"one public key is needed, and there are {len(lines)} lines"
            if lines
            else "there is no public key",
            hint="give one key, as ssh-keygen writes it to a .pub file: "
            "ssh-ed25519 AAAA... comment",
        )
    kind, blob, comment = [*lines[0].split(None, 2), "", ""][:3]
    _check_kind(kind, lines[0])
    _check_blob(kind, blob)
    if not comment.isprintable():
        raise UsageError("the key's comment holds control characters", hint="leave it out")
    return PublicKey(kind, blob, comment)


def _check_kind(kind: str, line: str) -> None:
    if kind in _KINDS:
        return
    if any(word in _KINDS for word in line.split()):
        raise UsageError(
            "there is something in front of the key, such as options of authorized_keys",
            hint="give the key alone, beginning with its kind; the options are written anew",
        )
    raise UsageError(
        "that is not a public key of a kind that a pull can use",
        hint=f"the kinds are {', '.join(_KINDS)}; ssh-keygen -t ed25519 makes one",
    )


def _check_blob(kind: str, blob: str) -> None:
    try:
        inner, *middle, last = _fields(base64.b64decode(blob, validate=True))
    except (ValueError, binascii.Error) as error:
        raise _damaged(kind, str(error)) from error
    # Between them RSA has its exponent, ECDSA the curve's name, and Ed25519 nothing.
    if inner != kind.encode() or len(middle) != (kind != "ssh-ed25519"):
        raise _damaged(kind, "it is a key of another kind inside")
    if len(last) != (_KINDS[kind] or len(last)):
        raise _damaged(kind, f"it has {len(last)} bytes, not {_KINDS[kind]}")
    bits = int.from_bytes(last, "big").bit_length()
    if kind == "ssh-rsa" and bits < _LEAST_RSA_BITS:
        raise UsageError(
            f"the RSA key has {bits} bits, fewer than the {_LEAST_RSA_BITS} that are safe",
            hint="ssh-keygen -t ed25519 makes a better one",
        )


def _fields(blob: bytes) -> list[bytes]:
    """Return the strings in a key, each of which has its length before it: RFC 4253, 6.6.

    Raises ValueError if the key ends too early. It is read here because the machine that serves
    needs no other part of SSH.
    """
    fields = []
    while blob:
        end = 4 + struct.unpack(">I", blob[:4].rjust(4, b"\xff"))[0]
        if end > len(blob):
            raise ValueError("it ends too early")
        fields.append(blob[4:end])
        blob = blob[end:]
    return fields


def _damaged(kind: str, reason: str) -> UsageError:
    return UsageError(
        f"the {kind} key is damaged: {reason}",
        hint="copy the whole line of the .pub file; a terminal may have broken it in two",
    )


def command_for(
    program: Path,
    database: Path,
    python: Path | None = None,
    *,
    status: Path | None = None,
    peer: str = "",
    peers: Path | None = None,
) -> str:
    """Return the command, quoted for the account's shell, that serves one database.

    With `python`, the program's interpreter, no module or variable of the account's changes what
    runs. With `status` it tells that file too, and with `peer` it notes, in the folder `peers` if
    that is not the usual one, that this machine came. Raises UsageError for a relative path or one
    with a control character.
    """
    isolated = [python, "-I"] if python else []
    for path in filter(None, (python, program, database, status, peers)):
        if not path.is_absolute():
            raise UsageError(f"{path} is not an absolute path", hint="name it from / on")
        if any(unicodedata.category(letter) == "Cc" for letter in str(path)):
            raise UsageError(
                f"{path} has a control character in its name, and authorized_keys is a file of "
                "lines",
                hint="give it a link with a plain name, and name that",
            )
    flags = [*(["--status", status] if status else []), *(["--peer", peer] if peer else [])]
    flags += ["--peers", peers] if peer and peers else []
    return shlex.join(map(str, [*isolated, program, "serve", "--database", database, *flags]))


def line_for(command: str, key: PublicKey) -> str:
    """Return the line that makes `key` run `command`, whatever it requests, and nothing else."""
    # Inside an option's quotes, sshd unescapes only a backslash before a quote.
    escaped = command.replace('"', '\\"')
    return f'restrict,command="{escaped}" {key.kind} {key.blob} {key.comment}'.rstrip()
