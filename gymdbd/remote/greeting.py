"""The first output of the other side: of its shell, the loader, or a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd.remote.errors import PythonTooOldError, ShellNoiseError
from gymdbd.source.errors import clean
from gymdbd.source.protocol import MAGIC, lost

if TYPE_CHECKING:
    from gymdbd.source.errors import GymdbdError
    from gymdbd.source.protocol import Channel

# The loader prints this if Python is too old to run the server.
TOO_OLD = b"gymdbd-loader: python "
# It prints these if it waits for the next piece of Python, and if the probe found no change.
READY = b"gymdbd-loader: ready\n"
UNCHANGED = b"gymdbd-loader: unchanged\n"

MOST_NOISE = 16 * 1024


def hear_loader(channel: Channel) -> bytes:
    """Return the next line of the loader, READY or UNCHANGED.

    b"" if an installed server answers instead, started by `command=` of our key.
    """
    seen = channel.read_until(MAGIC, READY, UNCHANGED, most=MOST_NOISE)
    line = next((line for line in (READY, UNCHANGED) if line in seen), b"")
    if not line:
        channel.unread(seen)
    elif seen != line:
        raise _noise(seen.partition(line)[0], spoke=True)
    return line


def expect_server(channel: Channel) -> None:
    """Read the server's preamble.

    Raises ShellNoiseError if there is other output before it, PythonTooOldError, or ProtocolError
    for another version.
    """
    before, magic, after = channel.read_until(MAGIC, most=MOST_NOISE).partition(MAGIC)
    if before or not magic:
        raise _noise(before, spoke=bool(magic))
    channel.unread(after)
    channel.expect_version()


def _noise(seen: bytes, *, spoke: bool) -> GymdbdError:
    if TOO_OLD in seen:
        version = clean(seen.partition(TOO_OLD)[2].split(b" ", 1)[0].decode(errors="replace"))
        return PythonTooOldError(
            f"the other side's python3 is {version}, but 3.9 is required",
            hint="install a newer python3 there, or name one in the configuration",
        )
    text = clean(seen[:300].decode(errors="replace")).strip()
    if not spoke and any(mark.startswith(seen) for mark in (MAGIC, READY, UNCHANGED)):
        return lost()
    if spoke:
        return ShellNoiseError(
            f"the other side's shell printed {text!r} before the server started",
            hint="let its start-up files (~/.bashrc, ~/.profile, /etc/motd) print only in "
            "interactive shells",
        )
    return ShellNoiseError(
        f"the other side printed {text!r} instead of starting the server",
        hint="check that the account may run commands: its login shell there (getent passwd USER), "
        "and command= of the key; and that its start-up files print only in interactive shells",
    )
