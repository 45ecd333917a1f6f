"""A serving side that lies: it runs the real one and changes what that says on its way.

`python hostile.py MARK MODE NUMBER PYTHON ARGUMENTS...` is started over SSH in its place.
Modes of bytes change the NUMBERth byte of its output, modes of frames every frame from the NUMBERth
on that has what they change; `sftp` is for an SFTP server. The file MARK is made as soon as
something was changed.
"""

from __future__ import annotations

import importlib
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import IO

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))
from gymdbd.source import compress, payloads, protocol

_FRAME = struct.Struct(">BBI")
_VERSION_BYTES = 2
# https://datatracker.ietf.org/doc/html/draft-ietf-secsh-filexfer-02#section-3: a data packet has
# its length, its type, the request's number, and the length of the data before these.
_SFTP_DATA, _SFTP_DATA_HEAD = 103, 13
_RAW = compress.RAW
_ZEROS = bytes(1_000_000)
_HAS_ZSTD = sys.version_info >= (3, 14)


def _bytes(source: IO[bytes], target: IO[bytes], mode: str, number: int, mark: Path) -> None:
    """Flip a byte, or end after it."""
    done = 0
    while data := bytearray(source.read1(65536)):  # type: ignore[attr-defined] # it is buffered
        if done <= number < done + len(data):
            mark.touch()
            if mode == "cut":
                target.write(data[: number - done])
                target.flush()
                return
            data[number - done] ^= 0xFF
        done += len(data)
        target.write(data)
        target.flush()


def _pages(payload: bytes, change: str) -> bytes:
    """Change the page numbers, or a page, of PAGES."""
    count = int.from_bytes(payload[:4], "big")
    numbers = list(struct.unpack_from(f">{count}I", payload, 4))
    data = bytearray(payload[4 + 4 * count :])
    if change == "page-zero":
        numbers[0] = 0
    elif change == "page-beyond":
        numbers[-1] = 2**32 - 1
    elif change == "page-twice":
        numbers = [numbers[0]] * count
    elif change == "page-other":
        data[100] ^= 0xFF
    return payloads.pack_pages(numbers, data)


def _bomb(kind: str) -> tuple[int, bytes]:
    """Return codec and payload of something that is small here and large over there."""
    if kind == "nested-json":
        return _RAW, b'{"a":' * 150_000 + b"1" + b"}" * 150_000
    if kind == "wide-json":
        return _RAW, json.dumps({str(n): 0 for n in range(80_000)}).encode()
    if kind == "long-number":
        return _RAW, b'{"sha256":' + b"9" * 900_000 + b"}"
    if kind == "zip-bomb":
        return compress.ZLIB, _bomb_of_zlib()
    return compress.ZSTD, _bomb_of_zstd()


def _bomb_of_zlib() -> bytes:
    """Return what unpacks to six hundred megabytes, made of one and the same piece."""
    packer = zlib.compressobj(9)
    first, again = (packer.compress(_ZEROS) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + again * 599


def _bomb_of_zstd() -> bytes:
    zstd = importlib.import_module(f"{'compression' if _HAS_ZSTD else 'backports'}.zstd")
    packer = zstd.ZstdCompressor()
    parts: list[bytes] = [packer.compress(_ZEROS) for _ in range(600)]
    return b"".join([*parts, packer.flush()])


def _frames(source: IO[bytes], target: IO[bytes], mode: str, number: int, mark: Path) -> None:
    """Pass frames on and change one of them."""
    head = b""
    # What the loader says is passed on, each line before the answer to it is waited for.
    while not head.endswith(protocol.MAGIC) and (byte := source.read(1)):
        head += byte
        target.write(byte)
        target.flush()
    target.write(source.read(_VERSION_BYTES))
    target.flush()
    at = 0
    while header := source.read(_FRAME.size):
        kind, codec, length = _FRAME.unpack(header)
        true = (kind, codec, length, source.read(length))
        told = _lie(mode, kind, codec, true[-1]) if at >= number else true
        kind, codec, length, payload = told
        if told != true or mode == "endless":
            mark.touch()
        at += 1
        target.write(_FRAME.pack(kind, codec, length) + payload)
        target.flush()
        while mode == "endless" and at > number:
            target.write(_FRAME.pack(kind, codec, length) + payload)


def _lie(mode: str, kind: int, codec: int, payload: bytes) -> tuple[int, int, int, bytes]:
    length = len(payload)
    if mode == "absurd-length":
        length = 2**32 - 1
    elif mode == "other-kind":
        kind = kind % 7 + 1
    elif mode == "other-codec":
        codec = 77
    elif mode.startswith("page-") and kind == protocol.PAGES:
        payload = _pages(compress.unpack(payload, codec, protocol.MOST_PAYLOAD), mode)
        codec, length = _RAW, len(payload)
    elif mode == "wrong-digest" and kind in (protocol.DIGESTS, protocol.END):
        payload = compress.unpack(payload, codec, protocol.MOST_PAYLOAD)
        payload = payload.replace(b'"sha256":"', b'"sha256":"0')[:-3] + payload[-2:]
        codec, length = _RAW, len(payload)
    elif mode in ("nested-json", "wide-json", "long-number", "zip-bomb", "zstd-bomb"):
        codec, payload = _bomb(mode)
        length = len(payload)
    elif mode == "evil-error":
        kind, codec = protocol.ERROR, _RAW
        text = "\x1b]0;evil\x07\x1b[2J" + "x" * 900_000
        payload = json.dumps({"code": "source-locked", "message": text, "hint": "h"}).encode()
        length = len(payload)
    return kind, codec, length, payload


def _sftp(source: IO[bytes], target: IO[bytes], mode: str, number: int, mark: Path) -> None:
    """Flip the NUMBERth byte of an SFTP server's answers, the content of files left out."""
    del mode
    done = 0
    while head := source.read(4):
        packet = bytearray(head + source.read(int.from_bytes(head, "big")))
        says = _SFTP_DATA_HEAD if packet[4] == _SFTP_DATA else len(packet)
        if done <= number < done + says:
            mark.touch()
            packet[number - done] ^= 0xFF
        done += says
        target.write(packet)
        target.flush()


FRAME_MODES = (
    *("absurd-length", "other-kind", "other-codec", "endless", "evil-error", "wrong-digest"),
    *("page-zero", "page-beyond", "page-twice", "page-other"),
    *("nested-json", "wide-json", "long-number", "zip-bomb", "zstd-bomb"),
)


def main() -> None:
    """Run the real serving side and lie."""
    mark, mode, number, *command = sys.argv[1:]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as real:
        assert real.stdout is not None
        change = _frames if mode in FRAME_MODES else _sftp if mode == "sftp" else _bytes
        try:
            change(real.stdout, sys.stdout.buffer, mode, int(number), Path(mark))
        except BrokenPipeError:
            pass
        finally:
            real.kill()


if __name__ == "__main__":
    main()
