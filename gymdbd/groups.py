"""Groups of processes: a program that was started, and all that it started."""

from __future__ import annotations

import os


def send(group: int, number: int) -> bool:
    """Send a signal to the processes of a group, or none with 0; return whether any is left.

    macOS refuses (EPERM) if only zombies are left, where Linux does nothing.
    """
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
