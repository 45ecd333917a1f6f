"""The receiving side of a pull: bring a local file to the remote snapshot.

Everything the other side says is checked before it is used: a page is written only where the
snapshot has that page, in the order that was agreed, and never more of them than there are.
"""

from __future__ import annotations

import hashlib
import os
import time
from array import array
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gymdbd.files import FILE_MODE, write_at, writing
from gymdbd.remote import delta, greeting
from gymdbd.source import compress, digests, ownership, protocol
from gymdbd.source.errors import ConnectionLostError, ProtocolError
from gymdbd.source.fingerprint import Fingerprint
from gymdbd.source.protocol import Channel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Progress = Callable[[str, int, int], None]
    Check = Callable[[], None]

# Two requests of this size are under way at a time: together less than a pipe holds, so that
# the other side is never kept from reading by our not reading.
_REQUEST_BYTES = 16 * 1024
_REQUESTS_UNDER_WAY = 2
_NO_PAGE = bytes(digests.DIGEST_SIZE)


def _nothing(*_: Any) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Hello:
    """What is used of the other side's greeting."""

    codecs: list[str]
    fingerprint: Fingerprint
    ownership: dict[str, Any] | None


@dataclass(frozen=True)
class Fetched:
    """What a fetch did.

    `fingerprint` belongs beside the file, for the next pull. `sha256` is what the other side has
    of the whole, to be compared with the file's, "" where only a tail was fetched. `changed` are
    the numbers of the pages that were written. `timings` are seconds.
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
        self._progress = progress
        self._check = check
        self.timings: dict[str, float] = {}
        self.uncounted: list[str] = []
        self._codec_name = "raw"
        # Mode, owner and group of the database over there, None if it does not tell.
        self.ownership: dict[str, Any] | None = None
        with self._timed("hello"):
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
        self._codec_name = next(
            name for name in compress.unpackers() if name in [*hello.codecs, "raw"]
        )
        self.ownership = hello.ownership
        return hello.fingerprint

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
        return self._ask("info")

    def count_rows(self) -> dict[str, int]:
        """Ask for the rows of every table in this very snapshot.

        `uncounted` names the tables that the SQLite over there could not count.
        """
        with self._timed("rows"):
            answer = self._ask("rows")
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
            file = _PagedFile(descriptor, target, self.fingerprint)
            strategy, reason, digest = self._run(file, plan)
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

    def _run(self, file: _PagedFile, plan: delta.Plan) -> tuple[str, str, str]:
        """Fetch; return the strategy used in the end, its reason, and the whole's SHA-256."""
        if plan.since is not None:
            with self._timed("transfer"):
                refused = self._fetch_tail(file, plan.since)
            if not refused:
                return delta.TAIL, plan.reason, ""
            return delta.DIGEST, refused, self._fetch_differing(file)
        if plan.strategy == delta.FULL:
            with self._timed("transfer"):
                return delta.FULL, plan.reason, self._fetch_full(file)
        return delta.DIGEST, plan.reason, self._fetch_differing(file)

    def _fetch_tail(self, file: _PagedFile, since: delta.Since) -> str:
        """Fetch the pages changed since that frame; return why the other side refused, or ""."""
        self._request(
            "tail",
            salts=since.salts,
            frames=since.frames,
            checksum_one=since.checksum_one,
            checksum_two=since.checksum_two,
        )
        kind, payload = self._channel.receive(protocol.PAGES, protocol.RESULT, protocol.END)
        if kind == protocol.RESULT:
            return str(protocol.parse_json(payload).get("refused", "refused"))[:200]
        self._receive_pages(file, range(1, self.fingerprint.page_count + 1), (kind, payload))
        return ""

    def _fetch_full(self, file: _PagedFile) -> str:
        everything = range(1, self.fingerprint.page_count + 1)
        self._request("full")
        end = self._receive_pages(file, everything)
        if len(file.written) != len(everything):
            raise ProtocolError(
                f"the other side sent {len(file.written)} of {len(everything)} pages"
            )
        return _sha256_of(end)

    def _fetch_differing(self, file: _PagedFile) -> str:
        with self._timed("digests"):
            file.cut()
            groups, digest = self._compare(file)
        with self._timed("transfer"):
            self._refine(file, groups)
        return digest

    def _compare(self, file: _PagedFile) -> tuple[list[int], str]:
        """Hash the file while the other side hashes its own; list the groups that differ."""
        remote = self.fingerprint
        self._request("digests")
        theirs: deque[bytes] = deque()
        found: list[int] = []
        group = 0
        runs = digests.runs(remote.page_count, remote.page_size)
        hashed = digests.hash_runs(file.read, remote.page_count, remote.page_size)
        for run, (_, mine) in zip(runs, hashed, strict=True):
            count = digests.group_count(len(run), remote.page_size)
            while len(theirs) < count:
                theirs.extend(self._receive_digests())
            # Where the file ends early it has nothing to compare.
            padded = mine + [b""] * (count - len(mine))
            found += [group + at for at, one in enumerate(padded) if one != theirs.popleft()]
            group += count
            self._progress("digests", run[-1] * remote.page_size, remote.size_bytes)
            self._check()
        if theirs:
            raise ProtocolError("the other side sent more digests than it has groups of pages")
        return found, _sha256_of(self._channel.receive_json(protocol.END))

    def _receive_digests(self) -> list[bytes]:
        _, payload = self._channel.receive(protocol.DIGESTS)
        size = digests.DIGEST_SIZE
        if not payload or len(payload) % size:
            raise ProtocolError(f"the other side sent {len(payload)} bytes of digests")
        return [payload[at : at + size] for at in range(0, len(payload), size)]

    def _refine(self, file: _PagedFile, groups: list[int]) -> None:
        """Send what we have of the groups that differ, and write the pages that come back."""
        remote = self.fingerprint
        total = sum(len(self._pages_of(group)) for group in groups) * remote.page_size
        self._request("refine")
        asked: deque[list[int]] = deque()
        done = 0
        entries = ((group, self._digests_of(file, group)) for group in groups)
        for numbers, payload in delta.requests(entries, most_bytes=_REQUEST_BYTES):
            self._channel.send(protocol.DIGESTS, payload)
            self._channel.flush()
            asked.append(numbers)
            if len(asked) == _REQUESTS_UNDER_WAY:
                done += self._receive_groups(file, asked.popleft())
                self._progress("transfer", done, total)
        while asked:
            done += self._receive_groups(file, asked.popleft())
            self._progress("transfer", done, total)
        self._channel.send(protocol.DIGESTS)
        self._channel.flush()

    def _receive_groups(self, file: _PagedFile, groups: list[int]) -> int:
        allowed = [page for group in groups for page in self._pages_of(group)]
        self._receive_pages(file, allowed, report=False)
        return len(allowed) * self.fingerprint.page_size

    def _pages_of(self, group: int) -> range:
        return delta.group_range(group, self.fingerprint.page_count, self.fingerprint.page_size)

    def _digests_of(self, file: _PagedFile, group: int) -> list[bytes]:
        pages, size = self._pages_of(group), self.fingerprint.page_size
        data = file.read(pages.start, len(pages))
        found = digests.split(data[: len(data) // size * size], size)
        return found + [_NO_PAGE] * (len(pages) - len(found))

    def _receive_pages(
        self,
        file: _PagedFile,
        allowed: range | list[int],
        first: protocol.Message | None = None,
        *,
        report: bool = True,
    ) -> dict[str, Any]:
        """Write PAGES until END, whose JSON is returned; only `allowed` pages, ascending."""
        permitted = allowed if isinstance(allowed, range) else frozenset(allowed)
        last = 0
        size, total = self.fingerprint.page_size, self.fingerprint.size_bytes
        while True:
            kind, payload = first or self._channel.receive(protocol.PAGES, protocol.END)
            first = None
            if kind == protocol.END:
                return protocol.parse_json(payload)
            numbers, data = protocol.unpack_pages(payload, size)
            for number in numbers:
                if number <= last or number not in permitted:
                    raise ProtocolError(f"the other side sent page {number}, which was not due")
                last = number
            file.write(numbers, data)
            if report:
                self._progress("transfer", last * size, total)
            self._check()

    def _ask(self, op: str) -> dict[str, Any]:
        self._request(op)
        return self._channel.receive_json(protocol.RESULT)

    def _request(self, op: str, **details: Any) -> None:
        self._check()
        request = {"op": op, "codec": self._codec_name, **details}
        try:
            self._channel.send_json(protocol.REQUEST, request)
            self._channel.flush()
        except ConnectionLostError:
            # Its last words tell why it is gone.
            self._channel.receive(protocol.END)
            raise

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.timings[step] = round(time.monotonic() - begun, 6)


class _PagedFile:
    """The local file as numbered pages; `written` are the numbers of those that arrived."""

    def __init__(self, descriptor: int, path: Path, remote: Fingerprint) -> None:
        self.descriptor = descriptor
        self.written = array("I")
        self._path = path
        self._page_size = remote.page_size
        self._size = remote.size_bytes

    def cut(self) -> None:
        """Cut off what the snapshot does not have."""
        with writing(self._path):
            if os.fstat(self.descriptor).st_size > self._size:
                os.ftruncate(self.descriptor, self._size)

    def finish(self) -> None:
        """Cut the file to the snapshot's size; ProtocolError where pages at its end are missing."""
        self.cut()
        size = os.fstat(self.descriptor).st_size
        if size != self._size:
            raise ProtocolError(f"the other side sent too few pages: {size} of {self._size} bytes")

    def read(self, first: int, count: int) -> bytes:
        """Read up to `count` pages from number `first`, fewer where the file ends."""
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


def _parse_hello(value: dict[str, Any]) -> Hello:
    codecs = value.get("codecs")
    try:
        fingerprint = Fingerprint.from_json(value.get("fingerprint"))
    except ValueError as error:
        raise ProtocolError(f"the other side's fingerprint is wrong: {error}") from error
    names = [one for one in codecs if isinstance(one, str)] if isinstance(codecs, list) else []
    return Hello(names, fingerprint, ownership.parse(value.get("ownership")) or None)


def _sha256_of(end: dict[str, Any]) -> str:
    digest = end.get("sha256")
    if not isinstance(digest, str) or len(digest) != 2 * hashlib.sha256().digest_size:
        raise ProtocolError("the other side did not say what the whole sums up to")
    return digest
