"""A disk that is not there, a service that is stopped, and runs by hand: who learns of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.pi import ARCHIVE, JOB
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.pi import Pi

_DISK = "/mnt/usb"
_FAR = f"{_DISK}/backups"


@pytest.fixture
def with_disk(pi: Pi) -> Iterator[Pi]:
    """Give the Pi with the mount point of a disk that is not plugged in."""
    pi.machine.run("mkdir", "-p", _DISK)
    yield pi
    pi.machine.sh(f"systemctl stop gymdbd; umount {_DISK}; rmdir {_DISK}")


def test_an_unplugged_disk_fails_its_job_and_the_service_runs_the_others(with_disk: Pi) -> None:
    """It starts without the disk, reloads, and uses the disk once it is there."""
    pi = with_disk
    pi.drop_in(f"[Service]\nReadWritePaths=-{_FAR}\n")
    pi.configure({JOB: {"every": "2s"}, "far": {"every": "2s", "archive": _FAR}})
    pi.start()
    (failed, *_) = pi.await_runs(1, job="far")
    assert (failed["state"], failed["code"]) == ("failed", "folder-missing")
    assert failed["error"] == f"there is no folder {_FAR}"
    assert pi.await_runs(1)[-1]["state"] == "ok"
    pi.machine.run("systemctl", "reload", "gymdbd")
    assert pi.gymdbd("status")["jobs"]["far"]["health"] == "failing"
    assert pi.backups()
    assert pi.machine.sh(f"ls -A {_DISK}") == ""

    pi.machine.sh(f"mount -t tmpfs usb {_DISK} && install -d -o pi -g pi -m 700 {_FAR}")
    pi.machine.run("systemctl", "restart", "gymdbd")
    until(lambda: pi.runs("far")[-1]["state"] == "ok", "a backup on the disk")
    assert "_backup_" in pi.machine.sh(f"ls {_FAR}")


def test_a_stopped_service_is_late_and_what_ran_by_hand_is_in_the_journal(pi: Pi) -> None:
    """A backup and a restore that somebody typed, with their fields, beside the service's own."""
    pi.start()
    after = pi.machine.cursor()
    assert pi.gymdbd("backup", JOB)["state"] == "ok"
    until(lambda: f"last: {JOB} ok" in pi.show("StatusText"), "the run in the status line")
    assert pi.gymdbd("status")["state"] == "ok"
    copy = pi.gymdbd("restore", "latest", "--to", f"{ARCHIVE}/../copy.db")
    assert copy["state"] == "ok"
    typed = [one for one in _events(pi, after) if one["_SYSTEMD_UNIT"] != "gymdbd.service"]
    ended = [one["GYMDBD_JOB"] for one in typed if one["GYMDBD_EVENT"] == "run finished"]
    assert ended == [JOB, "restore"]
    assert {one["SYSLOG_IDENTIFIER"] for one in typed} == {"gymdbd"}
    assert pi.runs()[-1]["run_id"] in {one["GYMDBD_RUN_ID"] for one in typed}
    pi.machine.run("systemctl", "stop", "gymdbd")
    done = pi.machine.run("gymdbd", "status", user="pi", check=False)
    assert (done.returncode, "the daemon is not running" in done.stdout) == (1, True)
    pi.machine.run("rm", f"{ARCHIVE}/../copy.db")


def _events(pi: Pi, after: str) -> list[dict[str, Any]]:
    entries = pi.machine.journal("SYSLOG_IDENTIFIER=gymdbd", after=after)
    return [{"_SYSTEMD_UNIT": "", **one} for one in entries if "GYMDBD_EVENT" in one]
