"""Which algorithms are offered to a host: those that its configuration allows and paramiko has."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

from gymdbd.remote.errors import SshConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gymdbd.remote.ssh.known_hosts import KnownKey

CERTIFICATE = "-cert-v01@openssh.com"
# paramiko prefers AES-CTR; GCM needs no separate MAC: aes128-gcm 424 MB/s, aes256-gcm 356,
# aes128-ctr 271 over loopback. CBC and 3DES are not offered at all.
CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)
_RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")


def choose(
    text: str, available: Sequence[str], preferred: Sequence[str], what: str
) -> tuple[str, ...]:
    """Choose and order paramiko's algorithms by a comma-separated list.

    A leading `+`, `-` or `^` adds to, removes from or prepends to the preferred ones; "" leaves
    them as they are. The order of a list whose first algorithm paramiko lacks is ignored: OpenSSH's
    own lists begin so. `what` is the list's name for the error.
    """
    order = [name for name in preferred if name in available]
    sign, names = text[:1], text.lstrip("+-^").split(",")
    wanted = [name for name in names if name in available]
    if sign in ("", "+"):
        chosen = [*order, *wanted]
    elif sign == "^":
        chosen = [*wanted, *order]
    elif sign == "-":
        chosen = [name for name in order if not any(fnmatch.fnmatchcase(name, n) for n in names)]
    elif names[0] in available:
        chosen = wanted
    else:
        chosen = sorted(wanted, key=[*order, *wanted].index)
    if chosen:
        return tuple(dict.fromkeys(chosen))
    raise SshConfigError(
        f"none of the {what} {text!r} can be used",
        hint=f"leave {what} out, or name one of {', '.join(available)}",
    )


def order_host_keys(allowed: Sequence[str], known: Sequence[KnownKey]) -> tuple[str, ...]:
    """Sort certificates first if an authority is known, then the known kinds of host keys."""
    kinds = {
        name
        for key in known
        if not key.revoked and not key.authority
        for name in (_RSA_SIGNATURES if key.kind == "ssh-rsa" else (key.kind,))
    }
    certified = any(key.authority and not key.revoked for key in known)

    def rank(name: str) -> int:
        if name.endswith(CERTIFICATE):
            return 0 if certified else 3
        return 1 if name in kinds else 2

    return tuple(sorted(allowed, key=rank))


def accepts(allowed: str, kind: str) -> bool:
    """Return whether a list of signatures allows a kind of key or certificate."""
    kinds = [kind.replace("ssh-rsa", name) for name in _RSA_SIGNATURES]
    return not allowed or any(name in kinds for name in allowed.split(","))
