"""What the page shows, as plain values: texts may be those of others, and are not HTML."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date, datetime, tzinfo

    from gymdbd.jobs.finding import Health

# How a day of a job was: all runs good, not all, none; not run, nothing due, nothing on record.
GOOD, MIXED, BAD, MISSED, IDLE, UNKNOWN = "good", "mixed", "bad", "missed", "idle", "unknown"
NOT_GOOD = (MIXED, BAD, MISSED)
# What a curve shows.
CURVES = SIZE, DURATION, ROWS = "size", "duration", "rows"


@dataclass(frozen=True)
class Day:
    """A day of a job's calendar; `runs` are those that ended, `reasons` why not all were good."""

    day: date
    state: str
    runs: int = 0
    good: int = 0
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Curve:
    """Numbers over time; `what` is SIZE, DURATION or ROWS."""

    what: str
    points: tuple[tuple[datetime, float], ...]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job of this machine, or of a peer: how it is, and what to do if it is not well.

    `what` is what happened in the words of the language, `reason` the error's own, in English.
    """

    name: str
    kind: str
    health: Health
    code: str = ""
    what: str = ""
    reason: str = ""
    hint: str = ""
    last_good: datetime | None = None
    next_run: datetime | None = None
    failures: int = 0
    remarks: tuple[str, ...] = ()
    days: tuple[Day, ...] = ()
    curves: tuple[Curve, ...] = ()

    def matters(self) -> tuple[object, ...]:
        """Return what of it is worth writing the page again at once."""
        days = tuple((day.day, day.state) for day in self.days)
        why = self.code or self.reason
        return self.name, self.health, why, self.hint, hour(self.last_good), self.failures, days


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is known of a part of this machine: its disk, its power, its daemon; as of a job."""

    about: str
    health: Health
    code: str = ""
    what: str = ""
    reason: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Kept:
    """A backup; `verdict` is that of `gymdbd list`."""

    name: str
    made: datetime
    size: int
    verdict: str
    note: str = ""


@dataclass(frozen=True)
class Archive:
    """The newest backups of an archive; `problem` is why it cannot be read."""

    folder: str
    backups: tuple[Kept, ...] = ()
    problem: str = ""
    more: int = 0


@dataclass(frozen=True, kw_only=True)
class Page:
    """The whole page; it is written at `at`, and if it is after `until`, it is stale.

    `remarks` are about other machines, and make nothing worse.
    """

    host: str
    version: str
    language: str
    at: datetime
    until: datetime
    zone: tzinfo
    health: Health
    jobs: tuple[Job, ...] = ()
    peers: tuple[Job, ...] = ()
    remarks: tuple[Found, ...] = ()
    machine: tuple[Found, ...] = ()
    archives: tuple[Archive, ...] = ()

    def fingerprint(self) -> str:
        """Return a text that differs if the page is to be written again at once.

        That is so if anything has become better or worse. Good runs and new backups count once an
        hour, so that a job of every minute does not wear out a card; and what is only said
        differently, as a number of free bytes, waits until the page is written anyway.
        """
        found = (*self.machine, *self.remarks)
        machine = [(part.about, part.health, part.code, part.hint) for part in found]
        kept = [
            (archive.folder, archive.problem, hour(backup.made), backup.verdict)
            for archive in self.archives
            for backup in archive.backups
        ]
        jobs = [job.matters() for job in (*self.jobs, *self.peers)]
        matters = (self.version, self.language, self.host, self.health, jobs, machine, kept)
        return hashlib.sha256(repr(matters).encode("utf-8", "backslashreplace")).hexdigest()


def hour(moment: datetime | None) -> datetime | None:
    """Return the hour in which a moment lies."""
    return moment.replace(minute=0, second=0, microsecond=0) if moment else None
