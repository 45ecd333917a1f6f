"""One backup: checkpoint, snapshot, proof, publication, pruning."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import clock, files, partials
from gymdbd.acting import ActingError
from gymdbd.archive import manifest as manifests
from gymdbd.archive import proof
from gymdbd.archive.catalog import Catalog
from gymdbd.errors import CopyDamagedError
from gymdbd.jobs import elsewhere
from gymdbd.jobs.backup import changes, content, damaged, damaged_elsewhere, deleted, room
from gymdbd.jobs.backup.copy import Copy, describe, expected, fetch
from gymdbd.jobs.backup.result import BackupResult
from gymdbd.jobs.context import Timings
from gymdbd.jobs.prune import prune
from gymdbd.jobs.result import plain
from gymdbd.source import agreement, database, ownership
from gymdbd.source.errors import (
    UNSOUND,
    GymdbdError,
    SourceCorruptError,
    SourceEmptyError,
    SourceMovedError,
    SourceNotADatabaseError,
)
from gymdbd.source.format import INDEX, WAL, beside, side_files
from gymdbd.source.schema import load_schema
from gymdbd.source.snapshot import Snapshot
from gymdbd.sqlite import checkpoint as checkpoints
from gymdbd.sqlite import copying, opening, soundness

if TYPE_CHECKING:
    from gymdbd.archive.look import Look
    from gymdbd.archive.manifest import Manifest
    from gymdbd.archive.proof import Proof
    from gymdbd.config.kinds import BackupConfig
    from gymdbd.jobs.context import Context
    from gymdbd.sqlite.checkpoint import Checkpoint

_ATTEMPTS = 5


def run(job: BackupConfig, context: Context, held: Snapshot | None = None) -> BackupResult:
    """Make one verified backup of `job.database` in `job.archive` and prune.

    The caller holds the archive's lock. `held` is the state to back up if that is not the newest;
    it is released. A database that was deleted while a process has it open is backed up from
    there. Any failure leaves the backups as they were; a source that cannot be read as a database
    is saved as it is (`damaged`), and freezes pruning until a backup succeeds again.
    SuspiciousError means that the backup was made, and has its result; an AnotherFileError with a
    result means that the backup was made from a file that is about to be lost.
    """
    timings = Timings()
    catalog = Catalog(job.archive, context.clock.zone)
    for path in catalog.sweep():
        context.log.warning("leftover of an interrupted run removed", path=str(path))
    try:
        with timings.step("preflight"):
            source = _find(job, context) if held is None else deleted.Source(job, held)
        with contextlib.closing(source):
            made, look = _back_up(source.job, catalog, context, timings, source.held)
    except UNSOUND as error:
        # The space is needed.
        _discard_partials(job.archive)
        raise _saved(job, catalog, error, context) from error.__cause__
    finally:
        _discard_partials(job.archive)
    catalog.thaw(job.origin)
    look.add(catalog.read(Path(made.path).name))
    counted = None
    if job.count_changes:
        with timings.step("changes"):
            counted = changes.tell(look, job.origin, Path(made.path), context, timings.total_s())
    with timings.step("prune"):
        pruned = _prune(job, catalog, look, context)
    result = dataclasses.replace(made, changes=counted, pruned=pruned, duration_s=timings.total_s())
    source.tell(result)
    if job.gates is None:
        return result
    return content.judged(catalog.read(Path(made.path).name), look.waiting(job.origin), result)


def _find(job: BackupConfig, context: Context) -> deleted.Source:
    """Return what to back up, unless another user's process looks for it when it reads it."""
    if elsewhere.of(job.database) is None:
        return deleted.find(job, context)
    if job.raw or job.deleted:
        raise ActingError(
            f"{job.database} and {job.archive} belong to different users: only a backup through "
            "SQLite can be made",
            hint="leave out --raw and --deleted, or name an archive of the database's owner",
        )
    return deleted.Source(job)


