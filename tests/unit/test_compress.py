"""Packing for the link: by this Python, by the system's library, and within bounds."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.source import compress
from gymdbd.source.errors import ProtocolError
from tests.support.command import ZSTD_MODULES, environment_without

if TYPE_CHECKING:
    from pathlib import Path

# Python 3.14 has it; before that it is missing if no wheel suits the machine.
zstd: Any = pytest.importorskip(
    "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
)

_ROWS = b"a row of text " * 10_000
_LIMIT = 2 * 1024 * 1024


def _with_window(log: int) -> bytes:
    """Pack little in a way that asks whoever unpacks it for 2 ** `log` bytes."""
    parameter = zstd.CompressionParameter
    packer = zstd.ZstdCompressor(
        options={parameter.window_log: log, parameter.content_size_flag: 0}
    )
    packed: bytes = packer.compress(bytes(1000)) + packer.flush()
    return packed


def _without(folder: Path, missing: list[str], code: str) -> str:
    """Run code in a Python that cannot import these modules, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {compress.__name__} as compress\n{code}"],
        env=environment_without(folder, *missing),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


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


@pytest.mark.parametrize("kind", ["bytes", "bytearray"])
def test_a_side_without_the_package_packs_by_the_library_of_the_system(
    tmp_path: Path, kind: str
) -> None:
    """The serving side has no packages; the other side unpacks what it packed by zstd."""
    said = _without(
        tmp_path,
        ZSTD_MODULES,
        "print(*compress.packers(), '/', *compress.unpackers())\n"
        f"rows = {kind}({_ROWS[:14]!r} * 10_000)\n"
        "used, packed = compress.pack(rows, compress.choose('zstd'))\n"
        "print(used)\n"
        "print(packed.hex())\n",
    )
    methods, used, packed = said.splitlines()
    assert methods == "zstd zlib raw / zlib raw"
    assert int(used) == compress.ZSTD
    assert zstd.decompress(bytes.fromhex(packed)) == _ROWS


def test_without_any_zstd_it_is_zlib(tmp_path: Path) -> None:
    """If ctypes is forbidden or missing as well, nobody is promised zstd."""
    packed = zstd.compress(_ROWS)
    said = _without(
        tmp_path,
        [*ZSTD_MODULES, "ctypes"],
        "print(*compress.packers(), '/', *compress.unpackers())\n"
        "print(compress.choose('zstd') == compress.RAW)\n"
        f"rows = {_ROWS[:14]!r} * 10_000\n"
        "used, packed = compress.pack(rows, compress.choose('zlib'))\n"
        "print(used == compress.ZLIB, compress.unpack(packed, used, len(rows)) == rows)\n"
        "try:\n"
        f"    compress.unpack(bytes.fromhex('{packed.hex()}'), compress.ZSTD, {_LIMIT})\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n",
    )
    assert said.splitlines() == [
        "zlib raw / zlib raw",
        "True",
        "True True",
        f"ProtocolError the other side packed its data by an unknown method ({compress.ZSTD})",
    ]


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
