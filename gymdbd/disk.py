"""What a disk refuses, in gymdbd's words: every OSError becomes an error with a hint."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import mounts
from gymdbd.errors import (
    DiskFailingError,
    DiskFullError,
    FolderMissingError,
    NameTooLongError,
    NotAllowedError,
    NotOursError,
    NotWritableError,
    ReadFailedError,
    UsageError,
    WriteFailedError,
)
from gymdbd.source.errors import SourceUnreadableError
from gymdbd.words import sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gymdbd.source.errors import GymdbdError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
_FOREIGN = "find out who put it there, and remove it: this name is for a file of gymdbd's own"
# What a read answers if the bytes are lost, by name: macOS has no EUCLEAN.
_LOST = ("EIO", "EBADMSG", "EUCLEAN")
_BROKEN = (
    "its disk or card has failed, or was unplugged (dmesg): if the live database is on it, run "
    "gymdbd emergency on the machine that pulls it, while it can still be read; then replace it"
)
# What a share answers that has gone away.
_AWAY = (
    *(errno.ETIMEDOUT, errno.ESTALE, errno.ENOTCONN, errno.ECONNRESET, errno.ECONNABORTED),
    *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ENXIO),
)
_LOOK = "check the disk and the kernel's log (dmesg), and ulimit -n; earlier backups are untouched"


class NotOrdinaryError(OSError):
    """Something else than a file has a name of ours, or the file has a second name."""


def write_error(error: OSError, path: Path) -> GymdbdError:
    """Translate an OSError from writing `path`."""
    reason = error.strerror or str(error)
    if isinstance(error, NotOrdinaryError):
        return NotOursError(f"{path} cannot be used: {reason}", hint=_FOREIGN)
    if error.errno in _FULL:
        return DiskFullError(
            f"no space left to write {path} ({reason})",
            hint=f"free some space (df -h {path.parent}); nothing of what was there has changed",
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return FolderMissingError(
            f"cannot write {path}: its folder does not exist",
            hint=f"mkdir -p -m 700 {path.parent} (or mount the disk that holds it)",
        )
    if error.errno == errno.ENAMETOOLONG:
        return _too_long(path, path.name)
    return _refused(error, path)


def _refused(error: OSError, path: Path) -> GymdbdError:
    """Return the error for a file that cannot be written though it has a place to be in."""
    message = f"cannot write {path} ({error.strerror or error})"
    if _is_failing(error, path.parent):
        return DiskFailingError(message, hint=_BROKEN)
    if error.errno in _DENIED:
        return NotWritableError(message, hint=denied_hint(path.parent, error.errno))
    return WriteFailedError(
        message,
        hint="check the disk and the kernel's log (dmesg); nothing of what was there has changed",
    )


def denied_hint(folder: Path, reason: int | None) -> str:
    """Return the hint for a folder that cannot be written; `reason` is the errno."""
    if private := _privacy_hint(reason):
        return private
    if reason == errno.EROFS:
        return (
            f"if the disk of {folder} is mounted read-only on purpose, use another folder; "
            "otherwise look for errors of it since the system started (dmesg), and mount it for "
            f"writing (mount -o remount,rw ...){sandbox()}"
        )
    return f"let this user (uid {os.geteuid()}) write to {folder}{sandbox()}"


def require_writable_disk(folder: Path) -> None:
    """Raise NotWritableError if the disk of a folder is mounted read-only.

    DiskFailingError if the kernel has made it so after an error.
    """
    state = mounts.of(folder).state
    if state == mounts.FAILED:
        raise DiskFailingError(
            f"the kernel no longer writes to the disk of {folder}, after an error of it",
            hint=_BROKEN,
        )
    if state == mounts.READ_ONLY:
        raise NotWritableError(
            f"the disk of {folder} is mounted read-only", hint=denied_hint(folder, errno.EROFS)
        )


def _is_failing(error: OSError, folder: Path) -> bool:
    """Return whether an error means that the disk or card of a folder has failed.

    A share answers so if its machine is away; where the kind of the file system is unknown, as on
    macOS, nothing is claimed.
    """
    lost = errno.errorcode.get(error.errno or 0) in _LOST
    if not lost and error.errno != errno.EROFS:
        return False
    try:
        mount = mounts.of(folder)
    except OSError:
        return False
    return mount.is_local and (lost or mount.state == mounts.FAILED)


def require_name(path: Path, form: str) -> None:
    """Raise NameTooLongError if the name `form` of a file beside `path` would be too long.

    `{}` in it is the name of `path`: `.{}.partial`. Without the folder, the limit is 255 bytes.
    """
    name = form.format(path.name)
    if len(os.fsencode(name)) > _longest_name(path.parent):
        raise _too_long(path, name)


def _longest_name(folder: Path) -> int:
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError):
        return 255


def _too_long(path: Path, name: str) -> NameTooLongError:
    size, most = len(os.fsencode(name)), _longest_name(path.parent)
    less = max(1, size - most)
    return NameTooLongError(
        f"the name of {path} is too long: gymdbd needs names of up to {size} bytes beside it, and "
        f"{path.parent} takes {most}",
        hint=f"choose a name that is {less} bytes shorter (a letter outside ASCII has several "
        "bytes); for a database, a symbolic link with a shorter name will do (ln -s)",
    )


def read_error(error: OSError, what: str, *, denied: str) -> GymdbdError:
    """Translate an OSError from reading `what`; `denied` is the hint if this user may not."""
    message = f"{what} cannot be read ({error.strerror or error})"
    if isinstance(error, NotOrdinaryError):
        return NotOursError(message, hint=_FOREIGN)
    if error.filename and _is_failing(error, Path(os.fsdecode(error.filename)).parent):
        return DiskFailingError(message, hint=_BROKEN)
    kind = NotAllowedError if error.errno in _DENIED else ReadFailedError
    return kind(message, hint=_reading_hint(error.errno, denied))


def is_damage(error: OSError) -> bool:
    """Return whether a failed read proves that the bytes are lost, or that there is no file.

    Any other answer, of a share that has gone away, a file that iCloud has evicted, or a user who
    may not read it, says nothing about them.
    """
    lost = errno.errorcode.get(error.errno or 0) in _LOST
    return lost or isinstance(error, NotOrdinaryError)


def not_checked(error: OSError, path: Path) -> SourceUnreadableError:
    """Translate an OSError that is no damage, from reading a file of a backup."""
    return SourceUnreadableError(
        f"{path} could not be read ({error.strerror or error}), so it was not checked",
        hint=_reading_hint(
            error.errno,
            "run as the user that made the backups, or give the file to this one (chown)",
        ),
    )


@contextlib.contextmanager
def checking(path: Path) -> Iterator[None]:
    """Translate an OSError in the block into the error that `path` could not be checked.

    That it is not there any more is no such error: FileNotFoundError is left as it is.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise not_checked(error, path) from error


