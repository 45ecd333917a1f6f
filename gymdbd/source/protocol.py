"""How the two ends of a pull speak: one page, bounded, binary-clean.

Either end begins with ten bytes: the magic ``NUL g y m d b d 0xFF`` and a 16-bit version. No text
contains them, so whatever comes before is a shell's start-up file speaking, and is named. An end
that reads another version refuses. Only a shipped server is preceded by lines of its loader
(`gymdbd.remote.greeting`): "ready" asks for a piece of Python, "unchanged" ends it all. Then both
send frames (integers are big-endian)::

    kind 1 byte | codec 1 byte | length 4 bytes | payload of that length, at most 2 MiB

The codec says how the payload was packed (`gymdbd.source.compress`); unpacked it is at most 2 MiB
too. JSON payloads are objects of at most 1 MiB. The server opens the database and sends::

    HELLO    JSON {gymdbd, python, sqlite, codecs, fingerprint, reason, ownership, status}

The client then asks, one request after the other, each op once, and may close at any time. REQUEST
is JSON {op, ...}, where `database` may name the one that is meant; the answers are::

    info     -> RESULT JSON, the facts of the database and its machine
    rows     -> RESULT JSON {tables: {name: rows}}, counted in the same snapshot
    tail     {salts, frames, checksum_one, checksum_two, codec}
             -> PAGES*, END {}: the pages changed since that frame; or RESULT {refused: why}
    full     {codec} -> PAGES*, END {sha256}: every page, ascending
    digests  -> DIGESTS*, END {sha256}: 16 bytes for each group of pages, ascending
    refine   {codec} followed by DIGESTS frames: one for each request for pages
             -> for each: PAGES*, END {}; an empty DIGESTS frame ends it and has no answer
    status   {path}, if the HELLO has status: true; it is the last one, and ends the snapshot
             -> RESULT {now: seconds since 1970 there, text: the file, or refused: why not}

PAGES is a 32-bit count n, n 32-bit page numbers, ascending, and n pages. In `refine` a DIGESTS
frame holds entries of a 32-bit group number and 16 bytes for each of that group's pages as the
client has them, zeros for a page that it lacks; the server sends the pages that differ. At most
two such frames are under way at a time, so neither end can block the other by not reading.

`sha256` is that of the whole normalised snapshot (`gymdbd.source.pages`). Instead of any answer
the server may send ERROR, JSON {code, message, hint}, and end.
"""

from __future__ import annotations

import contextlib
import json
import struct
from typing import Any, Callable, ContextManager, Protocol, Tuple

from gymdbd.source import compress
from gymdbd.source.errors import (
    MOST_TEXT,
    ConnectionLostError,
    GymdbdError,
    ProtocolError,
    to_error,
)

MAGIC = b"\0gymdbd\xff"
VERSION = 1

HELLO, REQUEST, RESULT, PAGES, DIGESTS, END, ERROR = range(1, 8)
_KINDS = {
    HELLO: "HELLO",
    REQUEST: "REQUEST",
    RESULT: "RESULT",
    PAGES: "PAGES",
    DIGESTS: "DIGESTS",
    END: "END",
    ERROR: "ERROR",
}

MOST_PAYLOAD = 2 * 1024 * 1024
MOST_JSON = 1024 * 1024

_PREAMBLE = struct.Struct(">8sH")
_FRAME = struct.Struct(">BBI")

Message = Tuple[int, bytes]


class Reader(Protocol):
    """Where bytes come from: `read(n)` gives up to n bytes, none at the end."""

    def read(self, size: int, /) -> bytes | None:
        """Read up to `size` bytes."""


class Writer(Protocol):
    """Where bytes go to."""

    def write(self, data: Any, /) -> Any:
        """Write all of `data`."""

    def flush(self) -> Any:
        """Pass on what was written."""


