"""What a Mac's kernel answers: F_FULLFSYNC, clonefile, flock, killpg, files that it withholds.

Each variable names an errno, and some of them the files that it is for:

    DARWIN_FULLFSYNC=ENOTTY       F_FULLFSYNC is refused (SMB, NFS, FAT)
    DARWIN_FOLDER_FSYNC=ENOENT    so is flushing a folder (SMB)
    DARWIN_FLOCK=ENOTSUP          so is flock (some shares)
    DARWIN_CLONE=ENOTSUP          so is clonefile (not APFS, or another volume)
    DARWIN_OPEN=EPERM:*.db        files that cannot be opened (a folder of the user's, by TCC)
    DARWIN_READ=EDEADLK:*.db      files that cannot be read (evicted by iCloud; a share is gone)
    DARWIN_DATALESS=*.db          files that stat shows as evicted
    DARWIN_LIBPROC=EPERM          proc_listpidspath fails
    DARWIN_LOG=FILE               gets a line for each flush and clone

SQLite opens and reads files without Python, and so does not meet OPEN and READ; strace can refuse
its calls (`faults/tracing.py`).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import fnmatch
import os
import posix
import stat
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tests.support.darwin import lacking

if TYPE_CHECKING:
    from collections.abc import Callable

_FULLFSYNC, _BARRIERFSYNC = 51, 85
_FICLONE = 0x40049409
# struct flock of macOS and of Linux, and the numbers of the commands and kinds of lock.
_THEIRS, _OURS = "qqihh", "hhqqi4x"
_COMMANDS = {7: 5, 8: 6, 9: 7}
_KINDS = {1: 0, 2: 2, 3: 1}
_DATALESS = 0x40000000
_PID = struct.Struct("i")
# Before anything is replaced: this module may look where macOS has nothing.
_listdir, _readlink, _stat = posix.listdir, posix.readlink, posix.stat
_open, _write, _close = posix.open, posix.write, posix.close
_fsync, _killpg, _fstat = posix.fsync, posix.killpg, posix.fstat
_fcntl, _flock, _ioctl = fcntl.fcntl, fcntl.flock, fcntl.ioctl
_CDLL = ctypes.CDLL


def apply() -> None:
    """Let the kernel answer as that of a Mac."""
    new = {"F_FULLFSYNC": _FULLFSYNC, "F_BARRIERFSYNC": _BARRIERFSYNC}
    new |= {"F_GETLK": 7, "F_SETLK": 8, "F_SETLKW": 9, "F_RDLCK": 1, "F_UNLCK": 2, "F_WRLCK": 3}
    vars(fcntl).update(new, fcntl=_fcntl_, flock=_flock_, ioctl=_ioctl_)
    vars(ctypes).update(CDLL=_library)
    lacking.replace("fsync", lambda _: _fsync_)
    lacking.replace("killpg", lambda _: _killpg_)
    lacking.replace("open", _withheld)
    lacking.replace_open(_withheld)
    for name in ("stat", "lstat"):
        lacking.replace(name, _flagged)


def _refuse(answer: str, path: str | None = None) -> None:
    """Raise the OSError that the variable names, if it is set and, with `path`, matches."""
    name, _, pattern = os.environ.get(f"DARWIN_{answer}", "").partition(":")
    if name and (path is None or fnmatch.fnmatch(path, pattern)):
        number = getattr(errno, name)
        raise OSError(number, _words(number), *([] if path is None else [path]))


def _words(number: int) -> str:
    return "Operation not supported" if number == errno.ENOTSUP else os.strerror(number)


def _note(text: str) -> None:
    if log := os.environ.get("DARWIN_LOG"):
        descriptor = _open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        _write(descriptor, f"{text}\n".encode("utf-8", "surrogateescape"))
        _close(descriptor)


def _number(file: Any) -> int:
    return file if isinstance(file, int) else int(file.fileno())


def _place(descriptor: int) -> str:
    return _readlink(f"/proc/self/fd/{descriptor}")


def _fcntl_(file: Any, command: int, arg: Any = 0) -> Any:
    if command in _COMMANDS and isinstance(arg, bytes):
        start, length, pid, kind, whence = struct.unpack_from(_THEIRS, arg)
        asked = struct.pack(_OURS, _KINDS[kind], whence, start, length, pid)
        told = struct.unpack(_OURS, _fcntl(file, _COMMANDS[command], asked))
        kind = next(theirs for theirs, ours in _KINDS.items() if ours == told[0])
        return struct.pack(_THEIRS, *told[2:], kind, told[1]) + arg[struct.calcsize(_THEIRS) :]
    if command not in (_FULLFSYNC, _BARRIERFSYNC):
        return _fcntl(file, command, arg)
    _flush("F_FULLFSYNC", _number(file))
    return 0


def _fsync_(file: Any) -> None:
    _flush("fsync", _number(file))


def _flush(call: str, descriptor: int) -> None:
    is_folder = stat.S_ISDIR(_fstat(descriptor).st_mode)
    _note(f"{call} {_place(descriptor)}{'/' if is_folder else ''}")
    if call == "F_FULLFSYNC":
        _refuse("FULLFSYNC")
    if is_folder:
        _refuse("FOLDER_FSYNC")
    _fsync(descriptor)


def _flock_(file: Any, operation: int) -> None:
    if not operation & fcntl.LOCK_UN:
        _refuse("FLOCK")
    _flock(file, operation)


def _ioctl_(file: Any, request: int, *rest: Any) -> Any:
    if request == _FICLONE:
        raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
    return _ioctl(file, request, *rest)


def _killpg_(group: int, number: int) -> None:
    """Refuse with EPERM, not ESRCH, if only zombies are left of a group."""
    states = set()
    for pid in filter(str.isdigit, _listdir("/proc")):
        text = _content(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        if text and int(text[2]) == group:
            states.add(text[0])
    if states == {b"Z"}:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
    _killpg(group, number)


def _content(path: str) -> bytes:
    try:
        descriptor = _open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return b"".join(iter(lambda: posix.read(descriptor, 65536), b""))
    except OSError:
        return b""
    finally:
        _close(descriptor)


def _withheld(plain: Callable[..., Any]) -> Callable[..., Any]:
    def call(path: Any, mode: Any = "r", *arguments: Any, **options: Any) -> Any:
        if not isinstance(path, int):
            name = os.fsdecode(path)
            _refuse("OPEN", name)
            # A file that exists; what is only being made can be written.
            if os.path.lexists(name) and not _is_writing(mode):
                _refuse("READ", name)
        return plain(path, mode, *arguments, **options)

    return call


def _is_writing(mode: str | int) -> bool:
    return bool(mode & os.O_ACCMODE) if isinstance(mode, int) else not mode.startswith("r")


def _flagged(plain: Callable[..., Any]) -> Callable[..., Any]:
    def call(path: Any, *arguments: Any, **options: Any) -> Any:
        found = plain(path, *arguments, **options)
        pattern = os.environ.get("DARWIN_DATALESS")
        if not pattern or isinstance(path, int):
            return found
        facts = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
        evicted = fnmatch.fnmatch(os.fsdecode(path), pattern)
        return SimpleNamespace(**facts, st_flags=_DATALESS if evicted else 0)

    return call


def _library(name: Any, *arguments: Any, **options: Any) -> Any:
    if name is None or str(name).startswith(("/usr/lib/lib", "libproc", "libSystem")):
        return _System(_CDLL(None, *arguments, **options))
    raise OSError(f"dlopen({name}, 0x0006): tried: '{name}' (no such file)")


class _System:
    """libSystem: clonefile and proc_listpidspath, and what it shares with Linux's libc."""

    _MISSING = ("mallopt", "malloc_trim", "copy_file_range", "renameat2", "syncfs", "statx")

    def __init__(self, libc: ctypes.CDLL) -> None:
        self._libc = libc
        self.clonefile = _Function(_clonefile)
        self.proc_listpidspath = _Function(_proc_listpidspath)

    def __getattr__(self, name: str) -> Any:
        if name in self._MISSING:
            raise AttributeError(f"dlsym(RTLD_DEFAULT, {name}): symbol not found")
        return getattr(self._libc, name)


