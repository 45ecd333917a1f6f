"""Comparing the names of files.

A file system may give a name back in another form than it was written in: HFS+, FAT and SMB on a
Mac take Hangul, umlauts and accents apart (NFD), and many do not tell `Gym` from `gym`.
"""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path


def plain(name: str) -> str:
    """Return a name in the form in which names are compared: composed (NFC)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def without_case(name: str) -> str:
    """Return what two names have in common that the same file may have on some file system."""
    return plain(plain(name).casefold())


def listed(path: Path) -> Path:
    """Return the path of a file that a folder has listed, in the plain form if that leads to it."""
    name = plain(path.name)
    if name != path.name and os.path.lexists(composed := path.with_name(name)):
        return composed
    return path


def is_of_macos(name: str) -> bool:
    """Return whether macOS keeps its own data under this name: `._NAME` beside each file `NAME`."""
    return name.startswith("._")


def same_file(path: str, other: str) -> bool:
    """Return whether two paths on this machine, with their links followed, lead to one file.

    If no file is there any more, they do if they are the same text.
    """
    if path == other or (path := os.path.realpath(path)) == (other := os.path.realpath(other)):
        return True
    if without_case(path) != without_case(other):
        return False
    try:
        return Path(path).samefile(other)
    except OSError:
        return plain(path) == plain(other)
