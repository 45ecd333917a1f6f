"""What a client is answered about one snapshot.

A client that is slow, or means harm, does not harm the application: a snapshot that keeps its WAL
from being reset has an end (`Snapshot.ends_at`); a database without a WAL is not locked while the
client is waited for (`Snapshot.turn`); and what costs much is answered once.
"""

from __future__ import annotations

import hashlib
import itertools
import sqlite3
import time
from typing import TYPE_CHECKING, Any, TypeVar

from gymdbd import __version__
from gymdbd.source import compress, digests, info, ownership, payloads, protocol, public
from gymdbd.source.counting import uncounted
from gymdbd.source.errors import ProtocolError, SourceError, SourceMovedError
from gymdbd.source.fingerprint import take
from gymdbd.source.turns import count_in_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import Protocol

    from gymdbd.source.errors import GymdbdError
    from gymdbd.source.pages import Pages
    from gymdbd.source.payloads import Group
    from gymdbd.source.protocol import Channel

    class Terms(Protocol):
        """On which terms the client is served, if it is not trusted with the whole account."""

        @property
        def status(self) -> Path | None:
            """Return where the public status of this machine is, None if it is not served."""

        def enter(self) -> None:
            """Raise an error if there are too many sessions."""

        def begin(self, pages: Pages) -> None:
            """Note the pages that are served."""

        def require(self, request: dict[str, Any]) -> None:
            """Raise an error if the request may not be answered, or not now."""

        def leave(self) -> None:
            """Note that the session has ended."""

        def tell(self, facts: dict[str, Any]) -> dict[str, Any]:
            """Leave out of the answer to `info` what a pull does not need."""

        def word(self, error: GymdbdError) -> GymdbdError:
            """Leave out of an error what a pull does not need."""


# Pages that travel together: enough to compress well, little enough to have several under way.
BATCH_BYTES = 256 * 1024
_DIGESTS_A_FRAME = 1024
_GROUPS_A_BATCH = 4
# How many results a turn may have in memory: some megabytes.
_MOST_RESULTS = 16

Item = TypeVar("Item")
Result = TypeVar("Result")


