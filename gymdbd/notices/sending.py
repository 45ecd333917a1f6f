"""Sending a message through a channel, in a process of its own.

A receiver may hang, lie, or answer without end, and a look-up of its name cannot be interrupted. So
each try has a child, with limits on its time and memory. The child gets its order as JSON on
standard input, so that no secret is in the list of processes, and returns the error as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymdbd import bounded, errors, groups
from gymdbd.config import config, urls
from gymdbd.errors import NotToldError, ReceiverAwayError, unexpected
from gymdbd.notices.channels.letter import Letter
from gymdbd.notices.limits import limited, too_slow
from gymdbd.source.errors import GymdbdError

if TYPE_CHECKING:
    from gymdbd.config.config import Config
    from gymdbd.config.notify import ChannelConfig
    from gymdbd.notices.message import Message

ATTEMPTS = 3
# After it the child is killed; it may start slowly, and hang where no signal reaches it.
_KILL_S = 25.0
_DELAY_S = 2.0
_MOST_ANSWER = 64 * 1024


def tell(
    settings: Config,
    name: str,
    message: Message,
    *,
    delay_s: float = _DELAY_S,
    attempts: int = ATTEMPTS,
) -> GymdbdError | None:
    """Send a message through the channel `name`; return the error of the last try, or None.

    It takes up to 90 s if the receiver hangs, with three tries of 15 s. A receiver that refuses, in
    a way that trying again does not change, is asked once. `delay_s` is the time before the second
    try; before the third it is twice as long.
    """
    order = {
        "source": str(settings.source),
        "text": settings.text,
        "channel": name,
        "message": message.to_json(),
    }
    given = json.dumps(order, default=str).encode()
    error: GymdbdError | None = None
    for attempt in range(attempts):
        if attempt:
            time.sleep(delay_s * attempt)
        error = _in_child(given)
        if error is None or not error.transient:
            break
    return error


def send(channel: ChannelConfig, message: Message) -> None:
    """Send a message through a channel, once and in this process; NotToldError or SecretError."""
    _deliver(channel, Letter.of(message.to_json()))


def _deliver(channel: ChannelConfig, letter: Letter) -> None:
    # Each is imported only in the process that uses it: they take megabytes.
    from gymdbd.notices.channels import mail, program, services, web  # noqa: PLC0415

    if channel.email:
        mail.send(channel, letter)
    elif channel.macos:
        program.notify_on_mac(letter)
    elif channel.command:
        program.send(channel.command, letter)
    elif channel.url:
        url = channel.url.read()
        if urls.is_web(url):
            web.send(url, channel.format or "text", letter)
        else:
            services.send(url, letter)


def _in_child(given: bytes) -> GymdbdError | None:
    try:
        done = groups.run(
            [sys.executable, "-P", "-m", __name__],
            given=given,
            environment=groups.environment(),
            timeout_s=_KILL_S,
            most=_MOST_ANSWER,
        )
    except OSError as error:
        return NotToldError(
            f"no process could be started to send it ({error.strerror})",
            hint="look for a machine out of memory or processes (dmesg)",
        )
    with contextlib.suppress(*bounded.FAULTS):
        answer = bounded.parse(done.output)
        if isinstance(answer, dict):
            return _error(answer) if answer else None
    if done.code is None:
        return too_slow(_KILL_S)
    return ReceiverAwayError(
        f"the process that sends it ended with {done.code} before it was done",
        hint="the receiver may answer without end; or look for the out-of-memory killer (dmesg)",
    )


def _error(answer: dict[str, Any]) -> GymdbdError:
    """Return the error that a child has told of."""
    kinds = {
        kind.code: kind
        for kind in (*NotToldError.__subclasses__(), *errors.SecretError.__subclasses__())
    }
    kind = kinds.get(str(answer.get("code")), NotToldError)
    return kind(str(answer.get("error")), hint=str(answer.get("hint")))


def main() -> int:
    """Be the child: read the order, try once, and print the error, or nothing but braces."""
    answer: dict[str, str] = {}
    try:
        with limited(), open(0, "rb", closefd=False) as stream:
            order = json.loads(stream.read())
            settings = config.parse(order["text"], Path(order["source"]))
            assert settings.notify is not None  # noqa: S101 - the parent has found it there
            _deliver(settings.notify.to[order["channel"]], Letter.of(order["message"]))
    except GymdbdError as error:
        answer = {"code": error.code, "error": error.message, "hint": error.hint}
    except Exception as error:  # noqa: BLE001 - the parent is to learn of it, and goes on
        found = unexpected(error)
        # What it says may hold a URL.
        answer = {"code": found.code, "error": f"unexpected {type(error).__name__}"}
        answer["hint"] = found.hint
    os.write(1, json.dumps(answer).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
