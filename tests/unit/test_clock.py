"""The time zone of the machine: the one that the C library takes, whatever form it is set in."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zoneinfo
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gymdbd import clock
from gymdbd.errors import TimeZoneError

if TYPE_CHECKING:
    from collections.abc import Iterator

_DATABASE = "/usr/share/zoneinfo"
_SETTINGS = [
    "Asia/Seoul",
    ":Europe/Berlin",
    f":{_DATABASE}/Australia/Lord_Howe",
    f"{_DATABASE}/America/Santiago",
    "EST5EDT",
    "CET-1CEST,M3.5.0,M10.5.0/3",
    ":NZST-12NZDT,M9.5.0,M4.1.0/3",
    "<+03>-3",
    "<-0330>3:30",
    "KST-9",
    "<-03>3<-02>,M3.5.0/-2,M10.5.0/-1",
    "XST5XDT,J60/5,J300",
    "UTC",
    "UTC0",
    "",
    ":",
]
_WRONG = [
    "Europe/Berlim",
    "KST",
    "Europe",
    "A5",
    "XST25",
    "XST-24:59",
    "XST5XDT,M13.1.0,M11.1.0",
    "서울",
    ":/no/such/file",
    f":{_DATABASE}/zone.tab",
    ":/dev/zero",
    "../../../etc/passwd",
]


@pytest.fixture(autouse=True)
def _c_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give the C library its zone back."""
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("setting", _SETTINGS)
def test_the_zone_is_that_of_the_c_library(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Throughout two years it is as far from UTC as the C library says."""
    monkeypatch.setenv("TZ", setting)
    time.tzset()
    zone = clock.local_zone()
    moments = [datetime(2026, 1, 1, 5, tzinfo=UTC) + n * timedelta(hours=6) for n in range(2920)]
    expected = [time.localtime(moment.timestamp()).tm_gmtoff for moment in moments]
    offsets = [moment.astimezone(zone).utcoffset() or timedelta() for moment in moments]
    assert expected == [offset.total_seconds() for offset in offsets]


@pytest.mark.parametrize("setting", ["XST5XDT", "XST5XDT,", "XST5XDT4"])
def test_a_summer_time_without_rules_is_that_of_the_usa(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The C library knows no better; on the day of the change itself its hours differ."""
    monkeypatch.setenv("TZ", setting)
    time.tzset()
    for month, day in ((3, 7), (3, 10), (10, 30), (11, 3)):
        moment = datetime(2026, month, day, tzinfo=UTC)
        offset = moment.astimezone(clock.local_zone()).utcoffset() or timedelta()
        assert time.localtime(moment.timestamp()).tm_gmtoff == offset.total_seconds()


@pytest.mark.parametrize("setting", _WRONG)
def test_a_setting_that_names_no_zone_is_one_error_and_times_are_shown_in_utc(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who schedules is told what TZ is; who only shows a time goes on, in UTC."""
    monkeypatch.setenv("TZ", setting)
    with pytest.raises(TimeZoneError) as caught:
        clock.local_zone()
    assert f"TZ is {setting}, " in caught.value.message
    assert clock.Clock().zone == UTC


def test_a_misspelt_zone_is_answered_with_the_nearest_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name that was meant is offered."""
    monkeypatch.setenv("TZ", "Europe/Berlim")
    with pytest.raises(TimeZoneError) as caught:
        clock.local_zone()
    assert caught.value.message.endswith('did you mean "Europe/Berlin"?')


def test_the_zone_of_the_machine_is_the_file_etc_localtime(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without TZ it has the offset of the C library and the name that the link gives."""
    monkeypatch.delenv("TZ", raising=False)
    time.tzset()
    zone = clock.local_zone()
    now = datetime(2026, 7, 1, tzinfo=UTC)
    assert time.localtime(now.timestamp()).tm_gmtoff == (
        (now.astimezone(zone).utcoffset() or timedelta()).total_seconds()
    )
    assert clock.fault_of_machine() == ""
    assert str(zone) in {*zoneinfo.available_timezones(), "/etc/localtime"}


def test_a_zone_is_the_same_object_as_long_as_its_file_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a change is seen by looking again, and by nothing else."""
    file = tmp_path / "localtime"
    monkeypatch.setenv("TZ", f":{file}")
    file.write_bytes(Path(f"{_DATABASE}/Asia/Seoul").read_bytes())
    first = clock.local_zone()
    os.utime(file, (0, 0))
    assert clock.local_zone() is first

    file.write_bytes(Path(f"{_DATABASE}/Europe/London").read_bytes())
    assert clock.local_zone() is not first


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has namespaces of time")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a namespace of time")
def test_the_clock_since_the_start_counts_what_the_machine_was_asleep(tmp_path: Path) -> None:
    """In a namespace in which the machine has slept for a day, as its kernel counts it."""
    script = "from gymdbd.clock import Clock; c = Clock(); print(c.since_boot() - c.monotonic())"
    found = []
    for asleep_s in (0, 86400):
        namespace = ["unshare", "--time", "--boottime", str(asleep_s), "--fork"]
        command = [*namespace, sys.executable, "-c", script]
        done = subprocess.run(command, capture_output=True, check=True, cwd=tmp_path)
        found.append(float(done.stdout))

    assert round(found[1] - found[0]) == 86400
