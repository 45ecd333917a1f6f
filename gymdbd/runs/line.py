"""A line of the ledger: a run, a due moment without one, or several of the same kind in one line.

The file is input: a line with values of another type is none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gymdbd import bounded, clock, words
from gymdbd.runs.outcome import BUSY, GOOD_STATES, UNREACHABLE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from gymdbd.config.kinds import JobConfig
    from gymdbd.runs.outcome import Ended

SKIPPED = "skipped"
UNCHANGED = "unchanged"

# Why a due moment had no run, or a run did not do its work.
OFF = "off"
ASLEEP = "asleep"
CLOCK_SET = "clock set"
NO_DAEMON = "no daemon"
PEER_AWAY = "peer away"
STOPPED = "stopped"
REASONS = (OFF, ASLEEP, CLOCK_SET, NO_DAEMON, PEER_AWAY, BUSY, STOPPED)

_MADE_UP = "made up"
_MOST_TABLES = 50
_LONGEST_NAME = 100
_LONGEST_ERROR = 300
_BEGINS = re.compile(rb'\{"job": "[^"]*", "state": "[^"]*", "first": "[^"]{13}')
_LOW = b'"under_voltage": true'
_HOUR = len("2026-11-28T03")


@dataclass(frozen=True, kw_only=True)
class Line:
    """What happened once, or `count` times, the same each time; moments are RFC 3339.

    `state` is that of the run, or SKIPPED. `first` and `last` are its start and its end, or of
    SKIPPED the due moment; of several those of the first and of the last. `due` is the first due
    moment, None for a run by hand. `why` is one of REASONS. `longest_s` is the longest of the runs.
    `size` (bytes), `rows` (of at most 50 tables) and `written` (bytes, of all runs) are None if
    they are not known, or, of the first two, if they are those of the run before. `device_written`
    are the bytes that the device of the archive got meanwhile, from any process. At the end, the
    disk of the archive had `disk_free` of its `disk_size` bytes, of which the backups of the job
    took `disk_held`; `under_voltage` says whether the power was too weak.
    """

    job: str
    state: str
    first: str
    last: str
    count: int = 1
    due: str | None = None
    made_up: bool = False
    why: str | None = None
    code: str | None = None
    error: str | None = None
    longest_s: float | None = None
    size: int | None = None
    rows: dict[str, int] | None = None
    written: int | None = None
    device_written: int | None = None
    disk_free: int | None = None
    disk_size: int | None = None
    disk_held: int | None = None
    under_voltage: bool = False

    @property
    def is_good(self) -> bool:
        """Say whether the runs count as a success."""
        return self.state in GOOD_STATES

    @property
    def began(self) -> datetime:
        """Return the instant of `first`."""
        return clock.from_text(self.first)

    @property
    def ended(self) -> datetime:
        """Return the instant of `last`."""
        return clock.from_text(self.last)

    @property
    def day(self) -> str:
        """Return the day on which it began, where it was written: `2026-11-28`."""
        return self.first[:10]

    def same_hour(self, later: Line) -> bool:
        """Say whether `later` goes into one line with this one, in the hour of the first of it."""
        return (
            self.state in (UNCHANGED, SKIPPED)
            and self.is_like(later)
            and self.first[:_HOUR] == later.first[:_HOUR]
        )

    def is_like(self, other: Line) -> bool:
        """Say whether the other line tells of the same, at another time."""
        return (self.job, self.state, self.why) == (other.job, other.state, other.why)

    def joined(self, later: Line) -> Line:
        """Return one line for this one and a `later` one that is like it."""
        return replace(
            later,
            count=self.count + later.count,
            first=self.first,
            due=self.due,
            made_up=self.made_up or later.made_up,
            longest_s=max(filter(None, (self.longest_s, later.longest_s)), default=None),
            size=self.size if later.size is None else later.size,
            rows=self.rows if later.rows is None else later.rows,
            written=_sum(self.written, later.written),
            device_written=_sum(self.device_written, later.device_written),
            under_voltage=self.under_voltage or later.under_voltage,
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as `--json` has it: all keys."""
        return dict(vars(self))

    def text(self) -> str:
        """Return it as the file has it, without the end of the line: what is not known has no key.

        The job comes first, so that its lines are found without a parser: `beginning`.
        """
        content = vars(self).items()
        return words.json_text(
            {name: value for name, value in content if value is not None and value is not False}
        )


def beginning(job: str) -> bytes:
    """Return how each line of a job begins in the file."""
    return words.json_text({"job": job})[:-1].encode("utf-8", "surrogatepass") + b","


def hour(data: bytes) -> bytes:
    """Return what a line begins with, to the hour of its first run; b"" if it is none or torn."""
    begin = _BEGINS.match(data)
    if begin is None or not data.endswith(b"\n"):
        return b""
    return begin[0] + _LOW * (_LOW in data)


def parse(data: bytes) -> Line | None:
    """Return the line that was written as `data`, None if it is torn, or none of ours."""
    try:
        line = bounded.typed(Line, bounded.parse(data))
        # Moments that are none are a ValueError.
        _ = line.began, line.ended
    except (*bounded.FAULTS, AttributeError, TypeError):
        return None
    return line if line.count > 0 else None


def of_run(job: JobConfig, run: Ended) -> Line:
    """Return the line of a run that has ended; of its result nothing is trusted to be of a type."""
    outcome, recorded = run.outcome, run.outcome.recorded()
    content = recorded.content if recorded and outcome.state != UNCHANGED else {}
    size = content.get("size")
    return Line(
        job=job.name,
        state=outcome.state,
        first=run.started_at,
        last=run.ended_at,
        due=run.due,
        made_up=run.reason.startswith(_MADE_UP),
        why=_why(outcome.state, outcome.code),
        code=outcome.code,
        error=outcome.error[:_LONGEST_ERROR] if outcome.error else None,
        longest_s=run.duration_s,
        size=size if type(size) is int else None,
        rows=largest(content.get("tables")),
        written=run.use.bytes_written,
        device_written=run.use.device_bytes_written,
        disk_free=run.use.free,
        disk_size=run.use.size,
        disk_held=run.use.held,
        under_voltage=bool(run.use.under_voltage),
    )


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None and second is None else (first or 0) + (second or 0)


def _why(state: str, code: str | None) -> str | None:
    if code == STOPPED:
        return STOPPED
    return {UNREACHABLE: PEER_AWAY, BUSY: BUSY}.get(state)


def largest(tables: object) -> dict[str, int] | None:
    """Return the rows of the largest tables, None if the result has none."""
    if not isinstance(tables, dict):
        return None
    counted: Mapping[str, int] = {
        name: rows
        for name, rows in tables.items()
        if type(rows) is int and len(name) <= _LONGEST_NAME
    }
    chosen = sorted(counted, key=lambda name: (-counted[name], name))[:_MOST_TABLES]
    return {name: counted[name] for name in sorted(chosen)}


def skipped(job: str, why: str, first: str, last: str, count: int = 1) -> Line:
    """Return the line of due moments that had no run."""
    return Line(job=job, state=SKIPPED, why=why, first=first, last=last, due=first, count=count)