def _reading_hint(reason: int | None, denied: str) -> str:
    """Return the hint for the errno of a failed read; `denied` if this user may not."""
    if reason in _DENIED:
        return _privacy_hint(reason) or denied
    if reason == errno.EDEADLK:
        return (
            "its content is in iCloud and no longer on this disk: open it in the Finder, so that "
            "it is downloaded, and move the archive out of iCloud Drive"
        )
    if reason in _AWAY:
        return "the share or disk that holds it does not answer: mount it again, and try again"
    if reason in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP):
        return "check the path"
    return _LOOK


def _privacy_hint(reason: int | None, platform: str = sys.platform) -> str:
    """Return the hint for a refusal of macOS' privacy settings, which alone answer EPERM there."""
    if platform != "darwin" or reason != errno.EPERM:
        return ""
    return (
        f"macOS keeps programs out of Documents, Desktop, iCloud Drive, other disks and shares: "
        f"allow {sys.executable} under System Settings > Privacy & Security > Full Disk Access, "
        "or use a folder elsewhere, such as ~/backups"
    )


def system_error(error: OSError) -> GymdbdError:
    """Translate an OSError whose path is unknown."""
    if error.errno == errno.ENOENT and error.filename is None and not _is_somewhere():
        return UsageError(
            "the current folder no longer exists, so relative paths cannot be used",
            hint="change to a folder that exists (cd /), or use an absolute path",
        )
    name = f"{os.fsdecode(error.filename)}: " if error.filename else ""
    message = f"the operating system refused {name}{error.strerror or error}"
    if error.errno in _FULL:
        return DiskFullError(message, hint="free some space (df -h); earlier backups are untouched")
    if error.errno in _DENIED:
        return NotAllowedError(
            message,
            hint=_privacy_hint(error.errno)
            or f"let this user (uid {os.geteuid()}) use it{sandbox()}",
        )
    return ReadFailedError(message, hint=_LOOK)


def _is_somewhere() -> bool:
    """Return whether the current folder has a path."""
    try:
        os.getcwd()  # noqa: PTH109 - only to see whether it fails
    except OSError:
        return False
    return True
