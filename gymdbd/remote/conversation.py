"""Sending requests to the serving side, one at a time, and timing them."""

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
    """Requests and answers on a channel; `codec` packs the answers, `timings` are seconds.

    Each request names the `database` that it means, if that is given: the other side may serve one
    that its key is bound to.
    """

    def __init__(
        self, channel: Channel, progress: Progress, check: Check, database: str = ""
    ) -> None:
        self.channel = channel
        self.progress = progress
        self.check = check
        self._named = {"database": database} if database else {}
        self.codec = "raw"
        self.timings: dict[str, float] = {}

    def ask(self, op: str) -> dict[str, Any]:
        """Send a request without details and return the answer."""
        self.request(op)
        return self.channel.receive_json(protocol.RESULT)

    def request(self, op: str, **details: Any) -> None:
        """Send a request; if the other side has ended, raise the error that it reports."""
        self.check()
        request = {"op": op, "codec": self.codec, **self._named, **details}
        try:
            self.channel.send_json(protocol.REQUEST, request)
            self.channel.flush()
        except ConnectionLostError:
            # Its last message explains why it ended.
            self.channel.receive(protocol.END)
            raise

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Record how long the block takes."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.timings[step] = round(time.monotonic() - begun, 6)
