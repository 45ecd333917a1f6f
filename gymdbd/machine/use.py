"""What a run uses of the machine: bytes written, and the space that is left behind it."""

from __future__ import annotations

import contextlib
import os
import resource
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gymdbd import bounded
from gymdbd.machine import hardware

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gymdbd.config.kinds import Backups, JobConfig

# getrusage counts blocks of this size on Linux, whatever those of the disk are.
_BLOCK_BYTES = 512


@dataclass(frozen=True, kw_only=True)
class Use:
    """What a run used; None is unknown.

    `bytes_written` are those of its own processes, `device_bytes_written` all that the device of
    its archive got meanwhile. The disk of the archive has `free` of its `size` bytes, of which the
    job's backups take `held`. `under_voltage` is whether the power was too weak at the end.
    """

    bytes_written: int | None = None
    device_bytes_written: int | None = None
    free: int | None = None
    size: int | None = None
    held: int | None = None
    under_voltage: bool | None = None

    def plus(self, written: int | None) -> Use:
        """Return it with what another process has written for the run."""
        if self.bytes_written is None or written is None:
            return self
        return replace(self, bytes_written=self.bytes_written + written)

    def to_json(self) -> dict[str, Any]:
        """Return what is known."""
        return {name: value for name, value in vars(self).items() if value is not None}

    @classmethod
    def from_json(cls, content: object) -> Use:
        """Read what `to_json` wrote; if anything in it is of another type, nothing is known."""
        try:
            return bounded.typed(cls, content if isinstance(content, dict) else {})
        except TypeError:
            return cls()


def written(root: Path = hardware.ROOT) -> int | None:
    """Return how many bytes this process and its ended children have written to disks.

    It is `write_bytes` of /proc/self/io, which a process that was root may no longer open. Only
    Linux counts bytes.
    """
    if not os.path.exists(root / "proc/self/io"):  # noqa: PTH110 - Path.exists raises some errors
        return None
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(resource.getrusage(one).ru_oublock for one in who) * _BLOCK_BYTES


class Meter:
    """Measures what a run uses, from the moment that the meter is made."""

    def __init__(self, job: JobConfig, root: Path = hardware.ROOT) -> None:
        self._backups, self._root = job.backups, root
        folder = self._backups.archive if self._backups else None
        self._device = hardware.device(folder, root) if folder else None
        self._before = self._counters()

    def _counters(self) -> tuple[int | None, int | None]:
        device = hardware.bytes_written(self._device) if self._device else None
        return written(self._root), device

    def read(self, *, is_good: bool) -> Use:
        """Return what was used until now; after a run that `is_good` also the space left."""
        own, device = map(_since, self._before, self._counters())
        used = Use(
            bytes_written=own,
            device_bytes_written=device,
            under_voltage=hardware.is_under_voltage(self._root),
        )
        # A disk that has just failed may not answer.
        if is_good and self._backups:
            with contextlib.suppress(OSError):
                return _with_space(used, self._backups)
        return used


def _since(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else max(0, after - before)


def _with_space(used: Use, backups: Backups) -> Use:
    system = os.statvfs(backups.archive)
    return replace(
        used,
        free=system.f_bavail * system.f_frsize,
        size=system.f_blocks * system.f_frsize,
        held=held(backups.archive, lambda name: name.startswith(f"{backups.origin.stem}_backup_")),
    )


def held(folder: Path, counts: Callable[[str], bool]) -> int:
    """Return the bytes on disk of the files in a folder whose names count; raises OSError."""
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if counts(entry.name):
                # It may have been pruned since the folder was listed.
                with contextlib.suppress(FileNotFoundError):
                    total += entry.stat(follow_symlinks=False).st_blocks * _BLOCK_BYTES
    return total
