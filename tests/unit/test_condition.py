"""How this machine is: the findings that status, notices, metrics and the page share."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.config import config
from gymdbd.jobs.finding import Finding, Health
from gymdbd.machine import disks, findings
from gymdbd.machine.disks import Disk, Place
from gymdbd.machine.hardware import LIFE, SPENT, URGENT, WARNED
from gymdbd.runs import condition, ledger
from gymdbd.runs.entry import Entry, Status
from gymdbd.runs.line import Line
from tests.support.databases import make_database
from tests.support.disks import dead, may_mount, mounted
from tests.support.jobs import write_config

if TYPE_CHECKING:
    from gymdbd.config.config import Config

_NOW = datetime(2026, 11, 28, 9, 0, tzinfo=UTC)
_GIB = 1024**3
_SRV = Path("/srv")


def _settings(folder: Path, archive: Path | None = None, **keys: Any) -> Config:
    made = archive or folder / "archive"
    if archive is None:
        made.mkdir(exist_ok=True)
    job = {"database": str(make_database(folder / "gym.db")), "archive": str(made), "every": "1d"}
    return config.load(write_config(folder, {"nightly": job, **keys}))


def _record(settings: Config, *, days: int = 20, **facts: Any) -> None:
    """Write a ledger: each night the disk had 2 GiB less than the night before."""
    lines = []
    for day in range(days):
        at = (_NOW - timedelta(days=days - 1 - day, hours=6)).isoformat()
        line = Line(
            job="nightly",
            state="ok",
            first=at,
            last=at,
            size=1024,
            disk_free=(20 + 2 * (days - 1 - day)) * _GIB,
            disk_size=100 * _GIB,
            disk_held=1024,
        )
        lines.append(replace(line, **facts) if day == days - 1 else line)
    ledger.append(settings.status_file.with_name(ledger.NAME), lines)


def _found(settings: Config, root: Path, known: Status | None = None) -> dict[str, Finding]:
    return condition.begin(settings, known or Status(), _NOW, root=root)()


def test_a_disk_that_will_be_full_within_two_weeks_is_late(tmp_path: Path) -> None:
    """By the runs in the ledger; what it is, and what takes how much, is said."""
    settings = _settings(tmp_path)
    _record(settings)
    found = _found(settings, tmp_path)[f"disk {tmp_path / 'archive'}"]
    assert (found.health, found.code) == (Health.LATE, "disk-full-soon")
    assert "full in 10 days" in found.reason
    assert "other things 2.0 GiB" in found.reason
    assert "keep:" in found.hint


def test_what_was_written_last_is_not_what_happened_last(tmp_path: Path) -> None:
    """A clock that was set back has written it, of before the disk was enlarged."""
    settings = _settings(tmp_path)
    _record(settings)
    at = (_NOW - timedelta(days=25)).isoformat()
    facts: dict[str, Any] = {"disk_free": _GIB, "disk_size": 32 * _GIB, "disk_held": 1024}
    old = Line(job="nightly", state="ok", first=at, last=at, **facts)
    ledger.append(settings.status_file.with_name(ledger.NAME), [old])
    assert "full in 10 days" in _found(settings, tmp_path)[f"disk {tmp_path / 'archive'}"].reason


@pytest.mark.skipif(not may_mount(), reason="file systems cannot be mounted here")
def test_the_runs_of_one_disk_say_nothing_of_another(tmp_path: Path) -> None:
    """Each is forecast by the jobs whose archives are on it."""
    with mounted(tmp_path, "tmpfs") as place:
        database = make_database(tmp_path / "other.db")
        other = {"database": str(database), "archive": str(place), "every": "1d"}
        settings = _settings(tmp_path, other=other)
        _record(settings)
        found = _found(settings, tmp_path)
    reasons = [found[f"disk {folder}"].reason for folder in (place, tmp_path / "archive")]
    assert ["full in" in reason for reason in reasons] == [False, True]


@pytest.mark.parametrize("days", [0, 10])
def test_the_days_before_a_full_disk_is_late_are_configured(tmp_path: Path, days: int) -> None:
    """It is told in any case when the disk will be full."""
    source = _settings(tmp_path).source
    content = json.loads(source.read_text())
    source.write_text(json.dumps({**content, "machine": {"min_free_days": days}}))
    settings = config.load(source)
    _record(settings)
    finding = _found(settings, tmp_path)[f"disk {tmp_path / 'archive'}"]
    assert (finding.health, finding.code) == (Health.OK, "ok")
    assert finding.reason.endswith("free, full in 10 days")


def test_a_ledger_without_a_week_is_no_forecast_and_no_fault(tmp_path: Path) -> None:
    """Nor is one that cannot be read: the free space itself is known."""
    settings = _settings(tmp_path)
    _record(settings, days=5)
    name = f"disk {tmp_path / 'archive'}"
    assert _found(settings, tmp_path)[name].health is Health.OK
    assert "full" not in _found(settings, tmp_path)[name].reason
    file = settings.status_file.with_name(ledger.NAME)
    file.unlink()
    file.mkdir()
    assert _found(settings, tmp_path)[name].health is Health.OK


def test_the_disk_of_an_archive_that_failed_in_the_last_run_has_failed(tmp_path: Path) -> None:
    """The kernel may not have noticed; a good run shows that it was something else."""
    settings = _settings(tmp_path)
    name = f"disk {tmp_path / 'archive'}"
    known = Status(jobs={"nightly": Entry(kind="backup", state="failed", code="disk-failing")})
    found = _found(settings, tmp_path, known)[name]
    assert (found.health, found.code) == (Health.FAILING, "disk-failing")
    known = Status(jobs={"nightly": Entry(kind="backup", state="failed", code="disk-full")})
    assert _found(settings, tmp_path, known)[name].health is Health.OK


@pytest.mark.skipif(not may_mount(), reason="file systems cannot be mounted here")
def test_a_dead_disk_holds_nobody_up(tmp_path: Path) -> None:
    """The jobs tell of it; the other disks are reported, also if it is the archive of a pull."""
    with dead(tmp_path) as place:
        pull = {
            "kind": "pull",
            "host": "pi",
            "remote_database": "/gym.db",
            "replica": str(place / "gym.db"),
            "every": "1h",
        }
        settings = _settings(tmp_path, place / "archive", pull=pull)
        began = time.monotonic()
        found = condition.begin(settings, Status(), _NOW, root=tmp_path, patience_s=0.2)()
        assert time.monotonic() - began < 2
    assert list(found) == [f"disk {tmp_path}"]


@pytest.mark.skipif(not may_mount(), reason="file systems cannot be mounted here")
def test_what_only_root_may_fill_is_not_free(tmp_path: Path) -> None:
    """An ext4 keeps a twentieth back, and the backups are seldom root's."""
    with mounted(tmp_path, "ext4") as place:
        space = os.statvfs(place)
        assert space.f_bavail < space.f_bfree
        assert disks.look(Place(folder=place)).free == space.f_bavail * space.f_frsize


