"""Restoring a backup: into a live database through SQLite, or as a new file in its place."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from typing import TYPE_CHECKING

from gymdbd import clock, disk, files, origin
from gymdbd.archive import answers, inspection
from gymdbd.archive.catalog import Catalog
from gymdbd.errors import (
    BackupDamagedError,
    BackupMissingError,
    NotWritableError,
    TargetInUseError,
    UsageError,
)
from gymdbd.jobs import elsewhere
from gymdbd.jobs.context import Timings
from gymdbd.jobs.restore import across, record
from gymdbd.jobs.restore import undo as undos
from gymdbd.jobs.restore.result import RestoreResult
from gymdbd.jobs.restore.writing import into_database, into_file
from gymdbd.source import identity, processes
from gymdbd.source.errors import GymdbdError
from gymdbd.source.uses import look
from gymdbd.sqlite import opening
from gymdbd.words import stop_it

if TYPE_CHECKING:
    from gymdbd.archive.backup import Backup
    from gymdbd.config.kinds import RestoreConfig
    from gymdbd.jobs.context import Context
    from gymdbd.jobs.restore.writing import Restored
    from gymdbd.origin import Origin


def run(job: RestoreConfig, context: Context) -> RestoreResult:
    """Restore `job.backup` to `job.target`; the caller holds the locks of both.

    The whole backup is verified first, and the content of the target saved. Whenever the run ends,
    the target has its old content or that of the backup.
    """
    timings = Timings()
    catalog = Catalog(job.backup.parent, context.clock.zone)
    backup = catalog.find(job.backup.name)
    if there := elsewhere.of(job.target):
        with timings.step("verify"):
            require_sound(backup, context)
        done_there = across.run(job, backup, there, context, timings)
        rejected = _reject_newer(job, backup, catalog, context)
        return dataclasses.replace(done_there, rejected=rejected)
    holders = preflight(job, backup, context)
    before = record.standing(job.target)
    restart = identity.users(identity.removed(job.target, look(job.target)))
    with timings.step("verify"):
        require_sound(backup, context)
    with inspection.readable(backup) as content:
        if job.replace or not files.is_there(job.target):
            done = into_file(job, backup, content, context, timings)
        else:
            done = into_database(job, backup, content, context, timings)
    rejected = _reject_newer(job, backup, catalog, context)
    context.log.info(
        "database restored", backup=str(backup.path), target=str(job.target), how=done.how
    )
    return RestoreResult(
        backup=str(backup.path),
        target=str(job.target),
        how=done.how,
        undo=str(done.undo.path) if done.undo else None,
        undo_command=done.undo.command if done.undo else None,
        tables=backup.manifest.tables if backup.manifest else {},
        holders=[str(holder) for holder in holders],
        written_since=done.written_since,
        restart=restart,
        remarks=done.remarks,
        rejected=rejected,
        duration_s=timings.total_s(),
        timings=timings.seconds,
        overwrote=record.overwrote(before, _rows(done), context.clock.zone),
    )


def _rows(done: Restored) -> dict[str, int]:
    """Return the rows that were overwritten, as far as they are known."""
    saved = done.undo.backup if done.undo else None
    return saved.manifest.tables if saved and saved.manifest else {}


def _reject_newer(
    job: RestoreConfig, backup: Backup, catalog: Catalog, context: Context
) -> list[str]:
    """Reject suspicious backups that are newer than the restored one.

    Restoring an older backup into the database rejects them.
    """
    into = origin.here(job.target)
    if job.source is None and not (backup.place and into.places[0].same(backup.place)):
        return []
    return reject_newer(job.source or into, backup, catalog, context)


def reject_newer(source: Origin, backup: Backup, catalog: Catalog, context: Context) -> list[str]:
    """Reject the suspicious backups of a database newer than `backup`; return their paths.

    The caller holds the lock of the archive, which may be another than that of the backup.
    """
    waiting = answers.unanswered(catalog.backups(source))
    newer = [other for other in waiting if other.order > backup.order]
    now = clock.to_text(context.clock.now(), context.clock.zone)
    try:
        answers.mark(newer, now, right=False)
        catalog.end_wait(source)
    except GymdbdError as error:
        context.log.warning("suspicious backups not rejected", reason=error.message)
        return []
    for other in newer:
        context.log.info("suspicious backup rejected", path=str(other.path))
    return [str(other.path) for other in newer]


def preflight(job: RestoreConfig, backup: Backup, context: Context) -> list[processes.Process]:
    """Raise if the restore cannot succeed, before reading anything; return who uses the target.

    It changes nothing, so a preview can call it.
    """
    _refuse_backups(job, context)
    if files.is_there(job.target):
        identity.require(job.target)
    holders = processes.holders(job.target) if files.is_there(job.target) else []
    writable = job.target if files.is_there(job.target) and not job.replace else job.target.parent
    if not os.access(writable, os.W_OK):
        raise NotWritableError(
            f"cannot restore into {job.target}: this user (uid {os.geteuid()}) may not write "
            f"{writable}",
            hint="run this as the application's user, or as root, which keeps the file's owner",
        )
    if job.replace and files.is_there(job.target):
        opening.require_common(job.target)
    if job.replace and holders:
        raise TargetInUseError(
            f"{job.target} is open in {processes.describe(holders)}",
            hint=f"{stop_it()}, or omit --replace to restore into the open database through SQLite",
        )
    undos.require_place(job)
    disk.require_name(job.target, ".{}.partial-wal")
    files.require_space(job.target.parent, backup.size)
    return holders


def _refuse_backups(job: RestoreConfig, context: Context) -> None:
    """Raise UsageError if the target is itself a backup, or a hard link to one."""
    if not files.is_there(job.target):
        return
    backups = Catalog(job.backup.parent, context.clock.zone).backups()
    taken = any(backup.path.samefile(job.target) for backup in backups)
    with contextlib.suppress(BackupMissingError):
        named = Catalog(job.target.parent, context.clock.zone).read(job.target.name)
        taken = taken or named.manifest is not None
    if taken:
        raise UsageError(
            f"{job.target} is itself a backup, which a restore would destroy",
            hint="name another file with --to; remove a hard link (ln) to a backup",
        )


def require_sound(backup: Backup, context: Context) -> None:
    """Read all of a backup; BackupDamagedError if it is damaged, a warning for each remark."""
    found = inspection.inspect(backup, context.check)
    for remark in found.remarks:
        context.log.warning("remark on the backup", path=str(backup.path), remark=remark)
    if found.problems:
        raise BackupDamagedError(
            f"{backup.path} is damaged: {'; '.join(found.problems[:3])}",
            hint="nothing has changed; gymdbd list shows the others, restore latest selects the "
            "newest good backup",
        )
