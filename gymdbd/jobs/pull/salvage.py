"""Saving a damaged database of another machine, as it is, into a pull's archive."""

from __future__ import annotations

import contextlib
import functools
import shutil
from typing import TYPE_CHECKING, Any

from gymdbd import files, lock
from gymdbd.archive.catalog import Catalog
from gymdbd.errors import DiskFullError
from gymdbd.jobs.backup import damaged
from gymdbd.jobs.peer import connect, serving
from gymdbd.jobs.pull import checking, growth
from gymdbd.remote import delta
from gymdbd.source.errors import (
    GymdbdError,
    RemoteError,
    SourceCorruptError,
    SourceEmptyError,
    SourceError,
)
from gymdbd.source.fingerprint import Fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gymdbd.config.kinds import PullConfig
    from gymdbd.jobs.context import Context

_ARCHIVE_WAIT_S = 60.0
_ROOM = 2


def freeze(job: PullConfig, error: GymdbdError, context: Context) -> None:
    """Keep every old replica while the database over there cannot be read as one."""
    if files.is_folder(job.archive_folder):
        catalog = Catalog(job.archive_folder, context.clock.zone)
        catalog.freeze(job.origin, error.message, context.clock.now())
        context.log.warning("pruning frozen", archive=str(catalog.archive), reason=error.message)


def thaw(job: PullConfig, context: Context) -> None:
    """Resume pruning: the database over there is sound again."""
    Catalog(job.archive_folder, context.clock.zone).thaw(job.origin)


def refuse_known(job: PullConfig, remote: Fingerprint, context: Context) -> None:
    """Raise SourceCorruptError, instead of fetching, if this state was saved as damaged before.

    A pull that is due to compare every page fetches it all the same.
    """
    known = damaged.newest(job.archive_folder, _named(job))
    if known is None:
        return
    created_at, now = known.record["created_at"], context.clock.now()
    if checking.has_passed(created_at, job.full_verify_every, now):
        return
    with contextlib.suppress(ValueError):
        seen = Fingerprint.from_json(known.record.get("seen"))
        if delta.choose(seen, remote, seen.size_bytes).strategy == delta.UNCHANGED:
            error = SourceCorruptError(
                f"{known.record['reason']} (nothing was written to it since)",
                hint=f"on {job.host} stop the application and restore the newest good backup "
                "(gymdbd list)",
            )
            raise damaged.told(error, known.path)


def save_arrived(
    job: PullConfig,
    partial: Path,
    error: GymdbdError,
    context: Context,
    fingerprint: dict[str, Any] | None,
) -> GymdbdError:
    """Move what a pull has fetched into the archive; return the error that names the copy."""

    def fill(target: Path) -> None:
        with files.writing(target):
            shutil.move(partial, target)

    told = damaged.save_source(
        error,
        lambda: _keep(job, error, context, fill, partial.stat().st_size, fingerprint),
        context,
    )
    files.remove(partial)
    return told


def save_remote(job: PullConfig, error: damaged.Failure, context: Context) -> damaged.Failure:
    """Fetch and save a database of which a pull got nothing; return the error that names the copy.

    Its pages are fetched without counting rows; if SQLite cannot even open it, its files are
    copied as they are.
    """
    seen: dict[str, Any] = {}

    def fill(target: Path) -> None:
        if job.method == "scp":
            _copy_files(job, target, context)
            return
        try:
            with serving(job, context, context.progress) as (session, _):
                growth.require(job, session.fingerprint.size_bytes)
                files.require_space(target.parent, _ROOM * session.fingerprint.size_bytes)
                fetched = session.fetch(target, session.plan(None, None))
                seen.update(fetched.fingerprint.to_json())
        except DiskFullError:
            raise
        except (RemoteError, SourceError):
            _copy_files(job, target, context)

    def save() -> Path:
        return _keep(job, error, context, fill, 0, seen)

    try:
        return damaged.told(error, save())
    except SourceEmptyError:
        return error
    except (GymdbdError, OSError) as problem:
        return damaged.told_unsaved(error, problem, context)


def _copy_files(job: PullConfig, target: Path, context: Context) -> None:
    from gymdbd.remote.as_it_is import copy_as_it_is  # noqa: PLC0415 - few need it

    files.remove(target)
    with connect(job, context) as connection, connection.sftp() as remote:
        copy_as_it_is(
            remote,
            job.remote_database,
            target,
            progress=context.progress,
            check=context.check,
            allow=functools.partial(growth.require, job),
        )


def _keep(
    job: PullConfig,
    error: GymdbdError,
    context: Context,
    fill: Callable[[Path], None],
    size: int,
    seen: dict[str, Any] | None = None,
) -> Path:
    folder = job.archive_folder
    files.make_folder(folder)
    with lock.hold([lock.archive_lock(folder)], wait_s=_ARCHIVE_WAIT_S, check=context.check):
        reason = error.message
        return damaged.keep(_named(job), folder, reason, context, fill, size=size, seen=seen)


def _named(job: PullConfig) -> damaged.Database:
    return damaged.Database(job.replica.stem, job.host, job.remote_database)
