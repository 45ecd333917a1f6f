"""Bringing a file to the remote snapshot, page by page.

A page is written only if the snapshot has it and it was requested, in ascending order.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gymdbd.files import write_at, writing
from gymdbd.remote import delta
from gymdbd.source import digests, payloads, protocol
from gymdbd.source.errors import ConnectionLostError, ProtocolError

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.remote.conversation import Conversation
    from gymdbd.source.fingerprint import Fingerprint

# Two requests of this size are sent before an answer is read. They fit into a pipe together, so
# the two sides cannot block each other.
_REQUEST_BYTES = 16 * 1024
_REQUESTS_UNDER_WAY = 2
# Messages, if each answers with as many of the largest pages as a request can ask for.
_MOST_UNDER_WAY = 1024
_NO_PAGE = bytes(digests.DIGEST_SIZE)


@dataclass(frozen=True)
class Fetched:
    """The result of a fetch.

    `fingerprint` is to be stored for the next pull. `sha256` is the other side's digest of the
    whole snapshot, to compare with the file, or "" if only a tail was fetched. `changed` are the
    numbers of the pages that were written. `timings` are seconds.
    """

    strategy: str
    reason: str
    method: str
    pages_total: int
    changed: array[int]
    sha256: str
    fingerprint: Fingerprint
    bytes_sent: int
    bytes_received: int
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def pages_changed(self) -> int:
        """Return how many pages were written."""
        return len(self.changed)


class Fetch:
    """One fetch: the pages of the snapshot `remote` into `file`, in one of three ways."""

    def __init__(self, talk: Conversation, remote: Fingerprint, file: PagedFile) -> None:
        self._talk = talk
        self.remote = remote
        self.file = file

    def run(self, plan: delta.Plan) -> tuple[str, str, str]:
        """Fetch; return the strategy used, its reason, and the SHA-256 of the whole snapshot."""
        if plan.since is not None:
            with self._talk.timed("transfer"):
                refused = self._fetch_tail(plan.since)
            if not refused:
                return delta.TAIL, plan.reason, ""
            return delta.DIGEST, refused, self._fetch_differing()
        if plan.strategy == delta.FULL:
            with self._talk.timed("transfer"):
                return delta.FULL, plan.reason, self._fetch_full()
        return delta.DIGEST, plan.reason, self._fetch_differing()

    def _fetch_tail(self, since: delta.Since) -> str:
        """Fetch the pages changed since a frame; return why the other side refused, or ""."""
        self._talk.request(
            "tail",
            salts=since.salts,
            frames=since.frames,
            checksum_one=since.checksum_one,
            checksum_two=since.checksum_two,
        )
        kind, payload = self._talk.channel.receive(protocol.PAGES, protocol.RESULT, protocol.END)
        if kind == protocol.RESULT:
            return str(protocol.parse_json(payload).get("refused", "refused"))[:200]
        self._receive_pages(range(1, self.remote.page_count + 1), (kind, payload))
        return ""

    def _fetch_full(self) -> str:
        everything = range(1, self.remote.page_count + 1)
        self._talk.request("full")
        end = self._receive_pages(everything)
        if len(self.file.written) != len(everything):
            raise ProtocolError(
                f"the other side sent {len(self.file.written)} of {len(everything)} pages"
            )
        return _sha256_of(end)

    def _fetch_differing(self) -> str:
        with self._talk.timed("digests"):
            self.file.cut()
            groups, digest = self._compare()
        with self._talk.timed("transfer"):
            self._refine(groups)
        return digest

    def _compare(self) -> tuple[list[int], str]:
        """Hash the file while the other side hashes its own; list the groups that differ."""
        remote = self.remote
        self._talk.request("digests")
        theirs: deque[bytes] = deque()
        found: list[int] = []
        group = 0
        runs = digests.runs(remote.page_count, remote.page_size)
        hashed = digests.hash_runs(self.file.read, remote.page_count, remote.page_size)
        for run, (_, mine) in zip(runs, hashed, strict=True):
            count = digests.group_count(len(run), remote.page_size)
            while len(theirs) < count:
                theirs.extend(self._receive_digests())
            # Groups after the end of the file differ.
            padded = mine + [b""] * (count - len(mine))
            found += [group + at for at, digest in enumerate(padded) if digest != theirs.popleft()]
            group += count
            self._talk.progress("digests", run[-1] * remote.page_size, remote.size_bytes)
            self._talk.check()
        if theirs:
            raise ProtocolError("the other side sent more digests than it has groups of pages")
        return found, _sha256_of(self._talk.channel.receive_json(protocol.END))

    def _receive_digests(self) -> list[bytes]:
        _, payload = self._talk.channel.receive(protocol.DIGESTS)
        size = digests.DIGEST_SIZE
        if not payload or len(payload) % size:
            raise ProtocolError(f"the other side sent {len(payload)} bytes of digests")
        return [payload[at : at + size] for at in range(0, len(payload), size)]

    def _refine(self, groups: list[int]) -> None:
        """Send the digests of the pages in differing groups, and write the pages that arrive."""
        remote = self.remote
        total = sum(len(self._pages_of(group)) for group in groups) * remote.page_size
        self._talk.request("refine")
        asked: deque[list[int]] = deque()
        done = 0
        entries = ((group, self._digests_of(group)) for group in groups)
        for numbers, payload in delta.requests(entries, most_bytes=_REQUEST_BYTES):
            self._send_digests(payload)
            asked.append(numbers)
            if len(asked) == _REQUESTS_UNDER_WAY:
                done += self._receive_groups(asked.popleft())
                self._talk.progress("transfer", done, total)
        while asked:
            done += self._receive_groups(asked.popleft())
            self._talk.progress("transfer", done, total)
        self._send_digests(b"")

    def _send_digests(self, payload: bytes) -> None:
        """Ask for pages; if the other side has ended, raise the error that it reports."""
        try:
            self._talk.channel.send(protocol.DIGESTS, payload)
            self._talk.channel.flush()
        except ConnectionLostError:
            # Before that it sends what is under way.
            for _ in range(_MOST_UNDER_WAY):
                self._talk.channel.receive(protocol.PAGES, protocol.END)
            raise

    def _receive_groups(self, groups: list[int]) -> int:
        allowed = [page for group in groups for page in self._pages_of(group)]
        self._receive_pages(allowed, report=False)
        return len(allowed) * self.remote.page_size

    def _pages_of(self, group: int) -> range:
        return delta.group_range(group, self.remote.page_count, self.remote.page_size)

    def _digests_of(self, group: int) -> list[bytes]:
        pages, size = self._pages_of(group), self.remote.page_size
        data = self.file.read(pages.start, len(pages))
        found = digests.split(data[: len(data) // size * size], size)
        return found + [_NO_PAGE] * (len(pages) - len(found))

    def _receive_pages(
        self,
        allowed: range | list[int],
        first: protocol.Message | None = None,
        *,
        report: bool = True,
    ) -> dict[str, Any]:
        """Write PAGES until END, whose JSON is returned; only `allowed` pages, ascending."""
        permitted = allowed if isinstance(allowed, range) else frozenset(allowed)
        last = 0
        size, total = self.remote.page_size, self.remote.size_bytes
        while True:
            kind, payload = first or self._talk.channel.receive(protocol.PAGES, protocol.END)
            first = None
            if kind == protocol.END:
                return protocol.parse_json(payload)
            numbers, data = payloads.unpack_pages(payload, size)
            for number in numbers:
                if number <= last or number not in permitted:
                    raise ProtocolError(f"the other side sent an unexpected page {number}")
                last = number
            self.file.write(numbers, data)
            if report:
                self._talk.progress("transfer", last * size, total)
            self._talk.check()


class PagedFile:
    """The local file as numbered pages; `written` are the numbers of the pages that arrived."""

    def __init__(self, descriptor: int, path: Path, remote: Fingerprint) -> None:
        self.descriptor = descriptor
        self.written = array("I")
        self._path = path
        self._page_size = remote.page_size
        self._size = remote.size_bytes

    def cut(self) -> None:
        """Truncate the file to the size of the snapshot."""
        with writing(self._path):
            if os.fstat(self.descriptor).st_size > self._size:
                os.ftruncate(self.descriptor, self._size)

    def finish(self) -> None:
        """Truncate the file; ProtocolError if it is shorter than the snapshot."""
        self.cut()
        size = os.fstat(self.descriptor).st_size
        if size != self._size:
            raise ProtocolError(f"the other side sent too few pages: {size} of {self._size} bytes")

    def read(self, first: int, count: int) -> bytes:
        """Read up to `count` pages from number `first`, fewer at the end of the file."""
        return os.pread(self.descriptor, count * self._page_size, (first - 1) * self._page_size)

    def write(self, numbers: list[int], data: memoryview) -> None:
        """Write pages, those with consecutive numbers in one call."""
        size, begin = self._page_size, 0
        with writing(self._path):
            for at in range(1, len(numbers) + 1):
                if at == len(numbers) or numbers[at] != numbers[at - 1] + 1:
                    pages, offset = data[begin * size : at * size], (numbers[begin] - 1) * size
                    write_at(self.descriptor, pages, offset)
                    begin = at
        self.written.extend(numbers)


def _sha256_of(end: dict[str, Any]) -> str:
    digest = end.get("sha256")
    if not isinstance(digest, str) or len(digest) != 2 * hashlib.sha256().digest_size:
        raise ProtocolError("the other side did not send a valid SHA-256 of the whole snapshot")
    return digest
