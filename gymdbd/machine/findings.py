"""How this machine is, as findings: its disks, how long they have room, its cards and its power."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from gymdbd import files
from gymdbd.disk import denied_hint
from gymdbd.files import to_size
from gymdbd.jobs.finding import Finding, Health
from gymdbd.machine import hardware
from gymdbd.machine.hardware import LIFE, SPENT, URGENT, WARNED
from gymdbd.words import counted

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from gymdbd.machine.disks import Disk
    from gymdbd.machine.forecast import Forecast
    from gymdbd.machine.hardware import Wear

OK = "ok"

# With less, what runs and looks record may not fit.
_LEAST = 64 * 1024


def of_disk(disk: Disk, forecast: Forecast | None, least_days: int) -> Finding:
    """Return how a disk is; late if the forecast is full in less than `least_days`."""
    if disk.failed:
        return Finding(
            Health.FAILING,
            f"the disk of {disk.name} has failed: it answers with errors, or the kernel no longer "
            "writes to it after one (dmesg)",
            _rescue(disk),
            "disk-failing",
        )
    closed = [place.folder for place in disk.closed if place.is_written]
    if closed:
        folder = closed[0]
        return Finding(
            Health.FAILING,
            f"the disk of {folder} is mounted read-only",
            denied_hint(folder, errno.EROFS),
            "read-only",
        )
    if disk.free < disk.needed * files.SPACE_FACTOR:
        return Finding(
            Health.FAILING,
            f"the next backup does not fit on the disk of {disk.name}: {to_size(disk.free)} free, "
            f"{to_size(disk.needed * files.SPACE_FACTOR)} needed",
            _ROOM,
            "no-room",
        )
    return _of_status(disk) or _of_space(disk, forecast, least_days)


def _of_status(disk: Disk) -> Finding | None:
    """Return why the outcome of runs is not recorded, which may be good."""
    folders = [place.folder for place in disk.places if place.is_status]
    closed = any(place.is_status for place in disk.closed)
    if not folders or (disk.free >= _LEAST and not closed):
        return None
    state = "mounted read-only" if closed else f"full: {to_size(disk.free)} free"
    return Finding(
        Health.UNKNOWN,
        f"runs cannot record their outcome: the disk of {folders[0]} is {state}",
        denied_hint(folders[0], errno.EROFS) if closed else _ROOM,
        "status-not-written",
    )


_ROOM = "free some space, retain fewer backups (keep: in the configuration), or use another disk"


def _rescue(disk: Disk) -> str:
    """Return what to do about a disk that has failed, by what is on it."""
    if any(place.is_source for place in disk.places):
        return (
            "the database is on it: run gymdbd emergency on the machine that pulls it, while it "
            "can still be read; then replace the disk or card"
        )
    if any(place.is_archive for place in disk.places):
        return (
            "the live database is not on it: let the next backups go to another disk (archive: in "
            "the configuration), copy those on it while they can still be read, and replace it"
        )
    return "replace it"


def _of_space(disk: Disk, forecast: Forecast | None, least_days: int) -> Finding:
    space = f"{to_size(disk.free)} of {to_size(disk.size)} free"
    if forecast is None or forecast.days is None:
        return Finding(Health.OK, space, code=OK)
    full = f"{space}, full in {counted(forecast.days, 'day')}"
    if forecast.days >= least_days:
        return Finding(Health.OK, full, code=OK)
    return Finding(
        Health.LATE,
        f"the disk of {disk.name} has {full}: in a day, backups take "
        f"{to_size(forecast.backups)} and other things {to_size(forecast.others)}",
        _ROOM,
        "disk-full-soon",
    )


def of_hardware(root: Path = hardware.ROOT, weak: datetime | None = None) -> dict[str, Finding]:
    """Return how the power and the cards are, as far as the machine reports it.

    `weak` is when a run has lately seen too low a voltage: the machine itself forgets that.
    """
    found = {f"card {wear.device}": _of_wear(wear) for wear in hardware.wear(root)}
    is_low = hardware.is_under_voltage(root)
    if is_low is not None:
        found["power"] = _of_power(weak, is_low=is_low)
    return found


def _of_power(weak: datetime | None, *, is_low: bool) -> Finding:
    if not is_low and weak is None:
        return Finding(Health.OK, "the voltage is right", code=OK)
    when = "is" if is_low or weak is None else f"was, at {weak.isoformat(' ', 'minutes')},"
    return Finding(
        Health.LATE,
        f"the voltage {when} too low: what is written meanwhile can be damaged",
        "use a power supply and a cable that are made for this machine, and fewer devices at its "
        "USB; then look whether the backups are good: gymdbd verify",
        "under-voltage",
    )


def _of_wear(wear: Wear) -> Finding:
    if wear.tenths < LIFE and wear.reserve < WARNED:
        return Finding(Health.OK, _life(wear), code=OK)
    return Finding(
        Health.FAILING if wear.reserve >= URGENT else Health.LATE,
        f"the card {wear.device} is worn out: {_life(wear)}",
        "replace it before it fails; the database can be moved with gymdbd backup and restore",
        "worn",
    )


_RESERVES = {
    WARNED: ", most of its spare blocks are used",
    URGENT: ", hardly any spare block is left",
}


def _life(wear: Wear) -> str:
    life = {0: "its age is unknown", SPENT: "it is older than it was made for"}.get(
        wear.tenths, f"{(wear.tenths - 1) * 10}-{wear.tenths * 10}% of its life is used up"
    )
    return life + _RESERVES.get(wear.reserve, "")
