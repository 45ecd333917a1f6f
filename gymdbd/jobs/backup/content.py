"""Judging the content of a new backup: how old its newest row is, and whether it is suspicious."""

from __future__ import annotations

import shlex
import sqlite3
from dataclasses import replace
from datetime import UTC
from typing import TYPE_CHECKING

from gymdbd import clock
from gymdbd.archive import gates
from gymdbd.errors import SuspiciousError
from gymdbd.jobs.backup.result import Newest
from gymdbd.sqlite import freshness, opening

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.archive.backup import Backup
    from gymdbd.archive.look import Look
    from gymdbd.archive.manifest import Manifest
    from gymdbd.config.kinds import BackupConfig
    from gymdbd.config.parts import Gates
    from gymdbd.jobs.backup.result import BackupResult
    from gymdbd.jobs.context import Context
    from gymdbd.origin import Origin


def find_newest(job: BackupConfig, copy: Path, context: Context) -> Newest | None:
    """Return when the newest row of a copy was written, None if that is not configured.

    A column that cannot be dated does not fail the backup.
    """
    if (wanted := job.newest) is None:
        return None
    zone = context.clock.zone if wanted.naive == "local" else UTC
    value: freshness.Value = None
    moment = None
    with opening.reading(copy, has_wal=job.raw) as connection:
        try:
            value = freshness.newest(connection, wanted.table, wanted.column)
            moment = freshness.to_moment(value, zone)
            problem = "the table is empty" if value is None else f"{value!r} is no time"
        except sqlite3.Error as error:
            problem = str(error)
    shown = value if isinstance(value, (str, int, float)) else None
    if moment is not None:
        at = clock.to_text(moment, context.clock.zone)
        return Newest(table=wanted.table, column=wanted.column, value=shown, at=at)
    context.log.warning(
        "newest row not dated", table=wanted.table, column=wanted.column, reason=problem
    )
    return Newest(table=wanted.table, column=wanted.column, value=shown, at=None, problem=problem)


def suspicions(limits: Gates | None, made: Manifest, look: Look, *, origin: Origin) -> list[str]:
    """Compare a new backup with the newest good one of the same database."""
    if limits is None:
        return []
    before = look.good_before(origin)
    return compare(limits, before.manifest, made) if before and before.manifest else []


def compare(limits: Gates | None, before: gates.Described, now: gates.Described) -> list[str]:
    """Return why a state that follows the good state `before` is suspicious."""
    if limits is None:
        return gates.emptied(before, now)
    believed = gates.Limits(
        max_row_drop=limits.max_row_drop,
        max_size_drop=limits.max_size_drop,
        ignore_rows=limits.ignore_rows,
        tables=dict(limits.tables),
    )
    return gates.suspicions(before, now, believed)


def judged(made: Backup, waiting: Backup | None, result: BackupResult) -> BackupResult:
    """Return the result with what waits for an answer; raise if the backup is suspicious itself."""
    result = replace(result, waiting=waiting.path.name if waiting else None)
    if made.waits and made.manifest is not None:
        raise SuspiciousError(
            f"{made.path.name} is suspicious: {'; '.join(made.manifest.suspicious)}",
            hint="look at it (gymdbd list, gymdbd diff); if the change is right run gymdbd "
            f"accept {shlex.quote(str(made.path))}, if not gymdbd reject it, or restore the one "
            "before. It is kept, and nothing is pruned meanwhile",
            result=result,
        )
    return result
