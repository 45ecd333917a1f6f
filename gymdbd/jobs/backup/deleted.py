"""Before a backup: find the application's file, even if it was removed or replaced."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import files, partials
from gymdbd.errors import NotAllowedError
from gymdbd.source import identity
from gymdbd.source.errors import AnotherFileError, SourceMissingError
from gymdbd.source.snapshot import Snapshot
from gymdbd.source.uses import look
from gymdbd.sqlite import salvage

if TYPE_CHECKING:
    from gymdbd.config.kinds import BackupConfig
    from gymdbd.jobs.backup.result import BackupResult
    from gymdbd.jobs.context import Context
    from gymdbd.source.uses import Use

METHOD = "deleted-file"


@dataclasses.dataclass(frozen=True)
class Source:
    """What to back up: `held` if it is not what is at the path, and why that is a failure."""

    job: BackupConfig
    held: Snapshot | None = None
    trouble: AnotherFileError | None = None

    def close(self) -> None:
        """Release what was held, whether or not the backup succeeded."""
        if self.held is not None:
            self.held.close()

    def tell(self, result: BackupResult) -> None:
        """Fail the run if the application's file is gone, after its content has been saved."""
        if self.trouble is None:
            return
        words = ["gymdbd", "restore", result.path, "--to", str(self.job.database)]
        raise self.trouble.but(
            hint=f"it is saved as {result.path}: restore it ({shlex.join(words)}) and restart the "
            "application; what it commits until then is saved by another gymdbd backup only",
            result=result,
        )


def find(job: BackupConfig, context: Context) -> Source:
    """Return what to back up; AnotherFileError if the file at the path is not the application's.

    A removed file is saved through the process that has it open; if another file is in its place,
    only with `job.deleted`.
    """
    view = look(job.database)
    gone = identity.former(view) if job.deleted else identity.removed(job.database, view)
    try:
        if not job.deleted:
            identity.refuse(job.database, view)
            return Source(job)
    except AnotherFileError as error:
        if not gone:
            raise
        return _saved(job, gone[0], context, error)
    if gone:
        return _saved(job, gone[0], context)
    message = f"no process that this user may see has a removed file of {job.database} open"
    if not view.by_proc or (view.unseen and os.geteuid() != 0):
        raise NotAllowedError(
            message,
            hint="run this as the user that the application runs as, on Linux (root acts as the "
            "owner of the archive)",
        )
    raise SourceMissingError(message, hint="leave out --deleted to back up what is there now")


def _saved(
    job: BackupConfig, use: Use, context: Context, trouble: AnotherFileError | None = None
) -> Source:
    """Copy the file that a process has open; the copy lies beside the backup made from it."""
    copy = partials.begin(job.archive / f"{job.database.stem}_deleted.db")
    timeout_s = job.busy_timeout.total_seconds()

    def progress(done: int, total: int) -> None:
        context.progress("copy", done, total)
        context.check()

    context.log.warning("removed database found open", database=str(job.database), pid=use.pid)
    files.require_space(job.archive, 2 * _size(use))
    with files.writing(copy):
        salvage.copy(use, copy, progress, busy_timeout_s=timeout_s)
    job = dataclasses.replace(job, checkpoint="none", raw=False, method=job.method or METHOD)
    return Source(job, Snapshot(copy, busy_timeout_s=timeout_s), trouble)


def _size(use: Use) -> int:
    """Return the size of the open file, as far as it is known."""
    total = 0
    for opened in (use.main, use.log):
        with contextlib.suppress(OSError):
            total += Path(opened.path).stat().st_size if opened else 0
    return total
