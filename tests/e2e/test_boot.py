"""The Pi is switched on, shortly before a run is due."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.e2e.pi import JOB
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.e2e.pi import Pi


def test_after_boot_the_service_is_there_for_the_first_run_that_is_due(bootable: Pi) -> None:
    """Switched on at 02:59:45, by 03:00 it is active; its status line tells next and last run."""
    bootable.fake_clock("2026-12-01T02:59:45+09:00")
    bootable.machine.boot()
    assert bootable.show("ActiveState") == "active"
    assert bootable.runs() == []
    assert "last: no run yet" in bootable.show("StatusText")
    (run,) = bootable.await_runs(1)
    assert (run["state"], run["reason"]) == ("ok", "scheduled")
    assert run["due"] == "2026-12-01T03:00:00+09:00"
    expected = f"next: {JOB} at 2026-12-02 03:00+09:00; last: {JOB} ok at 2026-12-01 03:00+09:00"
    until(lambda: _status_line(bootable) == expected, f"the status line {expected}")


def test_after_a_reboot_the_status_line_tells_the_last_run_of_before(bootable: Pi) -> None:
    """What happened before the reboot is not forgotten, and nothing is made up without need."""
    bootable.machine.boot()
    bootable.start_gym()
    assert bootable.gymdbd("backup", JOB)["state"] == "ok"
    bootable.machine.power_off()
    bootable.machine.boot()
    line = _status_line(bootable)
    assert re.fullmatch(rf"next: {JOB} at .* 03:00\+09:00; last: {JOB} ok at .*", line), line
    assert len(bootable.runs()) == 1


def _status_line(pi: Pi) -> str:
    """Return what `systemctl status` shows to somebody who looks."""
    shown = pi.machine.run("systemctl", "status", "gymdbd").stdout
    found = re.search(r'Status: "(.*)"', shown)
    assert found is not None, shown
    return found[1]
