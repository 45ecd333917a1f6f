"""The command of a drill: the user's own test of the restored database.

Its arguments and what it prints may be secrets: they are shown to the person who runs the drill,
and in no error, which the log and the status file keep.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import files, groups, trust
from gymdbd.errors import DrillFailedError
from gymdbd.jobs.drill.result import Commanded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gymdbd.config.kinds import DrillConfig
    from gymdbd.jobs.context import Context

_POLL_S = 0.05
_TOLD_BYTES = 2000


def run(job: DrillConfig, target: Path, context: Context) -> Commanded | None:
    """Run the user's test with the path of the database in GYMDBD_DATABASE.

    It runs in its own session, all of which is killed if it takes too long.
    """
    if not job.command:
        return None
    refuse_untrusted(job.command)
    output = target.with_name("output")
    files.create(output)
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
                f"the command {_name(job.command)} cannot be run ({error.strerror})",
                hint="correct command: in the configuration; it is a list, not a shell command",
            ) from error
    started = time.monotonic()
    try:
        exit_code = _await(process, job.command_timeout.total_seconds(), context)
    finally:
        groups.send(process.pid, signal.SIGKILL)
        process.wait()
    if exit_code != 0:
        ended = "exceeded its timeout" if exit_code is None else f"returned {exit_code}"
        context.tell(f"{_name(job.command)} printed: {_tail(output)}")
        raise DrillFailedError(
            f"the command {_name(job.command)} {ended}",
            hint=f"gymdbd drill {job.name} shows what it prints; or run it by hand with "
            "GYMDBD_DATABASE set to a restored copy (gymdbd restore latest --to PATH)",
        )
    return Commanded(exit_code=exit_code, duration_s=round(time.monotonic() - started, 3))


def refuse_untrusted(command: Sequence[str]) -> None:
    """Raise DrillFailedError if others could have written what a command runs."""
    if doubt := trust.doubt_of_command(command):
        raise DrillFailedError(
            f"the command {_name(command)} is not run, because others could have written it: "
            f"{doubt.reason}",
            hint=doubt.remedy,
        )


def _name(command: Sequence[str]) -> str:
    return Path(command[0]).name


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
    return " / ".join(lines[-3:]) or "nothing"
