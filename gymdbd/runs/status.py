"""The status file: the outcome of every run, readable while the daemon is down.

It is one JSON file, replaced atomically after each run, by the daemon or the command line.
`verdict` and `health` compute from it whether all is well.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import gymdbd
from gymdbd import bounded, disk, files, lock, words
from gymdbd.config import state
from gymdbd.errors import FormatError
from gymdbd.log import logger
from gymdbd.runs import ledger, line, reserve
from gymdbd.runs.entry import DaemonNote, Status, instant
from gymdbd.source.errors import GymdbdError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from gymdbd.config.kinds import JobConfig
    from gymdbd.runs.entry import Entry, Running
    from gymdbd.runs.line import Line
    from gymdbd.runs.outcome import Ended


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

    @property
    def ledger(self) -> Path:
        """Return the ledger, which lies beside it."""
        return self.path.with_name(ledger.NAME)

    def read(self) -> Status:
        """Return the status; empty if there is no file, FormatError if the file is damaged.

        Raises GymdbdError if the file cannot be read.
        """
        try:
            # The user wrote this path: it may be a link.
            return Status.from_json(bounded.parse(bounded.read(files.resolved(self.path))))
        except FileNotFoundError:
            return Status()
        except OSError as error:
            if isinstance(error, disk.NotOrdinaryError) and not files.is_folder(self.path):
                raise self._damaged(error) from error
            raise disk.read_error(
                error,
                f"the status file {self.path}",
                denied="run as the user that the daemon runs as",
            ) from error
        except (*bounded.FAULTS, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> FormatError:
        return FormatError(
            f"the status file {self.path} is damaged ({str(error) or type(error).__name__})",
            hint="remove it: the next run writes a new one, and no backup depends on it",
        )

    def is_daemon_alive(self) -> bool | None:
        """Return whether a daemon uses this file; None if this user cannot see it."""
        try:
            return lock.is_held(self.daemon_lock)
        except NotADirectoryError:
            return False
        except OSError:
            return None

    def was_killed(self, job: JobConfig, entry: Entry) -> bool:
        """Return whether the run that `entry` has as running was killed.

        A run records its end before it releases its locks, so a run that has ended since `entry`
        was read is no longer recorded as running.
        """
        if entry.running is None or _is_at_work(job, entry.running):
            return False
        return self.read().of(job.name).running == entry.running

    def update(self, change: Callable[[Status], Status]) -> None:
        """Change the status under its lock; a damaged file is replaced, an unreadable one is not.

        On a full disk, it is written into the space reserved for it.
        """
        with self._locked():
            self._write(change)

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        state.make(self.path)
        return lock.hold([lock.file_lock(self.path)], wait_s=self.lock_wait_s)

    def _write(self, change: Callable[[Status], Status]) -> None:
        try:
            found = self.read()
        except FormatError:
            found = Status()
        text = words.json_text(change(found).to_json(), indent=1)
        reserve.write_atomically(self.path, text.encode())

    def planned(
        self, started_at: str, runs: Mapping[str, str], down_since: str | None = None
    ) -> None:
        """Record that this process is the daemon, its start, and the next run of each job.

        Before that start, no daemon had run since `down_since`, if that is known. All of it is
        written each time, because the file may have been replaced meanwhile.
        """
        daemon = DaemonNote(
            pid=os.getpid(),
            version=gymdbd.__version__,
            started_at=started_at,
            host=socket.gethostname(),
            down_since=down_since,
        )

        def change(found: Status) -> Status:
            planned = {
                name: dataclasses.replace(found.of(name), next_run=moment)
                for name, moment in runs.items()
            }
            return Status(daemon, {**found.jobs, **planned})

        self.update(change)

    def run_started(self, job: JobConfig, running: Running, due: str | None) -> None:
        """Record that a run has started, and its due moment, if it has one."""
        self._note(job, lambda entry: entry.started(job.kind, running, due))

    def run_ended(self, job: JobConfig, ended: Ended) -> None:
        """Record how a run ended, here and in the ledger."""
        with self._locked():
            try:
                self._write(_noted(job, lambda entry: entry.ended(job.kind, ended)))
            finally:
                ledger.append(self.ledger, [line.of_run(job, ended)])

    def skipped(self, lines: list[Line]) -> None:
        """Record due moments that had no run, or what other machines told, in the ledger."""
        with self._locked():
            ledger.append(self.ledger, lines)

    def accepted(self, job: JobConfig, waiting: str | None = None) -> None:
        """Record that the suspicious content of a job's last run was accepted.

        `waiting` names content that still waits for an answer; then the job stays as it is.
        """
        self._note(job, lambda entry: entry.answered(waiting, right=True))

    def rejected(self, job: JobConfig, waiting: str | None = None) -> None:
        """Record that it was rejected: the job is ok again, its last success does not change."""
        self._note(job, lambda entry: entry.answered(waiting, right=False))

    def _note(self, job: JobConfig, change: Callable[[Entry], Entry]) -> None:
        self.update(_noted(job, change))


def _noted(job: JobConfig, change: Callable[[Entry], Entry]) -> Callable[[Status], Status]:
    return lambda found: found.but(job.name, change(found.of(job.name)))


def _is_at_work(job: JobConfig, running: Running) -> bool:
    """Return whether a run holds its locks, or, if it needs none, whether its process exists.

    If that cannot be determined, the run counts as running.
    """
    try:
        if locks := job.locks():
            return all(map(lock.is_held, locks))
        if running.pid is not None:
            os.kill(running.pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def newest_run(found: Status) -> str:
    """Return the newest run of all jobs in a few words; empty if there is none."""
    runs = [
        (ended, name, run)
        for name, entry in found.jobs.items()
        for run in entry.runs[:1]
        if (ended := instant(run.ended_at))
    ]
    if not runs:
        return ""
    _, name, run = max(runs, key=lambda one: one[:2])
    ended_at = datetime.fromisoformat(run.ended_at)
    return f"{name} {run.outcome.state} at {ended_at.isoformat(' ', 'minutes')}"


@contextlib.contextmanager
def trouble_logged() -> Iterator[None]:
    """Log the error if the status cannot be written, so that the work continues."""
    try:
        yield
    except GymdbdError as error:
        logger().warning("status not written", reason=error.message, remedy=error.hint)
