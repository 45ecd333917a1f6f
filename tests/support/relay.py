"""A TCP relay on loopback that a test can make stop forwarding, or cut, at a chosen byte."""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

_CHUNK_BYTES = 16 * 1024


class Relay:
    """Forwards connections at `port` to `target_port`; counts the bytes of each direction.

    After exactly `stall_after` bytes to the client nothing moves in either direction any more, with
    the connection still standing; after `cut_after` both sides are closed, after `reset_after`
    reset; after `trickle_after` one byte a second moves. The byte `flip_at` of those to the client,
    or `flip_sent_at` of those to the server, arrives with all its bits turned.
    """

    def __init__(
        self,
        target_port: int,
        *,
        stall_after: int | None = None,
        cut_after: int | None = None,
        reset_after: int | None = None,
        trickle_after: int | None = None,
        flip_at: int | None = None,
        flip_sent_at: int | None = None,
    ) -> None:
        self._target_port = target_port
        self.stall_after = stall_after
        self.cut_after = cut_after
        self._reset_after = reset_after
        self._trickle_after = trickle_after
        self._flip_at = flip_at
        self._flip_sent_at = flip_sent_at
        self.bytes_to_client = 0
        self.bytes_to_server = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Relay:
        """Start relaying."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close everything."""
        self._wake_writer.close()
        self._thread.join()

    def stall(self) -> None:
        """Forward nothing from now on."""
        self.stall_after = 0
        self._wake_writer.send(b".")

    def cut(self) -> None:
        """Close both sides now."""
        self.cut_after = 0
        self._wake_writer.send(b".")

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector, self._listener, self._wake_reader:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._wake_reader, selectors.EVENT_READ)
            pairs: dict[socket.socket, tuple[socket.socket, bool]] = {}
            while self._turn(selector, pairs):
                pass
            for end in pairs:
                end.close()

    def _turn(
        self,
        selector: selectors.BaseSelector,
        pairs: dict[socket.socket, tuple[socket.socket, bool]],
    ) -> bool:
        for key, _ in selector.select():
            end = key.fileobj
            assert isinstance(end, socket.socket)
            if end is self._wake_reader:
                if not end.recv(64):
                    return False
                self._obey(selector, pairs)
            elif end is self._listener:
                client = end.accept()[0]
                server = socket.create_connection(("127.0.0.1", self._target_port))
                pairs.update({client: (server, False), server: (client, True)})
                selector.register(client, selectors.EVENT_READ)
                selector.register(server, selectors.EVENT_READ)
                # Whoever comes after the link has stalled is not listened to either.
                self._obey(selector, pairs)
            elif end in pairs and not self._is_stalled():
                self._forward(end, selector, pairs)
        return True

    def _forward(
        self,
        end: socket.socket,
        selector: selectors.BaseSelector,
        pairs: dict[socket.socket, tuple[socket.socket, bool]],
    ) -> None:
        other, to_client = pairs[end]
        try:
            data = end.recv(self._most(to_client=to_client))
            other.sendall(self._flipped(data, to_client=to_client))
        except OSError:
            data = b""
        if to_client:
            self.bytes_to_client += len(data)
        else:
            self.bytes_to_server += len(data)
        if not data:
            for gone in (end, other):
                selector.unregister(gone)
                del pairs[gone]
                gone.close()
        self._obey(selector, pairs)

    def _most(self, *, to_client: bool) -> int:
        """Say how many bytes may move now: none beyond the next point at which something is due."""
        if not to_client:
            return _CHUNK_BYTES
        if self._trickle_after is not None and self.bytes_to_client >= self._trickle_after:
            time.sleep(1)  # What a slow link is, and not a wait for anything.
            return 1
        due = (self.stall_after, self.cut_after, self._reset_after, self._trickle_after)
        ahead = [at - self.bytes_to_client for at in due if at is not None]
        return min([_CHUNK_BYTES, *(count for count in ahead if count > 0)])

    def _flipped(self, data: bytes, *, to_client: bool) -> bytes:
        flip, done = (
            (self._flip_at, self.bytes_to_client)
            if to_client
            else (self._flip_sent_at, self.bytes_to_server)
        )
        at = -1 if flip is None else flip - done
        if not 0 <= at < len(data):
            return data
        return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]

    def _obey(
        self,
        selector: selectors.BaseSelector,
        pairs: dict[socket.socket, tuple[socket.socket, bool]],
    ) -> None:
        if self._is_stalled():
            for end in pairs:
                if end in selector.get_map():
                    selector.unregister(end)
        for after in (self.cut_after, self._reset_after):
            if after is not None and self.bytes_to_client >= after:
                self._end_all(selector, pairs)

    def _end_all(
        self,
        selector: selectors.BaseSelector,
        pairs: dict[socket.socket, tuple[socket.socket, bool]],
    ) -> None:
        for end in list(pairs):
            if end in selector.get_map():
                selector.unregister(end)
            del pairs[end]
            if self._reset_after is not None:
                # Closed so, the other side gets a reset and not an end.
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()

    def _is_stalled(self) -> bool:
        return self.stall_after is not None and self.bytes_to_client >= self.stall_after
