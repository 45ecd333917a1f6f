"""Putting a database into its place on the other machine.

The other side is `gymdbd.source.receiving`, which is shipped over there. Everything that it sends
is checked before it is used.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from gymdbd import bounded
from gymdbd.remote import greeting
from gymdbd.remote.errors import ChannelRefusedError
from gymdbd.source import compress, ownership, protocol
from gymdbd.source.errors import ConnectionLostError, ProtocolError, StalledError, clean
from gymdbd.source.protocol import Channel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Told = TypeVar("Told")

_MOST_TEXTS = 20


@dataclass(frozen=True, kw_only=True)
class There:
    """What the other side would do: put it at `path` as its `user`.

    `saves` is the new name of the file that is there, `aside` are files of a former database that
    would be renamed.
    """

    path: str
    user: str
    free_bytes: int
    makes_folder: bool
    saves: str | None
    aside: list[str]


@dataclass(frozen=True, kw_only=True)
class Placed:
    """What the other side has done: the new names of what was there, and the file's mode and owner.

    `remarks` are what is not as it was recorded.
    """

    saved: str | None
    aside: list[str]
    ownership: dict[str, Any]
    remarks: list[str]


class Putting:
    """One conversation with a receiving side, about one database.

    `check()` is called often and may raise to stop: then nothing is put there. `confirm()` raises
    if the machine over there no longer answers. Raises the errors that the other side reports,
    ConnectionLostError if it ends too soon, ProtocolError if its messages are invalid, and
    ChannelRefusedError if the key lets nothing in but pulls.
    """

    def __init__(
        self,
        reader: protocol.Reader,
        writer: protocol.Writer,
        prelude: Callable[[], bytes],
        *,
        check: Callable[[], None],
        confirm: Callable[[], None],
    ) -> None:
        """Ship the receiving side to the loader, and greet it."""
        self._channel = Channel(reader, writer)
        self._check = check
        self._confirm = confirm
        if greeting.hear_loader(self._channel) != greeting.READY:
            raise ChannelRefusedError(
                "the key may only pull over there",
                hint="gymdbd authorize restricts it so, and a rebuild needs a full login",
            )
        with suppress(ConnectionLostError):
            self._channel.ship(prelude())
        with suppress(ConnectionLostError):
            self._channel.send_preamble()
        greeting.expect_server(self._channel)

    def ask(self, size: int, owner: dict[str, Any], *, replace: bool, stamp: str) -> There:
        """Announce a database of `size` bytes; return what would be done with it.

        Nothing is done unless `put` follows.
        """
        request = {
            "op": "rebuild",
            "size": size,
            "replace": replace,
            "stamp": stamp,
            "ownership": owner,
        }
        self._request(request)
        return _typed(There, self._hear())

    def put(self, pieces: Iterable[bytes], size: int, progress: Callable[[str, int], None]) -> str:
        """Send the database; return its SHA-256 once all of it is on the disk over there.

        `progress(step, done)` gets the steps `send` and `hash`.
        """
        digest, done = hashlib.sha256(), 0
        for piece in pieces:
            digest.update(piece)
            codec, packed = compress.pack(piece, compress.ZLIB)
            self._send(protocol.PAGES, packed, codec)
            done += len(piece)
            progress("send", done)
            self._check()
        self._send(protocol.END, b'{"sha256": "%s"}' % digest.hexdigest().encode())
        hashed = 0
        while (told := self._hear()).get("sha256") != digest.hexdigest():
            further = told.get("hashed")
            if type(further) is not int or not hashed < further <= size:
                raise ProtocolError("the other side does not tell what is on its disk")
            hashed = further
            progress("hash", hashed)
        return digest.hexdigest()

    def publish(self) -> Placed:
        """Let the database have its name over there; return what was done."""
        self._check()
        self._request({"op": "publish"})
        placed = _typed(Placed, self._hear())
        if not ownership.parse(placed.ownership):
            raise ProtocolError("the other side does not tell whose the database is now")
        return placed

    def _request(self, request: dict[str, Any]) -> None:
        try:
            self._channel.send_json(protocol.REQUEST, request)
            self._channel.flush()
        except ConnectionLostError:
            self._channel.receive(protocol.END)
            raise

    def _send(self, kind: int, payload: bytes | bytearray, codec: int = compress.RAW) -> None:
        """Send a frame; if the other side has ended, raise the error that it reports."""
        try:
            self._channel.send(kind, payload, codec)
            self._channel.flush()
        except ConnectionLostError:
            self._channel.receive(protocol.END)
            raise

    def _hear(self) -> dict[str, Any]:
        """Return the next answer: a slow disk may take its time, as long as its machine answers."""
        while True:
            try:
                return self._channel.receive_json(protocol.RESULT)
            except StalledError:
                self._confirm()


def _typed(kind: type[Told], content: dict[str, Any]) -> Told:
    """Make the dataclass of an answer, with texts that can steer no terminal."""
    try:
        return bounded.typed(kind, {name: _clean(value) for name, value in content.items()})
    except TypeError as error:
        raise ProtocolError(f"the other side's answer is invalid: {error}") from error


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_clean(item) for item in value[:_MOST_TEXTS]]
    return value
