"""The receiving side of a pull: bring a local file to the remote snapshot.

Everything the other side says is checked before it is used; what it sends of pages, by
`gymdbd.remote.fetch`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gymdbd.files import FILE_MODE, writing
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


def _nothing(*_: Any) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Hello:
    """What is used of the other side's greeting."""

    codecs: list[str]
    fingerprint: Fingerprint
    ownership: dict[str, Any] | None


class Session:
    """One conversation with a serving side, about one snapshot.

    `progress(step, done, total)` counts bytes of the database, `check()` is called between
    batches and may raise to stop. Raises what the other side reports, ConnectionLostError where
    it ends too soon, ProtocolError where it says what cannot be.
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
    ) -> None:
        """Greet the server; ship `prelude()` first if a loader over there waits for it.

        Even before that goes `probe`, the few lines that ask whether the snapshot is still that
        of a fingerprint: where it is, the other side has ended, and only `plan` is of use.
        """
        self._channel = Channel(reader, writer)
        self._talk = Conversation(self._channel, progress, check)
        self.uncounted: list[str] = []
        # Mode, owner and group of the database over there, None if it does not tell.
        self.ownership: dict[str, Any] | None = None
        with self._talk.timed("hello"):
            known = self._start(prelude, probe) if prelude else None
            self.fingerprint = known or self._greet()

    def _start(
        self, prelude: Callable[[], bytes], probe: tuple[bytes, Fingerprint] | None
    ) -> Fingerprint | None:
        """Ship what a loader waits for; return the probe's fingerprint if that is all."""
        heard = greeting.hear_loader(self._channel)
        if heard == greeting.READY and probe:
            self._channel.ship(probe[0])
            heard = greeting.hear_loader(self._channel)
            if heard == greeting.UNCHANGED:
                return probe[1]
        if heard == greeting.READY:
            # Where the other side is gone already, what it said before tells why.
            with suppress(ConnectionLostError):
                self._channel.ship(prelude())
        elif heard:
            raise ProtocolError("the other side answers what it was not asked")
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
        """Choose the strategy; see `delta.choose`. Costs no message."""
        return delta.choose(saved, self.fingerprint, local_size)

    def info(self) -> dict[str, Any]:
        """Ask for the facts of the database and its machine; nothing here vouches for them."""
        return self._talk.ask("info")

    def count_rows(self) -> dict[str, int]:
        """Ask for the rows of every table in this very snapshot.

        `uncounted` names the tables that the SQLite over there could not count.
        """
        with self._talk.timed("rows"):
            answer = self._talk.ask("rows")
        tables, uncounted = answer.get("tables"), answer.get("uncounted", [])
        if not isinstance(tables, dict) or not all(type(one) is int for one in tables.values()):
            raise ProtocolError("the other side's row counts are not numbers")
        if not isinstance(uncounted, list) or not all(type(name) is str for name in uncounted):
            raise ProtocolError("the other side's uncounted tables have no names")
        self.uncounted = uncounted
        return tables

    def fetch(self, target: Path, plan: delta.Plan) -> Fetched:
        """Bring `target` to the remote snapshot in the way of `plan`.

        `target` is a copy of the replica, or what an interrupted fetch left, or need not exist
        for a full one. When this raises, the pages that
        arrived are in `target` and the next fetch by digest keeps them.
        """
        with writing(target):
            descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            file = PagedFile(descriptor, target, self.fingerprint)
            strategy, reason, digest = Fetch(self._talk, self.fingerprint, file).run(plan)
            file.finish()
        finally:
            os.close(descriptor)
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


def _parse_hello(value: dict[str, Any]) -> Hello:
    codecs = value.get("codecs")
    try:
        fingerprint = Fingerprint.from_json(value.get("fingerprint"))
    except ValueError as error:
        raise ProtocolError(f"the other side's fingerprint is wrong: {error}") from error
    names = [one for one in codecs if isinstance(one, str)] if isinstance(codecs, list) else []
    return Hello(names, fingerprint, ownership.parse(value.get("ownership")) or None)
