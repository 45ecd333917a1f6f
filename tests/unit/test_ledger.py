"""The ledger: its lines, the one of an hour, torn ends, and its bounds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.config.kinds import BackupConfig
from gymdbd.machine.use import Use
from gymdbd.runs import ledger
from gymdbd.runs.line import OFF, PEER_AWAY, STOPPED, Line, of_run, skipped
from gymdbd.runs.outcome import BUSY, Ended, Outcome, Recorded

if TYPE_CHECKING:
    from pathlib import Path

_NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


def _line(minutes: float = 0, **changes: Any) -> Line:
    """Return the line of a run of three seconds that was unchanged."""
    began = _NOON + timedelta(minutes=minutes)
    facts: dict[str, Any] = {
        "job": "pull",
        "state": "unchanged",
        "first": began.isoformat(timespec="seconds"),
        "last": (began + timedelta(seconds=3)).isoformat(timespec="seconds"),
        "longest_s": 3.0,
        "written": 4096,
    }
    return Line(**{**facts, **changes})


def _ended(outcome: Outcome) -> Ended:
    return Ended(
        run_id="1234abcd",
        reason="scheduled",
        due="2026-11-28T03:00:00+09:00",
        started_at="2026-11-28T03:00:01+09:00",
        ended_at="2026-11-28T03:00:04+09:00",
        duration_s=3.0,
        outcome=outcome,
        use=Use(bytes_written=8192),
    )


def test_unchanged_runs_of_one_hour_are_one_line_even_between_those_of_other_jobs(
    tmp_path: Path,
) -> None:
    """It has their number, the first, the last, the longest, and what they wrote in all."""
    path = tmp_path / ledger.NAME
    for minute in range(120):
        longest = {"longest_s": 250.25} if minute == 10 else {}
        for job in ("pull", "pull-2"):
            ledger.append(path, [_line(minute, job=job, **longest)])

    first, _, second, _ = found = ledger.read(path)

    assert [line.job for line in found] == ["pull", "pull-2"] * 2
    assert first == _line(count=60, last=_line(59).last, longest_s=250.25, written=60 * 4096)
    assert second == _line(60, count=60, last=_line(119).last, written=60 * 4096)


def test_what_has_changed_or_failed_has_a_line_of_its_own(tmp_path: Path) -> None:
    """The unchanged runs after it begin another line."""
    path = tmp_path / ledger.NAME
    states = ["unchanged", "unchanged", "ok", "ok", "unreachable", "unreachable", "unchanged"]

    ledger.append(path, [_line(minute, state=state) for minute, state in enumerate(states)])

    counted = [(line.state, line.count) for line in ledger.read(path)]
    assert counted == [
        ("unchanged", 2),
        *[("ok", 1)] * 2,
        *[("unreachable", 1)] * 2,
        ("unchanged", 1),
    ]


def test_a_torn_last_line_is_ignored_and_does_not_spoil_the_next(tmp_path: Path) -> None:
    """Wherever it was torn."""
    whole = tmp_path / "whole"
    ledger.append(whole, [_line(state="ok"), _line(1, state="failed", error="삼\n\u2028")])
    data = whole.read_bytes()
    first = data.index(b"\n") + 1

    for size in range(first, len(data)):
        path = tmp_path / ledger.NAME
        path.write_bytes(data[:size])
        assert ledger.read(path) == [_line(state="ok")]
        ledger.append(path, [_line(2, state="ok")])
        kept = [line for line in ledger.read(path) if line.state == "ok"]
        assert kept == [_line(state="ok"), _line(2, state="ok")]


def test_skipped_moments_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    """With the reason."""
    path = tmp_path / ledger.NAME
    line = skipped("nightly", OFF, "2026-11-27T03:00:00+09:00", "2026-11-28T03:00:00+09:00", 2)

    ledger.append(path, [line])

    assert ledger.read(path) == [line]
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_rows_are_those_of_the_fifty_largest_tables(tmp_path: Path) -> None:
    """Those with a name that would fill the ledger are left out, and what is no number of rows."""
    job = BackupConfig(name="nightly", kind="backup", database=tmp_path, archive=tmp_path)
    tables = {f"t{number:03}": number for number in range(80)}
    odd = {"x" * 5000: 1000, "text": "many", "truth": True}
    result = Recorded({"size": 4096, "tables": {**odd, **tables}})

    line = of_run(job, _ended(Outcome(result=result)))

    assert line.rows == {f"t{number:03}": number for number in range(30, 80)}
    assert line.size == 4096


@pytest.mark.parametrize(
    ("state", "code", "why"),
    [
        ("unreachable", "unreachable", PEER_AWAY),
        ("busy", "busy", BUSY),
        ("failed", "stopped", STOPPED),
        ("failed", "disk-full", None),
    ],
)
def test_a_run_without_success_has_its_reason(
    tmp_path: Path, state: str, code: str, why: str | None
) -> None:
    """Those of a failure of its own are its code and the beginning of its error."""
    job = BackupConfig(name="nightly", kind="backup", database=tmp_path, archive=tmp_path)
    outcome = Outcome(state=state, code=code, error="e" * 9999)

    line = of_run(job, _ended(outcome))

    assert (line.why, line.code, line.error) == (why, code, "e" * 300)


def test_a_ledger_never_grows_beyond_its_bound_and_keeps_a_line_of_each_day(tmp_path: Path) -> None:
    """Its older part is one line for what was alike on a day, and no run is forgotten."""
    path = tmp_path / ledger.NAME
    rows = {f"{'a table with a long name ' * 3}{number:02}": number for number in range(50)}
    lines = [
        _line(day * 24 * 60 + hour * 60, state="ok", rows=rows, size=day)
        for day in range(390)
        for hour in range(-12, 4)
    ]
    for line in lines:
        ledger.append(path, [line])
        assert path.stat().st_size <= ledger.MOST_BYTES
    found = ledger.read(path)

    assert (len(lines), found[-1]) == (sum(line.count for line in found), lines[-1])
    assert [*dict.fromkeys(line.day for line in found)] == [
        *dict.fromkeys(line.day for line in lines)
    ]
    assert {line.day: line.size for line in found} == {line.day: line.size for line in lines}
    assert (found[0].count, found[-1].count) == (16, 1)


def test_what_is_older_than_400_days_is_left_out_on_the_next_day(tmp_path: Path) -> None:
    """It has been seen every day, so that the clock is right."""
    path = tmp_path / ledger.NAME
    days = [_line(day * 24 * 60, state="ok") for day in range(450)]

    ledger.append(path, days)

    assert ledger.read(path) == days[-401:]


def test_a_clock_that_is_years_ahead_for_a_moment_costs_no_line(tmp_path: Path) -> None:
    """The line by that clock is there, and so are all the others."""
    path = tmp_path / ledger.NAME
    years = 3 * 365 * 24 * 60
    written = [
        *(_line(day * 24 * 60, state="ok") for day in range(50)),
        _line(years, state="ok"),
        _line(years + 1, state="failed"),
        *(_line(day * 24 * 60, state="ok") for day in range(50, 55)),
    ]

    for line in written:
        ledger.append(path, [line])

    assert ledger.read(path) == written


def test_what_the_other_half_reports_cannot_spoil_the_ledger(tmp_path: Path) -> None:
    """A run whose times are none, or whose line would be as large as a ledger, has no line."""
    path = tmp_path / ledger.NAME
    odd = [_line(first=""), _line(last="soon"), _line(code="x" * 10**6), _line(count=0)]

    ledger.append(path, [_line(state="ok"), *odd, _line(1, state="ok")])

    assert ledger.read(path) == [_line(state="ok"), _line(1, state="ok")]
