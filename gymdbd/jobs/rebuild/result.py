"""The result of a rebuild."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gymdbd.jobs.result import Result


@dataclass(frozen=True, kw_only=True)
class RebuildResult(Result):
    """What was put where, or would be with `dry_run`, and what a person does next.

    `source` is the file here, `made_at` the time of its content. `saved` is the name over there of
    the file that was in the place, `aside` those of what was left of a former database. `ownership`
    are mode, owner and group over there; `remarks` are what is not as it was recorded.
    """

    host: str
    database: str
    user: str
    source: str
    made_at: str
    size: int
    sha256: str
    tables: dict[str, int]
    dry_run: bool
    makes_folder: bool
    saved: str | None
    aside: list[str]
    ownership: dict[str, Any] | None
    remarks: list[str]
    next: list[str]
    bytes_sent: int
    duration_s: float
    timings: dict[str, float]
