"""Folders of a Mac whose files may be moved away from its disk, or are kept from programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import files
from gymdbd.jobs.finding import WARNING, Check
from gymdbd.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# iCloud Drive takes Documents and Desktop as well, if its user lets it.
_KEPT = {
    "Documents": "Documents",
    "Desktop": "Desktop",
    "Library/Mobile Documents": "iCloud Drive",
    "Library/CloudStorage": "the folder of a cloud",
}
_ELSEWHERE = "use a folder elsewhere, such as ~/backups, and move the files there (mv)"
# SF_DATALESS of macOS' sys/stat.h: the name is here, the content is not.
_DATALESS = 0x40000000


def examine(folders: Iterable[Path], platform: str = sys.platform) -> Iterator[Check]:
    """Warn of archives in such folders, without reading a file, which would download it."""
    for folder in dict.fromkeys(folders) if platform == "darwin" else ():
        name = f"folder {folder.name}"
        if place := _place(folder):
            message = (
                f"{folder} lies in {place}: macOS keeps programs out of it, and a cloud may move "
                "old backups away from this disk"
            )
            yield Check(name, WARNING, message, _ELSEWHERE)
        if away := _dataless(folder):
            message = f"{counted(away, 'file')} in {folder} are in a cloud and not on this disk"
            hint = f"reading one downloads it; {_ELSEWHERE}"
            yield Check(name, WARNING, message, hint)


def _place(folder: Path) -> str:
    """Return what a folder lies in, for a message."""
    real, home = files.resolved(folder), files.resolved(Path.home())
    inside = (what for place, what in _KEPT.items() if real.is_relative_to(home / place))
    return next(inside, "")


def _dataless(folder: Path) -> int:
    """Count the files whose content is elsewhere; none if the folder cannot be read."""
    try:
        flags = [getattr(path.lstat(), "st_flags", 0) for path in folder.iterdir()]
    except OSError:
        return 0
    return sum(bool(flag & _DATALESS) for flag in flags)
