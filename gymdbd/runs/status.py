"""The status file: the outcome of every run, readable while the daemon is down.

It is one JSON file, replaced atomically after each run, by the daemon or the command line.
`health` computes from it whether all is well.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import gymdbd
from gymdbd import clock, disk, lock
from gymdbd.errors import FormatError
from gymdbd.log import logger
from gymdbd.runs import reserve
from gymdbd.runs.outcome import GOOD_STATES, SUSPICIOUS, UNREACHABLE
from gymdbd.schedule import usual_gap
from gymdbd.source.errors import GymdbdError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from gymdbd.config.kinds import JobConfig
    from gymdbd.runs.outcome import Ended

SCHEMA = 1

_RUNS_KEPT = 20
_LEAST_MARGIN = timedelta(minutes=10)


class Health(IntEnum):
    """The health of a job, or of all jobs; the numbers are the exit codes of monitoring plugins."""

    OK = 0
    LATE = 1
    FAILING = 2
    UNKNOWN = 3


@dataclass(frozen=True)
class StatusFile:
    """The status file at `path`; a lock file beside it shows whether the daemon is alive.

    Whoever updates it waits up to `lock_wait_s` for another process that does.
    """

    path: Path
    lock_wait_s: float = 10.0

    @property
    def daemon_lock(self) -> Path:
        """Return the lock file that the daemon holds while it runs."""
        return self.path.with_name(f".{self.path.name}.daemon.lock")

    def read(self) -> dict[str, Any]:
        """Return the status; empty if there is no file, FormatError if the file is damaged.

        Raises GymdbdError if the file cannot be read.
        """
        try:
            return _parse(self.path.read_bytes())
        except FileNotFoundError:
            return _empty()
        except OSError as error:
            raise disk.read_error(
                error,
                f"the status file {self.path}",
                denied="run as the user that the daemon runs as",
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise FormatError(
                f"the status file {self.path} is damaged ({error})",
                hint="remove it: the next run writes a new one, and no backup depends on it",
            ) from error

    def is_daemon_alive(self) -> bool | None:
        """Return whether a daemon uses this file; None if this user cannot see it."""
        try:
            return lock.is_held(self.daemon_lock)
        except NotADirectoryError:
            return False
        except OSError:
            return None

    def was_killed(self, job: JobConfig, entry: dict[str, Any]) -> bool:
        """Return whether the run that `entry` has as running was killed.

        A run records its end before it releases its locks, so a run that has ended since `entry`
        was read is no longer recorded as running.
        """
        running = entry.get("running")
        if running is None or _is_at_work(job, running):
            return False
        return bool(self.read()["jobs"].get(job.name, {}).get("running") == running)

    def update(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the status under its lock; a damaged file is replaced, an unreadable one is not.

        On a full disk, it is written into the space reserved for it.
        """
        with lock.hold([lock.file_lock(self.path)], wait_s=self.lock_wait_s):
            try:
                content = self.read()
            except FormatError:
                content = _empty()
            change(content)
            text = json.dumps(content, indent=1, ensure_ascii=False)
            reserve.write_atomically(self.path, text.encode("utf-8", "surrogatepass"))

    def planned(self, started_at: str, runs: Mapping[str, str | None]) -> None:
        """Record that this process is the daemon, its start, and the next run of each job.

        All of it is written each time, because the file may have been replaced meanwhile.
        """
        daemon = {
            "pid": os.getpid(),
            "version": gymdbd.__version__,
            "started_at": started_at,
            "host": socket.gethostname(),
        }

        def change(content: dict[str, Any]) -> None:
            content["daemon"] = daemon
            for name, moment in runs.items():
                content["jobs"].setdefault(name, {})["next_run"] = moment

        self.update(change)

    def run_started(self, job: JobConfig, running: dict[str, Any], due: str | None) -> None:
        """Record that a run has started, and its due moment, if it has one."""

        def change(content: dict[str, Any]) -> None:
            entry = content["jobs"].setdefault(job.name, {})
            entry.update(kind=job.kind, running=running)
            if due is not None:
                entry["last_due"] = due

        self.update(change)

    def run_ended(self, job: JobConfig, ended: Ended) -> None:
        """Record how a run ended."""
        run = ended.to_json()

        def change(content: dict[str, Any]) -> None:
            entry = content["jobs"].setdefault(job.name, {"kind": job.kind})
            entry["runs"] = [ended.brief(), *entry.get("runs", [])][:_RUNS_KEPT]
            if run["state"] == "busy":
                return  # Another run is using the same files; its outcome counts.
            if entry.get("running", {}).get("run_id") == run["run_id"]:
                del entry["running"]
            good, suspicious = run["state"] in GOOD_STATES, run["state"] == SUSPICIOUS
            entry.update(
                kind=job.kind,
                state=run["state"],
                last_run=run["started_at"],
                last_success=run["ended_at"] if good else entry.get("last_success"),
                consecutive_failures=0 if good else entry.get("consecutive_failures", 0) + 1,
                duration_s=run["duration_s"],
                # The result of a suspicious run exists and can be accepted.
                result=run["result"] if good or suspicious else entry.get("result"),
                error=run["error"],
                hint=run["hint"],
                code=run["code"],
            )

        self.update(change)

    def accepted(self, job: JobConfig, waiting: str | None = None) -> None:
        """Record that the suspicious content of a job's last run was accepted.

        `waiting` names content that still waits for an answer; then the job stays as it is.
        """
        self._answered(job, waiting, right=True)

    def rejected(self, job: JobConfig, waiting: str | None = None) -> None:
        """Record that it was rejected: the job is ok again, its last success does not change."""
        self._answered(job, waiting, right=False)

    def _answered(self, job: JobConfig, waiting: str | None, *, right: bool) -> None:
        def change(content: dict[str, Any]) -> None:
            entry = content["jobs"].get(job.name, {})
            if (entry.get("result") or {}).get("waiting"):
                entry["result"]["waiting"] = waiting
            if entry.get("state") != SUSPICIOUS or waiting is not None:
                return
            if right:
                # Runs that found the archive busy may have followed it.
                ended = [run["ended_at"] for run in entry["runs"] if run["state"] == SUSPICIOUS]
                entry["last_success"] = ended[0] if ended else entry["last_run"]
            entry.update(state="ok", consecutive_failures=0, error=None, hint=None, code=None)

        self.update(change)


