"""A pull by `method: scp`: the files of the database, copied as they are."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

from gymdbd.jobs.peer import connect
from gymdbd.jobs.pull import growth
from gymdbd.jobs.pull.arrived import Arrived
from gymdbd.remote import inquiry, scp

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.config.kinds import PullConfig
    from gymdbd.jobs.context import Context, Timings
    from gymdbd.remote.client import Progress


def fetch(
    job: PullConfig, partial: Path, context: Context, timings: Timings, progress: Progress
) -> Arrived:
    """Copy the database into the partial; refuse it if it was written meanwhile.

    A file that is not the application's is refused if the other side can detect that.
    """
    with connect(job, context) as connection:
        unseen = inquiry.require_same_file(connection, job.ssh.python, job.remote_database)
        if unseen:
            context.log.info("who has the database open was not seen", reason=unseen)
        taken = time.monotonic()
        timings.seconds["connect"] = timings.total_s()
        with timings.step("fetch"), connection.sftp() as remote:
            copied = scp.copy_database(
                remote,
                job.remote_database,
                partial,
                progress=progress,
                check=context.check,
                allow=functools.partial(growth.require, job),
            )
        return Arrived(
            "copy",
            taken,
            f"plain copy, attempt {copied.attempts}",
            bytes_sent=connection.bytes_sent,
            bytes_received=connection.bytes_received,
            waited_s=connection.pace.waited_s,
            journal_mode=copied.journal_mode,
            ownership=copied.ownership,
        )
