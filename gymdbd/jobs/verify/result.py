"""The result of a verification."""

from __future__ import annotations

from dataclasses import dataclass

from gymdbd.jobs.result import Result


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The result for one backup; `repaired` is where a good copy was fetched from."""

    path: str
    verdict: str
    problems: list[str]
    remarks: list[str]
    repaired: str | None


@dataclass(frozen=True, kw_only=True)
class VerifyResult(Result):
    """The backups that were read; `in_archive` counts all."""

    archive: str
    backups: list[Verdict]
    counts: dict[str, int]
    in_archive: int
    bytes_read: int
    duration_s: float
    timings: dict[str, float]