class Channel:
    """Frames over a pair of byte streams; counts the bytes of both directions.

    A message that has begun is read to its end inside the context that `message` returns, which may
    limit how long that takes.
    """

    def __init__(
        self,
        reader: Reader,
        writer: Writer,
        message: Callable[[], ContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._message = message
        self._pending = b""
        self.bytes_sent = 0
        self.bytes_received = 0

    def send_preamble(self) -> None:
        """Send the magic and the version of the protocol."""
        self._write(_PREAMBLE.pack(MAGIC, VERSION))
        self.flush()

    def ship(self, piece: bytes) -> None:
        """Send the loader a piece of Python to run."""
        self._write(piece)
        self.flush()

    def read_until(self, *marks: bytes, most: int) -> bytes:
        """Read up to the end of one of these, or of the stream, or `most` bytes.

        At least a preamble is read, so that `unread` may have to give back what follows the mark.
        """
        seen = self._read_up_to(_PREAMBLE.size)
        while not any(mark in seen for mark in marks) and len(seen) < most:
            more = self._read_up_to(1)
            if not more:
                break
            seen += more
        return seen

    def unread(self, data: bytes) -> None:
        """Put back bytes that were read too far."""
        self._pending = data + self._pending

    def expect_version(self) -> None:
        """Read what follows the magic of the other end; ProtocolError for another version."""
        version = int.from_bytes(self._read_exactly(_PREAMBLE.size - len(MAGIC)), "big")
        if version != VERSION:
            raise ProtocolError(
                f"the other side speaks version {version} of the protocol, this one {VERSION}",
                hint="install the same release of gymdbd on both machines",
            )

    def expect_client(self) -> None:
        """Read a client's preamble, and give up at the first byte that none of ours sends.

        Whoever speaks another protocol, as an SFTP client does, waits for an answer after a few
        bytes, and two that wait for each other never end.
        """
        seen = b""
        with self._message():
            while seen != MAGIC:
                seen += self._read_exactly(1)
                if not MAGIC.startswith(seen):
                    raise ProtocolError("the client does not speak the protocol of a pull")
            self.expect_version()

    def send(self, kind: int, payload: bytes | bytearray = b"", codec: int = compress.RAW) -> None:
        """Send one frame, with its payload already packed by `codec`."""
        self._write(_FRAME.pack(kind, codec, len(payload)), payload)

    def send_json(self, kind: int, value: dict[str, Any]) -> None:
        """Send one frame with a JSON object; ProtocolError if it is too large to be read."""
        data = json.dumps(value, separators=(",", ":")).encode()
        if len(data) > MOST_JSON:
            raise ProtocolError(f"an answer of {len(data)} bytes is too large to send")
        codec, packed = compress.pack(data, compress.ZLIB)
        self.send(kind, packed, codec)

    def send_error(self, error: GymdbdError) -> None:
        """Send an error of ours; the other end raises one of the same class."""
        texts = {"code": error.code, "message": str(error), "hint": error.hint}
        self.send_json(ERROR, {key: text[:MOST_TEXT] for key, text in texts.items()})

    def receive(self, *expected: int) -> Message:
        """Return kind and unpacked payload of the next frame, which must be one of `expected`.

        Raises the error that the other end sent, ConnectionLostError at the end of the stream,
        ProtocolError for anything that is not allowed.
        """
        message = self.receive_or_end(*expected)
        if message is None:
            raise lost()
        return message

    def receive_or_end(self, *expected: int) -> Message | None:
        """Do as `receive`, but return None if the stream ends between two frames."""
        header = self._read_up_to(1)
        if not header:
            return None
        with self._message():
            header += self._read_exactly(_FRAME.size - len(header))
            kind, codec, length = _FRAME.unpack(header)
            if length > MOST_PAYLOAD:
                raise ProtocolError(f"the other side announces a frame of {length} bytes")
            packed = self._read_exactly(length)
        payload = compress.unpack(packed, codec, MOST_PAYLOAD)
        if kind == ERROR:
            raise to_error(parse_json(payload))
        if kind not in expected:
            wanted = " or ".join(_KINDS[kind] for kind in expected)
            name = _KINDS.get(kind, f"kind {kind}")
            raise ProtocolError(f"the other side sent {name} where {wanted} was due")
        return kind, payload

    def receive_json(self, kind: int) -> dict[str, Any]:
        """Receive one frame of `kind` and return the JSON object in it."""
        return parse_json(self.receive(kind)[1])

    def flush(self) -> None:
        """Pass on everything sent so far."""
        try:
            self._writer.flush()
        except (BrokenPipeError, ConnectionError, EOFError) as error:
            raise lost() from error

    def _write(self, *parts: bytes | bytearray) -> None:
        try:
            for part in parts:
                self._writer.write(part)
                self.bytes_sent += len(part)
        except (BrokenPipeError, ConnectionError, EOFError) as error:
            raise lost() from error

    def _read_exactly(self, size: int) -> bytes:
        data = self._read_up_to(size)
        if len(data) < size:
            raise lost()
        return data

    def _read_up_to(self, size: int) -> bytes:
        """Read `size` bytes, fewer only at the end of the stream."""
        parts = [self._pending[:size]]
        self._pending = self._pending[size:]
        missing = size - len(parts[0])
        while missing > 0:
            try:
                part = self._reader.read(missing)
            except (ConnectionError, EOFError) as error:
                raise lost() from error
            if not part:
                break
            parts.append(part)
            missing -= len(part)
            self.bytes_received += len(part)
        return b"".join(parts)


def parse_json(payload: bytes) -> dict[str, Any]:
    """Read a JSON object; ProtocolError for anything else, however it is nested."""
    if len(payload) > MOST_JSON:
        raise ProtocolError(f"the other side sent {len(payload)} bytes of JSON")
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("the other side sent something that is not JSON") from error
    if not isinstance(value, dict):
        raise ProtocolError("the other side sent JSON that is not an object")
    return value


def lost() -> ConnectionLostError:
    """Build the error for a stream that has ended too soon."""
    return ConnectionLostError(
        "the connection ended in the middle of an answer",
        hint="it is tried again; if it stays so, look at the other machine's sshd log, memory and "
        "network",
    )
