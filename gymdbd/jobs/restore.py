"""Getting a backup back: into a live database through SQLite, or as a new file in its place."""

from __future__ import annotations

import contextlib
import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gymdbd import files
from gymdbd.archive import inspection, proof
from gymdbd.archive import manifest as manifests
from gymdbd.archive.catalog import Catalog
from gymdbd.errors import (
    BackupDamagedError,
    CopyDamagedError,
    SourceCorruptError,
    SourceEmptyError,
    SourceError,
    SourceMissingError,
    SourceNotADatabaseError,
    SourceUnreadableError,
    TargetInUseError,
    VerificationError,
)
from gymdbd.job_config import BackupConfig
from gymdbd.jobs import backup as backups
from gymdbd.jobs.context import Timings
from gymdbd.jobs.damaged import keep_damaged
from gymdbd.sqlite import checkpoint as checkpoints
from gymdbd.sqlite import database, processes
from gymdbd.sqlite.overwrite import overwrite

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from gymdbd.archive.catalog import Backup
    from gymdbd.job_config import RestoreConfig
    from gymdbd.jobs.context import Context

# What a backup says of a target that has no sound state to copy: SQLite may still restore into
# one that is only damaged, and into the others not.
_DAMAGED = (SourceCorruptError, VerificationError)
_UNSOUND = (*_DAMAGED, SourceEmptyError, SourceNotADatabaseError, SourceUnreadableError)
# Offsets 18 and 19 of the header: 2 is WAL mode. https://www.sqlite.org/fileformat2.html 1.3.3
_VERSIONS_OFFSET = 18
_WAL_VERSIONS = b"\2\2"


@dataclass(frozen=True)
class _Undo:
    """Where what was overwritten lies, and the command that brings it back."""

    path: Path
    command: str


def run(job: RestoreConfig, context: Context) -> dict[str, Any]:
    """Restore `job.backup` to `job.target`; the caller holds the locks of both.

    The backup is read as a whole first, and what the target held is saved. Whenever the run
    ends, the target is what it was or what the backup holds. The result has `backup`, `target`,
    `how`, `undo`, `undo_command`, `tables`, `holders`, `written_since`, `duration_s`, `timings`.
    """
    timings = Timings()
    catalog = Catalog(job.backup.parent, context.clock.zone)
    backup = catalog.find(job.backup.name)
    holders = _preflight(job, backup)
    with timings.step("verify"):
        _require_sound(backup, context)
    with timings.step("undo"):
        undo = _save_target(job, context)
    with timings.step("restore"), inspection.readable(backup) as content:
        if job.replace or undo is None:
            how, since = _replace(job, backup, content, context), list[str]()
        else:
            how, since = _overwrite(job, backup, content, context)
    context.log.info("database restored", backup=str(backup.path), target=str(job.target), how=how)
    return {
        "backup": str(backup.path),
        "target": str(job.target),
        "how": how,
        "undo": str(undo.path) if undo else None,
        "undo_command": undo.command if undo else None,
        "tables": backup.manifest.tables if backup.manifest else {},
        "holders": [str(one) for one in holders],
        "written_since": since,
        "duration_s": timings.total_s(),
        "timings": timings.seconds,
    }


def _preflight(job: RestoreConfig, backup: Backup) -> list[processes.Process]:
    """Refuse what cannot end well before anything is read; return who has the target open."""
    holders = processes.holders(job.target) if job.target.exists() else []
    if job.replace and holders:
        raise TargetInUseError(
            f"{job.target} is open in {processes.describe(holders)}",
            hint="stop it first (systemctl stop ...), or leave out --replace: then SQLite "
            "restores into the open database",
        )
    files.require_space(job.target.parent, backup.size)
    return holders


def _require_sound(backup: Backup, context: Context) -> None:
    found = inspection.inspect(backup, context.check)
    for remark in found.remarks:
        context.log.warning("remark on the backup", path=str(backup.path), remark=remark)
    if found.problems:
        raise BackupDamagedError(
            f"{backup.path} is damaged: {'; '.join(found.problems[:3])}",
            hint="nothing has changed; gymdbd list shows the others, restore latest takes the "
            "newest good one",
        )


