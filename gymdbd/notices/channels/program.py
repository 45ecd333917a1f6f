"""Notices by a program of this machine: the user's own, or macOS' osascript."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import groups, trust, words
from gymdbd.errors import ExtraMissingError, ReceiverAwayError, ReceiverRefusedError
from gymdbd.notices.channels.letter import cut

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gymdbd.notices.channels.letter import Letter

_TIMEOUT_S = 14.0
_OSASCRIPT_S = 5.0
# One entry of an environment has 128 KiB at most.
_MOST_BYTES = 32 * 1024
_MOST_TITLE, _MOST_SHOWN = 200, 1000
# EX_TEMPFAIL and EX_UNAVAILABLE of sysexits.h, with which mail programs ask for another try.
_LATER = (75, 69)
# The texts are arguments of it, never a part: they could be read as a script.
_SCRIPT = (
    "on run argv",
    "display notification (item 2 of argv) with title (item 1 of argv)",
    "end run",
)


def send(command: Sequence[str], letter: Letter) -> None:
    """Run the user's own program with the facts in its environment, and as JSON on its input."""
    facts = {
        "GYMDBD_TITLE": letter.title,
        "GYMDBD_TEXT": letter.text,
        "GYMDBD_PRIORITY": letter.priority,
        "GYMDBD_HEALTH": letter.health,
        "GYMDBD_MACHINE": letter.machine,
        "GYMDBD_JOB": letter.job,
    }
    run(
        command,
        given=(words.json_text(letter.content) + "\n").encode(),
        facts={name: cut(value.replace("\0", ""), _MOST_BYTES) for name, value in facts.items()},
        hint="run it by hand as the user of gymdbd; it is a list of words and not a shell command, "
        "and must end with 0 within 14 s",
    )


def notify_on_mac(letter: Letter, platform: str = sys.platform) -> None:
    """Show a notification of macOS in the session of this user."""
    if platform != "darwin":
        raise ExtraMissingError(
            "macos: true is for macOS only", hint="use another channel on this machine"
        )
    script = [word for line in _SCRIPT for word in ("-e", line)]
    texts = (cut(letter.title, _MOST_TITLE), cut(letter.text, _MOST_SHOWN))
    run(
        ["osascript", *script, *texts],
        timeout_s=_OSASCRIPT_S,
        hint="gymdbd must run in the session of a user (as a LaunchAgent, not as a LaunchDaemon), "
        "and System Settings > Notifications must allow Script Editor",
    )


def run(
    command: Sequence[str],
    *,
    given: bytes = b"",
    facts: Mapping[str, str] | None = None,
    timeout_s: float = _TIMEOUT_S,
    hint: str,
) -> None:
    """Run a program that is to pass a notice on; NotToldError if it does not.

    It is not run if others could have written it. What it prints is in no error: it may be a
    secret.
    """
    name = Path(command[0]).name
    if doubt := trust.doubt_of_command(command):
        raise ReceiverRefusedError(
            f"the command {name} is not run, because others could have written it: {doubt.reason}",
            hint=doubt.remedy,
        )
    try:
        done = groups.run(
            command,
            given=given,
            environment={**os.environb, **_encoded(facts or {})},
            timeout_s=timeout_s,
            most=0,
        )
    except OSError as error:
        raise ExtraMissingError(
            f"the command {name} cannot be run ({error.strerror})", hint=hint
        ) from error
    if done.code is None:
        raise ReceiverAwayError(f"the command {name} took longer than {timeout_s:.0f} s", hint=hint)
    if done.code:
        kind = ReceiverAwayError if done.code in _LATER else ReceiverRefusedError
        raise kind(f"the command {name} returned {done.code}", hint=hint)


def _encoded(facts: Mapping[str, str]) -> dict[bytes, bytes]:
    """Return facts in UTF-8, whatever the locale: in that of a bare cron there may be no Korean."""
    return {name.encode(): value.encode(errors="surrogateescape") for name, value in facts.items()}
