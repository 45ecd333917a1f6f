"""A configuration is changed, and a new release installed, while the service runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.e2e import tree
from tests.e2e.pi import ARCHIVE, CONFIG, JOB, STATE, STATUS
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.pi import Pi

_NEWER = "99.0"


def test_a_good_configuration_is_taken_without_a_restart_and_a_broken_one_is_refused(
    pi: Pi,
) -> None:
    """`systemctl reload`: the status line tells the new time; a fault fails the reload.

    The journal tells it with its line, as the account of the service, and so is a status file
    that only a restart could change.
    """
    pi.start()
    daemon = pi.show("MainPID")
    after = pi.machine.cursor()
    pi.configure(schedule="30 4 * * *")
    pi.machine.run("systemctl", "reload", "gymdbd")
    until(lambda: "04:30" in pi.show("StatusText"), "the new time in the status line")
    pi.await_event("configuration reloaded", after=after)

    good = pi.machine.run("cat", CONFIG).stdout
    for faulty, told in (
        (good.replace("30 4 * * *", "30 44 * * *"), f"jobs.{JOB}.schedule: not a cron schedule"),
        (good.replace(STATUS, f"{STATE}/other.json"), "it cannot change while the daemon runs"),
    ):
        after = pi.machine.cursor()
        pi.machine.write(CONFIG, faulty)
        done = pi.machine.run("systemctl", "reload", "gymdbd", check=False)
        assert (done.returncode, "Job for gymdbd.service failed" in done.stderr) == (1, True)
        refused = pi.await_event("configuration refused, the old one stays", after=after)
        assert (refused["PRIORITY"], refused["_UID"]) == ("3", "1000")
        assert told in refused["GYMDBD_ERROR"]
        assert refused["GYMDBD_HINT"]
        assert "04:30" in pi.show("StatusText")
    # Whoever sends the signal without asking first is told by the log alone.
    pi.machine.write(CONFIG, good.replace("30 4 * * *", "30 44 * * *"))
    after = pi.machine.cursor()
    pi.machine.run("kill", "-HUP", daemon)
    refused = pi.await_event("configuration refused, the old one stays", after=after)
    assert refused["_PID"] == daemon
    assert (pi.show("MainPID"), pi.show("ActiveState")) == (daemon, "active")


def test_an_upgrade_under_a_running_service_keeps_what_the_older_release_left(
    bootable: Pi, tmp_path: Path
) -> None:
    """No run fails by it, and archive and status are read as before.

    A first attempt has a damaged wheel: it leaves the service at work as it was.
    """
    pi = bootable
    pi.machine.boot()
    pi.start_gym()
    pi.configure(schedule=None, every="2s")
    pi.machine.run("systemctl", "restart", "gymdbd")
    pi.await_runs(1)
    (first, *_) = pi.backups()
    wheel = _put_newer_wheel(pi, tmp_path)
    pi.machine.sh(f"cp {wheel} whole; truncate --size=10000 {wheel}")
    with pytest.raises(AssertionError, match="exits with"):
        pi.install()
    assert pi.show("ActiveState") == "active"
    pi.machine.sh(f"mv whole {wheel}")
    older = json.loads(pi.machine.run("cat", STATUS).stdout)

    pi.install()

    newer = json.loads(pi.machine.run("cat", STATUS).stdout)
    assert newer["daemon"]["version"] == _NEWER != older["daemon"]["version"]
    assert older["jobs"][JOB]["runs"][-1] in newer["jobs"][JOB]["runs"]
    done = len(pi.runs())
    runs = pi.await_runs(done + 1)
    # One that was at work when the service was stopped is made up for.
    assert {one["code"] for one in runs} <= {None, "stopped"}
    assert runs[-1]["state"] == "ok"
    pi.machine.run("systemctl", "stop", "gymdbd")
    listed = {one["path"]: one["verdict"] for one in pi.gymdbd("list")["backups"]}
    assert listed[f"{ARCHIVE}/{first}"] == "verified"
    proven = pi.gymdbd("verify", f"{ARCHIVE}/{first}")
    assert (proven["state"], proven["backups"][0]["problems"]) == ("ok", [])


def _put_newer_wheel(pi: Pi, folder: Path) -> str:
    """Replace the wheel on the Pi by a higher version of the same code; return its path."""
    wheel = tree.gymdbd_wheel(folder, version=_NEWER)
    path = f"/home/pi/wheels/{wheel.name}"
    pi.machine.sh("rm /home/pi/wheels/gymdbd-*")
    pi.machine.path(path).write_bytes(wheel.read_bytes())
    return path
