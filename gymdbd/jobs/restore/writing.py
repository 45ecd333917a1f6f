"""Writing a backup over its target: through SQLite into an open database, or as a new file."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gymdbd import files, partials
from gymdbd.archive import proof
from gymdbd.errors import CopyDamagedError, TargetInUseError, VerificationError
from gymdbd.jobs.restore import record
from gymdbd.jobs.restore import undo as undos
from gymdbd.source import database, ownership, processes
from gymdbd.source.counting import count_rows
from gymdbd.source.errors import SourceError
from gymdbd.source.format import VERSIONS, WITH_WAL, side_files
from gymdbd.source.schema import read_facts
from gymdbd.sqlite import checkpoint as checkpoints
from gymdbd.sqlite import locks, opening, soundness
from gymdbd.sqlite.overwrite import overwrite

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from gymdbd.archive.backup import Backup
    from gymdbd.config.kinds import RestoreConfig
    from gymdbd.jobs.context import Context, Timings
    from gymdbd.jobs.restore.result import Undo


@dataclass(frozen=True)
class Restored:
    """How it was done, the undo, the tables that others have written to since, and remarks."""

    how: str
    undo: Undo | None
    written_since: list[str]
    remarks: list[str] = dataclasses.field(default_factory=list)


def into_database(
    job: RestoreConfig, backup: Backup, content: Path, context: Context, timings: Timings
) -> Restored:
    """Restore through SQLite, even if the target is open elsewhere.

    The application may commit after the undo was made, until the restore has the write lock. The
    restore then holds that state and saves it after the lock is free again, so that the
    application waits no longer than the restore takes.
    """

    def progress(done: int, total: int) -> None:
        context.progress("restore", done, total)
        context.check()

    timeout_s = job.busy_timeout.total_seconds()
    # One as a new file that was killed has left a copy, as large as the database.
    partials.begin(job.target)
    with undos.watching(job.target) as watch:
        with timings.step("undo"):
            undo = undos.save(job, context)
        with (
            timings.step("restore"),
            record.kept(job, undo, context) as done,
            overwrite(
                *(content, job.target, progress),
                when_locked=watch.hold,
                when_done=done,
                busy_timeout_s=timeout_s,
            ) as restored,
        ):
            since = _compare(restored, job, backup, context)
        if undo is not None and watch.held is not None:
            with timings.step("undo_again"):
                undo = undos.save_later(job, undo, watch.held, context)
    try:
        checkpoints.checkpoint(job.target, "truncate", busy_timeout_s=timeout_s)
    except SourceError as error:
        # The application will checkpoint; until then the WAL is as long as the database.
        context.log.info("checkpoint skipped", reason=error.message)
    return Restored("through SQLite, into the open database", undo, since)


def _compare(
    restored: sqlite3.Connection, job: RestoreConfig, backup: Backup, context: Context
) -> list[str]:
    """Check what was committed; return the tables that the application has written to since.

    `restored` is in a transaction begun right after the restore's commit. An application may have
    committed in between, so a difference is an error only if nobody else has the target open.
    """
    with database.translated(job.target), database.interruptible(restored, context.check):
        problems = soundness.check(restored).problems
        rows = count_rows(restored, read_facts(restored))
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


def into_file(
    job: RestoreConfig, backup: Backup, content: Path, context: Context, timings: Timings
) -> Restored:
    """Replace the target, which may not exist, with a copy of the backup.

    When the copy is renamed into place, a sound target has no WAL any more, and the files of a
    damaged target are in the archive: no WAL can be replayed over the copy, and a crash loses
    nothing.
    """
    target, partial = job.target, partials.begin(job.target)
    existed = files.is_there(target)
    with timings.step("undo"):
        undo = undos.save(job, context)
    with (
        timings.step("restore"),
        files.writing(partial),
        _removed_on_failure(partial),
        record.kept(job, undo, context) as done,
    ):
        files.clone(content, partial)
        if existed:
            partial.chmod(target.stat().st_mode & 0o777)
        context.check()
        _prove_copy(partial, backup, content, context)
        if backup.manifest and backup.manifest.journal_mode == "wal":
            with partial.open("r+b") as file:
                file.seek(VERSIONS.start)
                file.write(WITH_WAL)
        if existed:
            locks.require_free(target)
            if undo is not None and undo.backup is not None:
                _merge_side_files(target, job.busy_timeout.total_seconds())
                locks.require_free(target)
        elif undo is None:
            _require_unused_sides(target)
        for side in side_files(target):
            files.remove(side)
        files.sync_folder(target.parent)
        remarks = [] if existed else _give_back(partial, backup, context)
        known = backup.manifest is not None and backup.manifest.owner is not None
        files.publish(partial, target, owned=known and not existed)
        done()
    how = "as a new file in its place" if existed else "as a new file"
    return Restored(how, undo, [], remarks)


def _give_back(partial: Path, backup: Backup, context: Context) -> list[str]:
    """Give a new file the mode, owner and group of the source; return what only root may set."""
    refused = ownership.give_back(partial, vars(backup.manifest)) if backup.manifest else ""
    if not refused:
        return []
    context.log.warning("owner not given back", lacking=refused)
    return [f"it lacks {refused} of the source, which only root may set: chown it"]


def _require_unused_sides(target: Path) -> None:
    """Raise TargetInUseError if a process uses the side files of a deleted database."""
    holders = processes.holders(target)
    if holders:
        raise TargetInUseError(
            f"the -wal or journal of {target} is open in {processes.describe(holders)}, and the "
            "database itself is gone",
            hint="nothing has changed; save its data (gymdbd backup --deleted), stop it and "
            "restore again",
        )


def _merge_side_files(target: Path, timeout_s: float) -> None:
    """Checkpoint the WAL or roll the journal back, so that the target is whole without them."""
    wal, _, journal = side_files(target)
    if opening.has_hot_journal(target):
        with database.translated(target), opening.writing(target, busy_timeout_s=timeout_s):
            pass  # It is rolled back.
    if files.is_there(wal) and wal.stat().st_size:
        done = checkpoints.checkpoint(target, "passive", busy_timeout_s=timeout_s)
        if not done.complete:
            reason = done.skipped or "a process reads or writes it"
            raise TargetInUseError(
                f"{wal} could not be checkpointed into {target} ({reason})",
                hint="nothing has changed; stop the application, or run this as its user or root",
            )
    if opening.has_hot_journal(target):
        raise TargetInUseError(
            f"{journal} could not be rolled back",
            hint="nothing has changed; stop the application, or run this as its user or root",
        )


def _prove_copy(partial: Path, backup: Backup, content: Path, context: Context) -> None:
    """Check that the copy equals the backup, which has just been verified."""
    if backup.manifest is not None and content == backup.path:
        good = proof.checksums(partial, context.check).sha256 == backup.manifest.sha256
    else:
        with opening.reading(partial, check=context.check) as copy:
            good = not soundness.check(copy).problems
    if not good:
        raise CopyDamagedError(
            f"the copy {partial} differs from the backup",
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
