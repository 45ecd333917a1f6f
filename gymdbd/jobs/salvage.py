"""Saving what is left of a damaged database of another machine, as it is, into a pull's archive."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from gymdbd import files, lock
from gymdbd.errors import DiskFullError, GymdbdError, RemoteError, SourceEmptyError, SourceError
from gymdbd.jobs import damaged
from gymdbd.jobs.peer import connect, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gymdbd.job_config import PullConfig
    from gymdbd.jobs.context import Context

_ARCHIVE_WAIT_S = 60.0
_ROOM = 2


def save_arrived(job: PullConfig, partial: Path, error: GymdbdError, context: Context) -> None:
    """Save what a pull has brought, and tell in the error about it; the partial is gone then."""

    def fill(target: Path) -> None:
        with files.writing(target):
            shutil.move(partial, target)

    damaged.save_source(
        error, lambda: _keep(job, error, context, fill, partial.stat().st_size), context
    )
    files.remove(partial)


def save_remote(job: PullConfig, error: GymdbdError, context: Context) -> None:
    """Fetch a database of which a pull has brought nothing, and tell in the error about it.

    Its pages are asked for without its rows being counted; where SQLite cannot even open it, its
    files are copied as they are.
    """

    def fill(target: Path) -> None:
        if job.method == "scp":
            _copy_files(job, target, context)
            return
        try:
            with serving(job, context, context.progress) as (session, _):
                files.require_space(target.parent, _ROOM * session.fingerprint.size_bytes)
                session.fetch(target, session.plan(None, None))
        except DiskFullError:
            raise
        except (RemoteError, SourceError):
            _copy_files(job, target, context)

    def save() -> Path:
        return _keep(job, error, context, fill, 0)

    try:
        damaged.tell(error, save())
    except SourceEmptyError:
        return
    except (GymdbdError, OSError) as problem:
        damaged.tell_unsaved(error, problem, context)


def _copy_files(job: PullConfig, target: Path, context: Context) -> None:
    from gymdbd.remote import scp  # noqa: PLC0415 - few need it

    files.remove(target)
    with connect(job, context) as connection, connection.sftp() as remote:
        scp.copy_as_it_is(
            remote, job.remote_database, target, progress=context.progress, check=context.check
        )


def _keep(
    job: PullConfig,
    error: GymdbdError,
    context: Context,
    fill: Callable[[Path], None],
    size: int,
) -> Path:
    folder = job.archive_folder
    files.make_folder(folder)
    found = damaged.Database(job.replica.stem, job.host, job.remote_database)
    with lock.hold([lock.archive_lock(folder)], wait_s=_ARCHIVE_WAIT_S, check=context.check):
        return damaged.keep(found, folder, error.message, context, fill, size=size)
