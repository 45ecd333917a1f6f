"""Pack data for the link: by zlib, or by zstd if both sides have it.

zstd packs database pages five times as fast as zlib at the same size. Python has it from 3.14 on;
before that gymdbd requires a package for it, but not on 32-bit ARM, which would have to compile it.
The serving side is shipped to whatever Python is there, without packages: it calls the system's own
library, which every Debian has for dpkg.

Unpacking is bounded, whatever the other side claims: 1 MB of zlib can unpack to 1 GB.
"""

from __future__ import annotations

import functools
import importlib
import zlib
from typing import TYPE_CHECKING, Any

from gymdbd.source.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

    Pack = Callable[[bytes | bytearray], bytes]

RAW, ZLIB, ZSTD = 0, 1, 2
NAMES = {"raw": RAW, "zlib": ZLIB, "zstd": ZSTD}

# On database pages higher levels cost three times as much time for a twentieth of the bytes.
_LEVEL = 1
# Below this the frame is not worth a call.
_SMALL = 128
# A power of two: more than any payload has (gymdbd.source.protocol).
_MOST_WINDOW_LOG = 22


def _load(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_MODULE: Any = _load("compression.zstd") or _load("backports.zstd")


def packers() -> list[str]:
    """List the names of the methods that this side can pack by, best first."""
    return ["zstd", "zlib", "raw"] if zstd_packer() else ["zlib", "raw"]


def unpackers() -> list[str]:
    """List the names of the methods that this side can unpack, best first."""
    return ["zstd", "zlib", "raw"] if _MODULE else ["zlib", "raw"]


def choose(name: str) -> int:
    """Return the method of that name, RAW if this side cannot pack by it."""
    return NAMES[name] if name in packers() else RAW


def pack(data: bytes | bytearray, codec: int) -> tuple[int, bytes | bytearray]:
    """Compress `data` if that makes it smaller; return the method used and the bytes.

    `codec` is one that `choose` returned.
    """
    if codec == RAW or len(data) < _SMALL:
        return RAW, data
    zstd = zstd_packer() if codec == ZSTD else None
    packed = zstd(data) if zstd else _pack_zlib(data)
    return (ZSTD if zstd else ZLIB, packed) if len(packed) < len(data) else (RAW, data)


def unpack(data: bytes, codec: int, limit: int) -> bytes:
    """Undo `pack`; raises ProtocolError for damaged data or more than `limit` bytes."""
    unpackers: dict[int, Callable[[bytes, int], bytes]] = {ZLIB: _unpack_zlib}
    if _MODULE:
        unpackers[ZSTD] = _unpack_zstd
    if codec == RAW:
        return data
    if codec not in unpackers:
        raise ProtocolError(f"the other side packed its data by an unknown method ({codec})")
    result = unpackers[codec](data, limit + 1)
    if len(result) > limit:
        raise ProtocolError(f"the other side's data unpack to more than {limit} bytes")
    return result


def _pack_zlib(data: bytes | bytearray) -> bytes:
    # With all the memory it may have, zlib is a sixth faster at this level.
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, 9)
    return packer.compress(data) + packer.flush()


def _unpack_zlib(data: bytes, most: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, most)
    except zlib.error as error:
        raise ProtocolError(f"the other side's data cannot be unpacked ({error})") from error


@functools.cache
def zstd_packer() -> Pack | None:
    """Return the zstd packer of this machine, None if there is none."""
    if _MODULE:
        return functools.partial(_MODULE.compress, level=_LEVEL)
    return _find_system_packer()


def _find_system_packer() -> Pack | None:
    """Return a call into the system's own libzstd, None if there is none.

    https://facebook.github.io/zstd/zstd_manual.html chapter "Simple Core API".
    """
    try:
        import ctypes  # noqa: PLC0415 - its import alone fails under MemoryDenyWriteExecute

        library = ctypes.CDLL("libzstd.so.1")
        bound, compress, is_error = (
            library.ZSTD_compressBound,
            library.ZSTD_compress,
            library.ZSTD_isError,
        )
    except (ImportError, OSError, MemoryError, AttributeError):
        return None
    size = ctypes.c_size_t
    bound.argtypes, bound.restype = [size], size
    compress.argtypes = [ctypes.c_char_p, size, ctypes.c_char_p, size, ctypes.c_int]
    compress.restype = size
    is_error.argtypes, is_error.restype = [size], ctypes.c_uint

    def pack_with_system(data: bytes | bytearray) -> bytes:
        room = ctypes.create_string_buffer(bound(len(data)))
        length = compress(room, len(room), bytes(data), len(data), _LEVEL)
        # Whatever it lacks, memory say: what is not smaller is sent as it is.
        return bytes(data) if is_error(length) else ctypes.string_at(room, length)

    return pack_with_system


def _unpack_zstd(data: bytes, most: int) -> bytes:
    # Otherwise the other side says how much memory is set aside, up to 128 MiB.
    options = {_MODULE.DecompressionParameter.window_log_max: _MOST_WINDOW_LOG}
    try:
        result: bytes = _MODULE.ZstdDecompressor(options=options).decompress(data, most)
    except _MODULE.ZstdError as error:
        raise ProtocolError(f"the other side's data cannot be unpacked ({error})") from error
    return result
