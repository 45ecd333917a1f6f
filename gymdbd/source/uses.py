"""Which processes use another file or WAL for a database than those at its path.

Files are compared by device and inode, never by name: each process may have its own mounts.
"""

from __future__ import annotations

import dataclasses
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Set, Tuple

from gymdbd.source import descriptors, processes
from gymdbd.source.descriptors import PROC, Descriptor, File
from gymdbd.source.format import HEADER_BYTES, MAGIC, SIDE_SUFFIXES, VERSIONS, WAL, WITH_WAL

# A process that is opening or closing the database has no WAL open for an instant.
_SETTLE_S = 0.05
# How often to look again before an error. One that does so a thousand times a second may well have
# none at two looks.
_CONFIRMATIONS = 4
# How often to look if the WAL appears or disappears meanwhile.
_MOST_LOOKS = 5

OTHER_LOG = "other-log"
FORMER = "former"


@dataclass(frozen=True)
class Use:
    """A process that has the database open with another WAL, or the file that was here before.

    `main` and `log` are its open files, None if unknown. `lost` is set if its commits would be
    lost: that is an error, everything else a remark.
    """

    pid: int
    kind: str
    main: Optional[Descriptor]
    log: Optional[Descriptor]
    lost: bool

    def key(self) -> Tuple[object, ...]:
        """Return the values that are the same at a second look."""
        files = [opened and opened.file for opened in (self.main, self.log)]
        return (self.pid, self.kind, *files)

    @property
    def written_ns(self) -> int:
        """Return when it was last written."""
        return max((opened.written_ns for opened in (self.main, self.log) if opened), default=0)


@dataclass(frozen=True)
class View:
    """The result of one look at the processes that use a database.

    `names` counts the hard links of its file, `unseen` the processes that could not be inspected;
    `connected` is set if an inspected process has the database open.
    """

    uses: List[Use]
    unseen: int
    names: int
    connected: bool
    by_proc: bool


class _Place:
    """The files at a path as they are now."""

    def __init__(self, path: Path, proc: Path) -> None:
        self.path = Path(os.path.realpath(path))
        self.proc = proc
        self.main = descriptors.file_at(str(self.path))
        self.log = descriptors.file_at(f"{self.path}{WAL}")
        self.folder = descriptors.file_at(str(self.path.parent))
        self.names = self.path.stat().st_nlink if self.main else 0
        self.appeared_ns = self._appeared()

    def _appeared(self) -> int:
        """Return the latest time at which the file can have got its name, 0 if there is none."""
        try:
            # A new name changes both; either may have changed again later.
            changed = (self.path.stat().st_ctime_ns, self.path.parent.stat().st_ctime_ns)
        except OSError:
            return 0
        return min(changed)

    def wanted(self, name: str, file: File) -> bool:
        """Return whether a process that has this file open must be inspected."""
        base = name.rpartition("/")[2]
        return file in (self.main, self.log) or base in (self.path.name, self.path.name + WAL)

    def is_here(self, one: Descriptor, suffix: str = "") -> bool:
        """Return whether a file was opened by the path's name in its folder, on any mount."""
        folder, _, base = one.name.rpartition("/")
        if base != self.path.name + suffix or self.folder is None:
            return False
        if not one.path:
            return descriptors.file_at(folder or "/") == self.folder
        process = self.proc / str(one.pid)
        spaces = [_link(f"{here}/ns/mnt") for here in (process, self.proc / "self")]
        root = "" if spaces[0] == spaces[1] else f"{process}/root"
        return descriptors.file_at(f"{root}{folder}/") == self.folder

    def was_written(self, one: Descriptor) -> bool:
        """Return whether it was written after the file here appeared, or after its own removal."""
        return one.written_ns > self.appeared_ns > 0 or _was_written_removed(one)

    def is_as_it_was(self) -> bool:
        """Return whether the files are the same: the last connection removes the WAL."""
        now = (descriptors.file_at(str(self.path)), descriptors.file_at(f"{self.path}{WAL}"))
        return now == (self.main, self.log)

    def in_wal_mode(self) -> bool:
        """Read the header; a process with a connection to the database must not call this."""
        try:
            with self.path.open("rb") as file:
                return file.read(HEADER_BYTES)[VERSIONS] == WITH_WAL
        except OSError:
            return False


def look(path: Path, *, proc: Path = PROC) -> View:
    """Inspect all other processes that have the database open; errors are confirmed by retries."""
    view = _look(path, proc)
    for _ in range(_CONFIRMATIONS):
        before = {use.key() for use in view.uses if use.lost}
        if not before:
            break
        time.sleep(_SETTLE_S)
        again = _look(path, proc)
        uses = [use for use in again.uses if not use.lost or use.key() in before]
        view = dataclasses.replace(again, uses=uses)
    return view


