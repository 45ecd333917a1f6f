"""File systems made for a test, and what a clone on any of them must be."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from gymdbd import files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CONTENT = bytes(range(256)) * 10_007
_IMAGE_BYTES = 320 * 1024**2
_DETACH = 2  # umount2(2)
_FAILING_BYTES = 64 * 1024**2


def may_mount() -> bool:
    """Say whether this process may mount: root in a container often may not."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/tmp"]  # noqa: S108 - of that namespace only
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def maker(kind: str) -> str | None:
    """Return the program that makes a file system of this kind, None where it is missing."""
    return shutil.which(f"mkfs.{kind}", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@contextlib.contextmanager
def mounted(folder: Path, kind: str, *, size: str = "16m") -> Iterator[Path]:
    """Mount a file system of this kind below `folder`; `size` is that of one in memory."""
    place = folder / "mounted"
    place.mkdir()
    what = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs"]
    if kind != "tmpfs":
        image = folder / "image"
        image.touch()
        os.truncate(image, _IMAGE_BYTES)
        subprocess.run([str(maker(kind)), "-q", image], check=True, capture_output=True)
        what = ["-o", "loop", str(image)]
    subprocess.run(["mount", *what, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@contextlib.contextmanager
def dead(folder: Path) -> Iterator[Path]:
    """Mount a file system below `folder` whose server never answers, as NFS with its host gone.

    At the end of the block, whoever waits for it gets an error.
    """
    place = folder / "dead"
    place.mkdir()
    server = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
    library = ctypes.CDLL(None, use_errno=True)
    try:
        if library.mount(b"dead", os.fsencode(place), b"fuse", 0, options):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(place))
        yield place
    finally:
        os.close(server)
        library.umount2(os.fsencode(place), _DETACH)


def expect_clone(folder: Path) -> str:
    """Clone a file within `folder`, see a file of its own for its owner only; return how."""
    source, target = folder / "source", folder / "target"
    source.write_bytes(_CONTENT)
    source.chmod(0o644)
    how = files.clone(source, target)
    assert target.read_bytes() == _CONTENT
    assert target.stat().st_mode & 0o777 == 0o600
    with target.open("r+b") as file:
        file.write(b"changed")
    assert source.read_bytes() == _CONTENT
    return how


@contextlib.contextmanager
def failing(folder: Path) -> Iterator[Path]:
    """Mount a file system below `folder` whose device fails once 4 MiB are written to it.

    It is ext4 on a loop device, whose file is larger than the disk that it lies on.
    """
    place = folder / "failing"
    place.mkdir()
    with mounted(folder, "tmpfs", size="8m") as small:
        image = small / "image"
        image.touch()
        os.truncate(image, _FAILING_BYTES)
        lazy = ["-E", "lazy_itable_init=1,lazy_journal_init=1"]
        subprocess.run([str(maker("ext4")), "-q", *lazy, image], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", image, place], check=True)
        try:
            yield place
        finally:
            subprocess.run(["umount", place], check=True)
