"""What a verification brings."""

from __future__ import annotations

from dataclasses import dataclass

from gymdbd.jobs.result import Result


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was found of one backup; `repaired` says from where a good copy was fetched."""

    path: str
    verdict: str
    problems: list[str]
    remarks: list[str]
    repaired: str | None


@dataclass(frozen=True, kw_only=True)
class VerifyResult(Result):
    """The backups that were read, of the `in_archive` that there are."""

    archive: str
    backups: list[Verdict]
    counts: dict[str, int]
    in_archive: int
    bytes_read: int
    duration_s: float
    timings: dict[str, float]