class _Function:
    """A function of a library, of which one may set `argtypes` and `restype`."""

    def __init__(self, function: Callable[..., int | None]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> int:
        """Call it; -1 and errno if it fails."""
        try:
            return self._function(*arguments) or 0
        except OSError as error:
            ctypes.set_errno(error.errno or errno.EIO)
            return -1


def _text(word: Any) -> str:
    return os.fsdecode(getattr(word, "value", word))


def _clonefile(source: Any, target: Any, _flags: Any) -> None:
    _note(f"clonefile {_text(target)}")
    _refuse("CLONE")
    facts = _stat(_text(source))
    if facts.st_dev != _stat(str(Path(_text(target)).parent)).st_dev:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    descriptor = _open(_text(target), flags, stat.S_IMODE(facts.st_mode))
    try:
        view = memoryview(_content(_text(source)))
        while view:
            view = view[_write(descriptor, view) :]
    finally:
        _close(descriptor)
    posix.utime(_text(target), ns=(facts.st_atime_ns, facts.st_mtime_ns))


def _proc_listpidspath(
    _kind: Any, _about: Any, path: Any, _flags: Any, buffer: Any, size: Any
) -> int:
    """Write the process ids that have a file open into the buffer; return their size in bytes."""
    _refuse("LIBPROC")
    wanted = _stat(_text(path))
    pids = [int(pid) for pid in filter(str.isdigit, _listdir("/proc")) if _has_open(pid, wanted)]
    told = b"".join(map(_PID.pack, pids))
    if not buffer:
        return len(told) + 20 * _PID.size  # As the real one, it asks for some more.
    told = told[: getattr(size, "value", size)]
    ctypes.memmove(buffer, told, len(told))
    return len(told)


def _has_open(pid: str, wanted: os.stat_result) -> bool:
    try:
        for number in _listdir(f"/proc/{pid}/fd"):
            found = _stat(f"/proc/{pid}/fd/{number}")
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                return True
    except OSError:
        return False
    return False
