"""A rehearsal of a restore: can the newest backup be restored, and in how many seconds."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import time
from typing import TYPE_CHECKING, Any

from gymdbd import clock, files, lock
from gymdbd.archive.catalog import LATEST, Catalog
from gymdbd.config.kinds import RestoreConfig
from gymdbd.errors import DrillFailedError
from gymdbd.jobs.context import Timings
from gymdbd.jobs.drill.result import Answered, Commanded, DrillResult
from gymdbd.jobs.restore import restore
from gymdbd.source import database
from gymdbd.source.schema import load_schema
from gymdbd.sqlite import opening

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.archive.backup import Backup
    from gymdbd.config.kinds import DrillConfig
    from gymdbd.config.parts import Probe
    from gymdbd.jobs.context import Context
    from gymdbd.jobs.restore.result import RestoreResult

_ARCHIVE_WAIT_S = 600.0
_POLL_S = 0.05
_TOLD_BYTES = 2000


def run(job: DrillConfig, context: Context) -> DrillResult:
    """Restore the newest good backup to a scratch folder, run the probes and the command.

    The folder is removed afterwards, as is that of a killed run. Raises DrillFailedError if a probe
    or the command fails, and whatever a restore raises.
    """
    timings = Timings()
    catalog = Catalog(job.archive, context.clock.zone)
    _clear(job.folder)
    files.make_folder(job.folder)
    try:
        with lock.hold(
            [lock.archive_lock(job.archive)], wait_s=_ARCHIVE_WAIT_S, check=context.check
        ):
            backup = catalog.find(LATEST, job.origin)
            restored, recover_s = _recover(job, backup, context, timings)
        target = job.folder / f"{backup.stem}.db"
        with timings.step("probes"):
            probes = _probe(job, target, context)
        with timings.step("command"):
            command = _run_command(job, target, context)
    finally:
        _clear(job.folder)
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


def _clear(folder: Path) -> None:
    if folder.exists():
        with files.writing(folder):
            shutil.rmtree(folder)


def _recover(
    job: DrillConfig, backup: Backup, context: Context, timings: Timings
) -> tuple[RestoreResult, float]:
    """Restore as `gymdbd restore` does; return its result and the seconds that it took."""
    settings = RestoreConfig(
        name=job.name,
        kind="restore",
        backup=backup.path,
        target=job.folder / f"{backup.stem}.db",
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
                raise DrillFailedError(
                    f"the probe {probe.sql!r} returned {value!r}, expected {_expectation(probe)}",
                    hint="look at the backup (gymdbd diff latest), or correct the probe",
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


def _run_command(job: DrillConfig, target: Path, context: Context) -> Commanded | None:
    """Run the user's test with the path of the database in GYMDBD_DATABASE.

    It runs in its own session, all of which is killed if it takes too long.
    """
    if not job.command:
        return None
    shown = shlex.join(job.command)
    output = job.folder / "output"
    with output.open("wb") as file:
        try:
            process = subprocess.Popen(
                job.command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "GYMDBD_DATABASE": str(target)},
                start_new_session=True,
            )
        except OSError as error:
            raise DrillFailedError(
                f"the command {shown} cannot be run ({error.strerror})",
                hint="correct command: in the configuration; it is a list, not a shell command",
            ) from error
    started = time.monotonic()
    try:
        exit_code = _await(process, job.command_timeout.total_seconds(), context)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if exit_code != 0:
        ended = "exceeded its timeout" if exit_code is None else f"returned {exit_code}"
        raise DrillFailedError(
            f"the command {shown} {ended}: {_tail(output)}",
            hint="run it by hand with GYMDBD_DATABASE set to a restored copy "
            "(gymdbd restore latest --to PATH)",
        )
    return Commanded(exit_code=exit_code, duration_s=round(time.monotonic() - started, 3))


def _await(process: subprocess.Popen[bytes], timeout_s: float, context: Context) -> int | None:
    """Return the exit code of a process, None if it runs longer than `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        context.check()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(_POLL_S)
    return None


def _tail(output: Path) -> str:
    with output.open("rb") as file:
        file.seek(max(0, output.stat().st_size - _TOLD_BYTES))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return " / ".join(lines[-3:]) or "it printed nothing"
