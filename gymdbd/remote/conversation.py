"""Asking the serving side, one request at a time, and timing what it takes."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gymdbd.source import protocol
from gymdbd.source.errors import ConnectionLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gymdbd.source.protocol import Channel

    Progress = Callable[[str, int, int], None]
    Check = Callable[[], None]


class Conversation:
    """Requests and answers on a channel; `codec` packs the answers, `timings` are seconds."""

    def __init__(self, channel: Channel, progress: Progress, check: Check) -> None:
        self.channel = channel
        self.progress = progress
        self.check = check
        self.codec = "raw"
        self.timings: dict[str, float] = {}

    def ask(self, op: str) -> dict[str, Any]:
        """Return the answer to a request without details."""
        self.request(op)
        return self.channel.receive_json(protocol.RESULT)

    def request(self, op: str, **details: Any) -> None:
        """Send a request; what ends the other side is raised as it says."""
        self.check()
        request = {"op": op, "codec": self.codec, **details}
        try:
            self.channel.send_json(protocol.REQUEST, request)
            self.channel.flush()
        except ConnectionLostError:
            # Its last words tell why it is gone.
            self.channel.receive(protocol.END)
            raise

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Note how long the block takes."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.timings[step] = round(time.monotonic() - begun, 6)
