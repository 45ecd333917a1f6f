"""The result of a restore and of its preview, and what it overwrites."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd.jobs.result import Result, if_known, inner

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.archive.backup import Backup
    from gymdbd.source.errors import GymdbdError


@dataclass(frozen=True)
class Undo:
    """The saved content of the target, and the command that restores it.

    `backup` is None if SQLite could not read the target; then its files were preserved.
    """

    path: Path
    command: str
    backup: Backup | None


@dataclass(frozen=True, kw_only=True)
class Overwrote:
    """The restore of `backup` at `restored_at` whose result is overwritten; `restore` as text.

    `rows_since` is by how many rows each table has changed since, None if that is unknown.
    """

    backup: str
    restored_at: str
    restore: str
    rows_since: dict[str, int] | None


@dataclass(frozen=True, kw_only=True)
class RestoreResult(Result):
    """What was restored, how, and its undo.

    `holders` are the processes that have the target open, `restart` those that still use a file
    deleted from there. `written_since` names the tables that the application has written to since.
    `rejected` are the suspicious backups that this restore has rejected, and `overwrote` is the
    restore that had made the previous content, None if none had.
    """

    backup: str
    target: str
    how: str
    undo: str | None
    undo_command: str | None
    tables: dict[str, int]
    holders: list[str]
    written_since: list[str]
    restart: list[str]
    remarks: list[str]
    rejected: list[str]
    duration_s: float
    timings: dict[str, float]
    overwrote: Overwrote | None = if_known()


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of a table in the target now and in the backup; None if there is no such table."""

    now: int | None
    then: int | None


@dataclass(frozen=True, kw_only=True)
class Plan(Result):
    """What a restore would do, and the rows before and after it.

    `problem` is why the target's rows cannot be counted; `refused` is the error with which the
    restore would end at once, None if it would begin.
    """

    backup: str
    created_at: str
    age_s: int
    verdict: str
    problems: list[str]
    target: str
    problem: str
    tables: dict[str, Rows]
    holders: list[str]
    needed_bytes: int
    free_bytes: int
    overwrote: Overwrote | None = if_known()
    refused: GymdbdError | None = inner(None)

    @property
    def state(self) -> str:
        """Return `ok` if the restore would begin, and the backup is good."""
        return "failed" if self.refused or self.problems else "ok"
