"""Making data smaller for the link: zlib always, zstd where this Python has it.

Results are bounded when they are unpacked, whatever the other side claims: 1 MB of zlib can
unpack to 1 GB.
"""

from __future__ import annotations

import importlib
import io
import zlib
from typing import TYPE_CHECKING, Any

from gymdbd.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

RAW, ZLIB, ZSTD = 0, 1, 2
NAMES = {"raw": RAW, "zlib": ZLIB, "zstd": ZSTD}

# On database pages higher levels cost three times as much time for a twentieth of the bytes.
_LEVEL = 1
# Below this the frame is not worth a call.
_SMALL = 128
# From this on a look at samples comes first: pictures and the like pass at the speed of the link,
# where trying to pack them would pass 66 MB/s; to others it costs a fortieth.
_LARGE = 64 * 1024
_SAMPLES, _SAMPLE_BYTES = 16, 512
_DENSE = 0.97


def _load(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


# The standard library has it from Python 3.14, everybody else from a package.
_NATIVE: Any = _load("compression.zstd")
_PACKAGE: Any = None if _NATIVE else _load("zstandard")


def available() -> list[str]:
    """List the names of the methods this side can pack and unpack, best first."""
    return ["zstd", "zlib", "raw"] if _NATIVE or _PACKAGE else ["zlib", "raw"]


def best(theirs: list[str]) -> int:
    """Return the best method that both sides have."""
    return next((NAMES[name] for name in available() if name in theirs), RAW)


def pack(data: bytes | bytearray, codec: int) -> tuple[int, bytes | bytearray]:
    """Compress `data` where that makes it smaller; return the method used and the bytes."""
    if codec == RAW or len(data) < _SMALL or _is_dense(data):
        return RAW, data
    packed = _pack_zlib(data) if codec == ZLIB else _pack_zstd(data)
    return (codec, packed) if len(packed) < len(data) else (RAW, data)


def unpack(data: bytes, codec: int, limit: int) -> bytes:
    """Undo `pack`; raises ProtocolError for damaged data or more than `limit` bytes."""
    unpackers: dict[int, Callable[[bytes, int], bytes]] = {ZLIB: _unpack_zlib}
    if _NATIVE or _PACKAGE:
        unpackers[ZSTD] = _unpack_zstd
    if codec == RAW:
        return data
    if codec not in unpackers:
        raise ProtocolError(f"the other side packed its data by an unknown method ({codec})")
    result = unpackers[codec](data, limit + 1)
    if len(result) > limit:
        raise ProtocolError(f"the other side's data unpack to more than {limit} bytes")
    return result


def _is_dense(data: bytes | bytearray) -> bool:
    """Say whether samples of large data tell that packing would hardly make it smaller."""
    if len(data) < _LARGE:
        return False
    step = len(data) // _SAMPLES
    sample = b"".join(data[at : at + _SAMPLE_BYTES] for at in range(0, len(data), step))
    return len(_pack_zlib(sample)) > _DENSE * len(sample)


def _pack_zlib(data: bytes | bytearray) -> bytes:
    # With all the memory it may have, zlib is a sixth faster at this level.
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, 9)
    return packer.compress(data) + packer.flush()


def _unpack_zlib(data: bytes, most: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, most)
    except zlib.error as error:
        raise ProtocolError(f"the other side's data cannot be unpacked ({error})") from error


def _pack_zstd(data: bytes | bytearray) -> bytes:
    # One compressor a call: they may not be shared between threads.
    if _NATIVE:
        packed: bytes = _NATIVE.compress(data, _LEVEL)
    else:
        packed = _PACKAGE.ZstdCompressor(level=_LEVEL).compress(data)
    return packed


def _unpack_zstd(data: bytes, most: int) -> bytes:
    failure = _NATIVE.ZstdError if _NATIVE else _PACKAGE.ZstdError
    try:
        if _NATIVE:
            result: bytes = _NATIVE.ZstdDecompressor().decompress(data, most)
        else:
            result = _PACKAGE.ZstdDecompressor().stream_reader(io.BytesIO(data)).read(most)
    except failure as error:
        raise ProtocolError(f"the other side's data cannot be unpacked ({error})") from error
    return result