class Replies:
    """The answers to one client about one snapshot."""

    def __init__(self, channel: Channel, pages: Pages, terms: Terms | None) -> None:
        self._channel = channel
        self._pages = pages
        self._terms = terms
        self._answers: dict[str, Callable[[dict[str, Any]], None]] = {
            "info": self._info,
            "rows": self._rows,
            "tail": self._tail,
            "full": self._full,
            "digests": self._digests,
            "refine": self._refine,
            "status": self._status,
        }
        if terms and not terms.status:
            del self._answers["status"]

    def run(self) -> None:
        """Greet, then answer requests until the client closes the stream."""
        hello = {
            "gymdbd": __version__,
            "python": info.PYTHON,
            "sqlite": sqlite3.sqlite_version,
            "codecs": compress.packers(),
            "fingerprint": take(self._pages).to_json(),
            "reason": self._pages.reason,
            "ownership": ownership.read(self._pages.snapshot.path),
            "status": "status" in self._answers,
        }
        self._pages.snapshot.rest()
        self._channel.send_json(protocol.HELLO, hello)
        self._channel.flush()
        while True:
            message = self._channel.receive_or_end(protocol.REQUEST)
            if message is None:
                return
            self._answer(protocol.parse_json(message[1]))
            self._channel.flush()

    def _answer(self, request: dict[str, Any]) -> None:
        name = str(request.get("op"))
        answer = self._answers.get(name)
        if answer is None:
            raise ProtocolError(f"{name[:40]!r} is an unknown request, or was answered before")
        if self._terms:
            self._terms.require(request)
        del self._answers[name]
        try:
            self._pages.snapshot.require_time()
            answer(request)
        except SourceMovedError:
            raise
        except SourceError:
            # If the file was written meanwhile, the error may not be real.
            self._pages.snapshot.confirm()
            raise

    def _info(self, request: dict[str, Any]) -> None:
        del request
        facts = info.tell(self._pages)
        self._channel.send_json(protocol.RESULT, self._terms.tell(facts) if self._terms else facts)

    def _status(self, request: dict[str, Any]) -> None:
        # Nobody's disk may keep the WAL from being reset, so this is the last answer.
        self._answers.clear()
        self._pages.snapshot.let_go()
        place = self._terms.status if self._terms else request.get("path")
        self._channel.send_json(protocol.RESULT, public.read(place))

    def _rows(self, request: dict[str, Any]) -> None:
        del request
        snapshot = self._pages.snapshot
        if snapshot.is_in_turns:
            tables = count_in_turns(snapshot)
        else:
            tables = snapshot.count_rows(check=snapshot.require_time)
            snapshot.confirm()
        left_out = uncounted(snapshot.facts, tables)
        self._channel.send_json(protocol.RESULT, {"tables": tables, "uncounted": left_out})

    def _tail(self, request: dict[str, Any]) -> None:
        since = payloads.since(request)
        numbers = self._pages.load_tail(*since) if since else None
        if numbers is None:
            refusal = {"refused": "the WAL is not the one of last time"}
            self._channel.send_json(protocol.RESULT, refusal)
            return
        pages, codec = self._pages, payloads.codec(request)

        def work(batch: list[int]) -> tuple[int, bytes | bytearray]:
            read = [pages.read(number, 1) for number in batch]
            return payloads.packed_pages(batch, read, codec)

        step = max(1, BATCH_BYTES // pages.page_size)
        self._send_packed(self._read(_slices(numbers, step), work))
        self._end({})

    def _full(self, request: dict[str, Any]) -> None:
        self._pages.load()
        pages, codec = self._pages, payloads.codec(request)
        step = max(1, BATCH_BYTES // pages.page_size)

        def work(first: int) -> tuple[bytearray, int, bytes | bytearray]:
            count = min(step, pages.count + 1 - first)
            data = pages.read(first, count)
            numbers = list(range(first, first + count))
            return data, *compress.pack(payloads.pack_pages(numbers, data), codec)

        whole = hashlib.sha256()
        for data, used, packed in self._read(range(1, pages.count + 1, step), work):
            self._send(protocol.PAGES, packed, used)
            whole.update(data)
        self._end({"sha256": whole.hexdigest()})

    def _digests(self, request: dict[str, Any]) -> None:
        del request
        self._pages.load()
        pages = self._pages
        whole = hashlib.sha256()
        waiting: list[bytes] = []
        work = digests.hashing(pages.read, pages.page_size)
        for data, found in self._read(digests.runs(pages.count, pages.page_size), work):
            whole.update(data)
            waiting += found
            if len(waiting) >= _DIGESTS_A_FRAME:
                self._send(protocol.DIGESTS, b"".join(waiting))
                waiting = []
        if waiting:
            self._send(protocol.DIGESTS, b"".join(waiting))
        self._end({"sha256": whole.hexdigest()})

    def _refine(self, request: dict[str, Any]) -> None:
        self._pages.load()
        pages, codec = self._pages, payloads.codec(request)

        def work(groups: list[Group]) -> tuple[int, bytes | bytearray]:
            numbers, parts = [], []
            for wanted, theirs in groups:
                data = pages.read(wanted.start, len(wanted))
                mine = digests.split(data, pages.page_size)
                for at, number in enumerate(wanted):
                    if mine[at] != theirs[at]:
                        numbers.append(number)
                        parts.append(data[at * pages.page_size : (at + 1) * pages.page_size])
            return payloads.packed_pages(numbers, parts, codec)

        last = -1
        while True:
            _, payload = self._channel.receive(protocol.DIGESTS)
            if not payload:
                return
            groups, last = payloads.groups(payload, pages, last)
            self._send_packed(self._read(_slices(groups, _GROUPS_A_BATCH), work))
            self._end({})
            self._channel.flush()

    def _read(self, items: Iterable[Item], work: Callable[[Item], Result]) -> Iterator[Result]:
        """Apply `work`, which reads pages, to each item; yield the results in the items' order.

        If the application must wait meanwhile, nothing is yielded while it does.
        """
        snapshot = self._pages.snapshot
        if not snapshot.is_in_turns:
            yield from digests.in_order(items, work)
            return
        left = iter(items)
        while True:
            with snapshot.turn() as end:
                done = list(digests.in_order(_until(end, left), work))
            if not done:
                return
            yield from done

    def _end(self, last: dict[str, Any]) -> None:
        """Vouch for the pages that were sent, as those of one state."""
        if not self._pages.snapshot.is_in_turns:
            # Each turn has vouched for itself.
            self._pages.snapshot.confirm()
        self._channel.send_json(protocol.END, last)

    def _send_packed(self, batches: Iterator[tuple[int, bytes | bytearray]]) -> None:
        for used, packed in batches:
            if packed:
                self._send(protocol.PAGES, packed, used)

    def _send(self, kind: int, payload: bytes | bytearray, codec: int = compress.RAW) -> None:
        self._pages.snapshot.require_time()
        self._channel.send(kind, payload, codec)


def _until(end: float, items: Iterator[Item]) -> Iterator[Item]:
    """Yield items until the end of a turn, at least one, and no more than fit into memory."""
    for item in itertools.islice(items, _MOST_RESULTS):
        yield item
        if time.monotonic() >= end:
            return


def _slices(items: list[Item], length: int) -> Iterator[list[Item]]:
    return (items[start : start + length] for start in range(0, len(items), length))
