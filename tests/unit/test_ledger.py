"""The ledger: its lines, the one of an hour, torn ends, and its bounds."""

from __future__ import annotations

import resource
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies

from gymdbd.config.kinds import BackupConfig
from gymdbd.machine.use import Use
from gymdbd.runs import ledger
from gymdbd.runs.line import OFF, PEER_AWAY, STOPPED, Line, of_run, skipped
from gymdbd.runs.outcome import BUSY, Ended, Outcome, Recorded
from gymdbd.source.errors import GymdbdError
from tests.support import samples
from tests.support.disks import may_mount, mounted

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


def test_the_line_of_an_hour_has_what_any_of_its_runs_has_seen(tmp_path: Path) -> None:
    """When the first was due, whether one was made up for or saw too low a voltage, all bytes."""
    path = tmp_path / ledger.NAME
    due = "2026-11-28T12:00:00+00:00"
    first = _line(due=due, made_up=True, size=5, under_voltage=True, device_written=1)
    second = _line(1, due="2026-11-28T12:01:00+00:00", disk_free=7, device_written=2)

    for line in (first, second, _line(59), _line(60)):
        ledger.append(path, [line])

    facts: dict[str, Any] = {
        "count": 3,
        "due": due,
        "size": 5,
        "written": 3 * 4096,
        "device_written": 3,
    }
    seen: dict[str, Any] = {"made_up": True, "under_voltage": True}
    assert ledger.read(path) == [_line(last=_line(59).last, **facts, **seen), _line(60)]


def test_a_line_is_of_the_hour_in_which_its_first_run_began(tmp_path: Path) -> None:
    """Even if that run has ended in the next one."""
    path = tmp_path / ledger.NAME
    long = _line(59, last=_line(61).last)

    ledger.append(path, [long, _line(62), _line(63)])

    assert [(line.first, line.count) for line in ledger.read(path)] == [
        (long.first, 1),
        (_line(62).first, 2),
    ]


def test_a_run_that_was_unchanged_has_made_nothing(tmp_path: Path) -> None:
    """Its result is that of the run before, and so are its size and its rows."""
    job = BackupConfig(name="nightly", kind="backup", database=tmp_path, archive=tmp_path)
    result = Recorded({"size": 4096, "tables": {"members": 7}})

    line = of_run(job, _ended(Outcome(state="unchanged", result=result)))

    assert (line.size, line.rows) == (None, None)


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


def test_a_line_that_has_become_too_long_for_its_place_is_continued_in_another(
    tmp_path: Path,
) -> None:
    """The line after it stays as it is."""
    path = tmp_path / ledger.NAME
    rows = {f"table {number}": number for number in range(50)}
    steps = [_line(0), _line(1, state="ok", job="other"), _line(2, rows=rows), _line(3)]

    for line in steps:
        ledger.append(path, [line])

    last = _line(2, rows=rows, count=2, last=_line(3).last, written=2 * 4096)
    assert ledger.read(path) == [*steps[:2], last]


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
    for start in range(0, len(lines), 16):
        ledger.append(path, lines[start : start + 16])
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


def test_the_lines_since_a_moment_are_the_same_whether_the_ledger_is_short_or_long(
    tmp_path: Path,
) -> None:
    """Even if a clock that was wrong has written some lines of long ago among them."""
    path = tmp_path / ledger.NAME
    rows = {f"table {number}": number for number in range(50)}
    written = [_line(hour * 60, state="ok", rows=rows) for hour in range(2000)]
    old = "1970-01-01T00:00:00+00:00"
    for place in range(1980, 0, -40):
        written[place:place] = [_line(state="ok", first=old, last=old, rows=rows)] * 20
    ledger.append(path, written)

    for hours in (0, 1, 77, 1899, 1999, 2000, 9999):
        since = _NOON + timedelta(hours=hours)
        expected = [line for line in written if line.ended >= since]
        assert ledger.read(path, since) == expected
    assert (ledger.began(path), ledger.began(tmp_path / "none")) == (_NOON, None)


