"""What a drill brings."""

from __future__ import annotations

from dataclasses import dataclass

from gymdbd.jobs.result import Result


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A probe, and the first value of its answer."""

    sql: str
    value: str | float | None


@dataclass(frozen=True, kw_only=True)
class Commanded:
    """How the command of a drill ended."""

    exit_code: int
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class DrillResult(Result):
    """The backup that was restored and tested; `recover_s` is how long it takes to get it back."""

    backup: str
    created_at: str
    age_s: int
    recover_s: float
    tables: dict[str, int]
    probes: list[Answered]
    command: Commanded | None
    duration_s: float
    timings: dict[str, float]
