"""Room for a backup: checked before it begins, with advice which rule would free enough."""

from __future__ import annotations

import shlex
import shutil
from typing import TYPE_CHECKING

from gymdbd import files
from gymdbd.archive import retention
from gymdbd.config.kinds import BackupConfig
from gymdbd.errors import DiskFullError
from gymdbd.words import counted

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from gymdbd.archive.backup import Backup
    from gymdbd.archive.catalog import Catalog
    from gymdbd.config.kinds import PullConfig


def require(
    job: BackupConfig | PullConfig,
    catalog: Catalog,
    size_bytes: int,
    now: datetime,
    *,
    folder: Path | None = None,
) -> None:
    """Raise DiskFullError unless the archive has room for a backup of this size.

    The hint names the rule that frees enough and keeps the most backups; also for another
    `folder` on the archive's disk.
    """
    folder = folder or catalog.archive
    try:
        files.require_space(folder, size_bytes)
    except DiskFullError as error:
        if (
            files.is_folder(catalog.archive)
            and catalog.archive.stat().st_dev == folder.stat().st_dev
        ):
            missing = size_bytes * files.SPACE_FACTOR - shutil.disk_usage(folder).free
            frozen = catalog.frozen(job.origin)
            if frozen:
                hint = f"nothing is pruned meanwhile ({frozen}); free some space otherwise"
                raise error.but(hint=hint) from error
            if advice := _advice(job, catalog, missing, now):
                raise error.but(hint=f"{advice}; or use another disk") from error
        raise


def _advice(job: BackupConfig | PullConfig, catalog: Catalog, missing: float, now: datetime) -> str:
    """Return which --keep-days frees enough, or how little the strictest would free."""
    backups = catalog.backups(job.origin)
    oldest = max(((now - backup.created).days for backup in backups), default=0)
    gone: list[Backup] = []
    days = oldest + 1
    while days > 1 and sum(backup.size for backup in gone) < missing:
        days -= 1
        decisions = retention.plan(backups, {"days": days}, now, catalog.zone)
        gone = [decision.backup for decision in decisions if not decision.stays]
    if not gone:
        return ""
    freed = sum(backup.size for backup in gone)
    is_named = isinstance(job, BackupConfig) and (job.schedule or job.every)
    what = job.name if is_named else f"--archive {shlex.quote(str(catalog.archive))}"
    enough = "" if freed >= missing else ", which is not enough"
    return (
        f"gymdbd prune {what} --keep-days {days} would free {files.to_size(freed)} "
        f"({counted(len(gone), 'backup')}){enough}"
    )
