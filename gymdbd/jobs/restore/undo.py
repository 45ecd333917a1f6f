"""The way back from a restore: what it overwrites is in the archive before it is overwritten."""

from __future__ import annotations

import contextlib
import os
import shlex
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymdbd import origin
from gymdbd.archive import manifest as manifests
from gymdbd.archive.catalog import Catalog
from gymdbd.config.kinds import BackupConfig
from gymdbd.errors import DeadlineError, NotWritableError, StoppedError, VerificationError
from gymdbd.jobs.backup import backup as backups
from gymdbd.jobs.backup import damaged
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

# What a backup says of a target that has no sound state to copy: SQLite may still restore into
# one that is only damaged, and into the others not.
_DAMAGED = (SourceCorruptError, VerificationError)
_UNSOUND = (*_DAMAGED, SourceEmptyError, SourceNotADatabaseError, SourceUnreadableError)


@dataclass(frozen=True)
class Undo:
    """Where what was overwritten lies, and the command that brings it back.

    `backup` is None where SQLite could not read the target, so that its files were kept instead.
    """

    path: Path
    command: str
    backup: Backup | None


def require_place(job: RestoreConfig) -> None:
    """Raise NotWritableError if what the target holds could not be saved."""
    if job.target.exists() and not os.access(job.backup.parent, os.W_OK):
        raise NotWritableError(
            f"what {job.target} holds cannot be saved: {job.backup.parent} may not be written",
            hint="nothing has changed; copy the backup and its .json to a folder that this user "
            "may write, and restore it from there by its path with --to",
        )


def save(job: RestoreConfig, context: Context) -> Undo | None:
    """Save what the target holds into the archive; None if there is nothing.

    A target that was removed is saved from the process that has it open.
    """
    if not job.target.exists():
        return _save_removed(job, context)
    try:
        return _back_up(job, context)
    except _UNSOUND as error:
        Catalog(job.backup.parent, context.clock.zone).thaw(origin.here(job.target))
        if not job.replace and not isinstance(error, _DAMAGED):
            raise error.but(
                hint=f"{error.hint}; or stop the application and restore with --replace, which "
                "keeps the file as it is in the archive and puts a new one in its place"
            ) from error.__cause__
        if copy := damaged.copy_of(error):
            kept = Path(copy)
        else:
            kept = damaged.preserve(job.target, job.backup.parent, error.message, context, room=1)
        return Undo(kept, _copy_back(kept, job.target), None)


def _save_removed(job: RestoreConfig, context: Context) -> Undo | None:
    """Save what a process has open that was at the target; None if there is nothing to be had.

    The restore overwrites none of it, so that a failure here does not keep it from being done.
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
        deleted=deleted,
    )
    saved = job.backup.parent / backups.run(settings, context, held).path
    made = Catalog(job.backup.parent, context.clock.zone).read(saved.name)
    words = ["gymdbd", "restore", str(saved), "--to", str(job.target)]
    if job.replace and not _same_pages(job, made, context):
        words.append("--replace")
    return Undo(saved, shlex.join(words), made)


def _same_pages(job: RestoreConfig, made: Backup, context: Context) -> bool:
    """Say whether what was overwritten has the page size of what comes in its place."""
    restored = Catalog(job.backup.parent, context.clock.zone).read(job.backup.name)
    sizes = [one.manifest.page_size for one in (made, restored) if one.manifest]
    return len(sizes) > 1 and sizes[0] == sizes[1]


def _copy_back(kept: Path, target: Path) -> str:
    """Return the command that brings kept files back; no WAL of a later file may stay beside."""
    commands = [["rm", "-f", *map(str, side_files(target))]]
    for one in (kept, *side_files(kept)):
        if one.exists():
            there = target.with_name(target.name + one.name.removeprefix(kept.name))
            # The target has kept its owner and mode; what lies beside it is made anew.
            commands.append(["cp", *(["-p"] if one != kept else []), str(one), str(there)])
    return " && ".join(shlex.join(words) for words in commands)


class Watch:
    """Tells whether anybody committed to the target after its undo was made, and holds that.

    In rollback-journal mode nobody else can read while the restore holds its lock: what is
    committed between the undo and that lock is lost there.
    """

    def __init__(self, target: Path) -> None:
        self.held: Snapshot | None = None
        self._target = target
        self._reader: live.LiveConnection | None = None
        with contextlib.suppress(SourceError):
            self._reader = live.LiveConnection(target, busy_timeout_s=0.0)
        self._before = self._version()

    def pin(self) -> None:
        """Hold the state that is about to be overwritten, if it is no longer that of before.

        Called while the write lock is held, so that nobody can commit after it.
        """
        if self._version() != self._before:
            with contextlib.suppress(SourceError):
                self.held = Snapshot(self._target, busy_timeout_s=0.0)

    def _version(self) -> Any:
        """Return a number that changes with each commit of another connection."""
        if self._reader is None:
            return None
        try:
            # The first answer only begins the count.
            self._reader.connection.execute("PRAGMA data_version").fetchone()
            return self._reader.connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            return None

    def close(self) -> None:
        """Let go of the target."""
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
    """Save a state that is later than `undo` in its stead; return what there is now.

    The restore is done by then: where this fails, the undo of before is all there is.
    """
    if undo.backup is None:
        return undo
    try:
        later = _back_up(job, context, held)
        Catalog(job.backup.parent, context.clock.zone).remove(undo.backup)
    except GymdbdError as error:
        context.log.warning(
            "undo lacks the last commits", path=str(undo.path), reason=error.message
        )
        return undo
    return later
