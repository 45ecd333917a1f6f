"""Blocks of a disk that are held back beside a small file, so that it can be written when full.

Without them the status file could not say that the runs fail because its disk is full.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from gymdbd import files
from gymdbd.errors import DiskFullError, GymdbdError

if TYPE_CHECKING:
    from pathlib import Path

_USUAL_BYTES = 64 * 1024
_LEAST_BYTES = 4 * 1024
# The last free blocks of a disk are the application's.
_ROOM_FACTOR = 16


def reserve_path(path: Path) -> Path:
    """Return the file that holds the blocks back for the file at `path`."""
    return path.with_name(f".{path.name}.reserve")


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path` with `data`, on a full disk too, if there was room for a reserve before.

    The caller holds a lock: the reserve is one file.
    """
    reserve = reserve_path(path)
    wanted = max(_USUAL_BYTES, 2 * len(data))
    try:
        files.write_atomically(path, data)
    except DiskFullError:
        if not _free(reserve):
            raise
        try:
            files.write_atomically(path, data)
        finally:
            # What was freed is ours; the file that was replaced has given some of it back.
            _hold_back(reserve, wanted)
    else:
        if _has_room(reserve, wanted):
            _hold_back(reserve, wanted)


def _free(reserve: Path) -> bool:
    with contextlib.suppress(OSError):
        reserve.unlink()
        return True
    return False


def _has_room(reserve: Path, wanted: int) -> bool:
    """Say whether a reserve is wanting, and the disk has room for it."""
    with contextlib.suppress(OSError):
        if reserve.lstat().st_size >= wanted:
            return False
    with contextlib.suppress(OSError):
        disk = os.statvfs(reserve.parent)
        return disk.f_bavail * disk.f_frsize >= _ROOM_FACTOR * wanted
    return False


def _hold_back(reserve: Path, wanted: int) -> None:
    """Take `wanted` bytes of the disk, or half of them, or half of these; none is no error."""
    with contextlib.suppress(OSError, GymdbdError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(reserve, flags, files.FILE_MODE)
        try:
            size = wanted
            while size >= _LEAST_BYTES and not _allocate(descriptor, size):
                size //= 2
            os.ftruncate(descriptor, size if size >= _LEAST_BYTES else 0)
            files.hand_over(reserve, reserve.parent)
        finally:
            os.close(descriptor)


def _allocate(descriptor: int, size: int) -> bool:
    """Give a file `size` bytes with blocks of the disk behind them."""
    try:
        # macOS has no call for it; zeros that are written are blocks as well.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            files.write_at(descriptor, bytes(size), 0)
    except OSError:
        os.ftruncate(descriptor, 0)
        return False
    return True
