"""Room for a backup: asked for before it is begun, and what would make some if there is none."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from gymdbd import files
from gymdbd.archive import retention
from gymdbd.errors import DiskFullError
from gymdbd.wording import counted

if TYPE_CHECKING:
    from gymdbd.archive.catalog import Backup, Catalog
    from gymdbd.job_config import BackupConfig
    from gymdbd.jobs.context import Context


def require(job: BackupConfig, catalog: Catalog, size_bytes: int, context: Context) -> None:
    """Raise DiskFullError unless the archive has room for a backup of this size.

    The hint names the rule that keeps the most of what there is and would make that room.
    """
    try:
        files.require_space(job.archive, size_bytes)
    except DiskFullError as error:
        missing = size_bytes * files.SPACE_FACTOR - shutil.disk_usage(job.archive).free
        frozen = catalog.frozen(job.origin)
        if frozen:
            error.hint = f"nothing is pruned meanwhile ({frozen}); free some space otherwise"
        elif advice := _advice(job, catalog.backups(job.origin), missing, context):
            error.hint = f"{advice}; or use another disk"
        raise


def _advice(job: BackupConfig, backups: list[Backup], missing: float, context: Context) -> str:
    """Say which --keep-days frees enough, or how little the strictest would free."""
    now = context.clock.now()
    oldest = max(((now - backup.created).days for backup in backups), default=0)
    gone: list[Backup] = []
    days = oldest + 1
    while days > 1 and sum(backup.size for backup in gone) < missing:
        days -= 1
        decisions = retention.plan(backups, days=days, count=0, now=now)
        gone = [one.backup for one in decisions if not one.stays]
    if not gone:
        return ""
    freed = sum(backup.size for backup in gone)
    what = job.name if job.schedule or job.every else f"--archive {job.archive}"
    enough = "" if freed >= missing else ", which is not enough"
    return (
        f"gymdbd prune {what} --keep-days {days} would free {files.to_size(freed)} "
        f"({counted(len(gone), 'backup')}){enough}"
    )
