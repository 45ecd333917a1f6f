"""What the page shows, as plain values: texts may be those of others, and are not HTML."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from gymdbd.jobs.finding import Health
    from gymdbd.runs.calendar import Day, Point


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
    curves: dict[str, list[Point]] = field(default_factory=dict)


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

    `remarks` are about other machines, and make nothing worse. `fingerprint` is for whoever writes
    the next page.
    """

    host: str
    version: str
    language: str
    at: datetime
    until: datetime
    zone: tzinfo
    health: Health
    fingerprint: str = ""
    jobs: tuple[Job, ...] = ()
    peers: tuple[Job, ...] = ()
    remarks: tuple[Found, ...] = ()
    machine: tuple[Found, ...] = ()
    archives: tuple[Archive, ...] = ()
