"""File systems made for a test, and what a clone on any of them must be."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd import files
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CONTENT = bytes(range(256)) * 10_007
_IMAGE_BYTES = 320 * 1024**2
_DETACH = 2  # umount2(2)
_CARD_BYTES = 64 * 1024**2
# EXT4_IOC_SHUTDOWN, and not even its journal is written.
_SHUTDOWN = 0x8004587D
_AT_ONCE = (2).to_bytes(4, "little")


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


@dataclass(frozen=True)
class Card:
    """A mounted disk that can be made to fail."""

    place: Path
    _below: Path

    def fail(self) -> None:
        """Let every read and write of its device be answered by EIO from now on."""
        below = os.open(self._below, os.O_RDONLY)
        try:
            fcntl.ioctl(below, _SHUTDOWN, _AT_ONCE)
        finally:
            os.close(below)

    def make_noticed(self) -> None:
        """Let the kernel write metadata in vain, until it no longer writes to the disk at all."""
        until(self._is_noticed, "the kernel to see that the disk has failed")

    def _is_noticed(self) -> bool:
        place = os.open(self.place, os.O_RDONLY)
        try:
            os.fchmod(place, 0o700)
            os.fsync(place)
            (self.place / f"{time.monotonic_ns()}").mkdir()
        except OSError as error:
            return error.errno == errno.EROFS
        finally:
            os.close(place)
        return False


@contextlib.contextmanager
def card(folder: Path) -> Iterator[Card]:
    """Mount an ext4 below `folder` that can be made to fail: its image is on another ext4."""
    outer, inner = folder / "below", folder / "card"
    outer.mkdir()
    inner.mkdir()
    with _ext4(folder / "below.image", outer), _ext4(outer / "image", inner):
        yield Card(inner, outer)


@contextlib.contextmanager
def _ext4(image: Path, place: Path) -> Iterator[None]:
    image.touch()
    os.truncate(image, _CARD_BYTES)
    lazy = ["-E", "lazy_itable_init=1,lazy_journal_init=1"]
    subprocess.run([str(maker("ext4")), "-q", *lazy, image], check=True, capture_output=True)
    # As on a Pi: after an error of its metadata, nothing more is written.
    subprocess.run(["mount", "-o", "loop,errors=remount-ro", image, place], check=True)
    try:
        yield
    finally:
        # The loop device within it may still be on its way out.
        subprocess.run(["umount", "--lazy", place], check=True)
