"""The replica of the pull before the last, kept where a copy of a file costs as much as the file.

Where the file system cannot share blocks, a pull that writes a hundred pages would first copy the
whole replica. The file that the last pull replaced is a copy already, but for the pages that this
pull changed: brought forward by these, it is what the next one begins with. It takes the room of
one replica, which every pull needs for a moment anyway.

Whoever reads the old replica may have it open still, and goes on reading it. So it is written to
only where the kernel vouches that nobody else has it open: by a write lease (fcntl(2), "Leases"),
which Linux alone has.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from gymdbd import files

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# Beyond, the list of them is long and copying everything not much slower.
MOST_PAGES = 50_000


@dataclass(frozen=True)
class Spare:
    """A spare: which file it is, and the pages in which it differs from the replica."""

    identity: list[int]
    page_size: int
    changed: list[int]

    @classmethod
    def parse(cls, content: Any) -> Spare | None:
        """Read the result of `note`; None for anything else."""
        try:
            found = cls(**content)
            numbers = [*found.identity, found.page_size, *found.changed]
        except TypeError:
            return None
        return found if all(type(number) is int and number > 0 for number in numbers) else None

    def note(self) -> dict[str, Any]:
        """Return it for the state of the replica."""
        return asdict(self)


def spare_path(replica: Path) -> Path:
    """Return where the spare of a replica lies."""
    return replica.with_name(f".{replica.name}.spare")


def keep(replica: Path, partial: Path, changed: Iterable[int], page_size: int) -> Spare | None:
    """Give the replica, which `partial` is about to replace, a second name as the spare.

    `changed` are the pages in which they differ. None if it cannot be kept or used: a network
    file system may not know who has a file open.
    """
    numbers = list(changed)
    if len(numbers) > MOST_PAGES or not _is_open_nowhere_else(partial):
        return None
    try:
        os.link(replica, spare_path(replica))
    except OSError:
        return None
    return Spare(files.identity(replica), page_size, numbers)


def drop(replica: Path) -> None:
    """Remove the spare of a replica if there is one."""
    files.remove(spare_path(replica))


def is_there(spare: Spare | None, replica: Path) -> bool:
    """Return whether the spare is unchanged and has no other name."""
    path = spare_path(replica)
    with contextlib.suppress(OSError):
        return (
            spare is not None
            and path.lstat().st_nlink == 1
            and files.identity(path) == spare.identity
        )
    return False


def bring_forward(spare: Spare, replica: Path, partial: Path) -> bool:
    """Turn the spare into the `partial`, equal to the replica; False if a process has it open.

    OSError if it cannot be written; the partial's content is worthless then.
    """
    path = spare_path(replica)
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if not _is_only_one(descriptor):
            return False
        path.replace(partial)
        # It is written to from here: no crash may bring it back as a spare.
        files.sync_folder(partial.parent)
        os.fchmod(descriptor, files.FILE_MODE)
        _copy_pages(spare, replica, descriptor)
    finally:
        os.close(descriptor)
    return True


def _is_open_nowhere_else(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _is_only_one(descriptor)
    finally:
        os.close(descriptor)


def _is_only_one(descriptor: int) -> bool:
    """Ask the kernel for a write lease, which needs that nobody else has the file open.

    If a process opens the file in that instant, the kernel sends a signal: by default SIGIO, which
    would end our process; SIGURG does not. Other systems than Linux have no leases.
    """
    if sys.platform == "linux":
        # A Python that was built without them has no names for them.
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            return True
    return False


def _copy_pages(spare: Spare, replica: Path, descriptor: int) -> None:
    size = spare.page_size
    with replica.open("rb", buffering=0) as file:
        length = os.fstat(file.fileno()).st_size
        os.ftruncate(descriptor, length)
        for number in spare.changed:
            start = (number - 1) * size
            if start < length:
                files.write_at(descriptor, os.pread(file.fileno(), size, start), start)
