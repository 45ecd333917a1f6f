"""Phrases that several messages share, and names of others shown so that they cannot mislead."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import timedelta


def printable(text: str, kept: str = "") -> str:
    """Escape what is not printable, but for the characters `kept`.

    The name of a table or file may hold line breaks, sequences that move a terminal's cursor, or
    characters that reverse what follows: it would look like another name, or like our own words.
    """
    if text.isprintable():
        return text
    return "".join(
        letter
        if letter.isprintable() or letter in kept
        else letter.encode("unicode_escape").decode()
        for letter in text
    )


def json_text(value: Any, indent: int | None = None) -> str:
    """Return JSON that shows every name as it is if it is printable, and escapes it otherwise.

    It is valid Unicode, whatever bytes a name has.
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=str)
    if text.isprintable():
        return text
    return "".join(
        # Line breaks of a text are escaped already: these are between the values.
        letter if letter.isprintable() or letter == "\n" else json.dumps(letter)[1:-1]
        for letter in text
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a suggestion of the closest `known` word, to append to a message."""
    import difflib  # noqa: PLC0415 - only an error needs it

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


def limit(time: timedelta) -> str:
    """Format a limit as a configuration has it: `26h`."""
    seconds = time.total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


_LABEL = "io.github.gymdbd"
_AGENT = Path(f"~/Library/LaunchAgents/{_LABEL}.plist")
LAUNCH_DAEMON = Path(f"/Library/LaunchDaemons/{_LABEL}.plist")
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


def service_command(
    verb: str, platform: str = sys.platform, launch_daemon: Path = LAUNCH_DAEMON
) -> str:
    """Return the command to "start", "restart" or "reload" the installed service."""
    if platform != "darwin":
        return f"systemctl {verb} gymdbd"
    launchctl, domain, plist = "launchctl", f"gui/{os.getuid()}", _AGENT
    if launch_daemon.exists():
        launchctl, domain, plist = "sudo launchctl", "system", launch_daemon
    return {
        "start": f"{launchctl} bootstrap {domain} {plist}",
        "restart": f"{launchctl} kickstart -k {domain}/{_LABEL}",
        "reload": f"{launchctl} kill HUP {domain}/{_LABEL}",
    }[verb]
