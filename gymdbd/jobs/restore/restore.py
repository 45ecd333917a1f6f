"""Getting a backup back: into a live database through SQLite, or as a new file in its place."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gymdbd import clock, files, origin
from gymdbd.archive import answers, inspection, proof
from gymdbd.archive.catalog import Catalog
from gymdbd.errors import (
    BackupDamagedError,
    BackupMissingError,
    CopyDamagedError,
    GymdbdError,
    NotWritableError,
    SourceError,
    TargetInUseError,
    UsageError,
    VerificationError,
)
from gymdbd.jobs.context import Timings
from gymdbd.jobs.restore import undo as undos
from gymdbd.source import database, identity, live, ownership, processes
from gymdbd.source.uses import look
from gymdbd.sqlite import checkpoint as checkpoints
from gymdbd.sqlite import locks, soundness
from gymdbd.sqlite.overwrite import overwrite

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from gymdbd.archive.backup import Backup
    from gymdbd.config.kinds import RestoreConfig
    from gymdbd.jobs.context import Context
    from gymdbd.jobs.restore.undo import Undo
    from gymdbd.origin import Origin

# Offsets 18 and 19 of the header: 2 is WAL mode. https://www.sqlite.org/fileformat2.html 1.3.3
_VERSIONS_OFFSET = 18
_WAL_VERSIONS = b"\2\2"


@dataclass(frozen=True)
class _Restored:
    """How it was done, the way back, the tables that others have written to since, remarks."""

    how: str
    undo: Undo | None
    written_since: list[str]
    remarks: list[str] = dataclasses.field(default_factory=list)


def run(job: RestoreConfig, context: Context) -> dict[str, Any]:
    """Restore `job.backup` to `job.target`; the caller holds the locks of both.

    The backup is read as a whole first, and what the target held is saved. Whenever the run
    ends, the target is what it was or what the backup holds. The result has `backup`, `target`,
    `how`, `undo`, `undo_command`, `tables`, `holders`, `written_since`, `restart` (who goes on in
    a file that was removed from there), `remarks`, `duration_s`, `timings`.
    """
    timings = Timings()
    catalog = Catalog(job.backup.parent, context.clock.zone)
    backup = catalog.find(job.backup.name)
    holders = preflight(job, backup, context)
    restart = identity.users(identity.removed(job.target, look(job.target)))
    with timings.step("verify"):
        _require_sound(backup, context)
    with inspection.readable(backup) as content:
        if job.replace or not job.target.exists():
            done = _into_file(job, backup, content, context, timings)
        else:
            done = _into_database(job, backup, content, context, timings)
    rejected = _reject_newer(job, backup, catalog, context)
    context.log.info(
        "database restored", backup=str(backup.path), target=str(job.target), how=done.how
    )
    return {
        "backup": str(backup.path),
        "target": str(job.target),
        "how": done.how,
        "undo": str(done.undo.path) if done.undo else None,
        "undo_command": done.undo.command if done.undo else None,
        "tables": backup.manifest.tables if backup.manifest else {},
        "holders": [str(one) for one in holders],
        "written_since": done.written_since,
        "restart": restart,
        "remarks": done.remarks,
        "rejected": rejected,
        "duration_s": timings.total_s(),
        "timings": timings.seconds,
    }


def _reject_newer(
    job: RestoreConfig, backup: Backup, catalog: Catalog, context: Context
) -> list[str]:
    """Reject what is suspicious and newer than what was restored in its stead.

    Whoever restores an older backup into the database has answered.
    """
    into = origin.here(job.target)
    if job.source is None and not (backup.place and into.places[0].same(backup.place)):
        return []
    return reject_newer(job.source or into, backup, catalog, context)


def reject_newer(source: Origin, backup: Backup, catalog: Catalog, context: Context) -> list[str]:
    """Reject the suspicious ones of a database that are newer than a backup; return their paths.

    The lock of the archive, which need not be that of the backup, is held.
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
    """Refuse a restore that cannot succeed, before anything is read; return who uses the target.

    It changes nothing, so that it can be asked what a restore would be refused for.
    """
    _refuse_backups(job, context)
    if job.target.exists():
        identity.require(job.target)
    holders = processes.holders(job.target) if job.target.exists() else []
    writable = job.target if job.target.exists() and not job.replace else job.target.parent
    if not os.access(writable, os.W_OK):
        raise NotWritableError(
            f"cannot restore into {job.target}: this user (uid {os.geteuid()}) may not write "
            f"{writable}",
            hint="run this as the application's user, or as root, who gives it what it owns",
        )
    if job.replace and job.target.exists():
        live.require_common(job.target)
    if job.replace and holders:
        raise TargetInUseError(
            f"{job.target} is open in {processes.describe(holders)}",
            hint="stop it first (systemctl stop ...), or leave out --replace: then SQLite "
            "restores into the open database",
        )
    undos.require_place(job)
    files.require_name(job.target, ".{}.partial-wal")
    files.require_space(job.target.parent, backup.size)
    return holders


def _refuse_backups(job: RestoreConfig, context: Context) -> None:
    """Refuse a target that is a backup itself, by its name or by a second name of its file."""
    if not job.target.exists():
        return
    backups = Catalog(job.backup.parent, context.clock.zone).backups()
    taken = any(one.path.samefile(job.target) for one in backups)
    with contextlib.suppress(BackupMissingError):
        named = Catalog(job.target.parent, context.clock.zone).read(job.target.name)
        taken = taken or named.manifest is not None
    if taken:
        raise UsageError(
            f"{job.target} is a backup itself, which a restore would destroy",
            hint="name another file with --to; a second name (ln) of a backup is to be removed",
        )


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


