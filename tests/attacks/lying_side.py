"""A serving side of somebody else's: it speaks the protocol of a pull, and means harm.

`python lying_side.py MODE SIZE` is started over SSH in the place of python3 over there. Instead of
a mode there may be `info-` and the dictionary that describes the database.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))
from gymdbd.source import digests, payloads, protocol

# That of the database in the tests of a pull.
_PAGE = 1024
_BATCH = 256
_SECOND = 1.0


def _fingerprint(size: int) -> dict[str, object]:
    numbers = ("device", "inode", "ctime_ns", "size", "frames", "checksum_one", "checksum_two")
    return {
        "schema": 1,
        **dict.fromkeys(numbers, 1),
        "page_size": _PAGE,
        "page_count": size // _PAGE,
        "journal_mode": "wal",
        "method": "page-rule",
        "salts": "0" * 16,
        "settled": True,
        "taken_ns": time.time_ns(),
    }


class Liar:
    """The server; `mode` is how it lies about a database of `size` bytes."""

    def __init__(self, mode: str, size: int) -> None:
        self.mode = mode
        self.count = size // _PAGE
        self.channel = protocol.Channel(sys.stdin.buffer.raw, sys.stdout.buffer)  # type: ignore[union-attr]
        self.hello = {"gymdbd": "0.1.0", "codecs": ["raw"], "fingerprint": _fingerprint(size)}

    def run(self) -> None:
        """Greet, and answer every request."""
        if self.mode == "greeting":
            self._talk_without_end()
        self.channel.send_preamble()
        self.channel.expect_client()
        if self.mode == "drip":
            self._drip()
        self.channel.send_json(protocol.HELLO, self.hello)
        self.channel.flush()
        while True:
            request = self.channel.receive_json(protocol.REQUEST)
            getattr(self, f"_{request['op']}")()
            self.channel.flush()

    def _talk_without_end(self) -> None:
        while True:
            sys.stdout.write("welcome " * 100_000)

    def _drip(self) -> None:
        sys.stdout.buffer.write(b"\1\0\0\1\0\0")
        while True:
            sys.stdout.buffer.write(b" ")
            sys.stdout.buffer.flush()
            time.sleep(_SECOND)

    def _rows(self) -> None:
        self.channel.send_json(protocol.RESULT, {"tables": {}, "uncounted": []})

    def _info(self) -> None:
        told = eval(self.mode.removeprefix("info-"), {"nan": float("nan")})  # noqa: S307 - ours
        self.channel.send_json(protocol.RESULT, told)

    def _page(self) -> bytes:
        return bytes(_PAGE) if self.mode == "zeros" else os.urandom(_PAGE)

    def _end(self, digest: str) -> None:
        self.channel.send_json(protocol.END, {"sha256": digest})

    def _full(self) -> None:
        whole = hashlib.sha256()
        for first in range(1, self.count + 1, _BATCH):
            numbers = list(range(first, min(first + _BATCH, self.count + 1)))
            data = b"".join(self._page() for _ in numbers)
            whole.update(data)
            self.channel.send(protocol.PAGES, payloads.pack_pages(numbers, data))
        self._end(whole.hexdigest())

    def _digests(self) -> None:
        """Agree with nothing, ever."""
        for _ in range(digests.group_count(self.count, _PAGE)):
            self.channel.send(protocol.DIGESTS, os.urandom(digests.DIGEST_SIZE))
        zeros = hashlib.sha256(bytes(self.count * _PAGE)).hexdigest()
        self._end(zeros if self.mode == "zeros" else "0" * 64)

    def _refine(self) -> None:
        while asked := self.channel.receive(protocol.DIGESTS)[1]:
            at = 0
            while at < len(asked):
                group = int.from_bytes(asked[at : at + 4], "big")
                length = digests.group_pages(_PAGE)
                first = group * length + 1
                pages = list(range(first, min(first + length, self.count + 1)))
                at += 4 + digests.DIGEST_SIZE * len(pages)
                data = b"".join(self._page() for _ in pages)
                self.channel.send(protocol.PAGES, payloads.pack_pages(pages, data))
            self.channel.send_json(protocol.END, {})
            self.channel.flush()


if __name__ == "__main__":
    Liar(sys.argv[1], int(sys.argv[2])).run()
