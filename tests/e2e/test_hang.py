"""What hangs is ended: the daemon by systemd, a run by the daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.e2e.pi import JOB
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.e2e.pi import Pi

# As in the unit, but in seconds instead of minutes.
_IMPATIENT = "[Service]\nWatchdogSec=6s\nRestartSec=1s\n"
# Stops the process of the next run as soon as there is one, while it is still starting. (The
# brackets keep it from finding itself.)
_STOP_THE_RUN = """
until pid=$(pgrep -f '[g]ymdbd.runs.child'); do :; done
kill -STOP "$pid"
"""


def test_a_daemon_that_hangs_is_restarted_by_the_watchdog(pi: Pi) -> None:
    """It is stopped in its tracks; systemd notices, ends it, and the next one does the next run."""
    after = pi.machine.cursor()
    pi.drop_in(_IMPATIENT)
    pi.configure(schedule=None, every="4s")
    pi.start()
    pi.await_runs(1)
    first = pi.show("MainPID")
    pi.machine.run("kill", "-STOP", first)
    until(lambda: pi.show("NRestarts") == "1", "a restart by the watchdog", within_s=60)
    until(lambda: pi.show("ActiveState") == "active", "the service to be up again")
    told = " ".join(entry["MESSAGE"] for entry in pi.machine.journal(after=after))
    assert "Watchdog timeout" in told
    assert pi.show("MainPID") != first
    done = len(pi.runs())
    assert pi.await_runs(done + 1)[-1]["state"] == "ok"


def test_a_run_that_hangs_is_ended_by_its_deadline_and_the_daemon_lives(pi: Pi) -> None:
    """It is one failed run with the reason; the next one works, in the same daemon."""
    after = pi.machine.cursor()
    pi.drop_in("[Service]\nWatchdogSec=15s\n")
    pi.configure(schedule=None, every="5s", timeout="2s")
    pi.start()
    daemon = pi.show("MainPID")
    pi.machine.sh(_STOP_THE_RUN)
    failed = until(lambda: [one for one in pi.runs() if one["state"] != "ok"], "the failed run")
    assert (failed[0]["state"], failed[0]["code"]) == ("failed", "deadline")
    assert "hung" in failed[0]["error"]
    (told,) = pi.events(f"GYMDBD_JOB={JOB}", "PRIORITY=3", after=after)
    assert told["GYMDBD_RUN_ID"] == failed[0]["run_id"]
    done = len(pi.runs())
    assert pi.await_runs(done + 1)[-1]["state"] == "ok"
    assert (pi.show("MainPID"), pi.show("NRestarts")) == (daemon, "0")