def _into_database(
    job: RestoreConfig, backup: Backup, content: Path, context: Context, timings: Timings
) -> _Restored:
    """Restore through SQLite, whoever has the target open.

    The application may commit while the undo is made. What it commits until the restore has the
    write lock is held then, and saved as well once the lock is free again: it must not be kept
    waiting for longer than the restore takes.
    """

    def progress(done: int, total: int) -> None:
        context.progress("restore", done, total)
        context.check()

    timeout_s = job.busy_timeout.total_seconds()
    with undos.watching(job.target) as watch:
        with timings.step("undo"):
            undo = undos.save(job, context)
        with (
            timings.step("restore"),
            overwrite(
                content, job.target, progress, when_locked=watch.pin, busy_timeout_s=timeout_s
            ) as restored,
        ):
            since = _compare(restored, job, backup, context)
        if undo is not None and watch.held is not None:
            with timings.step("undo_again"):
                undo = undos.save_later(job, undo, watch.held, context)
    try:
        checkpoints.checkpoint(job.target, "truncate", busy_timeout_s=timeout_s)
    except SourceError as error:
        # The application's own will do; until then the WAL is as long as the database.
        context.log.info("checkpoint skipped", reason=error.message)
    return _Restored("through SQLite, into the open database", undo, since)


def _compare(
    restored: sqlite3.Connection, job: RestoreConfig, backup: Backup, context: Context
) -> list[str]:
    """Check what was committed; return the tables that the application has written to since.

    Its transaction began right after the restore's commit. An application that commits in
    between changes counts, so that a difference is an error only where nobody else is there.
    """
    with database.translated(job.target), database.interruptible(restored, context.check):
        problems = soundness.check(restored).problems
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


def _into_file(
    job: RestoreConfig, backup: Backup, content: Path, context: Context, timings: Timings
) -> _Restored:
    """Put a copy of the backup in the target's place, where there may be nothing.

    A sound target has no WAL any more when the copy takes its name, and a damaged one's files are
    in the archive: none of them can ever be replayed over the copy, and nothing is lost by a
    crash in between.
    """
    target, partial = job.target, files.partial_path(job.target)
    existed = target.exists()
    with timings.step("undo"):
        undo = undos.save(job, context)
    with timings.step("restore"), files.writing(partial), _removed_on_failure(partial):
        files.clone(content, partial)
        if existed:
            partial.chmod(target.stat().st_mode & 0o777)
        context.check()
        _prove_copy(partial, backup, content, context)
        if backup.manifest and backup.manifest.journal_mode == "wal":
            with partial.open("r+b") as file:
                file.seek(_VERSIONS_OFFSET)
                file.write(_WAL_VERSIONS)
        if existed:
            locks.require_free(target)
            if undo is not None and undo.backup is not None:
                _bring_in(target, job.busy_timeout.total_seconds())
                locks.require_free(target)
        elif undo is None:
            _require_unused_sides(target)
        for side in database.side_files(target):
            files.remove(side)
        files.sync_folder(target.parent)
        remarks = [] if existed else _give_back(partial, backup, context)
        known = backup.manifest is not None and backup.manifest.owner is not None
        files.publish(partial, target, owned=known and not existed)
    how = "as a new file in its place" if existed else "as a new file"
    return _Restored(how, undo, [], remarks)


def _give_back(partial: Path, backup: Backup, context: Context) -> list[str]:
    """Give a new file the mode, owner and group of the source; tell what only root may give."""
    refused = ownership.give_back(partial, vars(backup.manifest)) if backup.manifest else ""
    if not refused:
        return []
    context.log.warning("owner not given back", lacking=refused)
    return [f"it lacks {refused} of the source, which only root may give: chown it"]


def _require_unused_sides(target: Path) -> None:
    """Leave alone what a removed database has left beside it, if its commits are still there."""
    holders = processes.holders(target)
    if holders:
        raise TargetInUseError(
            f"the -wal or journal of {target} is open in {processes.describe(holders)}, and the "
            "database itself is gone",
            hint="nothing has changed; save what that has (gymdbd backup --deleted), stop it and "
            "restore again",
        )


def _bring_in(target: Path, timeout_s: float) -> None:
    """Bring what lies beside the target into it, so that a crash finds it whole without that."""
    wal, _, journal = database.side_files(target)
    if live.has_hot_journal(target):
        with database.translated(target), live.writing(target, busy_timeout_s=timeout_s):
            pass  # It is rolled back.
    if wal.exists() and wal.stat().st_size:
        done = checkpoints.checkpoint(target, "passive", busy_timeout_s=timeout_s)
        if not done.complete:
            reason = done.skipped or "somebody reads or writes it"
            raise TargetInUseError(
                f"{wal} could not be brought into {target} ({reason})",
                hint="nothing has changed; stop the application, or run this as its user or root",
            )
    if live.has_hot_journal(target):
        raise TargetInUseError(
            f"{journal} could not be rolled back",
            hint="nothing has changed; stop the application, or run this as its user or root",
        )


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
            good = not soundness.check(copy).problems
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
