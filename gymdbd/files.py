"""Files that appear complete and durable, or not at all.

Everything is written to a partial file beside the target, synced, and then renamed; then the
folder is synced. The next run on a folder removes the partial files of a crashed run.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import bounded, partials
from gymdbd.disk import NotOrdinaryError, read_error, write_error
from gymdbd.errors import DiskFullError, FolderMissingError

if TYPE_CHECKING:
    from collections.abc import Iterator

CLONE = "clone"
FILE_MODE = 0o600
GROUP_MODE = 0o640
PUBLIC_MODE = 0o644
FOLDER_MODE = 0o700
SPACE_FACTOR = 1.1

_CHUNK = 1024 * 1024
# fcntl has this number only from Python 3.12 on.
_FICLONE = 0x40049409
# The answers of a file system, such as SMB or FAT, that cannot flush a file or folder.
_NO_SYNC = (errno.EINVAL, errno.ENOTTY, errno.ENOTSUP, errno.EOPNOTSUPP)
# The number in macOS's sys/clonefile.h.
_CLONE_NOFOLLOW = 1


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Translate an OSError in the block into the GymdbdError for writing `path`."""
    try:
        yield
    except OSError as error:
        raise write_error(error, path) from error


def absolute(path: Path | str) -> Path:
    """Return an absolute path, without resolving the links in it."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - links are not resolved


def resolved(path: Path) -> Path:
    """Follow the links in a path that the user wrote; a loop of links stays as it is."""
    return Path(os.path.realpath(path))


def is_file(path: Path) -> bool:
    """Return whether `path` is a file; False if this user cannot see it."""
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises in a forbidden folder


def is_there(path: Path) -> bool:
    """Return whether there is anything at `path`; raises OSError if that cannot be seen.

    Python's own `exists` and `is_dir` take every error for absence from 3.14 on.
    """
    return _mode(path) != 0


def is_folder(path: Path) -> bool:
    """Return whether there is a folder at `path`; raises OSError as `is_there` does."""
    return stat.S_ISDIR(_mode(path))


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return 0
        raise


def publish(partial: Path, final: Path, *, owned: bool = False) -> None:
    """Rename a finished partial file to its final name, durably.

    It gets the owner of the file that it replaces, or of the folder, unless it is already `owned`
    by the right user.
    """
    with writing(final):
        if not owned:
            hand_over(partial, final if final.exists() else final.parent)
        sync_file(partial)
        partial.replace(final)
        sync_folder(final.parent)


def hand_over(path: Path | int, like: Path) -> None:
    """Give a file that this process has made the owner and group of `like`, a file or its folder.

    The file is named by its path or by its descriptor.
    Otherwise a user could neither read nor lock a file that root has left in the user's folder, for
    example by a run by hand. Without root, only the group is changed, if that is allowed.
    """
    here = os.fstat(path) if isinstance(path, int) else path.lstat()
    there = like.stat()
    root = here.st_uid == 0
    if here.st_uid == os.geteuid() and (root or stat.S_ISREG(there.st_mode)):
        owner = there.st_uid if root else -1
        # Root in a container or a service may lack the capability.
        with contextlib.suppress(PermissionError):
            if isinstance(path, int):
                os.fchown(path, owner, there.st_gid)
            else:
                os.chown(path, owner, there.st_gid, follow_symlinks=False)


def write_atomically(
    path: Path,
    data: bytes,
    *,
    public: bool = False,
    group: int | None = None,
    mode: int = FILE_MODE,
) -> None:
    """Replace the content of `path` by `data`: readers see the old or the new bytes, not a mix.

    The caller holds the lock that guards the file. If it is `public`, everybody may read it, and if
    a `group` is named, that group, provided that this user may name it; then it stays this user's,
    whoever may write in the folder. Otherwise it has `mode`, and the owner of what it replaces.
    """
    partial = partials.begin(path)
    with writing(path):
        try:
            descriptor = _create(partial)
            try:
                write_at(descriptor, data, 0)
                if public:
                    os.fchmod(descriptor, PUBLIC_MODE)
                elif group is not None:
                    with contextlib.suppress(PermissionError):
                        # A service may be forbidden even the call that changes nothing.
                        if os.fstat(descriptor).st_gid != group:
                            os.fchown(descriptor, -1, group)
                        os.fchmod(descriptor, GROUP_MODE)
                else:
                    hand_over(descriptor, path if path.exists() else path.parent)
                    os.fchmod(descriptor, mode)
                _sync(descriptor)
            finally:
                os.close(descriptor)
            partial.replace(path)
            sync_folder(path.parent)
        except OSError:
            partial.unlink(missing_ok=True)
            raise


def write_new(path: Path, data: bytes, *, mode: int = FILE_MODE) -> bool:
    """Write a file whole or not at all; return False if there is anything of this name already."""
    partial = partials.begin(path)
    with writing(path):
        try:
            descriptor = _create(partial)
            try:
                write_at(descriptor, data, 0)
                hand_over(descriptor, path.parent)
                os.fchmod(descriptor, mode)
                _sync(descriptor)
            finally:
                os.close(descriptor)
            return take_name(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def take_name(partial: Path, path: Path) -> bool:
    """Give a finished file its name, durably, unless there is anything of this name already."""
    try:
        # Unlike a rename, a link replaces nothing.
        os.link(partial, path)
    except FileExistsError:
        return False
    except OSError:
        # FAT and some shares have no links.
        if os.path.lexists(path):
            return False
        partial.rename(path)
    sync_folder(path.parent)
    return True


def create(path: Path) -> None:
    """Create an empty file that only this user can read, replacing any leftover."""
    os.close(_create(path))


def _create(path: Path) -> int:
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)


def clone(source: Path, target: Path) -> str:
    """Copy a file in the cheapest way of the file system; return which: clone, kernel or plain.

    btrfs, XFS and APFS share the blocks until one side is written; elsewhere Linux copies inside
    the kernel. Only this user can read the copy, and it is not synced yet.
    """
    target.unlink(missing_ok=True)
    read = bounded.opened(source)
    try:
        if sys.platform == "darwin" and _clone_apfs(source, target):
            return CLONE
        write = _create(target)
        try:
            return _copy_into(read, write)
        finally:
            os.close(write)
    finally:
        os.close(read)


def _copy_into(read: int, write: int) -> str:
    with contextlib.suppress(OSError):
        fcntl.ioctl(write, _FICLONE, read)
        return CLONE
    size = os.fstat(read).st_size
    done = 0
    if hasattr(os, "copy_file_range"):
        # Some file systems refuse; the bytes copied until then remain.
        with contextlib.suppress(OSError):
            while done < size and (step := os.copy_file_range(read, write, size - done)):
                done += step
    how = "kernel" if done else "plain"
    os.lseek(read, done, os.SEEK_SET)
    os.lseek(write, done, os.SEEK_SET)
    while chunk := os.read(read, _CHUNK):
        view = memoryview(chunk)
        while view:
            view = view[os.write(write, view) :]
    return how


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data` at an offset of an open file."""
    view = memoryview(data)
    while view:
        done = os.pwrite(descriptor, view, offset)
        view, offset = view[done:], offset + done