@pytest.mark.parametrize(("free", "health"), [(109, Health.FAILING), (111, Health.OK)])
def test_the_next_backup_needs_a_tenth_more_than_the_database(free: int, health: Health) -> None:
    """That is what the run itself asks for, before it begins."""
    disk = Disk(number=1, places=(Place(folder=_SRV),), free=free, size=1000, needed=100)
    assert findings.of_disk(disk, None, 14).health == health


def test_backups_of_several_databases_need_room_one_after_the_other(tmp_path: Path) -> None:
    """So the largest counts; of one that is gone, its job tells."""
    databases = tuple(tmp_path / name for name in ("first", "second", "gone"))
    for database, size in zip(databases, (5000, 3000), strict=False):
        database.write_bytes(bytes(size))
    assert disks.look(Place(folder=tmp_path, copied=databases)).needed == 5000


def _weak(root: Path, alarm: str) -> None:
    sensor = root / "sys/class/hwmon/hwmon3"
    sensor.mkdir(parents=True, exist_ok=True)
    (sensor / "name").write_text("rpi_volt\n")
    (sensor / "in0_lcrit_alarm").write_text(f"{alarm}\n")


def test_too_low_a_voltage_is_told_for_a_day_after_a_run_has_seen_it(tmp_path: Path) -> None:
    """The machine itself knows of two seconds."""
    settings = _settings(tmp_path)
    assert "power" not in _found(settings, tmp_path)
    _weak(tmp_path, "0")
    assert _found(settings, tmp_path)["power"].health is Health.OK
    _record(settings, under_voltage=True)
    found = _found(settings, tmp_path)["power"]
    assert (found.health, found.code) == (Health.LATE, "under-voltage")
    assert "was, at 2026-11-28 03:00+00:00, too low" in found.reason
    _weak(tmp_path, "1")
    assert "is too low" in _found(settings, tmp_path)["power"].reason


