"""A receiving side of somebody else's: it answers a rebuild as its one argument says.

`python lying_receiver.py MODE` is started over SSH in the place of python3 over there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))
from gymdbd.source import protocol

_THERE: dict[str, Any] = {
    "path": "/gym.db",
    "user": "pi",
    "free_bytes": 1,
    "makes_folder": False,
    "saves": None,
    "aside": [],
}
_ODD: dict[str, dict[str, Any]] = {
    "path-is-a-number": {"path": 5},
    "list-is-a-text": {"aside": "everything"},
    "escapes": {"path": "\x1b[2J/gym.db\u202e", "aside": ["\x1b]0;title\x07"] * 1000},
    "free-is-huge": {"free_bytes": 10**400},
}


def main(mode: str) -> None:
    """Greet as the loader and the server do, and lie."""
    channel = protocol.Channel(sys.stdin.buffer.raw, sys.stdout.buffer)  # type: ignore[union-attr]
    sys.stdout.write("gymdbd-loader: ready\n")
    sys.stdout.flush()
    sys.stdin.buffer.raw.read(4)  # type: ignore[union-attr]
    channel.read_until(protocol.MAGIC, most=2**20)
    channel.expect_version()
    channel.send_preamble()
    if mode == "talks":
        while True:
            sys.stdout.write("welcome " * 100_000)
    channel.receive_json(protocol.REQUEST)
    channel.send_json(protocol.RESULT, {**_THERE, **_ODD.get(mode, {})})
    channel.flush()
    while channel.receive(protocol.PAGES, protocol.END)[0] == protocol.PAGES:
        pass
    at = 0
    while True:
        # For ever, if nobody looks how far it says it is.
        at += 1
        channel.send_json(protocol.RESULT, {"hashed": 1 if mode == "hashes-again" else at * 2**20})
        channel.flush()


main(sys.argv[1])
