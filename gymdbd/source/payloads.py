"""The payloads of requests and of PAGES, built and parsed (`gymdbd.source.protocol`)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from gymdbd.source import compress, digests
from gymdbd.source.errors import ProtocolError

if TYPE_CHECKING:
    from gymdbd.source.pages import Pages

    # The numbers of a group's pages and the digests that the client has of them.
    Group = tuple[range, list[bytes]]


def pack_pages(numbers: list[int], data: bytes | bytearray) -> bytes:
    """Build the payload of PAGES."""
    return struct.pack(f">I{len(numbers)}I", len(numbers), *numbers) + data


def unpack_pages(payload: bytes, page_size: int) -> tuple[list[int], memoryview]:
    """Read the payload of PAGES; ProtocolError if its length is invalid."""
    count = int.from_bytes(payload[:4], "big")
    start = 4 + 4 * count
    if count == 0 or len(payload) != start + count * page_size:
        raise ProtocolError(f"the other side sent {len(payload)} bytes for {count} pages")
    return list(struct.unpack(f">{count}I", payload[4:start])), memoryview(payload)[start:]


def packed_pages(
    numbers: list[int], parts: list[bytearray], codec: int
) -> tuple[int, bytes | bytearray]:
    """Build the payload of PAGES and pack it; empty for no pages."""
    if not numbers:
        return compress.RAW, b""
    return compress.pack(pack_pages(numbers, b"".join(parts)), codec)


def codec(request: dict[str, Any]) -> int:
    """Return the best way of packing that both sides know."""
    return compress.choose(str(request.get("codec")))


def since(request: dict[str, Any]) -> tuple[bytes, int, tuple[int, int]] | None:
    """Return salts, number and checksum of the frame up to which the client has everything."""
    frames, one, two = (request.get(key) for key in ("frames", "checksum_one", "checksum_two"))
    if not isinstance(frames, int) or not isinstance(one, int) or not isinstance(two, int):
        return None
    try:
        return bytes.fromhex(str(request.get("salts"))), frames, (one, two)
    except ValueError:
        return None


def groups(payload: bytes, pages: Pages, last: int) -> tuple[list[Group], int]:
    """Read what the client has of some groups after number `last`; return also the new last one.

    ProtocolError for a group that is not there, or was asked for before: none is read twice.
    """
    length, size = digests.group_pages(pages.page_size), digests.DIGEST_SIZE
    found, at = [], 0
    while at < len(payload):
        group = int.from_bytes(payload[at : at + 4], "big")
        first = group * length + 1
        numbers = range(first, min(first + length, pages.count + 1))
        end = at + 4 + len(numbers) * size
        if not numbers or end > len(payload):
            raise ProtocolError(f"the client asks for group {group}, which is not there")
        if group <= last:
            raise ProtocolError(f"the client asks for group {group} again")
        theirs = [payload[start : start + size] for start in range(at + 4, end, size)]
        found.append((numbers, theirs))
        at, last = end, group
    return found, last