def _saved(
    job: BackupConfig, catalog: Catalog, error: GymdbdError, context: Context
) -> GymdbdError:
    """Save an unsound source as it is, and keep every backup that is older; return what to raise.

    What never was a database is somebody's wrong path.
    """
    is_none = isinstance(error, (SourceNotADatabaseError, SourceEmptyError))
    if is_none and not catalog.backups(job.origin):
        return error
    catalog.freeze(job.origin, error.message, context.clock.now())
    context.log.warning("pruning frozen", archive=str(job.archive), reason=error.message)
    if there := elsewhere.of(job.database):
        return damaged.save_source(
            error,
            lambda: damaged_elsewhere.preserve(there, job.archive, error.message, context),
            context,
        )
    places = [job.database, *side_files(job.database)]
    if not any(files.is_there(place) and place.stat().st_size for place in places):
        return error
    return damaged.save_source(
        error,
        lambda: damaged.preserve(job.database, job.archive, error.message, context),
        context,
    )


def _back_up(
    job: BackupConfig,
    catalog: Catalog,
    context: Context,
    timings: Timings,
    held: Snapshot | None,
) -> tuple[BackupResult, Look]:
    """Return what was made, and how the archive was before."""
    there = elsewhere.of(job.database)
    with timings.step("locate"):
        catalog.require_name(job.database.stem)
        source = held.path if held else job.database
        if there is None:
            source = database.locate(source)
            room.require(job, catalog, source.stat().st_size, context.clock.now())
    if held is None and there is None:
        # A checkpoint would write what a damaged index says to the main file.
        with Snapshot(source, busy_timeout_s=job.busy_timeout.total_seconds()) as now:
            agreement.require(now)
    with timings.step("checkpoint"):
        run = there.checkpoint if there else functools.partial(checkpoints.checkpoint, source)
        done = run(job.checkpoint, busy_timeout_s=job.busy_timeout.total_seconds())
        _report(done, context)
    with timings.step("snapshot"):
        copy = _take_still(job, source, catalog, context, held)
    with timings.step("verify"):
        proven = _prove(job, source, copy, context)
        newest = content.find_newest(job, copy.partial, context)
    with timings.step("publish"):
        context.check()
        manifest = describe(job, copy, proven, done, timings.total_s())
        look = catalog.look()
        suspicions = content.suspicions(job.gates, manifest, look, origin=job.origin)
        moved_from = [] if job.method else look.moved_from(job.origin)
        manifest = dataclasses.replace(
            manifest,
            newest=plain(newest) if newest else None,
            suspicious=suspicions,
            moved_from=moved_from,
        )
        _publish(copy, manifest)
    for remark in proven.soundness.remarks:
        context.log.info("remark on the database", database=str(job.database), remark=remark)
    context.log.info("backup published", path=str(copy.final), size=manifest.size)
    made = BackupResult(
        path=str(copy.final),
        size=manifest.size,
        md5=manifest.md5,
        sha256=manifest.sha256,
        tables=copy.rows,
        remarks=list(proven.soundness.remarks),
        newest=newest,
        checkpoint=done,
        changes=None,
        pruned=[],
        duration_s=timings.total_s(),
        timings=timings.seconds,
    )
    return made, look


def _report(done: Checkpoint, context: Context) -> None:
    """Log what the checkpoint did; being blocked is worth a warning, not a failure."""
    facts = {name: value for name, value in asdict(done).items() if value not in ("", None, ())}
    if done.blocked_by or done.busy:
        facts["blocked_by"] = ", ".join(done.blocked_by) or "a process that could not be named"
        context.log.warning("checkpoint blocked", **facts)
    elif done.busy is None:
        if done.mode != "none":
            context.log.info("checkpoint skipped", **facts)
    elif done.complete:
        context.log.info("checkpoint done", **facts)
    else:
        # Whoever was in the way has gone since: the next checkpoint gets the rest.
        context.log.info("checkpoint incomplete", **facts)


