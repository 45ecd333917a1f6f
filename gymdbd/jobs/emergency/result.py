"""The result of an emergency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd.jobs.result import Result, if_known, part

if TYPE_CHECKING:
    from gymdbd.jobs.pull.result import PullResult


@dataclass(frozen=True)
class There:
    """The other machine's report of the backup that it made."""

    path: str
    size: int | None = None
    sha256: str | None = None
    tables: dict[str, int] | None = None


@dataclass(frozen=True)
class Here:
    """The copy of the replica."""

    path: str


@dataclass(frozen=True, kw_only=True)
class Step:
    """The outcome of a step; of a good one also what it made."""

    name: str
    state: str
    text: str
    there: There | None = part()
    pull: PullResult | None = if_known()
    here: Here | None = part()


@dataclass(frozen=True, kw_only=True)
class Copy:
    """Where a copy lies; `host` is None for this machine."""

    host: str | None
    path: str


@dataclass(frozen=True, kw_only=True)
class EmergencyResult(Result):
    """The steps, and where the copies are; `damaged_copies` are of a damaged database, as it is."""

    steps: list[Step]
    safe_copies: list[Copy]
    damaged_copies: list[Copy]
    duration_s: float
    timings: dict[str, float]
