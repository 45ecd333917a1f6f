"""Looking at the place where a database is to be put, without changing anything."""

from __future__ import annotations

import os
import shlex
import stat
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from gymdbd.source import identity, ownership, processes
from gymdbd.source.errors import PlaceError, PlaceTakenError
from gymdbd.source.format import SIDE_SUFFIXES, beside

if TYPE_CHECKING:
    from pathlib import Path

_SPACE_FACTOR = 1.1
_KINDS = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder"}


def look(path: Path, saved: Path, size: int, *, replace: bool) -> Dict[str, Any]:
    """Return what putting a database of `size` bytes at `path` would do; raise if it cannot be.

    `saved` is what the file that is there would be called.
    """
    folder = _require_folder(path)
    require_free(path, saved, replace=replace)
    disk = os.statvfs(folder)
    free, wanted = disk.f_bavail * disk.f_frsize, int(size * _SPACE_FACTOR)
    if free < wanted:
        raise PlaceError(
            f"{folder} has {_size(free)} free, but {_size(wanted)} are needed",
            hint="free some space over there, or put the database on another disk",
        )
    there = facts(path) is not None
    return {
        "path": str(path),
        "user": _user(os.geteuid()),
        "free_bytes": free,
        "makes_folder": folder != path.parent,
        "saves": str(saved) if there else None,
        "aside": [] if there else [str(beside(path, suffix)) for suffix in sides(path)],
    }


def require_free(path: Path, saved: Path, *, replace: bool) -> None:
    """Raise unless nothing is at `path`, or a file that may be replaced and nobody has open."""
    found = facts(path)
    if found is not None and not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "no ordinary file")
        raise PlaceTakenError(
            f"what is at {path} is {kind}",
            hint="move it away over there, or name the place of the database itself",
        )
    if found is not None and not replace:
        raise PlaceTakenError(
            f"there is a file at {path} already ({_size(found.st_size)})",
            hint="look at what it holds (gymdbd pull --info-only); --replace first renames it "
            f"over there, to {saved.name}",
        )
    if holders := processes.holders(path):
        raise PlaceTakenError(
            f"{path}, or a file beside it, is open in {processes.describe(holders)}",
            hint="stop the application over there first",
        )
    identity.require(path)
    taken = [one.name for one in (saved, *_beside(saved)) if facts(one) is not None]
    if taken:
        raise PlaceError(f"there is a {taken[0]} already", hint="run this again")


def _require_folder(path: Path) -> Path:
    """Return the folder of the database, or the one in which that is to be made."""
    folder = path.parent
    found = facts(folder)
    if found is None:
        folder = folder.parent
        found = facts(folder)
    if found is None:
        raise PlaceError(
            f"there is no folder {folder}",
            hint="set up the application over there first, or make the folder there: "
            f"mkdir -p {shlex.quote(str(path.parent))}",
        )
    if not stat.S_ISDIR(found.st_mode):
        raise PlaceError(f"{folder} is not a folder", hint="check the path of the database")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PlaceError(
            f"{_user(os.geteuid())} may not write to {folder}",
            hint=f"log in as {_user(found.st_uid)}, to whom it belongs (--user)",
        )
    return folder


def sides(path: Path) -> List[str]:
    """List what lies beside a database: its -wal, for example."""
    return [suffix for suffix in SIDE_SUFFIXES if facts(beside(path, suffix)) is not None]


def facts(path: Path) -> Optional[os.stat_result]:
    """Return what has this name, a link too, None if nothing has."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _beside(path: Path) -> List[Path]:
    return [beside(path, suffix) for suffix in SIDE_SUFFIXES]


def _user(uid: int) -> str:
    return str(ownership.describe(0, uid, 0)["owner"])


def _size(size: float) -> str:
    for unit in ("B", "KiB"):
        if size < 1024:  # noqa: PLR2004 - the step between binary units
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} MiB"
