"""Files that are not finished yet: how they are called, and how those of a crashed run are found.

Nobody can foresee the name of one, so nobody can put a link or a file of theirs there before.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from typing import TYPE_CHECKING

from gymdbd import names
from gymdbd.source.format import SIDE_SUFFIXES

if TYPE_CHECKING:
    from pathlib import Path

_END = ".partial"
_SIDES = rf"({'|'.join(SIDE_SUFFIXES)})?"
_ANY = re.compile(rf"\..+\.partial{_SIDES}", re.DOTALL)
_TOKEN_BYTES = 4
_LONGEST = 100


def begin(final: Path) -> Path:
    """Return a path at which to build `final`, having removed what crashed runs left of it.

    Nobody else builds the same file meanwhile: the caller holds its lock.
    """
    for leftover in _left_of(final):
        # In a folder that all users share, another user's is not ours to remove.
        with contextlib.suppress(OSError):
            leftover.unlink()
    return _new(final)


def resume(final: Path) -> Path:
    """Return the newest file that a crashed run of this user left of `final`, or a new path."""
    found: list[tuple[float, Path]] = []
    with contextlib.suppress(OSError):
        for path in _left_of(final):
            facts = path.lstat()
            ours = facts.st_uid == os.geteuid() and facts.st_nlink == 1
            if path.name.endswith(_END) and stat.S_ISREG(facts.st_mode) and ours:
                found.append((facts.st_mtime, path))
    return max(found)[1] if found else _new(final)


def left(folder: Path) -> list[Path]:
    """List the partial files (and their side files) that crashed runs left in a folder."""
    # An archive holds thousands of other files, of which no paths are made.
    with os.scandir(folder) as entries:
        return sorted(
            folder / entry.name
            for entry in entries
            if entry.name[0] == "." and _ANY.fullmatch(entry.name)
            if not names.is_of_macos(entry.name) and not entry.is_dir(follow_symlinks=False)
        )


def _new(final: Path) -> Path:
    token = os.urandom(_TOKEN_BYTES).hex()
    return final.with_name(f".{_short(names.plain(final.name))}.{token}{_END}")


def _left_of(final: Path) -> list[Path]:
    # Release 0.1 used the whole name, and nothing else.
    token = rf"\.[0-9a-f]{{{2 * _TOKEN_BYTES}}}"
    name = names.plain(final.name)
    known = re.compile(
        rf"\.({re.escape(_short(name))}{token}|{re.escape(name)})\.partial{_SIDES}", re.DOTALL
    )
    try:
        return [path for path in left(final.parent) if known.fullmatch(names.plain(path.name))]
    except OSError:
        # Whoever creates the file says what is wrong with the folder.
        return []


def _short(name: str) -> str:
    """Return a name that leaves room for more, and that every file system gives back as it is."""
    if name.isascii() and len(name) <= _LONGEST:
        return name
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
