"""Which processes hold a database: from the kernel's lock table and from open files.

Linux lists both in /proc; elsewhere `lsof` lists the open files. What may not be read, such
as another user's process without privileges, is left out: an empty answer is not a proof.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd.source import descriptors
from gymdbd.source.format import INDEX, MAIN_LOCKS, SHARED_LOCK, beside, side_files

if TYPE_CHECKING:
    from pathlib import Path

_FLOCK_FIELDS = 8


@dataclass(frozen=True, order=True)
class Process:
    """A process by its id and the command it runs."""

    pid: int
    command: str

    def __str__(self) -> str:
        """Write it for a message: `python3 (pid 411)`."""
        return f"{self.command} (pid {self.pid})"


def describe(found: list[Process]) -> str:
    """Name processes for a message."""
    return ", ".join(str(process) for process in found) or "a process that could not be named"


def holders(path: Path, *, proc: Path = descriptors.PROC) -> list[Process]:
    """List the other processes that have the database or one of its side files open.

    By the files themselves, under whatever name each has opened them.
    """
    names = [str(path), *map(str, side_files(path))]
    return [named(pid, proc) for pid in sorted(_who_has(names, proc).files)]


def writers(path: Path, *, proc: Path = descriptors.PROC) -> list[Process]:
    """List the other processes that have the database itself open for writing."""
    return look_for_writers(path, proc=proc)[0]


def look_for_writers(path: Path, *, proc: Path = descriptors.PROC) -> tuple[list[Process], str]:
    """Do as `writers`, and also return why there may be others, "" if there are none."""
    main = descriptors.file_at(str(path))
    seen = _who_has([str(path)], proc)
    pids = {
        pid
        for pid, files in seen.files.items()
        for descriptor in files
        if descriptor.file == main and descriptor.writable
    }
    return [named(pid, proc) for pid in sorted(pids)], _unknown(path, seen)


def _unknown(path: Path, seen: descriptors.Seen) -> str:
    """Return why a process that may write the file may have been missed.

    Root's processes are taken for harmless: they may write everything, and are seen by root alone.
    """
    if seen.blind:
        return "the system did not tell who has it open (lsof is missing, or did not answer)"
    try:
        shared = os.geteuid() != 0 and path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    except OSError:
        return ""
    return "other users may write it, and this one cannot see what they have open" if shared else ""


def _who_has(names: list[str], proc: Path) -> descriptors.Seen:
    if not proc.is_dir():
        return descriptors.scan_without_proc(names)
    files = {descriptors.file_at(name) for name in names}
    return descriptors.scan(names[0], lambda _, file: file in files, proc)


def lock_holders(
    path: Path, span: range | None = None, *, proc: Path = descriptors.PROC
) -> list[Process]:
    """List the other processes that hold an SQLite lock on the database.

    With `span` only those whose lock on the `-shm` file touches these bytes: READ_LOCKS are what
    keeps a checkpoint from finishing, WRITE_LOCK is the writer's. Empty if the kernel has no
    lock table to read.
    """
    if span is None:
        pids = _lockers(path, MAIN_LOCKS, proc, kinds=("WRITE",))
    else:
        pids = _lockers(beside(path, INDEX), span, proc, kinds=("READ", "WRITE"))
    return [named(pid, proc) for pid in sorted(pids - {os.getpid()})]


def connected(path: Path, *, proc: Path = descriptors.PROC) -> tuple[set[int], set[int]]:
    """Return, by their locks, who is connected to a database, and who to its index (`-shm`).

    In WAL mode a connection that has read keeps SQLite's shared lock on the main file until it is
    closed, and its process a lock on the index that it uses.
    """
    index = beside(path, INDEX)
    whole = range(2**62)
    return (
        _lockers(path, SHARED_LOCK, proc, kinds=("READ",), exactly=True),
        _lockers(index, whole, proc, kinds=("READ", "WRITE")),
    )


def _lockers(
    path: Path, span: range, proc: Path, kinds: tuple[str, ...], *, exactly: bool = False
) -> set[int]:
    """List who has locked these bytes; `exactly` leaves out what may be of another file."""
    try:
        facts = path.stat()
        lines = (proc / "locks").read_text().splitlines()
    except OSError:
        return set()
    # The kernel writes the device as hexadecimal major:minor. Some file systems (btrfs,
    # overlayfs) report another device there than stat does, so the inode decides.
    pids = set()
    for line in lines:
        fields = line.split()
        # An arrow in the second field marks a process that waits for the lock above.
        if len(fields) < _FLOCK_FIELDS or fields[1] not in ("POSIX", "OFDLCK"):
            continue
        kind, pid, place, first, last = fields[3:8]
        if kind not in kinds or place.rsplit(":", 1)[-1] != str(facts.st_ino):
            continue
        if exactly and place != _place(facts):
            continue
        end = span.stop if last == "EOF" else int(last)
        if int(first) < span.stop and end >= span.start:
            pids.add(int(pid))
    return pids


def _place(facts: os.stat_result) -> str:
    device = facts.st_dev
    return f"{os.major(device):02x}:{os.minor(device):02x}:{facts.st_ino}"


def named(pid: int, proc: Path = descriptors.PROC) -> Process:
    """Return the command of a process."""
    try:
        words = (proc / str(pid) / "cmdline").read_bytes().split(b"\0")
        command = " ".join(os.path.basename(os.fsdecode(word)) for word in words[:2] if word)  # noqa: PTH119
    except OSError:
        command = _command_by_ps(pid)
    return Process(pid, command or "process")


def _command_by_ps(pid: int) -> str:
    said = descriptors.said_by("ps", "-o", "comm=", "-p", str(pid)) or ""
    return os.path.basename(said.strip())  # noqa: PTH119
