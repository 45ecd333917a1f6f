"""The result of a backup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd.jobs.result import Result, if_known

if TYPE_CHECKING:
    from gymdbd.sqlite.checkpoint import Checkpoint


@dataclass(frozen=True, kw_only=True)
class Newest:
    """The newest row of a copy: the greatest `value` of a column, and the instant that it means.

    `at` is RFC 3339, None if the value is no time; `problem` is why.
    """

    table: str
    column: str
    value: str | float | None
    at: str | None
    problem: str | None = if_known()


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many rows of a table were added, changed and removed."""

    added: int
    changed: int
    removed: int


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What has changed since the backup at `previous`; `not_compared` says why of some tables."""

    previous: str
    digest: str
    tables: dict[str, Counts]
    not_compared: dict[str, str] | None = if_known()


@dataclass(frozen=True, kw_only=True)
class BackupResult(Result):
    """The backup that was made, and what happened on the way.

    `changes` is None if there is no backup before it or they could not be counted. `waiting` names
    the newest backup that waits for accept or reject.
    """

    path: str
    size: int
    md5: str
    sha256: str
    tables: dict[str, int]
    remarks: list[str]
    newest: Newest | None
    checkpoint: Checkpoint
    changes: Changes | None
    pruned: list[str]
    duration_s: float
    timings: dict[str, float]
    waiting: str | None = None
