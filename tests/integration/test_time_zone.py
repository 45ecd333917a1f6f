"""The time zone of the machine: followed while the daemon runs, and no matter to a restore."""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.support.command import gymdbd, gymdbd_json
from tests.support.daemon_process import running_daemon
from tests.support.databases import make_database
from tests.support.jobs import write_config
from tests.support.waiting import until
from tests.support.zones import own_etc, set_zone

_ZONES = Path("/usr/share/zoneinfo")
_WRONG = "Europe/Berlim"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a configuration with a job at three in the morning, whose backup was made once."""
    database = make_database(tmp_path / "gym.db", rows=1)
    (tmp_path / "archive").mkdir()
    job = {"database": str(database), "archive": str(tmp_path / "archive")}
    return write_config(tmp_path, {"nightly": {**job, "schedule": "0 3 * * *"}})


def _next_run(config: Path) -> str:
    path = config.with_name("status.json")
    if not path.exists():
        return ""
    status = json.loads(path.read_text())
    return str(status["jobs"].get("nightly", {}).get("next_run"))


def test_a_zone_that_is_set_while_the_daemon_runs_is_followed(config: Path, tmp_path: Path) -> None:
    """Its next run is at three by the new zone, in the status file and for systemd, and logged."""
    etc, prefix = own_etc(tmp_path, "Europe/London")
    with running_daemon(config, watchdog_s=1.5, prefix=prefix) as daemon:
        until(lambda: _next_run(config)[10:] in ("T03:00:00+00:00", "T03:00:00+01:00"), "London")

        set_zone(etc, "Asia/Seoul")

        event = daemon.wait_for_event("time zone set, next runs recomputed")
        assert (event["before"], event["now"]) == ("Europe/London", "Asia/Seoul")
        until(lambda: _next_run(config).endswith("T03:00:00+09:00"), "Seoul")
        daemon.wait_for_state(f"STATUS=next: nightly at {_next_run(config)[:10]} 03:00+09:00")
        # The C library follows as well, for the log.
        daemon.stop()
        stopped = daemon.wait_for_event("daemon stopped")
        assert datetime.fromisoformat(stopped["timestamp"]).strftime("%z") == "+0900"


def test_a_copied_localtime_counts_and_not_a_stale_etc_timezone(
    config: Path, tmp_path: Path
) -> None:
    """As for every other program: /etc/timezone is read by none of them."""
    etc, prefix = own_etc(tmp_path)
    shutil.copy(_ZONES / "Asia/Seoul", etc / "localtime")
    (etc / "timezone").write_text("Etc/UTC\n")

    done = gymdbd("-c", config, "schedule", "--count", "1", prefix=prefix)

    assert done.stdout.splitlines()[0] == "nightly (0 3 * * *, /etc/localtime)"
    assert done.stdout.splitlines()[1].endswith(" 03:00:00+09:00")


@pytest.mark.parametrize("state", ["missing", "dangling", "damaged"])
def test_a_machine_without_a_zone_is_in_utc_and_check_says_why(
    state: str, config: Path, tmp_path: Path
) -> None:
    """That none is set is in order; one that cannot be read is a warning."""
    etc, prefix = own_etc(tmp_path, "No/Where" if state == "dangling" else None)
    if state == "damaged":
        (etc / "localtime").write_text("Asia/Seoul\n")

    _, checked = gymdbd_json("-c", config, "check", prefix=prefix)

    checks = {check["name"]: check for check in checked["checks"]}
    assert checks["clock"]["message"].endswith("+00:00 (UTC)")
    expected = [] if state == "missing" else ["warning"]
    assert expected == [checks[name]["state"] for name in checks if name == "time zone"]


@pytest.mark.parametrize("verb", ["run", "schedule"])
def test_a_wrong_tz_is_one_error_for_whoever_schedules(verb: str, config: Path) -> None:
    """It names the variable and its value, and what to do; no traceback."""
    done = gymdbd("-c", config, verb, TZ=_WRONG)
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (2, 2)
    assert lines[0].startswith("gymdbd: the environment variable TZ is Europe/Berlim, ")
    assert lines[1].startswith("What to do: set TZ ")


def test_a_wrong_tz_is_an_error_of_check(config: Path) -> None:
    """All else is examined all the same."""
    code, checked = _json("-c", config, "check")
    errors = [check["name"] for check in checked["checks"] if check["state"] == "error"]
    assert (code, errors) == (1, ["time zone"])


def test_a_wrong_tz_keeps_nobody_from_backup_and_restore(config: Path, tmp_path: Path) -> None:
    """What needs no schedule is done, in UTC as any other program shows the time."""
    for words in (
        ["backup", "nightly"],
        ["list"],
        ["verify"],
        ["status"],
        ["restore", "latest", "--to", tmp_path / "restored.db"],
    ):
        code, told = _json("-c", config, *words)
        assert (words, code, told["state"]) == (words, 0, "ok")
    assert (tmp_path / "restored.db").exists()


def _json(*words: object) -> tuple[int, dict[str, Any]]:
    done = gymdbd(*words, "--json", TZ=_WRONG)
    return done.returncode, dict(json.loads(done.stdout))


def test_status_shows_the_next_run_with_its_offset(config: Path) -> None:
    """In the zone of who asks, not of whoever wrote the file."""
    with running_daemon(config, TZ="Europe/London"):
        until(lambda: _next_run(config)[10:19] == "T03:00:00", "the daemon's plan")
        moment = datetime.fromisoformat(_next_run(config)).astimezone(ZoneInfo("Asia/Seoul"))
        done = gymdbd("-c", config, "status", TZ="Asia/Seoul")
        assert f"{moment:%Y-%m-%d %H:%M}+09:00" in done.stdout
