"""Copying a database that has no name any more, through the descriptors of who has it open.

Nobody can connect to it: SQLite finds a WAL by its name. So the main file is copied first and the
WAL after it. As long as the WAL's header stands, every page that a checkpoint can have changed
meanwhile is in the WAL as well, and SQLite leaves out what was not committed. The lock of a reader
keeps the WAL from being begun anew; where that happens all the same the header has changed, and all
is copied again. Without a WAL SQLite's own lock on the main file keeps it still.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING, BinaryIO

from gymdbd import files
from gymdbd.errors import CopyTornError, NotAllowedError
from gymdbd.source import processes
from gymdbd.source.errors import SourceLockedError, SourceMissingError
from gymdbd.source.format import (
    HEADER_BYTES,
    INDEX,
    READ_LOCKS,
    SHARED_LOCK,
    VERSIONS,
    WAL,
    WAL_HEADER_BYTES,
    WITH_WAL,
    beside,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gymdbd.source.descriptors import Descriptor
    from gymdbd.source.uses import Use
    from gymdbd.sqlite.copying import CopyProgress

_ATTEMPTS = 20
_POLL_S = 0.01
_PIECE_BYTES = 1024 * 1024
# Of the locks of readers the second one: the first does not keep the WAL.
_READ_LOCK = READ_LOCKS[1]


def copy(use: Use, target: Path, progress: CopyProgress, *, busy_timeout_s: float) -> None:
    """Copy what a process has open to `target`, and its WAL to the name beside it.

    Raises NotAllowedError if this user may not read it, SourceMissingError if the process has
    ended, SourceLockedError or CopyTornError if it leaves no moment to copy it.
    """
    assert use.main is not None  # noqa: S101 - who has no main file open has nothing to copy
    target_log = beside(target, WAL)
    with contextlib.ExitStack() as stack:
        main = stack.enter_context(_opened(use, use.main))
        log = stack.enter_context(_opened(use, use.log)) if use.log else None
        if main.read(HEADER_BYTES)[VERSIONS] != WITH_WAL:
            stack.enter_context(_still(use, main, busy_timeout_s))
            log = None
        elif log is not None:
            stack.enter_context(_kept_log(use))
        for _ in range(_ATTEMPTS):
            header = _header(log)
            _copy(main, target, progress)
            if log is not None:
                _copy(log, target_log, progress)
            if _header(log) == header:
                return
    raise CopyTornError(
        f"{processes.named(use.pid)} began its WAL anew during each of {_ATTEMPTS} copies",
        hint="run this again when the application writes less",
    )


@contextlib.contextmanager
def _opened(use: Use, one: Descriptor) -> Iterator[BinaryIO]:
    """Open a file that a process has open, if it is that file still."""
    who = processes.named(use.pid)
    try:
        file = open(one.path, "rb", buffering=0)  # noqa: SIM115, PTH123 - closed below
    except PermissionError as error:
        raise NotAllowedError(
            f"this user (uid {os.geteuid()}) may not read what {who} has open",
            hint="run this as root (sudo), or as the user that the application runs as",
        ) from error
    except OSError as error:
        raise _ended(one, str(who)) from error
    with file:
        facts = os.fstat(file.fileno())
        if (facts.st_dev, facts.st_ino) != one.file:
            raise _ended(one, str(who))
        yield file


def _ended(one: Descriptor, who: str) -> SourceMissingError:
    return SourceMissingError(
        f"{who} has closed {one.name} meanwhile",
        hint="run gymdbd check: it tells who has the database open now",
    )


@contextlib.contextmanager
def _still(use: Use, main: BinaryIO, timeout_s: float) -> Iterator[None]:
    """Hold SQLite's shared lock, under which nobody writes the main file."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.lockf(main, fcntl.LOCK_SH | fcntl.LOCK_NB, len(SHARED_LOCK), SHARED_LOCK.start)
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise SourceLockedError(
                    f"{processes.named(use.pid)} kept what it has open locked ({error.strerror})",
                    hint="wait for its transaction to end, or raise busy_timeout",
                ) from error
            time.sleep(_POLL_S)
    yield  # Closing the file ends the lock.


@contextlib.contextmanager
def _kept_log(use: Use) -> Iterator[None]:
    """Hold the lock of a reader, as long as which nobody begins the WAL anew, if that can be had.

    https://www.sqlite.org/walformat.html section 2.3.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            index = stack.enter_context(open(_index(use), "rb", buffering=0))  # noqa: PTH123
            fcntl.lockf(index, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, _READ_LOCK)
        yield


def _index(use: Use) -> str:
    """Find the index of a WAL among what its process has open; "" if it is not there."""
    folder = f"/proc/{use.pid}/fd/"
    wanted = use.log.name[: -len(WAL)] + INDEX if use.log else ""
    for number in os.listdir(folder):  # noqa: PTH208 - names only
        with contextlib.suppress(OSError):
            if os.readlink(folder + number).startswith(wanted):  # noqa: PTH115
                return folder + number
    return ""


def _header(log: BinaryIO | None) -> bytes:
    if log is None:
        return b""
    log.seek(0)
    return log.read(WAL_HEADER_BYTES)


def _copy(source: BinaryIO, target: Path, progress: CopyProgress) -> None:
    """Copy a file up to the end that it has now."""
    size, done = os.fstat(source.fileno()).st_size, 0
    source.seek(0)
    files.create(target)
    with target.open("wb") as file:
        while data := source.read(min(_PIECE_BYTES, size - done)):
            file.write(data)
            done += len(data)
            progress(done, size)
