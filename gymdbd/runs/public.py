"""The public status: how the jobs of a machine are, for another one that pulls from it.

It has no texts, no paths and no tables: names, healths, codes and times. Its reader is another
machine, to which all of it is input: what is not of our types, or too long, is left out.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gymdbd import clock, words
from gymdbd.jobs.finding import Health
from gymdbd.runs.entry import instant

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "status.public.json"
# What stands for the machine itself among the jobs.
MACHINE = "machine"

_MOST_BYTES = 8 * 1024
_MOST_JOBS = 100
_MOST_LEFT_OUT = 10_000
HEALTHS = {health.name.lower(): health for health in Health}
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class PublicJob:
    """One job of a machine; the last of its values are moments, RFC 3339."""

    job: str
    kind: str
    health: str
    code: str
    last_run: str | None = None
    last_success: str | None = None
    next_run: str | None = None


@dataclass(frozen=True, kw_only=True)
class PublicStatus:
    """The jobs of a machine at the moment `now` there, of which `left_out` found no room."""

    machine: str
    now: datetime
    jobs: list[PublicJob]
    left_out: int = 0

    def to_json(self) -> bytes:
        """Return the file's content, without the jobs at the end that are too much for it."""
        jobs = self.jobs[:_MOST_JOBS]
        while True:
            content = {
                "schema": 1,
                "machine": self.machine,
                "now": clock.to_text(self.now, UTC),
                "jobs": [asdict(job) for job in jobs],
                "left_out": len(self.jobs) - len(jobs),
            }
            data = words.json_text(content).encode()
            if len(data) <= _MOST_BYTES:
                return data
            del jobs[-1]

    @classmethod
    def from_json(cls, content: Any) -> PublicStatus:
        """Read what `to_json` wrote; ValueError if that is not what it is."""
        if not isinstance(content, dict) or content.get("schema") != 1:
            raise ValueError("it is no public status")
        now, jobs, left_out = content.get("now"), content.get("jobs"), content.get("left_out", 0)
        moment = instant(now)
        if moment is None or not isinstance(jobs, list):
            raise ValueError("it has no time or no jobs")
        return cls(
            machine=word(content.get("machine")),
            now=moment,
            jobs=list(_jobs(jobs[:_MOST_JOBS])),
            left_out=left_out if type(left_out) is int and 0 < left_out < _MOST_LEFT_OUT else 0,
        )


def _jobs(found: list[Any]) -> Iterator[PublicJob]:
    """Yield the jobs of a status that have a name and a health; a name counts once."""
    names: set[str] = set()
    for job in found:
        name = word(job.get("job")) if isinstance(job, dict) else ""
        health = word(job.get("health")) if name else ""
        if health in HEALTHS and name not in names:
            names.add(name)
            times = {key: _moment(job.get(key)) for key in ("last_run", "last_success", "next_run")}
            kind, code = word(job.get("kind")), word(job.get("code"))
            yield PublicJob(job=name, kind=kind, health=health, code=code, **times)


def word(value: Any) -> str:
    """Return a value if it is a word as our names and codes are; "" if it is anything else."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else ""


def _moment(value: Any) -> str | None:
    return value if instant(value) else None
