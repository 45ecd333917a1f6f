"""How file systems are mounted: real ones, and tables of kernels that are not this one."""

from __future__ import annotations

import errno
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from gymdbd import disk, files, mounts
from gymdbd.errors import DiskFailingError, NotWritableError
from gymdbd.mounts import FAILED, READ_ONLY, Mount
from tests.support.disks import card, may_mount, mounted

if TYPE_CHECKING:
    from pathlib import Path

_MOUNTS = pytest.mark.skipif(not may_mount(), reason="file systems cannot be mounted here")


def _proc(folder: Path, *lines: str) -> Path:
    """Make a /proc with a table of mounts: what is below / first, then `lines`."""
    table = folder / "proc" / "self" / "mountinfo"
    table.parent.mkdir(parents=True)
    table.write_text("".join(f"{line}\n" for line in ("1 0 8:1 / / rw - ext4 /dev/a rw", *lines)))
    return folder / "proc"


@_MOUNTS
@pytest.mark.parametrize("options", ["remount,ro", "remount,bind,ro"])
def test_a_disk_that_somebody_mounted_read_only_has_not_failed(
    tmp_path: Path, options: str
) -> None:
    """The whole of it, or only in this place, as systemd does for a service."""
    with mounted(tmp_path, "tmpfs") as place:
        assert mounts.of(place) == Mount("", "tmpfs")
        subprocess.run(["mount", "-o", options, place], check=True)
        assert mounts.of(place / ".") == Mount(READ_ONLY, "tmpfs")
        with pytest.raises(NotWritableError, match="is mounted read-only"):
            disk.require_writable_disk(place)
        with pytest.raises(NotWritableError) as caught, files.writing(place / "x"):
            (place / "x").touch()
        assert "on purpose" in caught.value.hint


@_MOUNTS
def test_a_disk_whose_device_fails_is_told_from_one_that_is_read_only(tmp_path: Path) -> None:
    """First the device loses bytes; then the kernel no longer writes to it."""
    with card(tmp_path) as broken:
        place = broken.place
        assert mounts.of(place) == Mount("", "ext4")
        disk.require_writable_disk(place)
        broken.fail()
        with pytest.raises(DiskFailingError, match="Input/output error"):
            files.write_atomically(place / "file", bytes(4096))
        broken.make_noticed()
        refused = OSError(errno.EROFS, os.strerror(errno.EROFS))
        assert type(disk.write_error(refused, place / "file")) is DiskFailingError
        assert mounts.of(place).state == FAILED
        with pytest.raises(DiskFailingError, match="the kernel no longer writes") as caught:
            disk.require_writable_disk(place)
        assert "gymdbd emergency" in caught.value.hint


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # The kernel changes only the options of the file system.
        ("9 1 8:2 / {} rw,relatime - ext4 /dev/b ro,errors=remount-ro", FAILED),
        ("9 1 8:2 / {} rw,relatime shared:3 - btrfs /dev/b ro", FAILED),
        ("9 1 8:2 / {} rw,relatime - ext4 /dev/b rw,emergency_ro", FAILED),
        ("9 1 8:2 / {} rw,relatime - ext4 /dev/b rw,shutdown", FAILED),
        ("9 1 8:2 / {} ro,relatime - ext4 /dev/b ro", ""),
        ("9 1 8:2 / {} rw,relatime - ext4 /dev/b rw", ""),
    ],
)
def test_what_the_kernel_did_is_told_from_what_was_asked_for(
    tmp_path: Path, line: str, expected: str
) -> None:
    """Whether the file system of the test itself is read-only is asked of the system: it is not."""
    place = tmp_path / "a card\\1"
    place.mkdir()
    written = str(place).replace("\\", r"\134").replace(" ", r"\040")
    assert mounts.of(place, _proc(tmp_path, line.format(written))).state == expected


def test_the_mount_of_a_path_is_the_last_of_the_longest(tmp_path: Path) -> None:
    """One that has a like name is another; links are followed."""
    place, other = tmp_path / "card", tmp_path / "card2"
    place.mkdir()
    other.symlink_to(place)
    proc = _proc(
        tmp_path,
        f"2 1 8:2 / {place} rw - xfs /dev/b rw",
        f"3 1 8:3 / {place} rw - vfat /dev/c rw",
        f"4 1 8:4 / {tmp_path} rw - btrfs /dev/d rw",
    )
    assert [mounts.of(path, proc).kind for path in (place, other, tmp_path)] == [
        *("vfat", "vfat", "btrfs")
    ]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("ext4", True), ("fuseblk", True), ("nfs4", False), ("cifs", False), ("fuse.sshfs", False)],
)
def test_a_share_is_no_disk_of_this_machine(tmp_path: Path, kind: str, expected: bool) -> None:
    """An error of it says that the other machine is away."""
    proc = _proc(tmp_path, f"2 1 8:2 / {tmp_path} rw - {kind} what rw")
    assert mounts.of(tmp_path, proc).is_local == expected


def test_without_a_table_nothing_is_known_of_a_disk_but_whether_it_is_read_only(
    tmp_path: Path,
) -> None:
    """As on macOS."""
    found = mounts.of(tmp_path, tmp_path)
    assert (found, found.is_local) == (Mount("", ""), False)
