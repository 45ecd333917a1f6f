"""The serving side of a pull: one database, read-only, one snapshot, and then the end.

Runs on the standard library of Python 3.9 in a process of its own, writes nothing anywhere, and
needs the same memory for any size of database. `gymdbd.source.protocol` defines the protocol.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from gymdbd import __version__
from gymdbd.source import compress, digests, identity, info, ownership, protocol
from gymdbd.source.counting import uncounted
from gymdbd.source.errors import (
    GymdbdError,
    ProtocolError,
    RemoteError,
    SourceError,
    StalledError,
)
from gymdbd.source.fingerprint import take
from gymdbd.source.pages import Pages, open_pages
from gymdbd.source.patience import STALL_TIMEOUT_S, Patience, PatientStream
from gymdbd.source.protocol import Channel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    # The numbers of a group's pages and the digests that the client has of them.
    Group = tuple[range, list[bytes]]

# Pages that travel together: enough to compress well, little enough to have several under way.
_BATCH_BYTES = 256 * 1024
_DIGESTS_A_FRAME = 1024
_GROUPS_A_BATCH = 4

Item = TypeVar("Item")


def serve(
    path: Path,
    reader: protocol.Reader,
    writer: protocol.Writer,
) -> int:
    """Answer one client about the database at `path` until it closes; return an exit code.

    Whatever goes wrong reaches the client as an ERROR frame.
    """
    channel = Channel(reader, writer)
    try:
        channel.send_preamble()
        channel.expect_client()
        identity.require(path)
        with open_pages(path) as pages:
            _Server(channel, pages).run()
    except GymdbdError as error:
        return _report(channel, error)
    except Exception as error:  # noqa: BLE001 - the client is to be told, whatever it is
        return _report(channel, RemoteError(f"the serving side failed: {error!r}"))
    return 0


def _report(channel: Channel, error: GymdbdError) -> int:
    # If the client has gone, nobody receives the error.
    with contextlib.suppress(GymdbdError, OSError):
        channel.send_error(error)
        channel.flush()
    return error.exit_code


class _Server:
    """The answers about one snapshot."""

    def __init__(self, channel: Channel, pages: Pages) -> None:
        self._channel = channel
        self._pages = pages
        self._answers = {
            "info": self._info,
            "rows": self._rows,
            "tail": self._tail,
            "full": self._full,
            "digests": self._digests,
            "refine": self._refine,
        }

    def run(self) -> None:
        """Greet, then answer requests until the client closes the stream."""
        self._channel.send_json(
            protocol.HELLO,
            {
                "gymdbd": __version__,
                "python": info.PYTHON,
                "sqlite": sqlite3.sqlite_version,
                "codecs": compress.packers(),
                "fingerprint": take(self._pages).to_json(),
                "reason": self._pages.reason,
                "ownership": ownership.read(self._pages.snapshot.path),
            },
        )
        self._channel.flush()
        while True:
            message = self._channel.receive_or_end(protocol.REQUEST)
            if message is None:
                return
            request = protocol.parse_json(message[1])
            answer = self._answers.get(str(request.get("op")))
            if answer is None:
                raise ProtocolError(f"unknown request {str(request.get('op'))[:40]!r}")
            try:
                answer(request)
            except SourceError:
                # If the file was written meanwhile, the error may not be real.
                self._pages.snapshot.confirm()
                raise
            self._channel.flush()

    def _info(self, request: dict[str, Any]) -> None:
        del request
        self._channel.send_json(protocol.RESULT, info.tell(self._pages))

    def _rows(self, request: dict[str, Any]) -> None:
        del request
        snapshot = self._pages.snapshot
        tables = snapshot.count_rows()
        left_out = uncounted(snapshot.facts, tables)
        snapshot.confirm()
        self._channel.send_json(protocol.RESULT, {"tables": tables, "uncounted": left_out})

    def _tail(self, request: dict[str, Any]) -> None:
        since = _parse_since(request)
        numbers = self._pages.load_tail(*since) if since else None
        if numbers is None:
            refusal = {"refused": "the WAL is not the one of last time"}
            self._channel.send_json(protocol.RESULT, refusal)
            return
        pages, codec = self._pages, _codec(request)

        def work(batch: list[int]) -> tuple[int, bytes | bytearray]:
            return _pack(batch, [pages.read(number, 1) for number in batch], codec)

        step = max(1, _BATCH_BYTES // pages.page_size)
        self._send_packed(digests.in_order(_slices(numbers, step), work))
        self._end({})

    def _full(self, request: dict[str, Any]) -> None:
        self._pages.load()
        pages, codec = self._pages, _codec(request)
        step = max(1, _BATCH_BYTES // pages.page_size)

        def work(first: int) -> tuple[bytearray, int, bytes | bytearray]:
            count = min(step, pages.count + 1 - first)
            data = pages.read(first, count)
            numbers = list(range(first, first + count))
            return data, *compress.pack(protocol.pack_pages(numbers, data), codec)

        whole = hashlib.sha256()
        for data, used, packed in digests.in_order(range(1, pages.count + 1, step), work):
            self._channel.send(protocol.PAGES, packed, used)
            whole.update(data)
        self._end({"sha256": whole.hexdigest()})

    def _digests(self, request: dict[str, Any]) -> None:
        del request
        self._pages.load()
        whole = hashlib.sha256()
        waiting: list[bytes] = []
        for data, found in digests.hash_runs(
            self._pages.read, self._pages.count, self._pages.page_size
        ):
            whole.update(data)
            waiting += found
            if len(waiting) >= _DIGESTS_A_FRAME:
                self._channel.send(protocol.DIGESTS, b"".join(waiting))
                waiting = []
        if waiting:
            self._channel.send(protocol.DIGESTS, b"".join(waiting))
        self._end({"sha256": whole.hexdigest()})

    def _refine(self, request: dict[str, Any]) -> None:
        self._pages.load()
        pages, codec = self._pages, _codec(request)

        def work(groups: list[Group]) -> tuple[int, bytes | bytearray]:
            numbers, parts = [], []
            for wanted, theirs in groups:
                data = pages.read(wanted.start, len(wanted))
                mine = digests.split(data, pages.page_size)
                for at, number in enumerate(wanted):
                    if mine[at] != theirs[at]:
                        numbers.append(number)
                        parts.append(data[at * pages.page_size : (at + 1) * pages.page_size])
            return _pack(numbers, parts, codec)

        while True:
            _, payload = self._channel.receive(protocol.DIGESTS)
            if not payload:
                return
            groups = _parse_groups(payload, pages)
            self._send_packed(digests.in_order(_slices(groups, _GROUPS_A_BATCH), work))
            self._end({})
            self._channel.flush()

    def _end(self, last: dict[str, Any]) -> None:
        """Vouch for the pages that were sent, as those of one state."""
        self._pages.snapshot.confirm()
        self._channel.send_json(protocol.END, last)

    def _send_packed(self, batches: Iterator[tuple[int, bytes | bytearray]]) -> None:
        for used, packed in batches:
            if packed:
                self._channel.send(protocol.PAGES, packed, used)


def _pack(numbers: list[int], parts: list[bytearray], codec: int) -> tuple[int, bytes | bytearray]:
    """Build a packed PAGES payload, empty for no pages."""
    if not numbers:
        return compress.RAW, b""
    return compress.pack(protocol.pack_pages(numbers, b"".join(parts)), codec)


def _slices(items: list[Item], length: int) -> Iterator[list[Item]]:
    return (items[start : start + length] for start in range(0, len(items), length))


def _codec(request: dict[str, Any]) -> int:
    return compress.choose(str(request.get("codec")))


def _parse_since(request: dict[str, Any]) -> tuple[bytes, int, tuple[int, int]] | None:
    frames, one, two = (request.get(key) for key in ("frames", "checksum_one", "checksum_two"))
    if not isinstance(frames, int) or not isinstance(one, int) or not isinstance(two, int):
        return None
    try:
        return bytes.fromhex(str(request.get("salts"))), frames, (one, two)
    except ValueError:
        return None


def _parse_groups(payload: bytes, pages: Pages) -> list[Group]:
    """Read what the client has of some groups; ProtocolError for a group that is not there."""
    length, size = digests.group_pages(pages.page_size), digests.DIGEST_SIZE
    found, at = [], 0
    while at < len(payload):
        group = int.from_bytes(payload[at : at + 4], "big")
        first = group * length + 1
        numbers = range(first, min(first + length, pages.count + 1))
        end = at + 4 + len(numbers) * size
        if not numbers or end > len(payload):
            raise ProtocolError(f"the client asks for group {group}, which is not there")
        theirs = [payload[start : start + size] for start in range(at + 4, end, size)]
        found.append((numbers, theirs))
        at = end
    return found


def main(path: Path, *, stall_timeout_s: float = STALL_TIMEOUT_S) -> int:
    """Serve the database at `path` on standard input and output.

    Standard output belongs to the protocol: anything else that prints goes to standard error.
    """
    patience = Patience(stall_timeout_s)
    writer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        reader = PatientStream(sys.stdin.buffer, patience)
        return serve(path, reader, PatientStream(writer, patience))
    finally:
        # A client that has gone will not read the rest.
        with contextlib.suppress(StalledError, OSError):
            patience.wait(writer.close)
