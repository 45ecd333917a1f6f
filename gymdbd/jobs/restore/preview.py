"""What a restore would do, and which rows would be lost, without changing anything."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from gymdbd import clock
from gymdbd.archive import inspection
from gymdbd.archive.backup import DAMAGED
from gymdbd.archive.catalog import Catalog
from gymdbd.jobs.restore import restore
from gymdbd.jobs.restore.result import Plan, Rows
from gymdbd.source import identity, processes
from gymdbd.source.counting import count_rows
from gymdbd.source.errors import GymdbdError, SourceError
from gymdbd.source.schema import read_facts
from gymdbd.source.snapshot import Snapshot
from gymdbd.sqlite import opening

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.archive.backup import Backup
    from gymdbd.config.kinds import RestoreConfig
    from gymdbd.jobs.context import Context


def plan(job: RestoreConfig, context: Context) -> Plan:
    """Return what the restore would do, without doing it; raises AnotherFileError if it would."""
    if job.target.exists():
        identity.require(job.target)
    backup = Catalog(job.backup.parent, context.clock.zone).find(job.backup.name)
    found = inspection.inspect(backup, context.check)
    now, problem = _count_now(job.target)
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
        holders=[str(holder) for holder in processes.holders(job.target)],
        needed_bytes=backup.size,
        free_bytes=shutil.disk_usage(job.target.parent).free,
        refused=_refusal(job, backup, context),
    )


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
