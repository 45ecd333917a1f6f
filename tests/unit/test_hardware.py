"""What Linux reports of the hardware: trees as those of other machines, and this one's own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from gymdbd.machine import hardware, use
from gymdbd.machine.hardware import SPENT, URGENT, Wear
from tests.support.disks import maker, may_mount, mounted

if TYPE_CHECKING:
    from pathlib import Path

_MOUNTS = pytest.mark.skipif(not may_mount(), reason="file systems cannot be mounted here")


def _write(root: Path, **files: str) -> None:
    """Write files below `root`; in a name, two underscores are a slash."""
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")


@pytest.mark.parametrize(("alarm", "expected"), [("0", False), ("1", True)])
def test_the_voltage_is_that_of_the_sensor_with_its_name(
    tmp_path: Path, alarm: str, expected: bool
) -> None:
    """Its number differs from start to start; others have such an alarm too."""
    _write(
        tmp_path,
        sys__class__hwmon__hwmon0__name="cpu_thermal",
        sys__class__hwmon__hwmon0__in0_lcrit_alarm="1",
        sys__class__hwmon__hwmon1__name="rpi_volt",
        sys__class__hwmon__hwmon1__in0_lcrit_alarm=alarm,
    )
    assert hardware.is_under_voltage(tmp_path) is expected


def test_what_a_machine_does_not_report_is_unknown(tmp_path: Path) -> None:
    """As on macOS, or a PC; also if a sensor lacks the file."""
    _write(tmp_path, sys__class__hwmon__hwmon1__name="rpi_volt")
    assert hardware.is_under_voltage(tmp_path) is None
    assert hardware.wear(tmp_path) == []
    assert hardware.device(tmp_path, tmp_path) is None
    assert hardware.bytes_written(tmp_path) is None
    assert use.written(tmp_path) is None


def test_the_wear_is_the_worse_of_the_two_estimates_of_an_emmc(tmp_path: Path) -> None:
    """Its boot partitions are no cards, and an SD card has no such file."""
    _write(
        tmp_path,
        sys__block__mmcblk0__device__type="SD",
        sys__block__mmcblk1__device__life_time="0x02 0x0b",
        sys__block__mmcblk1__device__pre_eol_info="0x03",
        sys__block__mmcblk1boot0__device__life_time="0x01 0x01",
        sys__block__mmcblk2__device__life_time="0x01 0x00",
        sys__block__mmcblk3__device__life_time="0x00 0x00",
        sys__block__mmcblk4__device__life_time="who knows",
        sys__block__sda__device__life_time="0x0a 0x0a",
    )
    assert hardware.wear(tmp_path) == [Wear("mmcblk1", SPENT, URGENT), Wear("mmcblk2", 1, 0)]


def _block(root: Path, place: Path, block: str) -> Path:
    """Let the file system of `place` be on this block device, in a tree of its own."""
    number = place.stat().st_dev
    folder = root / "sys/devices" / block
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stat").write_text("1 2 3 4 5 6 2000 8 9 10 11 0 0 0 0 0 0\n")
    link = root / f"sys/dev/block/{os.major(number)}:{os.minor(number)}"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(folder)
    return folder


def test_a_partition_is_part_of_its_disk(tmp_path: Path) -> None:
    """The card wears out as a whole; a sector is 512 bytes in this file."""
    partition = _block(tmp_path, tmp_path, "mmcblk0/mmcblk0p2")
    (partition / "partition").write_text("2\n")
    (partition.parent / "stat").write_text("1 2 3 4 5 6 3000 8 9 10 11\n")
    device = hardware.device(tmp_path, tmp_path)
    assert device == partition.parent
    assert hardware.bytes_written(device) == 3000 * 512


def test_a_mapped_device_is_the_one_below_it(tmp_path: Path) -> None:
    """LUKS or LVM on a partition; what is spread over several is a device of its own."""
    mapped = _block(tmp_path, tmp_path, "virtual/dm-0")
    partition = tmp_path / "sys/devices/sda/sda1"
    partition.mkdir(parents=True)
    for folder in (partition, partition.parent):
        (folder / "stat").write_text("1 2 3 4 5 6 4000 8 9 10 11\n")
    (partition / "partition").write_text("1\n")
    (mapped / "slaves").mkdir()
    (mapped / "slaves" / "sda1").symlink_to(partition)
    assert hardware.device(tmp_path, tmp_path) == partition.parent
    (mapped / "slaves" / "sdb1").symlink_to(partition)
    assert hardware.device(tmp_path, tmp_path) == mapped


def test_devices_that_lie_on_each_other_in_a_circle_are_none(tmp_path: Path) -> None:
    """A loop device can be bound to a file of the file system on itself."""
    loop = _block(tmp_path, tmp_path, "virtual/loop0")
    (loop / "loop").mkdir()
    (loop / "loop/backing_file").write_text(f"{tmp_path}\n")
    assert hardware.device(tmp_path, tmp_path) is None


@_MOUNTS
def test_the_file_of_a_loop_device_is_on_the_disk_of_this_machine(tmp_path: Path) -> None:
    """What is written to the one is written to the other."""
    with mounted(tmp_path, "ext4") as place:
        assert hardware.device(place) == hardware.device(tmp_path)


@_MOUNTS
def test_a_file_system_in_memory_has_no_device(tmp_path: Path) -> None:
    """Nothing wears out."""
    with mounted(tmp_path, "tmpfs") as memory:
        assert hardware.device(memory) is None


@_MOUNTS
@pytest.mark.skipif(not maker("btrfs"), reason="mkfs.btrfs is not installed")
def test_the_device_of_a_btrfs_is_unknown(tmp_path: Path) -> None:
    """It may have several, and the system does not name one."""
    with mounted(tmp_path, "btrfs") as place:
        assert hardware.device(place) is None


def test_the_bytes_that_a_process_has_written_are_counted(on_disk: Path) -> None:
    """Here as well as what the system itself counts of this process."""
    before = use.written()
    if before is None:
        pytest.skip("this system does not count them")
    (on_disk / "x").write_bytes(bytes(2_000_000))
    after = use.written()
    assert after is not None
    assert 2_000_000 <= after - before < 3_000_000
