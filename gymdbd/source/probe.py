"""The first thing that is shipped: a few lines that tell whether anything has changed at all.

They say yes only where everything that identifies a snapshot (gymdbd.source.fingerprint) is there
to be seen and is just as it was. Any doubt, and any trouble, is left to the whole serving side,
which names it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import struct
import sys
from pathlib import Path

from gymdbd.source.format import (
    FRAME_HEADER,
    FRAME_HEADER_BYTES,
    INDEX,
    INDEX_BACKFILLED,
    INDEX_HEADER,
    INDEX_HEADER_BYTES,
    SHARED_LOCK,
    WAL,
    WAL_HEADER_BYTES,
    WAL_SALTS,
)


def is_unchanged(
    path: str, file: tuple[int, ...], frame: tuple[int, ...], salts: bytes, last: int | None
) -> bool:
    """Return whether the newest commit of the database at `path` is the one described.

    `file` is device, inode, ctime in ns and size of the main file, `frame` the number and the two
    checksums of the last frame of the WAL, whose header has `salts`; `last` is where in the WAL
    that frame lies, None if the main file alone is the snapshot. A read transaction comes first,
    so that SQLite recovers what a crash left. Only for a process that has no other connection to
    this database: closing the descriptors ends its locks.
    """
    place = Path(path).expanduser().resolve()
    try:
        # First: never open what is no regular file any more, such as a pipe.
        facts = place.stat()
        if (facts.st_dev, facts.st_ino, facts.st_ctime_ns, facts.st_size) != file:
            return False
        with place.open("rb") as main:
            # As long as somebody holds a reader's lock, nobody removes what lies beside it.
            how = fcntl.LOCK_SH | fcntl.LOCK_NB
            fcntl.lockf(main, how, len(SHARED_LOCK), SHARED_LOCK.start)
            if _is_doubtful(place):
                return False
            log, index = _beside(place, WAL), _beside(place, INDEX)
            if not log.exists() or not log.stat().st_size:
                # The main file is all there is, wherever the WAL ended before.
                return last is None
            # Made by this user an index could keep the owner of the database out.
            return index.exists() and _is_at(place, frame, salts, last)
    except (OSError, sqlite3.Error, UnicodeDecodeError, struct.error):
        return False


def _is_at(place: Path, frame: tuple[int, ...], salts: bytes, last: int | None) -> bool:
    """Let SQLite recover the WAL if it must, then look."""
    name = "".join(f"%{byte:02x}" for byte in bytes(place))
    connection = sqlite3.connect(f"file:{name}?mode=ro", uri=True, timeout=0)
    try:
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("PRAGMA cell_size_check=ON")
        connection.execute("BEGIN")
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
        return _has_frame(place, frame, salts, last)
    finally:
        connection.close()


def _has_frame(place: Path, frame: tuple[int, ...], salts: bytes, last: int | None) -> bool:
    with _beside(place, INDEX).open("rb") as index:
        header = index.read(INDEX_BACKFILLED.stop)
    first, second = header[:INDEX_HEADER_BYTES], header[INDEX_HEADER_BYTES:][:INDEX_HEADER_BYTES]
    _, _, _, number, _, *at, found, _, _ = struct.unpack(INDEX_HEADER, first)
    if first != second or ((number, *at), found) != (frame, salts):
        return False
    if (number > int.from_bytes(header[INDEX_BACKFILLED], sys.byteorder)) == (last is None):
        return False
    if last is None:
        return True
    with _beside(place, WAL).open("rb") as log:
        begin = log.read(WAL_HEADER_BYTES)
        log.seek(last)
        _, _, found, *sums = struct.unpack(FRAME_HEADER, log.read(FRAME_HEADER_BYTES))
    return begin[WAL_SALTS] == found == salts and sums == at


def _beside(place: Path, suffix: str) -> Path:
    return place.with_name(place.name + suffix)


def _is_doubtful(place: Path) -> bool:
    """Return whether an application may have another file or WAL open than these.

    It has a lock on the main file and none on the index, or a file of this name that is gone, or
    nobody has locked the index of a WAL with content. The whole serving side finds out whether that
    means anything (gymdbd.source.identity).
    """
    if not Path("/proc/locks").exists():
        return False
    index = _beside(place, INDEX)
    inodes = [
        str(path.stat().st_ino) if path.exists() else end
        for path, end in ((place, ""), (index, "none"))
    ]
    users: dict[str, set[str]] = {inode: set() for inode in inodes}
    for line in Path("/proc/locks").read_text().splitlines():
        # Whether it waits for the lock or has it: process, file, first byte, last byte.
        pid, file = line.split()[-4:-2]
        users.get(file.rpartition(":")[2], set()).add(pid)
    if users[inodes[0]] - users[inodes[1]] - {str(os.getpid())}:
        return True
    log = _beside(place, WAL)
    if log.exists() and log.stat().st_size and not users[inodes[1]]:
        # A crash left it, or its user has lost his locks: SQLite would make its index anew.
        return True
    gone = tuple(f"/{place.name}{end} (deleted)" for end in ("", INDEX))
    for process in os.listdir("/proc"):  # noqa: PTH208
        with contextlib.suppress(OSError):
            folder = f"/proc/{int(process)}/fd/" if process.isdigit() else ""
            for number in os.listdir(folder) if folder else ():  # noqa: PTH208
                if os.readlink(folder + number).endswith(gone):  # noqa: PTH115
                    return True
    return False
