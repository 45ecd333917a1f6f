"""What the status file holds: of the daemon, and of each job one entry, read back as it was built.

The entries are input: of values with a wrong type the run after it needs none, so that they count
as missing. Moments are RFC 3339, as they were written.
"""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gymdbd import clock
from gymdbd.runs.outcome import BUSY, SUSPICIOUS, Ended, Recorded, seconds, text

if TYPE_CHECKING:
    from datetime import datetime

SCHEMA = 1
_RUNS_KEPT = 20


@dataclass(frozen=True, kw_only=True)
class Running:
    """A run that is at work, in the process `pid`."""

    run_id: str | None = None
    started_at: str | None = None
    pid: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as the status file has it."""
        return _known(vars(self))

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Running:
        """Read what `to_json` wrote."""
        pid = content.get("pid")
        return cls(
            run_id=text(content, "run_id"),
            started_at=text(content, "started_at"),
            pid=pid if isinstance(pid, int) else None,
        )


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known of a job; `state` is None as long as no run of it has ended.

    `result` is that of the last run that was good or suspicious. `runs` are the newest first.
    """

    kind: str | None = None
    running: Running | None = None
    last_due: str | None = None
    runs: tuple[Ended, ...] = ()
    state: str | None = None
    last_run: str | None = None
    last_success: str | None = None
    consecutive_failures: int = 0
    duration_s: float | None = None
    result: Recorded | None = None
    error: str | None = None
    hint: str | None = None
    code: str | None = None
    next_run: str | None = None

    def started(self, kind: str, running: Running, due: str | None) -> Entry:
        """Return the entry of a job with a run that has started."""
        return dataclasses.replace(
            self, kind=kind, running=running, last_due=due if due is not None else self.last_due
        )

    def ended(self, kind: str, run: Ended) -> Entry:
        """Return the entry after a run; one that found another run at work is only in `runs`."""
        outcome, ended = run.outcome, self.running and self.running.run_id == run.run_id
        entry = dataclasses.replace(
            self, kind=self.kind or kind, runs=(run.brief(), *self.runs)[:_RUNS_KEPT]
        )
        if outcome.state == BUSY:
            return entry
        # The result of a suspicious run exists and can be accepted.
        exists = outcome.is_good or outcome.state == SUSPICIOUS
        return dataclasses.replace(
            entry,
            kind=kind,
            running=None if ended else self.running,
            state=outcome.state,
            last_run=run.started_at,
            last_success=run.ended_at if outcome.is_good else self.last_success,
            consecutive_failures=0 if outcome.is_good else self.consecutive_failures + 1,
            duration_s=run.duration_s,
            result=outcome.recorded() if exists else self.result,
            error=outcome.error,
            hint=outcome.hint,
            code=outcome.code,
        )

    def answered(self, waiting: str | None, *, right: bool) -> Entry:
        """Return the entry after somebody has accepted or rejected what was suspicious."""
        entry = self
        if self.result is not None and self.result.waiting:
            entry = dataclasses.replace(self, result=self.result.answered(waiting))
        if self.state != SUSPICIOUS or waiting is not None:
            return entry
        success = self.last_success
        if right:
            # Runs that found the archive busy may have followed it.
            ended = (run.ended_at for run in self.runs if run.outcome.state == SUSPICIOUS)
            success = next(ended, self.last_run)
        return dataclasses.replace(
            entry,
            state="ok",
            last_success=success,
            consecutive_failures=0,
            error=None,
            hint=None,
            code=None,
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as the status file has it: what is not known has no key."""
        content = {
            **vars(self),
            "running": self.running.to_json() if self.running else None,
            "runs": [run.history() for run in self.runs] or None,
            "result": self.result.to_json() if self.result else None,
        }
        if self.last_run is None:
            return _known({**content, "consecutive_failures": self.consecutive_failures or None})
        optional = ("kind", "running", "last_due", "runs", "next_run")
        return {
            name: value
            for name, value in content.items()
            if value is not None or name not in optional
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Entry:
        """Read what `to_json` wrote; TypeError if a run could not go on from it."""
        running, runs = content.get("running"), content.get("runs", [])
        failures = content.get("consecutive_failures", 0)
        if not isinstance(content.get("running", {}), dict) or not isinstance(runs, list):
            raise TypeError("its runs are none of ours")
        if not isinstance(failures, int):
            raise TypeError("its number of failures is none")
        result = content.get("result")
        names = ("kind", "last_due", "state", "last_run", "last_success")
        return cls(
            **{name: text(content, name) for name in (*names, "error", "hint", "code", "next_run")},
            running=Running.from_json(running) if running is not None else None,
            runs=tuple(Ended.from_json(run) for run in runs if isinstance(run, dict)),
            consecutive_failures=failures,
            duration_s=seconds(content, "duration_s"),
            result=Recorded(result) if isinstance(result, dict) else None,
        )


@dataclass(frozen=True, kw_only=True)
class DaemonNote:
    """What the daemon that last used the file has written of itself.

    No daemon had run before it since `down_since`, if that is known.
    """

    pid: int | None = None
    version: str | None = None
    started_at: str | None = None
    host: str | None = None
    down_since: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as the status file has it."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> DaemonNote:
        """Read what `to_json` wrote."""
        pid = content.get("pid")
        return cls(
            pid=pid if isinstance(pid, int) else None,
            version=text(content, "version"),
            started_at=text(content, "started_at"),
            host=text(content, "host"),
            down_since=text(content, "down_since"),
        )


@dataclass(frozen=True)
class Status:
    """The whole of the file; `daemon` is None if none has ever used it."""

    daemon: DaemonNote | None = None
    jobs: dict[str, Entry] = field(default_factory=dict)

    def of(self, name: str) -> Entry:
        """Return the entry of a job; an empty one if nothing is known of it."""
        return self.jobs.get(name, Entry())

    def but(self, name: str, entry: Entry) -> Status:
        """Return the status with another entry of a job."""
        return dataclasses.replace(self, jobs={**self.jobs, name: entry})

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file."""
        return {
            "schema": SCHEMA,
            "daemon": self.daemon.to_json() if self.daemon else None,
            "jobs": {name: entry.to_json() for name, entry in self.jobs.items()},
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Status:
        """Read what `to_json` wrote; what is not ours is a ValueError, KeyError or TypeError."""
        if content["schema"] != SCHEMA:
            raise ValueError("its schema is unknown")
        daemon = content.get("daemon")
        return cls(
            DaemonNote.from_json(daemon) if isinstance(daemon, dict) else None,
            {name: Entry.from_json(entry) for name, entry in content["jobs"].items()},
        )


def instant(moment: object) -> datetime | None:
    """Return the instant that a text means, None if it means none."""
    with contextlib.suppress(ValueError, TypeError):
        return clock.from_text(moment) if isinstance(moment, str) and moment else None
    return None


def _known(content: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if value is not None}
