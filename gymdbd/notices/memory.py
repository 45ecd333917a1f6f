"""What was seen and told before: the content of `notices.json`, read back as it was written.

A restart repeats nothing, because the next look goes on from here. The instants are of the wall
clock; `Moment` has what shows that it was set.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gymdbd import clock
from gymdbd.jobs.finding import Health

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

SCHEMA = 1
# A hundred years.
_MOST_UP_S = 3.2e9
OK, SUSPICIOUS = "ok", "suspicious"
_STATES = (*(health.name.lower() for health in Health), SUSPICIOUS)


@dataclass(frozen=True)
class Moment:
    """An instant, and how many seconds the machine had been up then, sleep included.

    `boot` names the start of the machine, "" if that is unknown.
    """

    now: datetime
    boot: str = ""
    up_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return it as the file has it."""
        return {"at": _text(self.now), "boot": self.boot, "up_s": round(self.up_s, 3)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Moment:
        """Read what `to_json` wrote."""
        up_s = content["up_s"]
        if not abs(up_s) <= _MOST_UP_S:
            raise ValueError("no machine is up for so long")
        return cls(_instant(content["at"]), str(content["boot"]), float(up_s))


@dataclass(frozen=True)
class Told:
    """What one channel was told of something: the state, and when; `ok` if nothing.

    If `owed`, trouble has ended that should have been told and could not be.
    """

    state: str = OK
    at: datetime | None = None
    owed: bool = False

    @property
    def is_open(self) -> bool:
        """Return whether the end of the trouble is to be told."""
        return self.owed or self.state != OK

    def to_json(self) -> dict[str, Any]:
        """Return it as the file has it."""
        return {"state": self.state, "at": _text(self.at) if self.at else None, "owed": self.owed}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Told:
        """Read what `to_json` wrote."""
        at = content["at"]
        return cls(_state(content), _instant(at) if at else None, content["owed"] is True)


@dataclass(frozen=True)
class Trouble:
    """Something that is not ok, or whose end is not told to every channel yet.

    It is in `state` since `changed`; if that is ok, the trouble was over then. `health`, `code`,
    `reason` and `hint` are the last ones of the trouble, which began at `since`.
    """

    state: str
    changed: datetime
    since: datetime
    health: Health
    code: str
    reason: str
    hint: str
    told: dict[str, Told] = field(default_factory=dict)

    def of(self, channel: str) -> Told:
        """Return what a channel was told."""
        return self.told.get(channel, Told())

    def moved(self, move: Callable[[datetime], datetime]) -> Trouble:
        """Return it with other instants, after the clock was set."""
        told = {
            channel: replace(known, at=move(known.at) if known.at else None)
            for channel, known in self.told.items()
        }
        return replace(self, changed=move(self.changed), since=move(self.since), told=told)

    def to_json(self) -> dict[str, Any]:
        """Return it as the file has it."""
        return {
            **vars(self),
            "changed": _text(self.changed),
            "since": _text(self.since),
            "health": self.health.name,
            "told": {channel: known.to_json() for channel, known in self.told.items()},
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Trouble:
        """Read what `to_json` wrote."""
        return cls(
            changed=_instant(content["changed"]),
            since=_instant(content["since"]),
            health=Health[content["health"]],
            told={name: Told.from_json(known) for name, known in content["told"].items()},
            state=_state(content),
            **{name: str(content[name]) for name in ("code", "reason", "hint")},
        )


@dataclass(frozen=True)
class Failure:
    """Why a channel could not be told: the first time in a row at `since`."""

    since: datetime
    error: str
    hint: str

    def to_json(self) -> dict[str, Any]:
        """Return it as the file has it."""
        return {**vars(self), "since": _text(self.since)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Failure:
        """Read what `to_json` wrote."""
        return cls(_instant(content["since"]), str(content["error"]), str(content["hint"]))


# What something is about, and its name: ("job", "nightly-backup").
Subject = tuple[str, str]


@dataclass(frozen=True)
class Memory:
    """All that is kept: `seen` is the moment of the last look.

    `alive` is when the daemon last had a look taken, and `started` when the daemon was started
    whose absence before was told or was too short. `resumed` is when looks began again after a gap,
    in which the machine was off or asleep.
    """

    seen: Moment | None = None
    alive: datetime | None = None
    started: datetime | None = None
    resumed: datetime | None = None
    troubles: dict[Subject, Trouble] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)

    def but(self, subject: Subject, trouble: Trouble | None) -> Memory:
        """Return the memory with another trouble of a subject, None for none."""
        troubles = {known: other for known, other in self.troubles.items() if known != subject}
        return replace(self, troubles=troubles | ({subject: trouble} if trouble else {}))

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file."""
        instants = {"alive": self.alive, "started": self.started, "resumed": self.resumed}
        return {
            "schema": SCHEMA,
            "seen": self.seen.to_json() if self.seen else None,
            **{name: _text(at) if at else None for name, at in instants.items()},
            "troubles": [
                {"about": about, "name": name, **trouble.to_json()}
                for (about, name), trouble in self.troubles.items()
            ],
            "failures": {name: failure.to_json() for name, failure in self.failures.items()},
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Memory:
        """Read what `to_json` wrote; what is not ours is a ValueError, KeyError or TypeError."""
        if content["schema"] != SCHEMA:
            raise ValueError("its schema is unknown")
        instants = {
            name: _instant(content[name]) if content[name] else None
            for name in ("alive", "started", "resumed")
        }
        return cls(
            seen=Moment.from_json(content["seen"]) if content["seen"] else None,
            **instants,
            troubles={
                (str(trouble["about"]), str(trouble["name"])): Trouble.from_json(trouble)
                for trouble in content["troubles"]
            },
            failures={
                name: Failure.from_json(failure) for name, failure in content["failures"].items()
            },
        )


def _text(moment: datetime) -> str:
    # Whole seconds would let a short trouble end before it began.
    return moment.isoformat()


def _instant(text: str) -> datetime:
    return clock.from_text(text)


def _state(content: dict[str, Any]) -> str:
    if content["state"] not in _STATES:
        raise ValueError("its state is unknown")
    return str(content["state"])