def _take_still(
    job: BackupConfig, source: Path, catalog: Catalog, context: Context, held: Snapshot | None
) -> Copy:
    """Take one state of the source; again if it was written while it was read without locks."""
    for attempt in range(_ATTEMPTS):
        try:
            return _take(job, source, catalog, context, held)
        except SourceMovedError as error:
            if held is not None or attempt == _ATTEMPTS - 1:
                raise
            context.log.info("snapshot taken again", reason=error.message)
    raise AssertionError


def _take(
    job: BackupConfig, source: Path, catalog: Catalog, context: Context, held: Snapshot | None
) -> Copy:
    created = context.clock.now()
    if not clock.is_plausible(created):
        context.log.warning(
            "clock not to be trusted", now=clock.to_text(created, context.clock.zone)
        )
    final = catalog.name(job.database.stem, created)
    partial = partials.begin(final)
    created_at = clock.to_text(created, context.clock.zone)

    def progress(done: int, total: int) -> None:
        context.progress("snapshot", done, total)
        context.check()

    timeout_s = job.busy_timeout.total_seconds()
    if there := elsewhere.of(job.database):
        with there.session(lambda _, *done: progress(*done), context.check) as session:
            size = session.fingerprint.size_bytes
            room.require(job, catalog, size, context.clock.now())
            return fetch(session, final, partial, created_at)
    with files.writing(partial), contextlib.ExitStack() as stack:
        if job.raw:
            held = stack.enter_context(
                copying.copy_raw(source, partial, progress, busy_timeout_s=timeout_s)
            )
            rows = held.count_rows(check=context.check)
        else:
            held = stack.enter_context(held or Snapshot(source, busy_timeout_s=timeout_s))
            room.require(job, catalog, held.facts.size_bytes, context.clock.now())
            rows = held.count_rows(check=context.check)
            copying.copy(held, partial, progress)
    return Copy(final, partial, created_at, held.facts, rows, ownership.read(source))


def _prove(job: BackupConfig, source: Path, copy: Copy, context: Context) -> Proof:
    """Prove the partial good; tell a damaged source from a damaged copy of a sound one."""
    try:
        with files.writing(copy.partial):
            return proof.prove(copy.partial, expected(copy), context.check, has_wal=job.raw)
    except (CopyDamagedError, SourceCorruptError) as error:
        if isinstance(error, CopyDamagedError) and error.every_page_sound:
            raise database.corrupt(job.database, error.problems).but(hint=error.hint) from error
        if other := elsewhere.of(job.database):
            problems = other.problems(context.check)
        else:
            with opening.reading_live(source, check=context.check) as there:
                load_schema(there)
                problems = soundness.check(there).problems
        if problems:
            raise database.corrupt(job.database, problems) from error
        raise


def _publish(copy: Copy, manifest: Manifest) -> None:
    """Make the proven partial visible: its WAL and its manifest first, the `.db` last."""
    side_files = {}
    for suffix in (WAL, INDEX):
        part = beside(copy.partial, suffix)
        if files.is_there(part):
            side_files[suffix] = {"size": part.stat().st_size}
            if suffix == WAL:
                side_files[suffix] = asdict(proof.checksums(part))
            files.publish(part, beside(copy.final, suffix))
    manifests.write(dataclasses.replace(manifest, side_files=side_files), copy.final)
    files.publish(copy.partial, copy.final)


def _prune(job: BackupConfig, catalog: Catalog, look: Look, context: Context) -> list[str]:
    """Prune by the job's rule; return the removed paths."""
    if job.keep is None:
        return []
    decisions = prune(catalog, job.origin, job.keep, context, look)
    return [str(decision.backup.path) for decision in decisions if not decision.stays]


def _discard_partials(archive: Path) -> None:
    """Remove this run's unfinished files; the next run sweeps those that cannot be removed now."""
    with contextlib.suppress(GymdbdError, OSError):
        for path in partials.left(archive):
            files.remove(path)
