"""Saving the old replica before a pull replaces it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import gymdbd
from gymdbd import clock, files, partials
from gymdbd.archive import manifest as manifests
from gymdbd.archive import marks, proof
from gymdbd.archive.backup import REJECTED, SUSPICIOUS
from gymdbd.archive.manifest import Manifest
from gymdbd.archive.marks import Marks
from gymdbd.config.kinds import BackupConfig
from gymdbd.config.parts import Gates
from gymdbd.errors import ReplicaInUseError, SuspiciousError, VerificationError
from gymdbd.jobs.backup import backup, damaged, room
from gymdbd.jobs.backup.result import BackupResult
from gymdbd.jobs.prune import prune
from gymdbd.jobs.pull import checking, suspicion
from gymdbd.origin import Origin
from gymdbd.source import ownership
from gymdbd.source.errors import SourceCorruptError, SourceEmptyError, SourceNotADatabaseError
from gymdbd.source.schema import read_facts
from gymdbd.sqlite import opening

if TYPE_CHECKING:
    from gymdbd.archive.catalog import Catalog
    from gymdbd.config.kinds import PullConfig
    from gymdbd.jobs.context import Context
    from gymdbd.jobs.pull.replica import Replica, State

# A backup's errors for a file that has no sound state to copy.
_UNREADABLE = (SourceCorruptError, SourceEmptyError, SourceNotADatabaseError, VerificationError)


def save(
    job: PullConfig,
    replica: Replica,
    state: State | None,
    context: Context,
    new: State | None = None,
) -> Path:
    """Put the replica into the archive, where its own retention rules; return the backup.

    `state` is what the last pull left, None if the replica is not what that pull made. An
    untouched one only gets a second name: its pull has proven it, and nobody will write to it. If
    it was not checked yet and is due for it, it is checked now; otherwise its manifest says so.
    `new` describes what is to come in its place: if that is suspicious the good state is checked,
    and pinned before anything is pruned.
    """
    sure = new is not None and bool(new.suspicious)
    with suspicion.opened(job, context) as catalog:
        catalog.sweep()
        _drop_twins(catalog, replica, context)
        saved = _save(job, replica, state, catalog, context, sure=sure)
        if new is not None:
            suspicion.settle(job, catalog, new, context)
        prune(catalog, job.origin, job.keep, context)
        return saved


def _save(
    job: PullConfig,
    replica: Replica,
    state: State | None,
    catalog: Catalog,
    context: Context,
    *,
    sure: bool,
) -> Path:
    if state is not None and _needs_proof(job, state, context, sure=sure):
        state = _proven(replica, state, context)
    if state is None:
        return _save_changed(job, replica, catalog, context)
    final = catalog.name(job.replica.stem, clock.from_text(state.pulled_at))
    manifests.write(_describe(job, replica, state), final)
    if state.rejected:
        marks.change(final, rejected_at=clock.to_text(context.clock.now(), context.clock.zone))
    replica.save_as(final)
    return final


def keep_copy(job: PullConfig, replica: Replica, context: Context) -> tuple[Path, bool]:
    """Put a copy of the replica, as a pull has just left it, into the archive and prove it.

    Unlike the backup of `save` it is a file of its own, which writes to the replica do not change,
    and it is pinned, so that no pull prunes it. An existing good backup of the same bytes is
    verified again and used instead. Returns the backup, and whether it was made now.
    """
    state = replica.state()
    with suspicion.opened(job, context) as catalog:
        catalog.sweep()
        _drop_twins(catalog, replica, context)
        sums = proof.checksums(replica.path, context.check)
        if state is None or replica.change(state):
            raise ReplicaInUseError(
                f"{replica.path} was changed here while it was being copied",
                hint="stop whoever writes to it and run this again",
            )
        for candidate in catalog.backups(job.origin):
            usable = candidate.good or (
                state.suspicious and candidate.verdict in (SUSPICIOUS, REJECTED)
            )
            known = candidate.manifest.sha256 if usable and candidate.manifest else None
            if known == sums.sha256 and proof.checksums(candidate.path, context.check) == sums:
                _pin(candidate.path, candidate.marks, context)
                return candidate.path, False
        described = _describe(job, replica, state)
        # The copy is proven before it is renamed into place.
        manifest = dataclasses.replace(
            described, md5=sums.md5, sha256=sums.sha256, integrity=manifests.SOUND
        )
        final = catalog.name(job.replica.stem, manifest.created)
        room.require(job, catalog, manifest.size, context.clock.now())
        _copy(replica, final, manifest, context)
        _pin(final, Marks(), context)
        return final, True


def _pin(path: Path, known: Marks, context: Context) -> None:
    """Pin a backup, unless somebody has."""
    if known.kept_at is None:
        kept_at = clock.to_text(context.clock.now(), context.clock.zone)
        marks.change(path, kept_at=kept_at, note="emergency")


def _copy(replica: Replica, final: Path, manifest: Manifest, context: Context) -> None:
    """Copy the replica, prove the copy and publish it; VerificationError if it differs."""
    partial = partials.begin(final)
    try:
        with files.writing(partial):
            files.clone(replica.path, partial)
        rows = {"rows": manifest.tables, "uncounted": manifest.uncounted}
        proven = proof.prove(partial, rows, context.check)
        if proven.sums.sha256 == manifest.sha256:
            manifests.write(manifest, final)
            files.publish(partial, final)
            return
    finally:
        files.remove(partial)
    raise VerificationError(
        f"the copy of {replica.path} is not what was read from it",
        hint="check the disk that it was written to (dmesg, SMART) and try again",
    )


def _needs_proof(job: PullConfig, state: State, context: Context, *, sure: bool) -> bool:
    """Return whether an old replica has to be read before its manifest is written."""
    if not (state.md5 and state.sha256):
        return True
    return not state.is_checked and (sure or checking.is_due(job, state, context.clock.now()))


def _proven(replica: Replica, state: State, context: Context) -> State | None:
    """Return the state with hashes and checks done; None if the replica does not match it.

    They are missing if the last pull had no archive to save to, and a manifest may only contain
    what is proven.
    """
    try:
        proven = proof.prove(
            replica.path,
            {"rows": state.tables, "uncounted": state.uncounted},
            context.check,
            integrity=proof.QUICK,
        )
    except _UNREADABLE:
        return None
    sums = proven.sums
    return dataclasses.replace(state, md5=sums.md5, sha256=sums.sha256, is_checked=True)


def _save_changed(job: PullConfig, replica: Replica, catalog: Catalog, context: Context) -> Path:
    """Save a replica that is no longer what a pull made: by a backup of its own.

    What was suspicious when it was pulled is compared with the newest good state again. One that
    is too damaged for a backup is kept as it is, under a name that is never pruned.
    """
    doubted = suspicion.goes_on(job, suspicion.last(job, replica), catalog)
    known = replica.state()
    settings = BackupConfig(
        name=job.name,
        kind="backup",
        database=job.replica,
        archive=catalog.archive,
        checkpoint="none",
        count_changes=False,
        gates=(job.gates or Gates()) if doubted else None,
        source=Origin(job.replica.stem, (known.place,)) if known else job.origin,
    )
    if replica.path.stat().st_size == 0:
        # Opening it would make SQLite remove the -wal, which may hold all there is.
        return _keep(job, replica, catalog, context, "it has zero bytes")
    try:
        return Path(backup.run(settings, context).path)
    except SuspiciousError as error:
        if not isinstance(error.result, BackupResult):
            raise
        return Path(error.result.path)
    except _UNREADABLE as error:
        if copy := damaged.copy_of(error):
            catalog.thaw(job.origin)
            return Path(copy)
        return _keep(job, replica, catalog, context, error.message)


def _keep(
    job: PullConfig, replica: Replica, catalog: Catalog, context: Context, reason: str
) -> Path:
    """Keep a damaged replica with its -wal or journal; return the copy."""
    catalog.thaw(job.origin)
    return damaged.preserve(replica.path, catalog.archive, reason, context, room=1)


def _drop_twins(catalog: Catalog, replica: Replica, context: Context) -> None:
    """Remove second names of the replica that a crash before its replacement left behind.

    They are the replica itself, so that whoever writes to it would write into the archive.
    """
    facts = replica.path.stat()
    if facts.st_nlink < 2:  # noqa: PLR2004 - its own name is one
        return
    for copy in catalog.backups():
        there = copy.path.stat()
        if (there.st_dev, there.st_ino) == (facts.st_dev, facts.st_ino):
            catalog.remove(copy)
            context.log.warning("leftover of an interrupted run removed", path=str(copy.path))


def _describe(job: PullConfig, replica: Replica, state: State) -> Manifest:
    """Describe the unchanged replica from what its own pull proved."""
    with opening.reading(replica.path) as connection:
        facts = read_facts(connection)
        version = connection.execute("SELECT sqlite_version()").fetchone()[0]
    return Manifest(
        source=state.remote_database,
        host=state.host,
        created_at=state.pulled_at,
        method=f"pull-{job.method}",
        sqlite_version=version,
        page_size=facts.page_size,
        page_count=facts.page_count,
        encoding=facts.encoding,
        journal_mode=state.mode or facts.journal_mode,
        user_version=facts.user_version,
        application_id=facts.application_id,
        size=replica.path.stat().st_size,
        md5=state.md5,
        sha256=state.sha256,
        integrity=manifests.SOUND if state.is_checked else manifests.UNCHECKED,
        **ownership.parse(state.ownership),
        tables=state.tables,
        uncounted=state.uncounted,
        remarks=state.remarks,
        unchecked=state.unchecked,
        suspicious=state.suspicious,
        duration_s=0.0,
        gymdbd_version=gymdbd.__version__,
    )
