"""What a restore would do, and which rows would be lost, without changing anything."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from gymdbd import clock, files
from gymdbd.archive import inspection
from gymdbd.archive.backup import DAMAGED
from gymdbd.archive.catalog import Catalog
from gymdbd.jobs import elsewhere
from gymdbd.jobs.restore import record, restore
from gymdbd.jobs.restore.result import Plan, Rows
from gymdbd.source import identity, processes
from gymdbd.source.counting import count_rows
from gymdbd.source.errors import GymdbdError, SourceError, SourceMissingError
from gymdbd.source.schema import read_facts
from gymdbd.source.snapshot import Snapshot
from gymdbd.sqlite import opening

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.archive.backup import Backup
    from gymdbd.config.kinds import RestoreConfig
    from gymdbd.jobs.context import Context
    from gymdbd.jobs.elsewhere import Elsewhere


def plan(job: RestoreConfig, context: Context) -> Plan:
    """Return what the restore would do, without doing it; raises AnotherFileError if it would."""
    backup = Catalog(job.backup.parent, context.clock.zone).find(job.backup.name)
    found = inspection.inspect(backup, context.check)
    before = None
    if there := elsewhere.of(job.target):
        now, problem, holders, free, refused = _seen_there(there, context)
    else:
        if files.is_there(job.target):
            identity.require(job.target)
        now, problem = _count_now(job.target)
        before = record.standing(job.target)
        holders = [str(holder) for holder in processes.holders(job.target)]
        free = shutil.disk_usage(job.target.parent).free
        refused = _refusal(job, backup, context)
    then = backup.manifest.tables if backup.manifest else _count_backup(backup)
    return Plan(
        backup=str(backup.path),
        created_at=clock.to_text(backup.created, context.clock.zone),
        age_s=round((context.clock.now() - backup.created).total_seconds()),
        verdict=DAMAGED if found.problems else backup.verdict,
        problems=found.problems,
        target=str(job.target),
        problem=problem,
        tables={
            name: Rows(now=now.get(name), then=then.get(name))
            for name in sorted(now.keys() | then.keys())
        },
        holders=holders,
        needed_bytes=backup.size,
        free_bytes=free,
        overwrote=record.overwrote(before, now, context.clock.zone),
        refused=refused,
    )


def _seen_there(
    there: Elsewhere, context: Context
) -> tuple[dict[str, int], str, list[str], int, GymdbdError | None]:
    """Return what the process of the target's user sees of it."""
    try:
        with there.session(context.progress, context.check) as session:
            told, rows = session.info(), session.count_rows()
    except SourceMissingError as error:
        return {}, error.message, [], 0, None
    except SourceError as error:
        return {}, error.message, [], 0, error
    holders, free = told.get("held_by"), told.get("disk_free_bytes")
    names = [str(name) for name in holders] if isinstance(holders, list) else []
    return rows, "", names, free if isinstance(free, int) else 0, None


def _refusal(job: RestoreConfig, backup: Backup, context: Context) -> GymdbdError | None:
    try:
        restore.preflight(job, backup, context)
    except GymdbdError as error:
        return error
    return None


def _count_now(target: Path) -> tuple[dict[str, int], str]:
    """Return the rows of the target by table, and why they cannot be counted or ""."""
    try:
        with Snapshot(target) as snapshot:
            return snapshot.count_rows(), ""
    except SourceError as error:
        return {}, error.message


def _count_backup(backup: Backup) -> dict[str, int]:
    with inspection.readable(backup) as path, opening.reading(path) as connection:
        return count_rows(connection, read_facts(connection))
