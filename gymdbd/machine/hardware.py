"""What Linux reports of the hardware: under-voltage, the wear of cards, bytes written to a device.

All is read below `root`, so that it can be another tree. What there is not, as on macOS, is None.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import files

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path("/")

# The unit of /sys/block/DEV/stat, whatever the sectors of the device are.
_SECTOR_BYTES = 512
_SECTORS_WRITTEN = 6
_CARD = re.compile(r"mmcblk\d+")
_MOST_LAYERS = 8

# Of the tenths of its life: the last is used; more than all are. Of its spare blocks: 80% are used;
# hardly any is left.
LIFE, SPENT = 10, 11
WARNED, URGENT = 2, 3


@dataclass(frozen=True)
class Wear:
    """The wear of an eMMC, by its own estimate.

    The life is used up to the end of this of its `tenths`, or SPENT. `reserve` of spare blocks is 1
    if it is normal, WARNED or URGENT. 0 is unknown.
    """

    device: str
    tenths: int
    reserve: int


def is_under_voltage(root: Path = ROOT) -> bool | None:
    """Return whether a Raspberry Pi has had too low a voltage within the last two seconds.

    The driver asks the firmware so often, and forgets what it heard before.
    """
    for sensor in _listed(root / "sys/class/hwmon"):
        if _text(sensor / "name") == "rpi_volt":
            alarm = _text(sensor / "in0_lcrit_alarm")
            return None if alarm is None else alarm != "0"
    return None


def wear(root: Path = ROOT) -> list[Wear]:
    """Return the wear of every eMMC; SD cards do not report theirs."""
    return list(_wear(root))


def _wear(root: Path) -> Iterator[Wear]:
    for block in _listed(root / "sys/block"):
        if not _CARD.fullmatch(block.name):
            continue
        # Two estimates: of its faster and of its slower memory.
        tenths = [_number(part) for part in (_text(block / "device/life_time") or "").split()]
        reserve = _number(_text(block / "device/pre_eol_info") or "")
        if any(tenths) or reserve:
            yield Wear(block.name, max(tenths, default=0), reserve)


def _number(text: str) -> int:
    """Return a number such as `0x0a`; 0, which means that nothing is known, if it is none."""
    with contextlib.suppress(ValueError):
        return int(text, 16)
    return 0


def device(path: Path, root: Path = ROOT) -> Path | None:
    """Return the whole device below a file system, as its folder in /sys; None if it has none.

    A partition is part of its disk; a loop device of the disk with its file; a mapped device of
    the one below it, unless there are several. btrfs and file systems in memory have none.
    """
    found = _of_file(path, root)
    for _ in range(_MOST_LAYERS):
        if found is None or not files.is_file(found / "stat"):
            return None
        below = _below(found, root)
        if below is None:
            return found
        found = below
    return None


def _of_file(path: Path, root: Path) -> Path | None:
    try:
        number = path.stat().st_dev
    except OSError:
        return None
    return files.resolved(root / f"sys/dev/block/{os.major(number)}:{os.minor(number)}")


def _below(block: Path, root: Path) -> Path | None:
    """Return what a block device lies on, None if it is the lowest that is known."""
    if files.is_file(block / "partition"):
        return block.parent
    slaves = _listed(block / "slaves")
    if len(slaves) == 1:
        return files.resolved(slaves[0])
    backing = _text(block / "loop/backing_file")
    return _of_file(Path(backing), root) if backing else None


def bytes_written(block: Path) -> int | None:
    """Return how many bytes were written to a device of `device` since the start of the machine."""
    fields = (_text(block / "stat") or "").split()
    try:
        return int(fields[_SECTORS_WRITTEN]) * _SECTOR_BYTES
    except (IndexError, ValueError):
        return None


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