def _save_target(job: RestoreConfig, context: Context) -> _Undo | None:
    """Save what the target holds into the archive; None where there is nothing."""
    settings = BackupConfig(
        name=job.name,
        kind="backup",
        database=job.target,
        archive=job.backup.parent,
        checkpoint="none",
        busy_timeout=job.busy_timeout,
        count_changes=False,
        gates=None,
        method=manifests.OVERWRITTEN,
    )
    quoted = shlex.quote(str(job.target))
    try:
        saved = job.backup.parent / str(backups.run(settings, context)["path"])
    except SourceMissingError:
        return None
    except _UNSOUND as error:
        Catalog(job.backup.parent, context.clock.zone).thaw(job.target.stem)
        if not job.replace and not isinstance(error, _DAMAGED):
            error.hint += (
                "; or stop the application and restore with --replace, which keeps the file as "
                "it is in the archive and puts a new one in its place"
            )
            raise
        kept = keep_damaged(job.target, job.backup.parent, error.message, context)
        wal = shlex.quote(f"{kept}-wal")
        back = f"cp -p {shlex.quote(str(kept))} {quoted}"
        if kept.with_name(f"{kept.name}-wal").exists():
            back += f" && cp -p {wal} {shlex.quote(f'{job.target}-wal')}"
        return _Undo(kept, back)
    return _Undo(saved, f"gymdbd restore {shlex.quote(str(saved))} --to {quoted}")


def _overwrite(
    job: RestoreConfig, backup: Backup, content: Path, context: Context
) -> tuple[str, list[str]]:
    """Restore through SQLite; return how, and the tables that others have written to since."""

    def progress(done: int, total: int) -> None:
        context.progress("restore", done, total)
        context.check()

    timeout_s = job.busy_timeout.total_seconds()
    with overwrite(content, job.target, progress, busy_timeout_s=timeout_s) as restored:
        since = _compare(restored, job, backup, context)
    try:
        checkpoints.checkpoint(job.target, "truncate", busy_timeout_s=timeout_s)
    except SourceError as error:
        # The application's own will do; until then the WAL is as long as the database.
        context.log.info("checkpoint skipped", reason=error.message)
    return "through SQLite, into the open database", since


def _compare(
    restored: sqlite3.Connection, job: RestoreConfig, backup: Backup, context: Context
) -> list[str]:
    """Check what was committed; return the tables that the application has written to since.

    Its transaction began right after the restore's commit. An application that commits in
    between changes counts, so that a difference is an error only where nobody else is there.
    """
    with database.translated(job.target), database.interruptible(restored, context.check):
        problems = database.find_problems(restored)
        rows = database.count_rows(restored, database.read_facts(restored))
    if problems:
        raise CopyDamagedError(
            f"{job.target} is damaged after the restore: {'; '.join(problems[:3])}",
            hint="check the disk (dmesg, SMART), then restore again with --replace",
            problems=problems,
        )
    promised = backup.manifest.tables if backup.manifest else rows
    differing = sorted(
        name for name in rows.keys() | promised.keys() if rows.get(name) != promised.get(name)
    )
    if differing and not processes.holders(job.target):
        raise VerificationError(
            f"{job.target} has other rows than the backup after the restore: "
            f"{', '.join(differing)}",
            hint="check the disk (dmesg, SMART), then restore again with --replace",
        )
    return differing


def _replace(job: RestoreConfig, backup: Backup, content: Path, context: Context) -> str:
    """Put a copy of the backup in the target's place, with its owner and mode.

    The old side files are gone before the new file has the name: none of them can ever be
    replayed over it.
    """
    target, partial = job.target, files.partial_path(job.target)
    existed = target.exists()
    owner = target.stat() if existed else target.parent.stat()
    with files.writing(partial), _removed_on_failure(partial):
        files.clone(content, partial)
        if existed:
            partial.chmod(owner.st_mode & 0o777)
        if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()) and os.geteuid() == 0:
            os.chown(partial, owner.st_uid, owner.st_gid)
        context.check()
        _prove_copy(partial, backup, content, context)
        if backup.manifest and backup.manifest.journal_mode == "wal":
            with partial.open("r+b") as file:
                file.seek(_VERSIONS_OFFSET)
                file.write(_WAL_VERSIONS)
        holders = processes.holders(target) if existed else []
        if holders:
            raise TargetInUseError(
                f"{target} was opened by {processes.describe(holders)} meanwhile",
                hint="nothing has changed; stop it and restore again",
            )
        for side in database.side_files(target):
            files.remove(side)
        files.sync_folder(target.parent)
        files.publish(partial, target)
    return "as a new file in its place" if existed else "as a new file"


def _prove_copy(partial: Path, backup: Backup, content: Path, context: Context) -> None:
    """Check that the copy is the backup, which has just been read as a whole."""
    if backup.manifest is not None and content == backup.path:
        good = proof.checksums(partial, context.check).sha256 == backup.manifest.sha256
    else:
        with (
            contextlib.closing(database.open_immutable(partial)) as copy,
            database.translated(partial),
            database.interruptible(copy, context.check),
        ):
            good = not database.find_problems(copy)
    if not good:
        raise CopyDamagedError(
            f"the copy {partial} is not the backup that it was made of",
            hint="nothing has changed; check the disk (dmesg, SMART) and try again",
        )


@contextlib.contextmanager
def _removed_on_failure(partial: Path) -> Any:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
