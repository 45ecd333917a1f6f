"""Nights on which the Pi was off, or its clock was wrong, or was moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.e2e.pi import ARCHIVE, JOB, STATE
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.e2e.pi import Pi

_EVENING, _BEFORE_THREE = "2026-11-30T22:00:00+09:00", "2026-12-01T02:59:57+09:00"
_NEW_YORK = "America/New_York"


def _first_night(pi: Pi) -> None:
    """Live through the first night, so that there is a success to count from."""
    pi.fake_clock(_EVENING)
    pi.machine.boot()
    pi.start_gym()
    pi.move_clock(_BEFORE_THREE)
    (run,) = pi.await_runs(1)
    assert run["due"] == "2026-12-01T03:00:00+09:00"


def _await_planned(pi: Pi, moment: str) -> None:
    """Wait until the daemon says that this is its next run: it has seen the clock, and settled."""
    expected = f"next: {JOB} at {moment}"
    until(lambda: pi.show("StatusText").startswith(expected), expected, within_s=60)


def test_a_night_without_power_is_made_up_once_with_its_reason(bootable: Pi) -> None:
    """Killed hard in the evening, switched on in the morning: one run, and one only."""
    pi = bootable
    _first_night(pi)
    pi.set_clock("2026-12-01T23:10:00+09:00")
    pi.machine.power_off()
    pi.set_clock("2026-12-02T07:30:00+09:00")
    pi.machine.boot()
    _, made_up = pi.await_runs(2)
    reason = "made up: the run due at 2026-12-02 03:00+09:00 was missed (off, asleep or clock set)"
    assert (made_up["state"], made_up["reason"]) == ("ok", reason)
    (started,) = pi.events("GYMDBD_EVENT=run started", f"GYMDBD_RUN_ID={made_up['run_id']}")
    assert started["GYMDBD_REASON"] == reason
    _await_planned(pi, "2026-12-03 03:00+09:00")
    pi.machine.run("systemctl", "restart", "gymdbd")
    _await_planned(pi, "2026-12-03 03:00+09:00")
    assert len(pi.runs()) == 2
    assert len(pi.backups()) == 2


def test_a_boot_in_the_past_and_a_jump_over_three_is_one_run(bootable: Pi) -> None:
    """Without a clock of its own the Pi boots weeks ago; then the network's time arrives."""
    pi = bootable
    _first_night(pi)
    pi.machine.power_off()
    pi.set_clock("2026-10-20T12:00:00+09:00")
    pi.machine.boot()
    distrust = pi.await_event("clock not to be trusted")
    assert distrust["PRIORITY"] == "4"
    assert len(pi.runs()) == 1
    pi.set_clock("2026-12-02T08:00:00+09:00")
    _, made_up = pi.await_runs(2, within_s=60)
    # The night that was missed, and none that the wrong clock had planned for.
    assert (made_up["state"], made_up["due"]) == ("ok", "2026-12-02T03:00:00+09:00")
    assert made_up["reason"].startswith("made up: the run due at 2026-12-02 03:00+09:00 ")
    assert pi.await_event("clock jumped, next runs recomputed")["PRIORITY"] == "4"
    _await_planned(pi, "2026-12-03 03:00+09:00")
    assert len(pi.runs()) == 2


def test_a_clock_that_goes_back_an_hour_brings_no_second_run_and_no_pruning(pi: Pi) -> None:
    """Three o'clock comes again and passes; a run in between prunes nothing."""
    pi.configure(keep={"days": 0, "count": 1})
    pi.fake_clock(_EVENING)
    pi.start()
    pi.move_clock(_BEFORE_THREE)
    pi.await_runs(1)
    backups = pi.backups()
    after = pi.machine.cursor()
    pi.move_clock("2026-12-01T02:00:10+09:00")
    pi.await_event("clock jumped, next runs recomputed", after=after)
    _await_planned(pi, "2026-12-02 03:00+09:00")
    answer = pi.gymdbd_at_its_time("backup", JOB)
    assert (answer["state"], answer["pruned"]) == ("ok", [])
    assert set(pi.backups()) > set(backups)
    pi.move_clock(_BEFORE_THREE)
    until(lambda: pi.now() > "2026-12-01 03:00:05", "the second three o'clock to pass")
    assert [run["reason"] for run in pi.runs()] == ["scheduled", "by hand"]


def test_the_days_when_clocks_change_have_one_run_each(pi: Pi) -> None:
    """In New York 02:30 is left out in spring and runs right after; 01:30 comes twice in autumn."""
    pi.configure({"spring": {"schedule": "30 2 * * *"}, "autumn": {"schedule": "30 1 * * *"}})
    pi.fake_clock("2027-03-14T01:50:00-05:00", zone=_NEW_YORK)
    pi.start()
    pi.move_clock("2027-03-14T01:59:57-05:00")
    (run,) = pi.await_runs(1, job="spring")
    assert run["due"] == "2027-03-14T03:00:00-04:00"
    pi.move_clock("2027-03-14T03:29:57-04:00")
    until(lambda: pi.now(_NEW_YORK) > "2027-03-14 03:30:03", "half past to pass")
    assert len(pi.runs("spring")) == 1

    pi.machine.run("systemctl", "stop", "gymdbd")
    pi.set_clock("2027-11-07T01:20:00-04:00")
    pi.machine.sh(f"rm -rf {STATE}/* {ARCHIVE}/*")
    pi.start()
    pi.move_clock("2027-11-07T01:29:57-04:00")
    (run,) = pi.await_runs(1, job="autumn")
    assert run["due"] == "2027-11-07T01:30:00-04:00"
    pi.move_clock("2027-11-07T01:29:57-05:00")
    until(lambda: pi.now(_NEW_YORK) > "2027-11-07 01:30:03", "the second half past one to pass")
    assert len(pi.runs("autumn")) == 1
    pi.move_clock("2027-11-08T01:29:57-05:00")
    assert pi.await_runs(2, job="autumn")[-1]["due"] == "2027-11-08T01:30:00-05:00"
