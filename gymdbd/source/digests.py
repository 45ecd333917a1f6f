"""Hashing the pages of a database on every core, in groups, reading each page once.

A group is about 128 KiB of consecutive pages and is hashed by one call: hashlib lets go of the
interpreter's lock for it, so threads scale; page by page they would queue for the lock.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from typing import TYPE_CHECKING, Callable, Deque, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    Read = Callable[[int, int], bytes | bytearray]

DIGEST_SIZE = 16

_GROUP_BYTES = 128 * 1024
_RUN_BYTES = 512 * 1024
_MOST_WORKERS = 4

Item = TypeVar("Item")
Result = TypeVar("Result")


def workers() -> int:
    """Return how many threads to hash with: one for each core, within reason."""
    return min(os.cpu_count() or 1, _MOST_WORKERS)


def in_order(items: Iterable[Item], work: Callable[[Item], Result]) -> Iterator[Result]:
    """Apply `work` to each item on several threads, yielding the results in the items' order.

    At most two items more than there are threads are under way, so memory stays bounded.
    """
    # Its import is a tenth of the serving side's start, and an unchanged database needs no thread.
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    with ThreadPoolExecutor(workers()) as pool:
        under_way: Deque[Future[Result]] = deque()
        for item in items:
            under_way.append(pool.submit(work, item))
            if len(under_way) > workers() + 1:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def group_pages(page_size: int) -> int:
    """Return how many pages make a group."""
    return max(1, _GROUP_BYTES // page_size)


def group_count(pages: int, page_size: int) -> int:
    """Return how many groups `pages` pages make; the last may be smaller."""
    return -(-pages // group_pages(page_size))


def runs(pages: int, page_size: int) -> list[range]:
    """Cut page numbers 1 to `pages` into runs of whole groups, about 512 KiB each."""
    length = group_pages(page_size) * (_RUN_BYTES // _GROUP_BYTES)
    return [range(first, min(first + length, pages + 1)) for first in range(1, pages + 1, length)]


def digest(data: bytes | bytearray | memoryview) -> bytes:
    """Hash a page or a group."""
    return hashlib.blake2b(data, digest_size=DIGEST_SIZE).digest()


def split(data: bytes | bytearray, size: int) -> list[bytes]:
    """Hash each stretch of `size` bytes; the last may be shorter."""
    view = memoryview(data)
    return [digest(view[start : start + size]) for start in range(0, len(data), size)]


def hash_runs(
    read: Read, pages: int, page_size: int
) -> Iterator[tuple[bytes | bytearray, list[bytes]]]:
    """Yield each run's bytes, in order, with the digests of the groups in it."""
    yield from in_order(runs(pages, page_size), hashing(read, page_size))


def hashing(read: Read, page_size: int) -> Callable[[range], tuple[bytes | bytearray, list[bytes]]]:
    """Return what reads a run and hashes the groups in it.

    If `read` returns fewer pages, because the file ends, a group still has its digest, which is
    that of no whole group.
    """
    group = group_pages(page_size) * page_size

    def work(run: range) -> tuple[bytes | bytearray, list[bytes]]:
        data = read(run.start, len(run))
        view = memoryview(data)
        starts = range(0, len(run) * page_size, group)
        return data, [digest(view[start : start + group]) for start in starts]

    return work
