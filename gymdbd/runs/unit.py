"""The systemd unit that runs a configuration: what it lets its jobs do, and what it hands them.

A command typed in a shell does not run in the unit's sandbox, so systemd is asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd import files, groups
from gymdbd.config import secrets

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME = "gymdbd.service"
_PROPERTIES = (
    *("LoadState", "ExecStart", "PrivateNetwork", "RestrictAddressFamilies"),
    *("IPAddressAllow", "IPAddressDeny", "NoNewPrivileges"),
)
_LOADED = re.compile(r"^(?:Load|Set)Credential(?:Encrypted)?=([^:\s]+)", re.MULTILINE)
_TIMEOUT_S = 5.0
_MOST_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Unit:
    """The unit as systemd has loaded it."""

    has_network: bool
    may_gain_rights: bool
    credentials: frozenset[str]


def holds(credential: str) -> bool | None:
    """Return whether the service is handed a secret, None if this user cannot see that."""
    for folder in (secrets.HANDED, secrets.CREDENTIALS):
        try:
            return (folder / credential).read_bytes().strip() != b""
        except FileNotFoundError:
            # Without its folder, the service does not run now.
            if files.is_folder(folder):
                return False
        except OSError:
            continue
    return None


def of(configuration: Path) -> Unit | None:
    """Return the unit, None if there is none on this machine that runs this configuration."""
    shown = _systemctl("show", f"--property={','.join(_PROPERTIES)}", NAME)
    found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    if found.get("LoadState") != "loaded":
        return None
    # The configuration may be one that somebody tries before it is installed.
    if str(files.absolute(configuration)) not in found.get("ExecStart", "").split():
        return None
    text = _systemctl("cat", NAME)
    may_gain_rights = found.get("NoNewPrivileges") != "yes"
    return Unit(_has_network(found), may_gain_rights, frozenset(_LOADED.findall(text)))


def _has_network(found: Mapping[str, str]) -> bool:
    families = found.get("RestrictAddressFamilies", "~")
    allowed = ("AF_INET" in families.lstrip("~").split()) != families.startswith("~")
    is_denied = bool(found.get("IPAddressDeny")) and not found.get("IPAddressAllow")
    return allowed and not is_denied and found.get("PrivateNetwork") != "yes"


def _systemctl(*words: str) -> str:
    """Return what systemctl prints; nothing if there is no systemd, or it does not answer."""
    try:
        done = groups.run(["systemctl", *words], timeout_s=_TIMEOUT_S, most=_MOST_BYTES)
    except OSError:
        return ""
    return done.output.decode(errors="replace") if done.code == 0 else ""