def test_an_append_reads_and_writes_no_more_if_the_ledger_is_large(tmp_path: Path) -> None:
    """What the system calls have read and written: a few tens of KiB, of nearly 20 MiB."""
    path = tmp_path / ledger.NAME
    rows = {f"table {number}": number for number in range(50)}
    text = _line(state="ok", rows=rows).text().encode() + b"\n"
    path.write_bytes(text * ((ledger.MOST_BYTES - 10**6) // len(text)))

    later = [_line(60), _line(61)]
    ledger.append(path, later[:1])
    before = _transferred()
    ledger.append(path, later[1:])
    spent = _transferred() - before

    assert [line.count for line in ledger.read(path, later[0].began)] == [2]
    assert spent < 64 * 1024


def _transferred() -> int:
    """Return how many bytes this process has read and written by system calls."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    facts = dict(line.split(": ") for line in lines)
    return int(facts["rchar"]) + int(facts["wchar"])


def test_an_append_for_which_there_is_no_room_leaves_the_ledger_as_it_was(tmp_path: Path) -> None:
    """However much of it could be written, as on a full disk."""
    path = tmp_path / ledger.NAME
    ledger.append(path, [_line(state="ok")])
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (0, 1, 20, 100):
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, hard))
        try:
            with pytest.raises(GymdbdError, match="ledger"):
                ledger.append(path, [_line(1, state="ok")])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == before


@pytest.mark.skipif(not may_mount(), reason="file systems cannot be mounted here")
def test_a_ledger_is_only_made_smaller_if_the_disk_has_room_for_the_largest(tmp_path: Path) -> None:
    """The application's database may be on that disk, and must not find it full meanwhile."""
    with mounted(tmp_path, "tmpfs", size="32m") as disk:
        path = disk / ledger.NAME
        text = _line(state="ok").text().encode() + b"\n"
        path.write_bytes(text * (ledger.MOST_BYTES // len(text)))
        before = path.stat()
        with pytest.raises(GymdbdError, match=r"has 12\.. MiB free, but 16\.5 MiB are needed"):
            ledger.append(path, [_line(60, state="ok")])
        after = path.stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)


_STATES = strategies.sampled_from(["ok", "unchanged", "failed", "unreachable", "skipped"])
_STEPS = strategies.lists(
    strategies.tuples(
        strategies.integers(0, 2), _STATES, strategies.integers(-30, 400), strategies.integers(0, 9)
    ),
    max_size=60,
)


@settings(max_examples=samples.count(40, of=1000), deadline=None)
@given(steps=_STEPS, torn=strategies.data())
def test_whatever_is_written_and_wherever_it_is_torn_each_run_is_counted_once(
    steps: list[tuple[int, str, int, int]], torn: strategies.DataObject
) -> None:
    """Of the ledger that was torn at its end, all but the run at that place."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, ledger.NAME)
        counts: dict[tuple[str, str], int] = {}
        minutes = 0
        for job, state, step, size in steps:
            minutes += step
            line = _line(minutes, job=f"job {job}", state=state, rows={"\u2028\n삼": size})
            ledger.append(path, [line])
            counts[line.job, state] = counts.get((line.job, state), 0) + 1

        assert _counts(path) == counts
        data = path.read_bytes() if steps else b""
        path.write_bytes(data[: torn.draw(strategies.integers(0, len(data)))])
        kept = sum(_counts(path).values())
        ledger.append(path, [_line(minutes, job="after", state="ok")])
        assert kept in range(sum(_counts(path).values()) + 1)
        assert _counts(path)["after", "ok"] == 1


def _counts(path: Path) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    for line in ledger.read(path):
        counts[line.job, line.state] = counts.get((line.job, line.state), 0) + line.count
    return counts


def test_the_hours_have_the_last_line_of_each_job_and_state_with_their_number(
    tmp_path: Path,
) -> None:
    """What a run saw of the voltage is not lost among those after it; a torn line is none."""
    path = tmp_path / "ledger.jsonl"
    changed = [_line(minute, state="ok", size=minute) for minute in range(90)]
    low = _line(10, state="ok", size=10, under_voltage=True)
    other = _line(95, job="other", state="failed")
    before = _line(-90, state="ok")
    ledger.append(path, [before, *changed[:10], low, *changed[11:], other])
    with path.open("ab") as file:
        file.write(changed[0].text().encode()[:-1])
    found = ledger.hourly(path, _NOON)
    assert found == [(changed[59], 59), (low, 1), (changed[89], 30), (other, 1)]
    assert ledger.hourly(tmp_path / "none", _NOON) == []
