"""What Linux has and macOS lacks: names of Python's modules, /proc, and abstract sockets."""

from __future__ import annotations

import builtins
import errno
import fcntl
import functools
import io
import os
import resource
import select
import selectors
import shutil
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_FOLDERS = ("/proc", "/sys", "/dev/shm")  # noqa: S108 - a path that is refused
# The whole name, or with an asterisk how it begins.
_NAMES = {
    os: """copy_file_range posix_fadvise posix_fallocate memfd_create pidfd_open splice eventfd*
        sched_setaffinity sched_getaffinity sched_setscheduler sched_getscheduler sched_setparam
        sched_getparam sched_rr_get_interval getxattr setxattr listxattr removexattr fdatasync
        setresuid getresuid setresgid getresgid getrandom pipe2 preadv2 pwritev2 unshare setns
        O_TMPFILE O_PATH O_DIRECT O_NOATIME O_LARGEFILE O_RSYNC SCHED_BATCH SCHED_IDLE
        POSIX_FADV_*""",
    fcntl: """F_SETLEASE F_GETLEASE F_SETSIG F_GETSIG F_OFD_* F_NOTIFY F_SETPIPE_SZ F_GETPIPE_SZ
        F_ADD_SEALS F_GET_SEALS F_SEAL_* DN_* F_EXLCK F_SHLCK FICLONE*""",
    select: "epoll EPOLL*",
    signal: """SIGPOLL SIGPWR SIGSTKFLT SIGRTMIN SIGRTMAX SIGCLD sigtimedwait sigwaitinfo
        pidfd_send_signal""",
    socket: """SOCK_CLOEXEC SOCK_NONBLOCK AF_NETLINK AF_PACKET AF_VSOCK SO_PEERCRED
        TCP_USER_TIMEOUT TCP_KEEPIDLE TCP_CORK TCP_QUICKACK""",
    errno: """ECHRNG EL2NSYNC EL3HLT EL3RST ELNRNG EUNATCH ENOCSI EL2HLT EBADE EBADR EXFULL ENOANO
        EBADRQC EBADSLT EBFONT ENONET ENOPKG EADV ESRMNT ECOMM EDOTDOT ENOTUNIQ EBADFD EREMCHG
        ELIBACC ELIBBAD ELIBSCN ELIBMAX ELIBEXEC ERESTART ESTRPIPE EUCLEAN ENOTNAM ENAVAIL EISNAM
        EREMOTEIO ENOKEY EKEYEXPIRED EKEYREVOKED EKEYREJECTED ERFKILL ENOMEDIUM EMEDIUMTYPE
        EDEADLOCK""",
    time: "CLOCK_BOOTTIME CLOCK_TAI",
    resource: "prlimit",
}
# Sets in os that say of its functions what they can do.
_GROUPS = (
    os.supports_dir_fd,
    os.supports_fd,
    os.supports_follow_symlinks,
    os.supports_effective_ids,
)


def replace(name: str, new: Callable[[Any], Any]) -> None:
    """Replace a function of os by `new(function)`, which can do what it could."""
    plain = getattr(os, name)
    replaced = functools.wraps(plain)(new(plain))
    for group in _GROUPS:
        if plain in group:
            group.add(replaced)
    setattr(os, name, replaced)


def replace_open(new: Callable[[Any], Any]) -> None:
    """Replace the built-in open, by all of its names."""
    io.open = builtins.open = functools.wraps(io.open)(new(io.open))


def apply() -> None:
    """Remove what macOS lacks."""
    for module, names in _NAMES.items():
        for name in names.split():
            for found in [one for one in dir(module) if _is(one, name)]:
                delattr(module, found)
    # It looks for epoll when it is imported, and would take kqueue on a Mac.
    vars(selectors)["DefaultSelector"] = selectors.PollSelector
    # It looks for listxattr when it is imported, so on a Mac it has nothing to do.
    vars(shutil)["_copyxattr"] = lambda *_, **__: None
    # On Linux they are the same number; here Linux answers the second.
    vars(errno)["ENOTSUP"] = 45
    numbers = {value: name for name, value in vars(errno).items() if isinstance(value, int)}
    vars(errno)["errorcode"] = numbers
    for name in ("stat", "lstat", "listdir", "scandir", "readlink", "open", "statvfs"):
        replace(name, _without_folders)
    replace(
        "access", lambda plain: lambda path, *a, **k: not _is_absent(path) and plain(path, *a, **k)
    )
    replace_open(_without_folders)
    for name in ("bind", "connect", "connect_ex"):
        setattr(socket.socket, name, _without_abstract(getattr(socket.socket, name)))


def _is(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def _is_absent(path: object) -> bool:
    if isinstance(path, int) or not isinstance(path, (str, bytes, os.PathLike)):
        return False
    text = os.fsdecode(path)
    return text in _FOLDERS or text.startswith(tuple(f"{folder}/" for folder in _FOLDERS))


def _without_folders(plain: Callable[..., Any]) -> Callable[..., Any]:
    def call(path: Any = ".", *arguments: Any, **options: Any) -> Any:
        if _is_absent(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
        return plain(path, *arguments, **options)

    return call


def _without_abstract(plain: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: socket.socket, address: Any) -> Any:
        if isinstance(address, (str, bytes)) and address[:1] in ("\0", b"\0"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return plain(self, address)

    return call
