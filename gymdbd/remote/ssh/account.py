"""The account of our process: the defaults of a login come from it.

A container may run under a user id without an account, and a service without a home.
"""

from __future__ import annotations

import getpass
import os
from pathlib import Path

from gymdbd.remote.errors import SshConfigError


def user() -> str:
    """Return the name of this user; SshConfigError if there is none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise SshConfigError(
            f"this user has the number {os.getuid()} and no name to log in by",
            hint="name the user of the other machine: ssh: {user: NAME} in the job, or User in "
            "~/.ssh/config",
        ) from error


def folder() -> Path | None:
    """Return the folder `.ssh` of this user; None if there is no home."""
    try:
        return Path.home() / ".ssh"
    except RuntimeError:
        return None


def expand(name: str) -> Path:
    """Return the path that a setting names, with the home folder for `~`."""
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise SshConfigError(
            f"the home folder in {name} is not known", hint="set HOME, or write the whole path"
        ) from error