def _look(path: Path, proc: Path) -> View:
    place, seen = _scan(path, proc)
    for _ in range(_MOST_LOOKS - 1):
        if place.is_as_it_was():
            break
        place, seen = _scan(path, proc)
    connected, indexed = processes.connected(place.path, proc=proc)
    apart = connected - indexed - {os.getpid()}
    uses = []
    for pid, files in sorted(seen.files.items()):
        uses += _judge(place, pid, files, connected, apart)
    uses += [
        Use(pid, OTHER_LOG, None, None, lost=True)
        for pid in sorted(apart - seen.files.keys())
        if pid in seen.unseen and _may_write(pid, place) and place.in_wal_mode()
    ]
    held = any(opened.file == place.main for files in seen.files.values() for opened in files)
    return View(uses, len(seen.unseen), place.names, held, proc.is_dir())


def _scan(path: Path, proc: Path) -> Tuple[_Place, descriptors.Seen]:
    place = _Place(path, proc)
    if proc.is_dir():
        return place, descriptors.scan(str(place.path), place.wanted, proc)
    return place, descriptors.scan_without_proc([str(place.path), f"{place.path}{WAL}"], whole=True)


def _judge(
    place: _Place, pid: int, files: List[Descriptor], connected: Set[int], apart: Set[int]
) -> List[Use]:
    """Return how one process uses the database, if that is unusual."""
    mains = [opened for opened in files if opened.file == place.main]
    found = _judge_former(place, pid, files, alone=not mains)
    # A program that only reads the files, to copy them, is not connected.
    if pid not in connected and not any(opened.writable for opened in mains):
        return found
    logs = [opened for opened in files if opened.name.endswith(WAL)]
    for main in mains:
        for log in logs:
            if log.name == f"{main.name}{WAL}" and log.file != place.log:
                # A child may have inherited a file that its parent has closed since.
                in_use = pid in connected or not log.deleted or _was_written_removed(log)
                return [Use(pid, OTHER_LOG, main, log, in_use), *found]
    if any(log.file == place.log for log in logs):
        return found
    names = {opened.name for opened in files}
    orphans = [log for log in logs if log.name[: -len(WAL)] not in names]
    without = pid in apart and mains[0].writable and place.in_wal_mode()
    if orphans or without:
        return [Use(pid, OTHER_LOG, mains[0], next(iter(orphans), None), lost=True), *found]
    return found


def _judge_former(place: _Place, pid: int, files: List[Descriptor], *, alone: bool) -> List[Use]:
    """Find the file that was at the path before: deleted, or moved away from its WAL.

    `alone` is set if the process does not have the present file open too.
    """
    logs = [opened for opened in files if opened.writable and place.is_here(opened, WAL)]
    if not alone:
        logs = [opened for opened in logs if opened.file != place.log]
    log = max(logs, key=lambda one: one.written_ns, default=None)
    mains = [opened for opened in files if opened.deleted and place.is_here(opened)]
    if alone and not mains and log is not None:
        mains = _moved(files, log)
    found = []
    for main in mains:
        written = any(place.was_written(opened) for opened in (main, log) if opened)
        lost = main.writable and place.main is not None and written
        found.append(Use(pid, FORMER, main, log, lost))
    return found


def _was_written_removed(one: Descriptor) -> bool:
    """Return whether it was written after its removal, which changes ctime only."""
    return one.deleted and one.written_ns >= one.changed_ns > 0


def _moved(files: List[Descriptor], log: Descriptor) -> List[Descriptor]:
    """Find the main file of a WAL if its name now belongs to another file, or to none."""
    names = {opened.name for opened in files}
    found: Dict[File, Descriptor] = {
        opened.file: opened
        for opened in files
        if opened.writable
        and opened.file[0] == log.file[0]
        and not opened.name.endswith(SIDE_SUFFIXES)
        if f"{opened.name}{WAL}" not in names and _is_database(opened.path)
    }
    return list(found.values()) if len(found) == 1 else []


def _is_database(path: str) -> bool:
    """Read the head of a file, which must not be that at the database's path."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - a plain string
            return False
        with open(path, "rb") as file:  # noqa: PTH123 - a plain string
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 - a plain string
    except OSError:
        return ""


def _may_write(pid: int, place: _Place) -> bool:
    """Return whether a process that cannot be inspected may write the database, by its user."""
    try:
        lines = (place.proc / str(pid) / "status").read_text().splitlines()
        facts = place.path.stat()
    except OSError:
        return False
    said = {line.partition(":")[0]: line.split()[1:] for line in lines}
    # Real, effective, saved and file system id.
    user, group = (int(said[name][3]) for name in ("Uid", "Gid"))
    if user in (0, facts.st_uid):
        return user == 0 or bool(facts.st_mode & 0o200)
    if facts.st_gid in (group, *map(int, said.get("Groups", []))):
        return bool(facts.st_mode & 0o020)
    return bool(facts.st_mode & 0o002)
