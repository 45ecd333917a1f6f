"""What is fuzzed: readers of bytes that others wrote, each of which may raise only our errors.

Hypothesis calls them in CI. `python -m tests.faults.targets NAME [SECONDS [FOLDER]]` lets atheris
do it, guided by coverage, where that is installed; it begins with the inputs in the folder.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import struct
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd.archive import manifest, marks
from gymdbd.config import config
from gymdbd.remote.client import Session
from gymdbd.runs.status import StatusFile
from gymdbd.source import compress, payloads, protocol, wal
from gymdbd.source.errors import GymdbdError
from gymdbd.source.fingerprint import Fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

_WAL_MAGIC = b"\x37\x7f\x06\x82"
FINGERPRINT = Fingerprint(
    device=1,
    inode=2,
    ctime_ns=3,
    size=1024,
    page_size=512,
    page_count=2,
    journal_mode="wal",
    method="main-file",
    frames=0,
    salts="",
    checksum_one=0,
    checksum_two=0,
    settled=True,
    taken_ns=4,
).to_json()


def frame(kind: int, payload: bytes, codec: int = compress.RAW) -> bytes:
    """Build one frame."""
    return struct.pack(">BBI", kind, codec, len(payload)) + payload


_GREETING = frame(
    protocol.HELLO, json.dumps({"codecs": ["raw"], "fingerprint": FINGERPRINT}).encode()
) + frame(protocol.RESULT, b'{"tables": {"t": 1}}')


def configuration(data: bytes) -> None:
    """Read a configuration."""
    config.parse(data.decode("utf-8", "replace"), Path("/etc/gymdbd/config.yaml"))


def conversation(data: bytes) -> None:
    """Hold a whole pull with a server that says these bytes after a right beginning.

    The first byte says how far that goes: the preamble, or a HELLO and row counts as well.
    """
    beginning = _GREETING if data[:1] > b"\x7f" else b""
    said = io.BytesIO(protocol.MAGIC + protocol.VERSION.to_bytes(2, "big") + beginning + data[1:])
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        session = Session(said, io.BytesIO())
        session.count_rows()
        # Of at most a few pages, so that the target stays small whatever the server claims.
        if session.fingerprint.size_bytes < 1_000_000:
            session.fetch(Path(folder) / "partial", session.plan(None, None))


def frames(data: bytes) -> None:
    """Read frame after frame, and what is in them."""
    channel = protocol.Channel(io.BytesIO(data), io.BytesIO())
    while (message := channel.receive_or_end(*range(1, 8))) is not None:
        for read in (protocol.parse_json, lambda one: payloads.unpack_pages(one, 512)):
            with contextlib.suppress(GymdbdError):
                read(message[1])


def packed(data: bytes) -> None:
    """Unpack data of any codec."""
    compress.unpack(data[1:], data[0] % 8 if data else 0, protocol.MOST_PAYLOAD)


def log_of_writes(data: bytes) -> None:
    """Index a WAL."""
    descriptor = os.memfd_create("wal")
    try:
        os.write(descriptor, _WAL_MAGIC + data)
        wal.index_frames(descriptor, _mark(data[12:20]))
    finally:
        os.close(descriptor)


def _mark(salts: bytes) -> wal.Mark:
    return wal.Mark(frames=3, pages=9, page_size=512, checksum=(1, 2), salts=salts, backfilled=0)


def index_of_writes(data: bytes) -> None:
    """Read the header of a -shm."""
    wal._parse_index(data)  # noqa: SLF001 - what reads it retries for a second


def records(data: bytes) -> None:
    """Read a manifest, marks and a status file."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        backup = Path(folder) / "gym_backup_20261123_030000.db"
        for path in (manifest.manifest_path(backup), marks.marks_path(backup)):
            path.write_bytes(data)
        for read in (manifest.read, marks.read):
            with contextlib.suppress(GymdbdError):
                read(backup)
        StatusFile(manifest.manifest_path(backup)).read()


TARGETS: dict[str, Callable[[bytes], None]] = {
    one.__name__: one
    for one in (
        *(configuration, conversation, frames, packed),
        *(log_of_writes, index_of_writes, records),
    )
}


def survive(target: Callable[[bytes], None], data: bytes) -> None:
    """Call a target; only errors of ours are allowed."""
    with contextlib.suppress(GymdbdError):
        target(data)


def main() -> None:
    """Fuzz one target."""
    # Installed by hand only.
    atheris = importlib.import_module("atheris")

    name, seconds = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "60"
    atheris.instrument_all()
    atheris.Setup(
        [
            *(sys.argv[0], f"-max_total_time={seconds}", "-rss_limit_mb=512", "-timeout=60"),
            *sys.argv[3:],
        ],
        lambda data: survive(TARGETS[name], bytes(data)),
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
