"""Phrases that several messages share."""

from __future__ import annotations

import difflib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a suggestion of the closest `known` word, to append to a message."""
    nearest = difflib.get_close_matches(name, list(known), n=1)
    return f'; did you mean "{nearest[0]}"?' if nearest else ""


def counted(number: int, thing: str) -> str:
    """Return a number with its noun: "1 table", "1,200 tables"."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def rows_in(tables: Mapping[str, int]) -> str:
    """Return the total of the rows of each table: "1,200 rows in 3 tables"."""
    return f"{counted(sum(tables.values()), 'row')} in {counted(len(tables), 'table')}"


def waits(name: str) -> str:
    """Return the message for a suspicious backup that waits for accept or reject."""
    return (
        f"{name} is suspicious; pruning is stopped until gymdbd accept {name} "
        f"or gymdbd reject {name}"
    )


def age(seconds: float) -> str:
    """Format an age in its largest unit: `5 h`."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


# Which program shows it depends on a system that is not this one.
SSH_LOG = "the log of the SSH server over there (unit ssh of its journal)"


def stop_it(platform: str = sys.platform) -> str:
    """Return the advice to stop the application that uses a database."""
    return "stop it first" if platform == "darwin" else "stop it first (systemctl stop ...)"


def sandbox(platform: str = sys.platform) -> str:
    """Return what else keeps a service from writing a folder, to append to a hint."""
    if platform == "darwin":
        return ""
    return "; under systemd the folder must be named in ReadWritePaths= of the unit"


def service_command(verb: str, platform: str = sys.platform) -> str:
    """Return the command to "start", "restart" or "reload" the installed service."""
    if platform != "darwin":
        return f"systemctl {verb} gymdbd"
    domain, label = f"gui/{os.getuid()}", "io.github.gymdbd"
    return {
        "start": f"launchctl bootstrap {domain} ~/Library/LaunchAgents/{label}.plist",
        "restart": f"launchctl kickstart -k {domain}/{label}",
        "reload": f"launchctl kill HUP {domain}/{label}",
    }[verb]
