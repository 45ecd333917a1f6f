"""The ledger: its lines, the one of an hour, torn ends, and its bounds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from gymdbd.runs import ledger
from gymdbd.runs.line import OFF, Line, skipped

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
