"""Packing for the link: by this Python, by the system's library, and within bounds."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

import pytest
from backports import zstd

from gymdbd.errors import ProtocolError
from gymdbd.source import compress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ROWS = b"a row of text " * 10_000
_LIMIT = 2 * 1024 * 1024


def _with_window(log: int) -> bytes:
    """Pack little in a way that asks whoever unpacks it for 2 ** `log` bytes."""
    parameter = zstd.CompressionParameter
    packer = zstd.ZstdCompressor(
        options={parameter.window_log: log, parameter.content_size_flag: 0}
    )
    return packer.compress(bytes(1000)) + packer.flush()


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Make this side one that was shipped to a Python without packages, when called."""

    def ship() -> None:
        monkeypatch.setattr(compress, "_MODULE", None)
        compress.zstd_packer.cache_clear()

    yield ship
    compress.zstd_packer.cache_clear()


def test_only_what_packs_well_is_packed() -> None:
    """Dense pages travel as they are, and a batch of both kinds is packed."""
    dense = os.urandom(128 * 1024)
    for name in compress.packers():
        codec = compress.choose(name)
        assert compress.pack(dense, codec) == (compress.RAW, dense)
        for data in (_ROWS, dense + _ROWS):
            used, packed = compress.pack(data, codec)
            assert used == codec
            assert compress.unpack(bytes(packed), used, len(data)) == data


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_a_shipped_side_packs_by_the_library_of_the_system(
    kind: type[bytes | bytearray], shipped: Callable[[], None]
) -> None:
    """Without any package over there the other side still unpacks zstd from it."""
    shipped()
    assert compress.packers() == ["zstd", "zlib", "raw"]
    assert compress.unpackers() == ["zlib", "raw"]
    used, packed = compress.pack(kind(_ROWS), compress.choose("zstd"))
    assert used == compress.ZSTD
    assert zstd.decompress(packed) == _ROWS


def test_without_any_zstd_it_is_zlib(
    monkeypatch: pytest.MonkeyPatch, shipped: Callable[[], None]
) -> None:
    """Where the library is missing, or ctypes is forbidden, nobody is promised zstd."""

    def refuse(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    shipped()
    assert compress.packers() == ["zlib", "raw"]
    assert compress.choose("zstd") == compress.RAW
    with pytest.raises(ProtocolError, match="unknown method"):
        compress.unpack(zstd.compress(_ROWS), compress.ZSTD, _LIMIT)


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(zstd.compress(bytes(300_000_000)), id="more than may be"),
        pytest.param(_with_window(27), id="a window of 128 MiB"),
        pytest.param(b"no such thing", id="not packed"),
    ],
)
def test_what_cannot_be_is_refused(packed: bytes) -> None:
    """Nothing that the other side claims makes this one set memory aside for it."""
    with pytest.raises(ProtocolError):
        compress.unpack(packed, compress.ZSTD, _LIMIT)
