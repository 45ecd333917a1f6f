"""The files that other processes have open: which they are, and under which names.

Linux lists them in /proc; elsewhere `lsof` does, and macOS' libproc before it, without the times. A
file is known by its device and inode: the names are those that the process itself used, in its own
mounts.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, List, Optional, Set, Tuple

PROC = Path("/proc")

# Device and inode.
File = Tuple[int, int]

_TIMEOUT_S = 10
_ALL_PIDS = 1  # PROC_ALL_PIDS of macOS' libproc.h
_MOST_PIDS = 4096
_DELETED = " (deleted)"
_NO_FILES = ("/dev/", "/proc/", "/sys/", "/memfd:")
_SHARED_MEMORY = "/dev/shm/"  # noqa: S108 - a prefix to look for
# A stat of a file there blocks while the machine behind it does not answer.
_FAR_TYPES = ("nfs", "cifs", "smb", "fuse", "9p", "ceph", "afs", "autofs")


@dataclass(frozen=True)
class Descriptor:
    """A file that a process has open. `path` reads it, through /proc; "" if nothing does.

    `deleted` says that the name under which it was opened leads to it no longer. The times of its
    last write and of its last change of any kind are 0 if they are not known.
    """

    pid: int
    name: str
    file: File
    writable: bool
    deleted: bool = False
    written_ns: int = 0
    changed_ns: int = 0
    path: str = ""


@dataclass
class Seen:
    """The descriptors found by process, and the processes that could not be inspected.

    If it is `blind`, the system did not tell, and what was not found may be there.
    """

    files: Dict[int, List[Descriptor]] = field(default_factory=dict)
    unseen: Set[int] = field(default_factory=set)
    blind: bool = False


def file_at(path: str) -> Optional[File]:
    """Return the identity of the file with this name, None if there is none or it is unknown."""
    try:
        facts = os.stat(path)  # noqa: PTH116 - called for many files
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def scan(near: str, wanted: Callable[[str, File], bool], proc: Path = PROC) -> Seen:
    """List all that those other processes have open that have a `wanted(name, file)` open.

    `near` is a place whose file system is asked in any case, wherever it is.
    """
    seen = Seen()
    far = tuple(mount for mount in _far_mounts(proc) if not near.startswith(mount))
    for number in os.listdir(proc):  # noqa: PTH208 - names only
        if number.isdigit() and int(number) != os.getpid():
            try:
                found = _open_files(f"{proc}/{number}", far)
            except PermissionError:
                seen.unseen.add(int(number))
            except OSError:
                continue  # It has ended.
            else:
                if any(wanted(name, (facts.st_dev, facts.st_ino)) for _, name, _, facts in found):
                    seen.files[int(number)] = [_describe(int(number), *place) for place in found]
    return seen


def scan_without_proc(paths: List[str], *, whole: bool = False) -> Seen:
    """List who else has one of these files open; with `whole` all else that these have open.

    The processes of other users are left out, unless this is root.
    """
    present = [path for path in paths if file_at(path)]
    if not present:
        return Seen()
    pids = _pids_by_libproc(present)
    if pids is None:
        said = said_by("lsof", "-nPw", "-F", "paDin", "--", *present)
        found = _parse(said or "")
        found.pop(os.getpid(), None)
        if said is None or not (whole and found):
            return Seen(found, blind=said is None)
        pids = set(found)
    if not pids:
        return Seen()
    said = said_by("lsof", "-nPw", "-F", "paDin", "-p", ",".join(map(str, sorted(pids))))
    found = _parse(said or "")
    return Seen({pid: found.get(pid, []) for pid in pids}, blind=said is None)


def _pids_by_libproc(paths: List[str], platform: str = sys.platform) -> Optional[Set[int]]:
    """Return who else has one of these files open, None if this system cannot tell.

    Unlike lsof it never waits for a file system that does not answer, and is there without a PATH.
    """
    if platform != "darwin":
        return None
    import ctypes  # noqa: PLC0415 - only here

    try:
        ask = ctypes.CDLL(None).proc_listpidspath
    except (AttributeError, OSError):
        return None
    text, number = ctypes.c_char_p, ctypes.c_uint32
    ask.argtypes = (number, number, text, number, ctypes.c_void_p, ctypes.c_int)
    pids: Set[int] = set()
    room = ctypes.create_string_buffer(_MOST_PIDS * ctypes.sizeof(ctypes.c_int))
    for path in paths:
        size = ask(_ALL_PIDS, 0, os.fsencode(path), 0, room, len(room))
        if size < 0:
            return None
        told = memoryview(room.raw)[:size].cast("i")
        pids.update(told)
    return pids - {os.getpid()}


# The descriptor's path, the name under which its file was opened, whether that name is gone.
_Found = Tuple[str, str, bool, os.stat_result]


def _open_files(process: str, far: Tuple[str, ...]) -> List[_Found]:
    """List the regular places that a process has open; raises what the folder's reading does."""
    found = []
    for number in os.listdir(f"{process}/fd"):  # noqa: PTH208 - names only
        path = f"{process}/fd/{number}"
        try:
            name = os.readlink(path)  # noqa: PTH115 - called for many files
            if name[:1] != "/" or name.startswith(far):
                continue
            if name.startswith(_NO_FILES) and not name.startswith(_SHARED_MEMORY):
                continue
            facts = os.stat(path)  # noqa: PTH116 - called for many files
        except PermissionError:
            raise  # The numbers may be listed by more than may look behind them.
        except OSError:
            continue
        gone = name.endswith(_DELETED)
        found.append((path, name[: -len(_DELETED)] if gone else name, gone, facts))
    return found


