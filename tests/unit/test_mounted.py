"""Files on file systems of their own: full ones, and ones that can clone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gymdbd import files
from gymdbd.errors import DiskFullError
from tests.support.disks import expect_clone, maker, may_mount, mounted

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not may_mount(), reason="file systems cannot be mounted here")

_HOW = {"tmpfs": "kernel", "xfs": "clone", "btrfs": "clone"}


def test_a_full_disk_leaves_the_old_bytes_and_no_partial(tmp_path: Path) -> None:
    """On a file system of 64 KiB that is truly full."""
    with mounted(tmp_path, "tmpfs", size="64k") as disk:
        files.write_atomically(disk / "status.json", b"old")
        with pytest.raises(DiskFullError):
            files.write_atomically(disk / "status.json", b"x" * 200_000)
        assert [one.name for one in disk.iterdir()] == ["status.json"]
        assert (disk / "status.json").read_bytes() == b"old"


def test_space_is_required_with_a_tenth_more(tmp_path: Path) -> None:
    """Just as much as is free is not enough."""
    with mounted(tmp_path, "tmpfs", size="1m") as disk:
        files.require_space(disk, 900_000)
        with pytest.raises(DiskFullError, match=r"1\.0 MiB free, but 1\.0 MiB are needed"):
            files.require_space(disk, 1_000_000)


@pytest.mark.parametrize("kind", ["tmpfs", "xfs", "btrfs"])
def test_a_clone_shares_the_blocks_where_the_file_system_can(tmp_path: Path, kind: str) -> None:
    """XFS and btrfs can; one in memory, like the ext4 of a Pi, is copied in the kernel."""
    if kind != "tmpfs" and not maker(kind):
        pytest.skip(f"mkfs.{kind} is not installed")
    with mounted(tmp_path, kind) as disk:
        assert expect_clone(disk) == _HOW[kind]


def test_a_clone_across_file_systems_has_the_same_bytes(tmp_path: Path) -> None:
    """Whichever way it was copied."""
    content = bytes(range(256)) * 10_007
    (tmp_path / "source").write_bytes(content)
    with mounted(tmp_path, "tmpfs") as disk:
        assert files.clone(tmp_path / "source", disk / "target") in ("kernel", "plain")
        assert (disk / "target").read_bytes() == content
