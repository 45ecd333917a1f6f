"""Three o'clock in the morning, while the gym's application writes; and what the journal tells."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

from tests.e2e.pi import ARCHIVE, JOB
from tests.support.databases import broken_promises, query
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.pi import Pi

_EVENING, _BEFORE_THREE = "2026-11-30T22:00:00+09:00", "2026-12-01T02:59:50+09:00"
# For a person who reads down the page: a beginning, no brackets of a program, no empty values.
_SENTENCE = re.compile(r"[a-z0-9][^{}\[\]]*")


def test_at_three_the_backup_of_the_busy_database_appears(pi: Pi, tmp_path: Path) -> None:
    """It is whole, verified, and holds what was committed before; the journal tells it well."""
    pi.configure(keep={"days": 7, "count": 3})
    pi.start_writer()
    committed = pi.commits()
    after = pi.machine.cursor()
    pi.fake_clock(_EVENING)
    pi.start()
    pi.move_clock(_BEFORE_THREE)
    (run,) = pi.await_runs(1)
    pi.stop_writer()
    assert (run["state"], run["due"]) == ("ok", "2026-12-01T03:00:00+09:00")
    (name,) = pi.backups()
    assert re.fullmatch(r"gym_system_backup_20261201_03000\d\.db", name)
    copy = shutil.copy(pi.machine.path(f"{ARCHIVE}/{name}"), tmp_path)
    assert broken_promises(copy) == []
    assert query(copy, "SELECT count(*) FROM rentals")[0][0] >= committed
    (listed,) = pi.gymdbd("list")["backups"]
    assert listed["verdict"] == "verified"
    _reads_like_sentences(pi, after)
    _has_fields(pi, after, run["run_id"], f"{ARCHIVE}/{name}")


def _reads_like_sentences(pi: Pi, after: str) -> None:
    """`journalctl -u gymdbd`: every line of ours is one; none of it came by way of stderr."""
    entries = pi.events(after=after)
    told = [one["MESSAGE"] for one in entries]
    assert [line for line in told if not _SENTENCE.fullmatch(line)] == []
    assert {one["_TRANSPORT"] for one in entries} == {"journal"}
    assert {one["SYSLOG_IDENTIFIER"] for one in entries} == {"gymdbd"}
    everything = pi.machine.journal("_SYSTEMD_UNIT=gymdbd.service", after=after)
    assert [one["MESSAGE"] for one in everything if one["_TRANSPORT"] == "stdout"] == []


def _has_fields(pi: Pi, after: str, run_id: str, path: str) -> None:
    """`journalctl GYMDBD_JOB=... GYMDBD_EVENT=... -o json` finds the one entry with the facts."""
    (published,) = pi.events(f"GYMDBD_JOB={JOB}", "GYMDBD_EVENT=backup published", after=after)
    assert (published["GYMDBD_RUN_ID"], published["GYMDBD_PATH"]) == (run_id, path)
    assert published["PRIORITY"] == "6"
    assert int(published["GYMDBD_SIZE"]) > 0
    (finished,) = pi.events(f"GYMDBD_RUN_ID={run_id}", "GYMDBD_EVENT=run finished", after=after)
    assert finished["GYMDBD_STATE"] == "ok"
    assert float(finished["GYMDBD_DURATION_S"]) > 0
    assert pi.events("PRIORITY=3", after=after) == []


def test_a_night_that_fails_is_one_error_with_its_remedy(pi: Pi) -> None:
    """`journalctl GYMDBD_JOB=nightly-backup PRIORITY=3` shows just that, and the daemon goes on."""
    after = pi.machine.cursor()
    pi.fake_clock(_EVENING)
    pi.start()
    pi.move_clock(_BEFORE_THREE)
    pi.machine.run("mv", ARCHIVE, f"{ARCHIVE}.elsewhere")
    try:
        (run,) = pi.await_runs(1)
    finally:
        pi.machine.run("mv", f"{ARCHIVE}.elsewhere", ARCHIVE)
    assert run["state"] == "failed"
    (failure,) = pi.events(f"GYMDBD_JOB={JOB}", "PRIORITY=3", after=after)
    assert failure["GYMDBD_EVENT"] == "run failed"
    assert failure["GYMDBD_RUN_ID"] == run["run_id"]
    assert (failure["GYMDBD_ERROR"], failure["GYMDBD_HINT"]) == (run["error"], run["hint"])
    assert _SENTENCE.fullmatch(failure["MESSAGE"])
    assert "What to do: " in failure["MESSAGE"]
    assert pi.show("ActiveState") == "active"
    until(lambda: "failed at 2026-12-01 03:00" in pi.show("StatusText"), "the status line")
