"""A rehearsal of a restore: can the newest backup be restored, and in how many seconds."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import time
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from gymdbd import clock, files, lock
from gymdbd.archive.catalog import LATEST, Catalog
from gymdbd.config.kinds import RestoreConfig
from gymdbd.errors import DrillFailedError
from gymdbd.jobs.context import Timings
from gymdbd.jobs.drill import command as commands
from gymdbd.jobs.drill.result import Answered, DrillResult
from gymdbd.jobs.restore import restore
from gymdbd.source import database
from gymdbd.source.schema import load_schema
from gymdbd.sqlite import opening

if TYPE_CHECKING:
    from gymdbd.archive.backup import Backup
    from gymdbd.config.kinds import DrillConfig
    from gymdbd.config.parts import Probe
    from gymdbd.jobs.context import Context
    from gymdbd.jobs.restore.result import RestoreResult

_ARCHIVE_WAIT_S = 600.0


def run(job: DrillConfig, context: Context) -> DrillResult:
    """Restore a backup to a scratch folder, run the probes and the command.

    It is the job's `only`, or the newest good one. The folder is a new one, which nobody else can
    enter. It is removed afterwards, as is that of a killed run. Raises DrillFailedError if a probe
    or the command fails, and whatever a restore raises.
    """
    timings = Timings()
    catalog = Catalog(job.archive, context.clock.zone)
    if job.locks():
        _clear(job)
    with files.writing(job.scratch_in / "."):
        folder = Path(mkdtemp(prefix=f".{job.name}.", suffix=_suffix(job), dir=job.scratch_in))
    try:
        with lock.hold(lock.reader_locks(job.archive), wait_s=_ARCHIVE_WAIT_S, check=context.check):
            backup = catalog.find(job.only or LATEST, job.origin)
            restored, recover_s = _recover(job, backup, folder, context, timings)
        target = folder / f"{backup.stem}.db"
        with timings.step("probes"):
            probes = _probe(job, target, context)
        with timings.step("command"):
            command = commands.run(job, target, context)
    finally:
        if _is_our_folder(folder):
            shutil.rmtree(folder)
    context.log.info("drill passed", backup=str(backup.path), recover_s=recover_s)
    return DrillResult(
        backup=str(backup.path),
        created_at=clock.to_text(backup.created, context.clock.zone),
        age_s=round((context.clock.now() - backup.created).total_seconds()),
        recover_s=recover_s,
        tables=restored.tables,
        probes=probes,
        command=command,
        duration_s=timings.total_s(),
        timings=timings.seconds,
    )


def _suffix(job: DrillConfig) -> str:
    """Return the end of the names of a job's scratch folders: jobs of one name have other archives.

    Whoever holds the job's lock may remove any of them.
    """
    archive = hashlib.sha256(os.fsencode(files.resolved(job.archive))).hexdigest()[:8]
    return f".{archive}.drill"


def _clear(job: DrillConfig) -> None:
    """Remove the scratch folders of this job, those of killed runs too; none of another user's."""
    with files.writing(job.scratch_in / "."):
        for name in os.listdir(job.scratch_in):  # noqa: PTH208 - names are enough
            # Release 0.1 made the first one.
            ours = name == f".{job.name}.drill" or (
                name.startswith(f".{job.name}.") and name.endswith(_suffix(job))
            )
            if ours and _is_our_folder(folder := job.scratch_in / name):
                shutil.rmtree(folder)


def _is_our_folder(folder: Path) -> bool:
    return files.is_own_folder(folder) and folder.lstat().st_uid == os.geteuid()


def _recover(
    job: DrillConfig, backup: Backup, folder: Path, context: Context, timings: Timings
) -> tuple[RestoreResult, float]:
    """Restore as `gymdbd restore` does; return its result and the seconds that it took."""
    settings = RestoreConfig(
        name=job.name,
        kind="restore",
        backup=backup.path,
        target=folder / f"{backup.stem}.db",
    )
    started = time.monotonic()
    with timings.step("restore"):
        result = restore.run(settings, context)
    return result, round(time.monotonic() - started, 3)


def _probe(job: DrillConfig, target: Path, context: Context) -> list[Answered]:
    answers = []
    with opening.reading(target, has_wal=True) as connection:
        load_schema(connection)
        for probe in job.probes:
            value = _ask(connection, probe, context)
            if not _is_right(probe, value):
                context.tell(f"{probe.sql!r} returned {value!r}, expected {_expectation(probe)}")
                raise DrillFailedError(
                    f"the probe {probe.sql!r} did not return what was expected",
                    hint=f"gymdbd drill {job.name} shows what it returns; look at the backup "
                    "(gymdbd diff latest), or correct the probe",
                )
            answers.append(Answered(sql=probe.sql, value=value))
    return answers


def _ask(connection: sqlite3.Connection, probe: Probe, context: Context) -> Any:
    """Return the first value of a probe's result, None if there is no row."""
    try:
        with database.interruptible(connection, context.check):
            row = connection.execute(probe.sql).fetchone()
    except sqlite3.Error as error:
        raise DrillFailedError(
            f"the probe {probe.sql!r} failed ({error})",
            hint="correct the probe, or check what changed in the tables (gymdbd diff latest)",
        ) from error
    value = row[0] if row else None
    return value.hex() if isinstance(value, bytes) else value


def _is_right(probe: Probe, value: Any) -> bool:
    if probe.expect is not None:
        return str(value) == probe.expect
    if not isinstance(value, (int, float)):
        return False
    low = -float("inf") if probe.at_least is None else probe.at_least
    high = float("inf") if probe.at_most is None else probe.at_most
    return low <= value <= high


def _expectation(probe: Probe) -> str:
    if probe.expect is not None:
        return repr(probe.expect)
    bounds = (("at least", probe.at_least), ("at most", probe.at_most))
    return " and ".join(f"{word} {value:g}" for word, value in bounds if value is not None)
