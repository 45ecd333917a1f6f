"""The undo of a restore: the archive receives a backup of the target before it is overwritten."""

from __future__ import annotations

import contextlib
import os
import shlex
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymdbd import files, origin
from gymdbd.archive import manifest as manifests
from gymdbd.archive.catalog import Catalog
from gymdbd.config.kinds import BackupConfig
from gymdbd.errors import DeadlineError, NotWritableError, StoppedError, VerificationError
from gymdbd.jobs.backup import backup as backups
from gymdbd.jobs.backup import damaged
from gymdbd.jobs.restore import record
from gymdbd.jobs.restore.result import Undo
from gymdbd.source import identity, live
from gymdbd.source.errors import (
    GymdbdError,
    SourceCorruptError,
    SourceEmptyError,
    SourceError,
    SourceNotADatabaseError,
    SourceUnreadableError,
)
from gymdbd.source.format import side_files
from gymdbd.source.snapshot import Snapshot
from gymdbd.source.uses import look

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gymdbd.archive.backup import Backup
    from gymdbd.config.kinds import RestoreConfig
    from gymdbd.jobs.context import Context

# Raised by the backup of a target without a sound state: SQLite may still restore into a damaged
# target, but not into the others.
_DAMAGED = (SourceCorruptError, VerificationError)
_UNSOUND = (*_DAMAGED, SourceEmptyError, SourceNotADatabaseError, SourceUnreadableError)


def require_place(job: RestoreConfig) -> None:
    """Raise NotWritableError if the content of the target could not be saved."""
    if files.is_there(job.target) and not os.access(job.backup.parent, os.W_OK):
        raise NotWritableError(
            f"the content of {job.target} cannot be saved: this user may not write "
            f"{job.backup.parent}",
            hint="nothing has changed; copy the backup and its .json to a folder that this user "
            "may write, and restore it from there by its path with --to",
        )


def save(job: RestoreConfig, context: Context) -> Undo | None:
    """Save the content of the target into the archive; None if there is nothing.

    A deleted target is saved from a process that has it open.
    """
    if not files.is_there(job.target):
        return _save_removed(job, context)
    try:
        return _back_up(job, context)
    except _UNSOUND as error:
        Catalog(job.backup.parent, context.clock.zone).thaw(origin.here(job.target))
        if not job.replace and not isinstance(error, _DAMAGED):
            raise error.but(
                hint=f"{error.hint}; or stop the application and restore with --replace, which "
                "preserves the file in the archive and replaces it"
            ) from error.__cause__
        if found := damaged.copy_of(error):
            copy = Path(found)
        else:
            copy = damaged.preserve(job.target, job.backup.parent, error.message, context, room=1)
        return Undo(copy, _copy_back(copy, job.target), None)


def _save_removed(job: RestoreConfig, context: Context) -> Undo | None:
    """Save a deleted target that a process has open; None if there is none or it fails.

    The restore does not overwrite it, so a failure here does not prevent the restore.
    """
    if not identity.removed(job.target, look(job.target)):
        return None
    try:
        return _back_up(job, context, deleted=True)
    except (StoppedError, DeadlineError):
        raise
    except GymdbdError as error:
        context.log.warning(
            "removed database not saved", path=str(job.target), reason=error.message
        )
        return None


def _back_up(
    job: RestoreConfig, context: Context, held: Snapshot | None = None, *, deleted: bool = False
) -> Undo:
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
        overwritten_by=job.backup.name,
        deleted=deleted,
    )
    saved = job.backup.parent / backups.run(settings, context, held).path
    made = Catalog(job.backup.parent, context.clock.zone).read(saved.name)
    words = ["gymdbd", "restore", str(saved), "--to", str(job.target)]
    if job.replace and not _same_pages(job, made, context):
        words.append("--replace")
    return Undo(saved, shlex.join(words), made)


def _same_pages(job: RestoreConfig, made: Backup, context: Context) -> bool:
    """Return whether the overwritten database has the page size of the restored backup."""
    restored = Catalog(job.backup.parent, context.clock.zone).read(job.backup.name)
    sizes = [backup.manifest.page_size for backup in (made, restored) if backup.manifest]
    return len(sizes) > 1 and sizes[0] == sizes[1]


def _copy_back(copy: Path, target: Path) -> str:
    """Return the command that copies preserved files back, without the WAL of a later file."""
    commands = [["rm", "-f", *map(str, side_files(target))]]
    for file in (copy, *side_files(copy)):
        if files.is_there(file):
            there = target.with_name(target.name + file.name.removeprefix(copy.name))
            # The target keeps its owner and mode; its side files are new.
            commands.append(["cp", *(["-p"] if file != copy else []), str(file), str(there)])
    return " && ".join(shlex.join(words) for words in commands)


class Watch:
    """Detects commits to the target after its undo was made, and holds a snapshot of them.

    In rollback-journal mode nobody else can read while the restore holds its lock: there, commits
    between the undo and that lock are lost.
    """

    def __init__(self, target: Path) -> None:
        self.held: Snapshot | None = None
        self._target = target
        self._reader: live.LiveConnection | None = None
        with contextlib.suppress(SourceError):
            self._reader = live.LiveConnection(target, busy_timeout_s=0.0)
        self._before = self._version()

    def hold(self) -> None:
        """Hold the state that is about to be overwritten, if it differs from the undo.

        The caller holds the write lock, so nobody can commit afterwards.
        """
        if self._version() != self._before:
            with contextlib.suppress(SourceError):
                self.held = Snapshot(self._target, busy_timeout_s=0.0)

    def _version(self) -> Any:
        """Return a number that changes with each commit of another connection."""
        if self._reader is None:
            return None
        try:
            # The count starts with the first answer.
            self._reader.connection.execute("PRAGMA data_version").fetchone()
            return self._reader.connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            return None

    def close(self) -> None:
        """Close the target."""
        if self.held is not None:
            self.held.close()
        if self._reader is not None:
            self._reader.close()


@contextlib.contextmanager
def watching(target: Path) -> Iterator[Watch]:
    """Watch the target from before its undo is made."""
    watch = Watch(target)
    try:
        yield watch
    finally:
        watch.close()


def save_later(job: RestoreConfig, undo: Undo, held: Snapshot, context: Context) -> Undo:
    """Replace `undo` with the later state `held`; return the undo that there is now.

    The restore is done by then: if this fails, `undo` remains.
    """
    if undo.backup is None:
        return undo
    try:
        later = _back_up(job, context, held)
        record.point_to(later.path, job.target)
        Catalog(job.backup.parent, context.clock.zone).remove(undo.backup)
    except GymdbdError as error:
        context.log.warning(
            "undo lacks the last commits", path=str(undo.path), reason=error.message
        )
        return undo
    return later
