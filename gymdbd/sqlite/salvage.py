"""Copying a deleted database through the descriptors of a process that has it open.

No connection to it is possible: SQLite finds a WAL by its name. So the main file is copied first,
then the WAL. While the WAL's header is unchanged, every page that a checkpoint may have changed
meanwhile is in the WAL too, and SQLite ignores what was not committed. A reader's lock keeps the
WAL from restarting; if it restarts anyway, its header differs, and everything is copied again.
Without a WAL, SQLite's lock on the main file prevents changes.
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
# The second of the readers' locks: the first does not keep the WAL from restarting.
_READ_LOCK = READ_LOCKS[1]


def copy(use: Use, target: Path, progress: CopyProgress, *, busy_timeout_s: float) -> None:
    """Copy the file that a process has open to `target`, and its WAL beside that.

    Raises NotAllowedError if this user may not read it, SourceMissingError if the process has
    ended, SourceLockedError or CopyTornError if it writes too much for a copy.
    """
    assert use.main is not None  # noqa: S101 - without an open main file there is nothing to copy
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
        f"{processes.named(use.pid)} restarted its WAL during each of {_ATTEMPTS} copies",
        hint="run this again when the application writes less",
    )


@contextlib.contextmanager
def _opened(use: Use, descriptor: Descriptor) -> Iterator[BinaryIO]:
    """Open a file that a process has open; SourceMissingError if the process has closed it."""
    who = processes.named(use.pid)
    try:
        file = open(descriptor.path, "rb", buffering=0)  # noqa: SIM115, PTH123 - closed below
    except PermissionError as error:
        raise NotAllowedError(
            f"this user (uid {os.geteuid()}) may not read what {who} has open",
            hint="run this as the user that the application runs as (root acts as the owner of the "
            "archive)",
        ) from error
    except OSError as error:
        raise _closed(descriptor, str(who)) from error
    with file:
        status = os.fstat(file.fileno())
        if (status.st_dev, status.st_ino) != descriptor.file:
            raise _closed(descriptor, str(who))
        yield file


def _closed(descriptor: Descriptor, who: str) -> SourceMissingError:
    return SourceMissingError(
        f"{who} has closed {descriptor.name} meanwhile",
        hint="gymdbd check prints which process has the database open now",
    )


@contextlib.contextmanager
def _still(use: Use, main: BinaryIO, timeout_s: float) -> Iterator[None]:
    """Hold SQLite's shared lock, which prevents writes to the main file."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.lockf(main, fcntl.LOCK_SH | fcntl.LOCK_NB, len(SHARED_LOCK), SHARED_LOCK.start)
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise SourceLockedError(
                    f"{processes.named(use.pid)} kept its open file locked ({error.strerror})",
                    hint="wait for its transaction to end, or raise busy_timeout",
                ) from error
            time.sleep(_POLL_S)
    yield  # Closing the file ends the lock.


@contextlib.contextmanager
def _kept_log(use: Use) -> Iterator[None]:
    """Hold a reader's lock, which keeps the WAL from restarting, if it can be acquired.

    https://www.sqlite.org/walformat.html section 2.3.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            index = stack.enter_context(open(_index(use), "rb", buffering=0))  # noqa: PTH123
            fcntl.lockf(index, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, _READ_LOCK)
        yield


def _index(use: Use) -> str:
    """Find the index of a WAL among the open files of its process; "" if it is not there."""
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
    """Copy a file up to its present end."""
    size, done = os.fstat(source.fileno()).st_size, 0
    source.seek(0)
    files.create(target)
    with target.open("wb") as file:
        while data := source.read(min(_PIECE_BYTES, size - done)):
            file.write(data)
            done += len(data)
            progress(done, size)
