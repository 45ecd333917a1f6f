"""Find the databases that somebody may want to protect: near a folder, and those in use."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Set, Tuple

from gymdbd.source import descriptors, processes
from gymdbd.source.format import MAGIC

# An application's own folder is rarely deeper, and no search may take minutes.
_DEEPEST = 4
_MOST_ENTRIES = 20_000
_MOST_FOUND = 50
# Others' code, with databases of its own at most.
_SKIPPED = {"node_modules", "__pycache__", "site-packages", "Library", "proc", "sys", "dev"}
_OF_A_VENV = "pyvenv.cfg"
# A backup of gymdbd's, or of the scripts before it.
_BACKUP = re.compile(r".+_backup_\d{8}_\d{6}(-\d+)?\.db", re.DOTALL)


@dataclass(frozen=True)
class Found:
    """A database file: `users` has a line for each process that has it open, as far as is seen.

    It is `near` if the search met it in the folder, and not only in the hands of a process.
    """

    path: str
    size_bytes: int
    users: List[str]
    near: bool

    def to_json(self) -> Dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def find(folder: str, proc: os.PathLike[str] = descriptors.PROC) -> List[Found]:
    """List the databases below a folder, those in use first, then those that processes use.

    Hidden files and folders, backups, and what is in a virtual environment are left out.
    """
    return with_users(near(folder), proc)


def near(folder: str) -> List[str]:
    """List the databases in a folder and some levels below, the nearest first."""
    found: List[str] = []
    entries = 0
    for place, folders, names in os.walk(folder):
        entries += len(folders) + len(names)
        depth = len(Path(place).relative_to(folder).parts)
        if _OF_A_VENV in names or depth >= _DEEPEST:
            folders.clear()
        if _OF_A_VENV in names or entries > _MOST_ENTRIES or len(found) >= _MOST_FOUND:
            continue
        folders[:] = sorted(name for name in folders if not _is_left_out(name))
        paths = (os.path.join(place, name) for name in sorted(names) if not _is_left_out(name))  # noqa: PTH118 - many files
        found += [path for path in paths if is_database(path)]
    return sorted(found[:_MOST_FOUND], key=lambda path: (path.count(os.sep), path))


def with_users(paths: List[str], proc: os.PathLike[str] = descriptors.PROC) -> List[Found]:
    """Return these databases with who uses them, and on Linux all others that are in use."""
    if not os.path.isdir(proc):  # noqa: PTH112 - a plain string
        seen = descriptors.scan_without_proc(paths)
    else:
        seen = descriptors.scan("/", lambda *_: True)
    users: Dict[descriptors.File, Set[int]] = {}
    written: Dict[descriptors.File, Tuple[str, str]] = {}
    for pid, opened in seen.files.items():
        for one in opened:
            users.setdefault(one.file, set()).add(pid)
            if one.writable and not one.deleted:
                written[one.file] = (one.name, one.path)
    here = {descriptors.file_at(path) for path in paths}
    others = [
        _found(name, users, near=False)
        for file, (name, path) in sorted(written.items(), key=lambda item: item[1])
        # A process in a container may mean another file by this name.
        if file not in here and _may_be_meant(name) and descriptors.file_at(name) == file
        if is_database(path)
    ]
    near_by = [_found(path, users, near=True) for path in paths]
    return [*sorted(near_by, key=lambda one: not one.users), *others[:_MOST_FOUND]]


def _found(path: str, users: Dict[descriptors.File, Set[int]], *, near: bool) -> Found:
    file = descriptors.file_at(path)
    pids = sorted(users.get(file, ())) if file else []
    size = os.stat(path).st_size if file else 0  # noqa: PTH116 - a plain string
    return Found(path, size, [str(processes.named(pid)) for pid in pids], near)


def _may_be_meant(path: str) -> bool:
    return not any(map(_is_left_out, Path(path).parts[1:]))


def _is_left_out(name: str) -> bool:
    return (
        name.startswith(".")
        or name in _SKIPPED
        or name.endswith(".damaged")
        or _BACKUP.fullmatch(name) is not None
    )


def is_database(path: str) -> bool:
    """Return whether a file begins as a database does; nothing but an ordinary file is opened.

    This process must have no connection to it: closing the file would end SQLite's locks.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return False
        return os.read(descriptor, len(MAGIC)) == MAGIC
    except OSError:
        return False
    finally:
        os.close(descriptor)