@pytest.mark.parametrize("hours", [-25, 1])
def test_a_voltage_of_another_day_is_not_told_any_more(tmp_path: Path, hours: int) -> None:
    """Nor that of a day to come, which a clock has seen that was ahead."""
    settings = _settings(tmp_path)
    _weak(tmp_path, "0")
    at = (_NOW + timedelta(hours=hours)).isoformat()
    _record(settings, under_voltage=True, first=at, last=at)
    assert _found(settings, tmp_path)["power"].health is Health.OK


@pytest.mark.parametrize(
    ("life", "reserve", "health"),
    [
        ("0x09 0x01", "0x01", Health.OK),
        (f"0x01 0x{LIFE:02x}", "0x01", Health.LATE),
        (f"0x{SPENT:02x} 0x00", "0x00", Health.LATE),
        ("0x01 0x01", f"0x{WARNED:02x}", Health.LATE),
        ("0x00 0x00", f"0x{URGENT:02x}", Health.FAILING),
    ],
)
def test_a_card_is_worn_in_the_last_tenth_of_its_life_or_without_spare_blocks(
    tmp_path: Path, life: str, reserve: str, health: Health
) -> None:
    """The values are tenths, in hexadecimal."""
    device = tmp_path / "sys/block/mmcblk0/device"
    device.mkdir(parents=True)
    (device / "life_time").write_text(f"{life}\n")
    (device / "pre_eol_info").write_text(f"{reserve}\n")
    found = findings.of_hardware(tmp_path)["card mmcblk0"]
    assert (found.health, found.code) == (health, "worn" if health else "ok")
    assert "  " not in found.reason
    # The ninth tenth of its life.
    assert ("80-90% of its life is used up" in found.reason) == life.startswith("0x09")


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (Place(folder=_SRV, is_source=True, is_archive=True), "run gymdbd emergency"),
        (Place(folder=_SRV, is_archive=True), "let the next backups go to another disk"),
        (Place(folder=_SRV), "replace it"),
    ],
)
def test_what_to_do_about_a_disk_that_has_failed_follows_from_what_is_on_it(
    place: Place, expected: str
) -> None:
    """Only if it is the database's is there something to bring to safety."""
    disk = Disk(number=1, places=(place,), failed=True)
    assert expected in findings.of_disk(disk, None, 14).hint


@pytest.mark.parametrize("code", ["disk-failing", "read-only", "no-room"])
def test_every_fault_of_a_disk_names_it_and_what_to_do(tmp_path: Path, code: str) -> None:
    """The worst comes first: a failed disk is read-only, too, and has no room."""
    place = Place(folder=tmp_path, is_archive=True, is_written=True)
    disk = Disk(number=1, places=(place,), needed=10, failed=True, closed=(place,))
    if code != "disk-failing":
        disk = replace(disk, failed=False)
    if code == "no-room":
        disk = replace(disk, closed=())
    found = findings.of_disk(disk, None, 14)
    assert (found.health, found.code) == (Health.FAILING, code)
    assert str(tmp_path) in found.reason
    assert found.hint
