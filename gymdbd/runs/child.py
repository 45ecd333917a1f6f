"""A run in a child process, and its supervisor in the daemon.

A thread that hangs cannot be stopped, and a file descriptor that it closes drops SQLite's locks of
the whole process. A child can be killed; its memory and locks go with it, and the daemon stays
small. The child gets its order as one line of JSON on standard input, and returns how the run ended
as JSON on standard output. The end of its input means that the daemon is gone; then the run stops
at a safe point.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from gymdbd import acting, bounded, clock, disk, files, groups, lock, log, partials
from gymdbd.acting import ActingError
from gymdbd.config import config
from gymdbd.errors import ConfigError, CrashError, DeadlineError, StoppedError
from gymdbd.runs import as_owner, keeper, runner
from gymdbd.runs.outcome import Ended, Outcome, failure
from gymdbd.runs.runner import Run
from gymdbd.source.errors import GymdbdError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gymdbd.config.config import Config

DRAIN, KILL = 1, 2

_POLL_S = 0.25
GRACE_S = 15.0
_LISTEN_S = 2.0


@dataclass(frozen=True)
class Supervisor:
    """Runs a job in a child process, and returns an outcome even if the child dies.

    `urgency()` is 0, DRAIN if runs have to stop at a safe point, or KILL if they have to stop now.
    """

    config: Config
    urgency: Callable[[], int]
    grace_s: float = GRACE_S

    def execute(self, run: Run) -> Ended:
        """Run `run` in a child; return how it ended, recorded by the child or by this method."""
        started_at = run.now()
        try:
            ended = self._in_child(run)
        except OSError as error:
            ended = failure(disk.system_error(error))
        if isinstance(ended, Outcome):
            ended = run.ended(started_at, ended)
            with log.bound(job=run.job.name, run_id=run.run_id):
                runner.record(run.job, ended, run.status)
            _clean_up(run)
        return ended

    def _in_child(self, run: Run) -> Ended | Outcome:
        """Run `run` in a child; return what it has recorded, or the outcome that it could not."""
        process = self._start(run)
        assert process.stdout is not None  # noqa: S101 - a pipe was requested
        # Not through a temporary file: the disk with the temporary folder may be full.
        answer = _listen(process.stdout)
        killed_for = self._attend(process, run)
        return _parse(answer()) or failure(killed_for or _crash(process, run))

    def _start(self, run: Run) -> subprocess.Popen[bytes]:
        order = {
            "source": str(self.config.source),
            "text": self.config.text,
            "job": run.job.name,
            "run_id": run.run_id,
            "reason": run.reason,
            "due": run.due_text(),
            "lock_wait_s": run.lock_wait_s,
        }
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "gymdbd.runs.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=groups.environment(),
        )
        with contextlib.suppress(BrokenPipeError):
            assert process.stdin is not None  # noqa: S101 - a pipe was requested
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
        return process

    def _attend(self, process: subprocess.Popen[bytes], run: Run) -> GymdbdError | None:
        """Wait for the child; return why it had to be killed, None if it did not."""
        deadline = run.clock.monotonic() + run.job.timeout.total_seconds() + self.grace_s
        asked = False
        killed_for: GymdbdError | None = None
        try:
            while process.poll() is None:
                urgency = self.urgency()
                if urgency and not asked:
                    process.terminate()
                    asked = True
                if urgency >= KILL:
                    killed_for = _too_slow(run)
                elif run.clock.monotonic() > deadline:
                    killed_for = _hung(run)
                if killed_for is not None:
                    process.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL_S)
        finally:
            assert process.stdin is not None  # noqa: S101 - a pipe was requested
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        if asked and process.returncode == -signal.SIGTERM:
            # The signal came before the child had installed its handler.
            return killed_for or runner.stopped(run.job)
        return killed_for


def _too_slow(run: Run) -> StoppedError:
    return StoppedError(
        f"{run.job.name} did not reach a safe point within stop_timeout",
        hint="nothing half-done is left; it is made up after the next start",
    )


def _hung(run: Run) -> DeadlineError:
    return DeadlineError(
        f"{run.job.name} hung and was ended after its timeout of {run.job.timeout}",
        hint="look for a dead disk or network mount (dmesg), or raise timeout:",
    )


def _crash(process: subprocess.Popen[bytes], run: Run) -> CrashError:
    code = process.returncode
    how = f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"
    return CrashError(
        f"the process of {run.job.name} ended with {how} before the run was done",
        hint="look at the log just before this, and for the out-of-memory killer (dmesg); "
        "the next run happens as usual",
    )


def _clean_up(run: Run) -> None:
    """Remove the partial files of a killed run; if another run holds the lock, leave it to that."""
    if acting.deciders(run.job.scratch()) - {None}:
        # The next run removes them, which acts as their owner.
        return
    for path in run.job.scratch():
        with contextlib.suppress(GymdbdError, OSError), lock.hold([path]):
            for partial in partials.left(path.parent):
                files.remove(partial)


def _listen(stream: IO[bytes]) -> Callable[[], bytes]:
    """Read the output of a child in a thread; call the result to get it after the child ended."""
    output = bytearray()

    def read() -> None:
        with stream:
            while chunk := os.read(stream.fileno(), 65536):
                # What is too long for an answer is none: the child must not wait, we must not grow.
                output.extend(chunk[: bounded.MOST_BYTES + 1 - len(output)])

    reader = threading.Thread(target=read, daemon=True)
    reader.start()

    def answer() -> bytes:
        # A process that the run has left behind may keep the pipe open.
        reader.join(_LISTEN_S)
        return bytes(output)

    return answer


def _parse(answer: bytes) -> Ended | Outcome | None:
    """Read the answer of a child; one that could not begin the run tells only the outcome."""
    if len(answer) > bounded.MOST_BYTES:
        return None
    with contextlib.suppress(*bounded.FAULTS):
        content = bounded.parse(answer)
        if isinstance(content, dict):
            kind = Ended if "started_at" in content else Outcome
            return kind.from_json(content)
    return None


class _Stop:
    """Whether the run has to stop; set by a signal handler, so it uses no lock."""

    requested = False

    def request(self, *_: Any) -> None:
        """Stop the run at its next safe point."""
        self.requested = True


def main() -> int:
    """Be the child: read the order, execute the run, print its entry."""
    stop = _Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop.request)
    order = json.loads(_read_line())
    try:
        settings = config.parse(order["text"], Path(order["source"]))
        job = settings.job(order["job"])
        # The rest may go on in another process, in which no thread of this one runs.
        acted = as_owner.run_as_owner(job, settings)
    except ConfigError as error:
        # Something has changed since the daemon started, such as a home folder that was removed.
        problem = "; ".join((error.message, *error.faults))
        ended: Ended | Outcome = failure(ConfigError(problem, hint=error.hint))
    except ActingError as error:
        ended = failure(error)
    else:
        threading.Thread(target=_await_end_of_input, args=[stop], daemon=True).start()
        log.configure(settings.log)
        if acted:
            log.logger().info("acting as the owner", job=job.name, user=acted)
        run = Run(
            job=job,
            reason=order["reason"],
            run_id=order["run_id"],
            status=keeper.status_file(settings.status_file),
            due=clock.from_text(order["due"]) if order["due"] else None,
            lock_wait_s=order["lock_wait_s"],
            stopping=lambda: stop.requested,
        )
        ended = run.execute()
    # A killed daemon does not read it, and the run has already recorded its end.
    with contextlib.suppress(BrokenPipeError), open(1, "wb", closefd=False) as answer:
        answer.write(json.dumps(ended.to_json()).encode())
    return (ended if isinstance(ended, Outcome) else ended.outcome).exit_code


def _read_line() -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        chunk = os.read(0, 65536)
        if not chunk:
            break
        data += chunk
    return data


def _await_end_of_input(stop: _Stop) -> None:
    """Stop the run when the daemon is gone."""
    while os.read(0, 1024):
        pass
    stop.request()


if __name__ == "__main__":
    sys.exit(main())
