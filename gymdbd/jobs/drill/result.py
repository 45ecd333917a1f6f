"""The result of a drill."""

from __future__ import annotations

from dataclasses import dataclass

from gymdbd.jobs.result import Result, unrecorded


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A probe, and the first value of its result."""

    sql: str
    value: str | float | None = unrecorded()


@dataclass(frozen=True, kw_only=True)
class Commanded:
    """The end of the command of a drill."""

    exit_code: int
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class DrillResult(Result):
    """The backup that was restored and tested; `recover_s` is how long the restore took."""

    backup: str
    created_at: str
    age_s: int
    recover_s: float
    tables: dict[str, int]
    probes: list[Answered]
    command: Commanded | None
    duration_s: float
    timings: dict[str, float]