def _describe(pid: int, path: str, name: str, gone: bool, facts: os.stat_result) -> Descriptor:
    return Descriptor(
        pid,
        name,
        (facts.st_dev, facts.st_ino),
        writable=may_write(path.replace("/fd/", "/fdinfo/")),
        deleted=gone,
        written_ns=facts.st_mtime_ns,
        changed_ns=facts.st_ctime_ns,
        path=path,
    )


def _far_mounts(proc: Path) -> Tuple[str, ...]:
    """List the mounts of file systems that depend on another machine or program."""
    try:
        lines = (proc / "self" / "mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ()
    # Optional fields stand before the dash, the type behind it.
    parts = [line.partition(" - ") for line in lines]
    return tuple(
        before.split()[4].replace("\\040", " ") + "/"
        for before, _, after in parts
        if after.startswith(_FAR_TYPES)
    )


def _parse(said: str) -> Dict[int, List[Descriptor]]:
    """Read lsof's fields: `p` begins a process, `a` a file, which ends with its name."""
    found: Dict[int, List[Descriptor]] = {}
    pid = 0
    fields: Dict[str, str] = {}
    for line in said.splitlines():
        kind, value = line[:1], line[1:]
        if kind == "p" and value.isdigit():
            pid = int(value)
            found[pid] = []
        elif kind == "a":
            fields = {}
        fields[kind] = value
        device, inode = fields.get("D", ""), fields.get("i", "")
        if kind == "n" and pid and device.startswith("0x") and inode.isdigit():
            gone = value.endswith(_DELETED)
            name = value[: -len(_DELETED)] if gone else value
            file = int(device, 16), int(inode)
            found[pid].append(Descriptor(pid, name, file, fields.get("a") in ("w", "u"), gone))
    return found


def may_write(info: str) -> bool:
    """Return whether a descriptor was opened for writing, by its flags in /proc/PID/fdinfo."""
    try:
        with open(info, encoding="ascii", errors="replace") as file:  # noqa: PTH123 - a plain string
            lines = file.read().splitlines()
    except OSError:
        return False
    flags = next((line.split()[1] for line in lines if line.startswith("flags:")), "0")
    return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY


def said_by(name: str, *words: str) -> Optional[str]:
    """Return what a program prints, None if it is not there, fails or takes too long."""
    # Linux needs neither, and imports are most of the serving side's start.
    import shutil  # noqa: PLC0415
    import subprocess  # noqa: PLC0415

    program = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if program is None:
        return None
    try:
        answer = subprocess.run(
            [program, *words], capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    # lsof ends with 1 and without a word if nobody has the file open.
    if answer.returncode and answer.stderr and not answer.stdout:
        return None
    return answer.stdout.decode(errors="replace")
