"""The archive's file system has no room left, and later has again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.pi import ARCHIVE, STATUS
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.pi import Pi

_FILLER = f"{ARCHIVE}/holiday.mov"


@pytest.fixture
def small(pi: Pi) -> Iterator[Pi]:
    """Give the Pi with a disk of 4 MiB as its archive."""
    options = "size=4m,uid=1000,gid=1000,mode=700"
    pi.machine.run("mount", "-t", "tmpfs", "-o", options, "small", ARCHIVE)
    yield pi
    pi.machine.sh(f"systemctl stop gymdbd; umount {ARCHIVE}")


def test_a_full_disk_fails_the_run_harms_nothing_and_heals_by_itself(small: Pi) -> None:
    """One error that says what to free; the backup of before stays; then runs succeed again."""
    pi = small
    for _ in range(50):
        pi.rent()
    pi.configure(schedule=None, every="3s", keep={"days": 0, "count": 2})
    pi.start()
    pi.await_runs(2)
    pi.machine.sh("systemctl stop gymdbd")
    after = pi.machine.cursor()
    before = pi.machine.sh(f"cd {ARCHIVE} && sha256sum *.db *.json")
    pi.machine.sh(f"cat /dev/zero >{_FILLER} 2>/dev/null || true; rm {STATUS}")

    pi.start()
    (failed, *_) = pi.await_runs(1)
    assert (failed["state"], failed["code"]) == ("failed", "disk-full")
    assert "free some space" in failed["hint"]
    assert pi.machine.sh(f"cd {ARCHIVE} && sha256sum *.db *.json") == before
    assert "partial" not in pi.machine.sh(f"ls -A {ARCHIVE}")
    told = pi.events("PRIORITY=3", after=after)
    assert {one["GYMDBD_EVENT"] for one in told} == {"run failed"}
    assert pi.gymdbd("status")["state"] == "failing"

    pi.machine.run("rm", _FILLER)
    until(lambda: pi.gymdbd("status")["state"] == "ok", "a good run")
    assert pi.show("NRestarts") == "0"