def identity(path: Path) -> list[int]:
    """Return inode, size and mtime of a file; if its content changes, so does one of them."""
    stat_ = path.stat()
    return [stat_.st_ino, stat_.st_size, stat_.st_mtime_ns]


def _clone_apfs(source: Path, target: Path) -> bool:
    """Call clonefile(2), which Python does not offer; return whether it succeeded."""
    import ctypes  # noqa: PLC0415 - its import alone fails under systemd's MemoryDenyWriteExecute

    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(source), os.fsencode(target)
    if library.clonefile(*names, _CLONE_NOFOLLOW) != 0:
        return False
    target.chmod(FILE_MODE)
    return True


def sync_file(path: Path) -> None:
    """Flush a file's bytes to the disk.

    On macOS `fsync` only reaches the drive's cache; F_FULLFSYNC reaches the platter, and is
    refused by some network and FAT file systems, which then get the plain call.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def syncing(path: Path) -> Iterator[None]:
    """Flush a file's bytes to the disk while the block runs, and wait for it at the end."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - only few commands need it

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(sync_file, path)
        yield
        with writing(path):
            done.result()


def _sync(descriptor: int) -> None:
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        try:
            fcntl.fcntl(descriptor, full)
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise
        else:
            return
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Flush a folder's names to the disk, as `sync_file` does; nothing if that is refused."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _sync(descriptor)
    except OSError as error:
        # A share that cannot flush a folder says so as if it was not there.
        if error.errno not in (*_NO_SYNC, errno.ENOENT):
            raise
    finally:
        os.close(descriptor)


def require_folder(folder: Path) -> None:
    """Raise FolderMissingError if the folder does not exist.

    If this user cannot see it, it is assumed to exist: the error comes when it is used.
    """
    try:
        is_there = stat.S_ISDIR(folder.stat().st_mode)
    except PermissionError:
        return
    except (FileNotFoundError, NotADirectoryError):
        is_there = False
    except OSError as error:
        raise read_error(error, f"the folder {folder}", denied="") from error
    if not is_there:
        raise FolderMissingError(
            f"there is no folder {folder}",
            hint=f"mount the disk that holds it, or create it (mkdir -p -m 700 {folder})",
        )


def make_folder(folder: Path) -> None:
    """Create a folder that only this user can enter, and its missing parents, durably."""
    with writing(folder / "."):
        for missing in reversed([folder, *folder.parents]):
            if not missing.exists():
                missing.mkdir(mode=FOLDER_MODE, exist_ok=True)
                hand_over(missing, missing.parent)
                # A user who may create files in a folder may not be allowed to open it.
                with contextlib.suppress(PermissionError):
                    sync_folder(missing.parent)


def own_folder(folder: Path) -> None:
    """Create a folder under a name of ours if there is none; NotOursError if it is a link."""
    make_folder(folder)
    with writing(folder):
        if not is_own_folder(folder):
            raise NotOrdinaryError("it is a symbolic link, not a folder")


def is_own_folder(folder: Path) -> bool:
    """Return whether a folder, and not a link to one, has this name."""
    try:
        return stat.S_ISDIR(folder.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def remove(path: Path) -> None:
    """Remove a file if it exists."""
    with writing(path):
        path.unlink(missing_ok=True)


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raise DiskFullError unless `folder` has room for `needed_bytes` plus a tenth."""
    with writing(folder / "."):
        disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    wanted = int(needed_bytes * SPACE_FACTOR)
    if free < wanted:
        raise DiskFullError(
            f"{folder} has {to_size(free)} free, but {to_size(wanted)} are needed",
            hint="free some space, retain fewer backups (keep: in the configuration), or use "
            "another disk",
        )


def to_size(size_bytes: float) -> str:
    """Format a number of bytes for people: `3.0 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size_bytes) < 1024:  # noqa: PLR2004 - the step between binary units
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TiB"