def _parse(data: bytes) -> dict[str, Any]:
    content = json.loads(data.decode("utf-8", "surrogatepass"))
    if content["schema"] != SCHEMA:
        raise ValueError("its schema is unknown")
    for name, entry in content["jobs"].items():
        if not _is_usable(entry):
            raise ValueError(f"its entry of {name} is not one of ours")
    return dict(content)


def _is_usable(entry: dict[str, Any]) -> bool:
    """Return whether the values that the next run needs have the right types."""
    kinds = {"running": dict, "runs": list, "consecutive_failures": int}
    return all(isinstance(entry.get(name, kind()), kind) for name, kind in kinds.items())


def _empty() -> dict[str, Any]:
    return {"schema": SCHEMA, "daemon": None, "jobs": {}}


def instant(entry: dict[str, Any], key: str) -> datetime | None:
    """Return the instant under `key` of a job's entry, or None."""
    with contextlib.suppress(ValueError, TypeError):
        return clock.from_text(entry[key]) if entry.get(key) else None
    return None


def _is_at_work(job: JobConfig, running: dict[str, Any]) -> bool:
    """Return whether a run holds its locks, or, if it needs none, whether its process exists.

    If that cannot be determined, the run counts as running.
    """
    try:
        if locks := job.locks():
            return all(map(lock.is_held, locks))
        os.kill(running["pid"], 0)
    except ProcessLookupError:
        return False
    except (OSError, KeyError, TypeError, OverflowError):
        return True
    return True


def newest_run(content: dict[str, Any]) -> str:
    """Return the newest run of all jobs in a few words; empty if there is none."""
    runs = [
        (ended, name, run["state"])
        for name, entry in content["jobs"].items()
        for run in entry.get("runs", [])[:1]
        if (ended := instant(run, "ended_at"))
    ]
    if not runs:
        return ""
    _, name, state = max(runs)
    ended_at = datetime.fromisoformat(content["jobs"][name]["runs"][0]["ended_at"])
    return f"{name} {state} at {ended_at.isoformat(' ', 'minutes')}"


def max_age(job: JobConfig, now: datetime, zone: tzinfo) -> timedelta:
    """Return how old the last success may be: as configured, or the usual gap plus a twelfth."""
    if job.max_age is not None:
        return job.max_age
    gap = usual_gap(job.when, now, zone)
    return gap + max(gap / 12, _LEAST_MARGIN)


def health(
    job: JobConfig, entry: dict[str, Any], now: datetime, zone: tzinfo
) -> tuple[Health, str]:
    """Return the health of a job according to its entry in the status file, and the reason.

    An unreachable peer is late until `max_age` has passed, then failing. Any other failure is
    failing at once, and so is a backup that waits for accept or reject.
    """
    success = instant(entry, "last_success")
    limit = max_age(job, now, zone)
    too_old = success is None or now - success > limit
    state = entry.get("state")
    if state is None:
        return Health.UNKNOWN, "it has not run yet"
    if trouble := _trouble(entry):
        return Health.FAILING, trouble
    if state == UNREACHABLE:
        return (Health.FAILING if too_old else Health.LATE), str(entry.get("error"))
    if success is not None and success > now + _LEAST_MARGIN:
        return Health.UNKNOWN, "its last success is in the future: check the clock"
    if too_old:
        return Health.LATE, f"its last success is older than {limit}"
    return _freshness(job, entry, now)


def _trouble(entry: dict[str, Any]) -> str:
    """Return what makes a job fail even if its last success is recent, or ""."""
    if entry["state"] not in (*GOOD_STATES, UNREACHABLE):
        return str(entry.get("error"))
    waiting = (entry.get("result") or {}).get("waiting")
    return f"{waiting} waits for accept or reject; pruning is stopped" if waiting else ""


def _freshness(job: JobConfig, entry: dict[str, Any], now: datetime) -> tuple[Health, str]:
    """Return the health according to the age of the newest row in the last backup."""
    wanted = getattr(job, "newest", None)
    found = (entry.get("result") or {}).get("newest")
    if wanted is None or not isinstance(found, dict):
        return Health.OK, ""
    place = f"the newest row of {wanted.table}"
    moment = instant(found, "at")
    if moment is None:
        return Health.FAILING, f"{place} cannot be dated by {wanted.column}: {found.get('problem')}"
    if wanted.max_age is not None and now - moment > wanted.max_age:
        return Health.LATE, f"{place} is from {found['at']}, older than {wanted.max_age}"
    return Health.OK, ""


def worst(healths: list[Health]) -> Health:
    """Return the health of all jobs together: failing, then late, then unknown, then ok."""
    for candidate in (Health.FAILING, Health.LATE, Health.UNKNOWN):
        if candidate in healths:
            return candidate
    return Health.OK


@contextlib.contextmanager
def trouble_logged() -> Iterator[None]:
    """Log the error if the status cannot be written, so that the work continues."""
    try:
        yield
    except GymdbdError as error:
        logger().warning("status not written", reason=error.message, remedy=error.hint)
