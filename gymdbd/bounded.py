"""Opening files whose names are ours, but which others may have put there; reading small ones.

A pipe or a device in the place of a file would keep the reader for ever, a link would lead it to
the files of others, and a file of gigabytes would take the memory of the machine. So each such
name is opened once, without following a link or waiting, and what was opened is looked at.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import stat
import time
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeVar

from gymdbd.disk import NotOrdinaryError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

Made = TypeVar("Made")

MOST_BYTES = 32 * 1024 * 1024

# What opening something else than a file fails with, without saying what it is.
_ODD = (errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EISDIR, errno.EOPNOTSUPP)
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFDIR: "a folder",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# The kernel lets a file server (Samba) take 45 seconds to give a file back.
_PATIENCE_S = 60.0
_POLL_S = 0.05

# What `parse` raises for bytes that are not ours.
FAULTS = (ValueError, RecursionError, MemoryError)

_PLAIN = {"str": str, "bool": bool, "None": NoneType, "Any": object}
# SQLite has no larger whole numbers, and Python cannot make a size or a time of them.
_MOST_NUMBER = 2**63 - 1
_LIST, _DICT = "list[", "dict[str, "


def opened(path: Path, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """Open a file without following a link at its name, and without a wait for a pipe.

    Raises NotOrdinaryError, an OSError, if something else than a file has the name, or if a file
    that we may create, and so write, has another name as well.
    """
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = _open(path, flags, mode)
    except OSError as error:
        if error.errno in _ODD:
            require_ordinary(path.lstat())
        raise
    try:
        require_ordinary(os.fstat(descriptor), alone=bool(flags & os.O_CREAT))
    except NotOrdinaryError:
        os.close(descriptor)
        raise
    return descriptor


def require_ordinary(facts: os.stat_result, *, alone: bool = False) -> None:
    """Raise NotOrdinaryError unless these are the facts of an ordinary file.

    If it is to be `alone`, it must have no second name.
    """
    if not stat.S_ISREG(facts.st_mode):
        kind = _KINDS.get(stat.S_IFMT(facts.st_mode), "something else")
        raise NotOrdinaryError(f"it is {kind}, not a file")
    if alone and facts.st_nlink > 1:
        # A link that another user made to a file would let us write into that file.
        raise NotOrdinaryError("the file has another name as well (a hard link)")


def is_ordinary(path: Path) -> bool:
    """Return whether an ordinary file has this name; OSError if this user cannot see it."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _open(path: Path, flags: int, mode: int) -> int:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return os.open(path, flags, mode)
        except BlockingIOError:
            # A process has a lease on it, and gives it back soon: fcntl(2).
            if time.monotonic() >= deadline:
                raise
            time.sleep(_POLL_S)


def read(path: Path, most: int = MOST_BYTES, *, owners: Collection[int] | None = None) -> bytes:
    """Return the content of a file; ValueError if it is larger than `most`.

    Raises OSError if it cannot be read, and NotOrdinaryError as `opened` does, or if it belongs to
    none of the `owners`, users by number.
    """
    descriptor = opened(path)
    with os.fdopen(descriptor, "rb") as file:
        if owners is not None and (owner := os.fstat(descriptor).st_uid) not in owners:
            raise NotOrdinaryError(f"it belongs to another user, uid {owner}")
        # Python allocates as many bytes as are requested, even if the file is smaller.
        data = file.read(min(os.fstat(descriptor).st_size, most) + 1)
    if len(data) > most:
        raise ValueError(f"it has more than {most} bytes")
    return data


def parse(data: bytes) -> Any:
    """Return the JSON in `data`, None for its NaN and Infinity; one of FAULTS if there is none."""
    return json.loads(data.decode("utf-8", "surrogatepass"), parse_constant=lambda _: None)


def typed(kind: type[Made], content: dict[str, Any]) -> Made:
    """Make a dataclass of the values that JSON has for its fields; other values are ignored.

    Raises TypeError if one is missing, or is not what the annotation of its field says.
    """
    known = {field.name: str(field.type) for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    found = {name: content[name] for name in known.keys() & content.keys()}
    for name, value in sorted(found.items()):
        if not _fits(value, known[name]):
            raise TypeError(f"its {name} is no {known[name]}")
    return kind(**found)


def _fits(value: Any, annotation: str) -> bool:
    if " | " in annotation:
        return any(_fits(value, part) for part in annotation.split(" | "))
    if annotation.startswith(_LIST):
        within = annotation[len(_LIST) : -1]
        return isinstance(value, list) and all(_fits(item, within) for item in value)
    if annotation.startswith(_DICT):
        within = annotation[len(_DICT) : -1]
        return isinstance(value, dict) and all(_fits(item, within) for item in value.values())
    if annotation == "int":
        return type(value) is int and abs(value) <= _MOST_NUMBER
    if annotation == "float":
        return _fits(value, "int") or (isinstance(value, float) and math.isfinite(value))
    return isinstance(value, _PLAIN[annotation])
