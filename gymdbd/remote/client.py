"""The receiving side of a pull: bring a local file to the remote snapshot.

Everything that the other side sends is checked before it is used; pages by `gymdbd.remote.fetch`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gymdbd import bounded
from gymdbd.files import writing
from gymdbd.remote import delta, greeting
from gymdbd.remote.conversation import Conversation
from gymdbd.remote.fetch import Fetch, Fetched, PagedFile
from gymdbd.source import compress, ownership, protocol
from gymdbd.source.errors import ConnectionLostError, ProtocolError
from gymdbd.source.fingerprint import Fingerprint
from gymdbd.source.protocol import Channel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Progress = Callable[[str, int, int], None]
    Check = Callable[[], None]


# Enough for a file of some kilobytes on a slow line; nobody waits longer for it.
_STATUS_S = 10.0
# The rowids of SQLite.
_MOST_ROWS = 2**63


def _nothing(*_: Any) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Hello:
    """The content of the other side's greeting."""

    codecs: list[str]
    fingerprint: Fingerprint
    ownership: dict[str, Any] | None
    tells_status: bool | None


class Session:
    """One conversation with a serving side, about one snapshot.

    `progress(step, done, total)` counts bytes of the database, `check()` is called between
    batches and may raise to cancel. Raises the errors that the other side reports,
    ConnectionLostError if it ends too soon, ProtocolError if its messages are invalid.
    """

    def __init__(
        self,
        reader: protocol.Reader,
        writer: protocol.Writer,
        *,
        progress: Progress = _nothing,
        check: Check = _nothing,
        prelude: Callable[[], bytes] | None = None,
        probe: tuple[bytes, Fingerprint] | None = None,
        database: str = "",
    ) -> None:
        """Greet the server; first ship `prelude()` if a loader waits for it.

        `database` is its path over there: a server that is bound to another one refuses.

        Before that, ship `probe`, which checks whether the snapshot still has this fingerprint. If
        it has, the other side ends, and only `plan` can be used.
        """
        self._channel = Channel(reader, writer)
        self._talk = Conversation(self._channel, progress, check, database)
        self.uncounted: list[str] = []
        # How many pages have arrived, also by a fetch that was not completed.
        self.pages_arrived = 0
        # Mode, owner and group of the remote database, None if unknown.
        self.ownership: dict[str, Any] | None = None
        # Whether it tells how the jobs of its machine are; None if it knows no such request.
        self.tells_status: bool | None = None
        # Ends the waiting for what is sent so many seconds later, or later still.
        self.hurry: Callable[[float], None] = _nothing
        with self._talk.timed("hello"):
            known = self._start(prelude, probe) if prelude else None
            # Whether there is a server that can be asked.
            self.is_served = known is None
            self.fingerprint = known or self._greet()

    def _start(
        self, prelude: Callable[[], bytes], probe: tuple[bytes, Fingerprint] | None
    ) -> Fingerprint | None:
        """Ship what a loader waits for; return the probe's fingerprint if it is unchanged."""
        heard = greeting.hear_loader(self._channel)
        if heard == greeting.READY and probe:
            self._channel.ship(probe[0])
            heard = greeting.hear_loader(self._channel)
            if heard == greeting.UNCHANGED:
                return probe[1]
        if heard == greeting.READY:
            # If the other side has ended already, its output explains why.
            with suppress(ConnectionLostError):
                self._channel.ship(prelude())
        elif heard:
            raise ProtocolError("the other side answers a request that was not sent")
        return None

    def _greet(self) -> Fingerprint:
        with suppress(ConnectionLostError):
            self._channel.send_preamble()
        greeting.expect_server(self._channel)
        hello = _parse_hello(self._channel.receive_json(protocol.HELLO))
        self._talk.codec = next(
            name for name in compress.unpackers() if name in [*hello.codecs, "raw"]
        )
        self.ownership = hello.ownership
        self.tells_status = hello.tells_status
        return hello.fingerprint

    @property
    def timings(self) -> dict[str, float]:
        """Return how long each step has taken, in seconds."""
        return self._talk.timings

    @property
    def bytes_sent(self) -> int:
        """Return how many bytes were sent so far, before any encryption."""
        return self._channel.bytes_sent

    @property
    def bytes_received(self) -> int:
        """Return how many bytes were received so far, before any encryption."""
        return self._channel.bytes_received

    def plan(self, saved: Fingerprint | None, local_size: int | None) -> delta.Plan:
        """Choose the strategy with `delta.choose`, without sending a message."""
        return delta.choose(saved, self.fingerprint, local_size)

    def info(self) -> dict[str, Any]:
        """Request a description of the database and its machine; it is not checked here."""
        return self._talk.ask("info")

    def count_rows(self) -> dict[str, int]:
        """Request the row counts of all tables in this snapshot.

        `uncounted` lists the tables that the remote SQLite could not count.
        """
        with self._talk.timed("rows"):
            answer = self._talk.ask("rows")
        tables, uncounted = answer.get("tables"), answer.get("uncounted", [])
        if not isinstance(tables, dict) or not all(map(_is_count, tables.values())):
            raise ProtocolError("the other side's row counts are not numbers")
        if not isinstance(uncounted, list) or not all(type(name) is str for name in uncounted):
            raise ProtocolError("the other side's uncounted tables have no names")
        self.uncounted = uncounted
        return tables

    def status(self, path: str) -> dict[str, Any]:
        """Request the public status of that machine; it is not checked here.

        It is the last request, since it ends the snapshot. It takes some seconds at most.
        """
        self.hurry(_STATUS_S)
        with self._talk.timed("status"):
            self._talk.request("status", path=path)
            return self._channel.receive_json(protocol.RESULT)

    def fetch(self, target: Path, plan: delta.Plan) -> Fetched:
        """Bring `target` to the remote snapshot according to `plan`.

        `target` is a copy of the replica, or left by an interrupted fetch; for a full fetch it need
        not exist. If this raises, the pages that arrived are in `target`, and the next fetch by
        digest uses them.
        """
        with writing(target):
            descriptor = bounded.opened(target, os.O_RDWR | os.O_CREAT)
        file = PagedFile(descriptor, target, self.fingerprint)
        try:
            strategy, reason, digest = Fetch(self._talk, self.fingerprint, file).run(plan)
            file.finish()
        finally:
            os.close(descriptor)
            self.pages_arrived = len(file.written)
        return Fetched(
            strategy=strategy,
            reason=reason,
            method=self.fingerprint.method,
            pages_total=self.fingerprint.page_count,
            changed=file.written,
            sha256=digest,
            fingerprint=self.fingerprint,
            bytes_sent=self.bytes_sent,
            bytes_received=self.bytes_received,
            timings=dict(self.timings),
        )


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST_ROWS


def _parse_hello(value: dict[str, Any]) -> Hello:
    codecs = value.get("codecs")
    try:
        fingerprint = Fingerprint.from_json(value.get("fingerprint"))
    except ValueError as error:
        raise ProtocolError(f"the other side's fingerprint is invalid: {error}") from error
    names = [name for name in codecs if isinstance(name, str)] if isinstance(codecs, list) else []
    owner, status = ownership.parse(value.get("ownership")) or None, value.get("status")
    return Hello(names, fingerprint, owner, status if isinstance(status, bool) else None)
