"""What can be found out about a job without running it, for `gymdbd status` and `gymdbd check`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from gymdbd import disk, files
from gymdbd.source.errors import GymdbdError

if TYPE_CHECKING:
    from pathlib import Path

OK, WARNING, ERROR = "ok", "warning", "error"


@dataclass(frozen=True)
class Check:
    """The result of one check; its state is `ok`, `warning` or `error`."""

    name: str
    state: str
    message: str
    hint: str = ""


class Health(IntEnum):
    """The health of a job, or of all jobs; the numbers are the exit codes of monitoring plugins."""

    OK = 0
    LATE = 1
    FAILING = 2
    UNKNOWN = 3


class Finding(NamedTuple):
    """One result of checking a job: its health, the reason, and what to do about it.

    `code` is a name of the reason that stays the same, for programs and translations: that of an
    error, or of a state such as `too-old`.
    """

    health: Health
    reason: str = ""
    hint: str = ""
    code: str = ""

    def to_json(self) -> dict[str, str | None]:
        """Return it as `--json` has it."""
        return {**self._asdict(), "health": self.health.name.lower(), "hint": self.hint or None}


def not_writable(name: str, folder: Path) -> Check:
    """Return why a folder cannot be written: it is missing, or this user may not write to it."""
    try:
        files.require_folder(folder)
        disk.require_writable_disk(folder)
    except GymdbdError as error:
        return Check(name, ERROR, error.message, error.hint)
    return Check(
        name,
        ERROR,
        f"{folder} cannot be written by this user (uid {os.geteuid()})",
        "run as the user of the daemon, or let this user write to it",
    )
