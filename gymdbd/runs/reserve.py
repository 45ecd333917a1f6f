"""Reserved disk blocks beside a small file, so that it can be written to a full disk.

Without them, the status file could not record that runs fail because its disk is full.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from gymdbd import bounded, files
from gymdbd.errors import DiskFullError
from gymdbd.source.errors import GymdbdError

if TYPE_CHECKING:
    from pathlib import Path

_USUAL_BYTES = 64 * 1024
_LEAST_BYTES = 4 * 1024
# Do not take the last free blocks of a disk from the application.
_ROOM_FACTOR = 16


def reserve_path(path: Path) -> Path:
    """Return the path of the reserve file for the file at `path`."""
    return path.with_name(f".{path.name}.reserve")


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, also on a full disk if a reserve could be made before.

    The caller holds a lock, because there is only one reserve file.
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
            # Take the freed blocks again; the replaced file has freed some more.
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
    """Return whether the reserve is too small and the disk has room for it."""
    with contextlib.suppress(OSError):
        if reserve.lstat().st_size >= wanted:
            return False
    with contextlib.suppress(OSError):
        disk = os.statvfs(reserve.parent)
        return disk.f_bavail * disk.f_frsize >= _ROOM_FACTOR * wanted
    return False


def _hold_back(reserve: Path, wanted: int) -> None:
    """Reserve `wanted` bytes of the disk, or half of that, and so on; failure is no error."""
    with contextlib.suppress(OSError, GymdbdError):
        descriptor = bounded.opened(reserve, os.O_WRONLY | os.O_CREAT)
        try:
            size = wanted
            while size >= _LEAST_BYTES and not _allocate(descriptor, size):
                size //= 2
            os.ftruncate(descriptor, size if size >= _LEAST_BYTES else 0)
            files.hand_over(descriptor, reserve.parent)
        finally:
            os.close(descriptor)


def _allocate(descriptor: int, size: int) -> bool:
    """Allocate `size` bytes of disk blocks for a file."""
    try:
        # macOS has no such call; written zeros allocate blocks as well.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            files.write_at(descriptor, bytes(size), 0)
    except OSError:
        os.ftruncate(descriptor, 0)
        return False
    return True
