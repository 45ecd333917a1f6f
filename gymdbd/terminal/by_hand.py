"""Work that a person starts: it stops at the first Ctrl-C, and the log has its start and end."""

from __future__ import annotations

import contextlib
import functools
import signal
import time
from typing import TYPE_CHECKING, TypeVar

from gymdbd import disk, log
from gymdbd.config.config import LogConfig
from gymdbd.errors import StoppedError, unexpected
from gymdbd.jobs.result import Saved
from gymdbd.runs import as_owner, keeper, runner
from gymdbd.runs.outcome import Outcome, failure
from gymdbd.runs.runner import Run
from gymdbd.source.errors import GymdbdError
from gymdbd.terminal import configuration, ending

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from gymdbd.config.config import Config
    from gymdbd.config.kinds import JobConfig
    from gymdbd.runs.outcome import Ended
    from gymdbd.source.errors import Told
    from gymdbd.terminal.output import Output

# As long as the daemon waits for a run that is to end.
_GRACE_S = 15.0

Made = TypeVar("Made", bound="Told")


def run_job(
    job: JobConfig, settings: Config | None, output: Output, *, in_journal: bool = True
) -> Ended:
    """Run a job in this process; return how it ended.

    SIGINT or SIGTERM stops it at its next safe point, or ends this process (`ending.caught`).
    """
    # A restore, for example, is not a configured job: the status file has no entry for it.
    recorded = settings if settings and job.name in settings.jobs else None
    # Before this process acts as another user, who may not be able to read the URL.
    with _pinged(job, recorded) as end_ping:
        ended = _run_job(job, settings, recorded, output, in_journal=in_journal)
        end_ping(ended.outcome)
    return ended


@contextlib.contextmanager
def _pinged(job: JobConfig, settings: Config | None) -> Iterator[Callable[[Outcome], None]]:
    """Ping that a configured job begins; yields what pings how it ended."""
    if settings is None or job.ping is None:
        yield lambda _: None
        return
    from gymdbd.notices.ping import Pings  # noqa: PLC0415 - few jobs ping

    end = Pings().begin(settings, job, by_hand=True)
    try:
        yield end
    except GymdbdError as error:
        end(failure(error))
        raise


def _run_job(
    job: JobConfig,
    settings: Config | None,
    recorded: Config | None,
    output: Output,
    *,
    in_journal: bool,
) -> Ended:
    configuration.say_acting(as_owner.run_as_owner(job, settings))
    # The verb prints the failure itself, so the log prints only warnings to the terminal.
    log.configure(settings.log if settings else LogConfig(), by_hand=True, in_journal=in_journal)
    # At its timeout a run ends at a safe point, if it can.
    limit_s = job.timeout.total_seconds() + _GRACE_S
    with ending.caught(limit_s) as stops, output.progress() as progress:
        return Run(
            job=job,
            reason="by hand",
            status=keeper.status_file(recorded.status_file) if recorded else None,
            progress=progress,
            tell=output.remark,
            stopping=lambda: bool(stops),
        ).execute()


def logged(work: Callable[[argparse.Namespace, Output], int]) -> Callable[..., int]:
    """Log the start and end of a verb that changes something but does not run a job."""

    @functools.wraps(work)
    def run(arguments: argparse.Namespace, output: Output) -> int:
        log.configure(LogConfig(), by_hand=True)
        backup = " ".join(map(str, getattr(arguments, "names", []))) or None
        begun = time.monotonic()
        with log.bound(job=work.__module__.rpartition(".")[2], run_id=runner.new_id()):
            log.logger().info("run started", reason="by hand", backup=backup)
            outcome = Outcome()
            try:
                return work(arguments, output)
            except GymdbdError as error:
                outcome = failure(error)
                raise
            except OSError as error:
                outcome = failure(disk.system_error(error))
                raise
            except Exception as error:
                outcome = failure(unexpected(error))
                raise
            finally:
                runner.log_end(outcome, round(time.monotonic() - begun, 3))

    return run


def report(
    outcome: Outcome, kind: type[Made], show: Callable[[Made, Output], None], output: Output
) -> int:
    """Print the result of a run, if it has one of this kind, and its error; return the exit code.

    A run can fail with a result: a backup that is suspicious, for example, has been made.
    """
    result = outcome.result
    if isinstance(result, kind):
        facts = outcome.problem() if outcome.error else {"state": outcome.state}
        output.result({**result.to_json(), **facts}, lambda: show(result, output))
        if output.json:
            return outcome.exit_code
    if outcome.exit_code:
        report_failure(outcome, output)
    return outcome.exit_code


def report_failure(outcome: Outcome, output: Output) -> None:
    """Print the error of a failed run, and where it saved a damaged database."""
    saved = outcome.result.to_json() if isinstance(outcome.result, Saved) else {}
    output.failure({**outcome.problem(), **saved})


@contextlib.contextmanager
def stoppable() -> Iterator[Callable[[], None]]:
    """Let SIGINT and SIGTERM stop a long statement; yields the check for SQLite to call."""
    with ending.caught() as stops:

        def check() -> None:
            if stops:
                raise StoppedError(f"stopped by {signal.Signals(stops[0]).name}")

        yield check
