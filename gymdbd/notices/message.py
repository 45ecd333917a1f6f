"""A message to a person: what has changed, in words, and as facts for programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from gymdbd.jobs.finding import Health

# What an event reports: trouble that was not told before or has changed, that still lasts, that is
# over, or a message that somebody wants to see arrive.
TROUBLE, REMINDER, ENDED, TEST = "trouble", "reminder", "ended", "test"

# As ntfy names them.
LOW, DEFAULT, HIGH = "low", "default", "high"


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that is told.

    `about` is what it is about: `job`, `peer`, `machine` or `daemon`; `name` is its name: that of a
    job, `MACHINE/JOB`, or what the finding is about. `was` is the state that the person knew
    before, `state` the present one: `ok`, `late`, `failing`, `unknown` or `suspicious`. `code`,
    `reason` and `hint` are those of the trouble, also if it is over. It began at `since`, and
    ended at `until`.
    """

    change: str
    about: str
    name: str
    was: str
    state: str
    health: Health
    code: str
    reason: str
    hint: str
    since: datetime
    until: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as a program reads it."""
        return {
            **vars(self),
            "health": self.health.name.lower(),
            "since": self.since.isoformat(timespec="seconds"),
            "until": self.until.isoformat(timespec="seconds") if self.until else None,
        }


@dataclass(frozen=True, kw_only=True)
class Message:
    """What is sent to every channel: `text` has several lines, `title` one.

    `priority` is `low`, `default` or `high`. `health` is the worst of what is told. `job` is the
    name of the job, or of the job of another machine, if the message is about nothing else. If it
    is a `test`, nothing of it has happened.
    """

    title: str
    text: str
    priority: str
    health: Health
    machine: str
    job: str | None
    events: tuple[Event, ...]
    test: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return it as a program reads it."""
        return {
            "schema": 1,
            "title": self.title,
            "text": self.text,
            "priority": self.priority,
            "health": self.health.name.lower(),
            "machine": self.machine,
            "job": self.job,
            "test": self.test,
            "events": [event.to_json() for event in self.events],
        }
