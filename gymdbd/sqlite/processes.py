"""Which processes hold a database: from the kernel's lock table and from open files.

Linux tells both through /proc; elsewhere `lsof` tells the open files. What may not be read, such
as another user's process without privileges, is left out: an empty answer is not a proof.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# Byte ranges of the locks in the -shm file. https://www.sqlite.org/walformat.html section 2.3.
WRITE_LOCK = range(120, 121)
CHECKPOINT_LOCK = range(121, 122)
READ_LOCKS = range(123, 128)
# The lock bytes of the main file. https://www.sqlite.org/fileformat2.html section 1.3.2 (offset
# 2^30): PENDING, RESERVED, and 510 bytes of SHARED.
_MAIN_LOCKS = range(2**30, 2**30 + 512)

_TIMEOUT_S = 10
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


def holders(path: Path, *, proc: Path = Path("/proc")) -> list[Process]:
    """List the other processes that have the database or one of its side files open."""
    names = {str(path), *(f"{path}{suffix}" for suffix in ("-wal", "-shm", "-journal"))}
    pids = _open_by_proc(names, proc) if proc.is_dir() else _open_by_lsof(names)
    return [_process(pid, proc) for pid in sorted(pids - {os.getpid()})]


def writers(path: Path, *, proc: Path = Path("/proc")) -> list[Process]:
    """List the other processes that have the database itself open for writing."""
    names = {str(path)}
    if proc.is_dir():
        pids = _open_by_proc(names, proc, writing=True)
    else:
        pids = _open_by_lsof(names, writing=True)
    return [_process(pid, proc) for pid in sorted(pids - {os.getpid()})]


def lock_holders(
    path: Path, span: range | None = None, *, proc: Path = Path("/proc")
) -> list[Process]:
    """List the other processes that hold an SQLite lock on the database.

    With `span` only those whose lock on the `-shm` file touches these bytes: READ_LOCKS are what
    keeps a checkpoint from finishing, WRITE_LOCK is the writer's. Empty where the kernel has no
    lock table to read.
    """
    if span is None:
        pids = _lockers(path, _MAIN_LOCKS, proc, kinds=("WRITE",))
    else:
        pids = _lockers(path.with_name(path.name + "-shm"), span, proc, kinds=("READ", "WRITE"))
    return [_process(pid, proc) for pid in sorted(pids - {os.getpid()})]


def _lockers(path: Path, span: range, proc: Path, kinds: tuple[str, ...]) -> set[int]:
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
        # An arrow in the second place marks who waits for the lock above, and holds nothing.
        if len(fields) < _FLOCK_FIELDS or fields[1] not in ("POSIX", "OFDLCK"):
            continue
        kind, pid, place, first, last = fields[3:8]
        if kind not in kinds or place.rsplit(":", 1)[-1] != str(facts.st_ino):
            continue
        end = span.stop if last == "EOF" else int(last)
        if int(first) < span.stop and end >= span.start:
            pids.add(int(pid))
    return pids


def _open_by_proc(names: set[str], proc: Path, *, writing: bool = False) -> set[int]:
    pids = set()
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # listdir, not scandir: a process that ends meanwhile would leave its iterator open.
            numbers = os.listdir(folder / "fd")  # noqa: PTH208
            links = {one: os.readlink(folder / "fd" / one) for one in numbers}  # noqa: PTH115
        except OSError:
            continue
        found = [number for number, link in links.items() if link in names]
        if any(not writing or _may_write(folder / "fdinfo" / number) for number in found):
            pids.add(int(folder.name))
    return pids


def _may_write(info: Path) -> bool:
    """Say whether a descriptor was opened for writing, from its flags in octal."""
    try:
        lines = info.read_text().splitlines()
    except OSError:
        return False
    flags = next((line.split()[1] for line in lines if line.startswith("flags:")), "0")
    return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY


def _open_by_lsof(names: set[str], *, writing: bool = False) -> set[int]:
    present = sorted(name for name in names if os.path.exists(name))  # noqa: PTH110 - plain strings
    said = _said_by("lsof", "-F", "pa", "--", *present) if present else ""
    return _parse_lsof(said.splitlines(), writing=writing)


def _parse_lsof(lines: list[str], *, writing: bool) -> set[int]:
    """Read lsof's fields: a line `p` and a process, then for each of its files a line `a`."""
    pids, pid = set(), 0
    for line in lines:
        if line.startswith("p") and line[1:].isdigit():
            pid = int(line[1:])
            pids.update(set() if writing else {pid})
        elif line[:1] == "a" and line[1:] in ("w", "u") and pid:
            pids.add(pid)
    return pids


def _process(pid: int, proc: Path) -> Process:
    try:
        words = (proc / str(pid) / "cmdline").read_bytes().split(b"\0")
        command = " ".join(os.path.basename(os.fsdecode(word)) for word in words[:2] if word)  # noqa: PTH119
    except OSError:
        command = _command_by_ps(pid)
    return Process(pid, command or "process")


def _command_by_ps(pid: int) -> str:
    return os.path.basename(_said_by("ps", "-o", "comm=", "-p", str(pid)).strip())  # noqa: PTH119


def _said_by(name: str, *words: str) -> str:
    """Return what a program prints, "" where it is not there or takes too long."""
    # Linux needs neither, and imports are most of the serving side's start.
    import shutil  # noqa: PLC0415
    import subprocess  # noqa: PLC0415

    program = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if program is None:
        return ""
    try:
        answer = subprocess.run(
            [program, *words], capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.decode(errors="replace")
