"""A look: take the overview, tell what is to be told, and write what others read of it.

The daemon starts it as a child, because disks and receivers may hang: the child gets its order as
JSON on standard input, and answers on standard output when the next look is needed. `gymdbd notify`
takes one by hand.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import socket
import sys
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymdbd import groups, log
from gymdbd.clock import Clock
from gymdbd.config import config
from gymdbd.config.config import LogConfig
from gymdbd.config.notify import NotifyConfig
from gymdbd.errors import ConfigError, unexpected
from gymdbd.log import logger
from gymdbd.notices import facts, policy, store
from gymdbd.notices.memory import Memory, Moment
from gymdbd.notices.policy import Look, Rules
from gymdbd.notices.telling import Report, tell
from gymdbd.notices.texts import Tongue
from gymdbd.runs import overview, verdict
from gymdbd.runs.entry import instant
from gymdbd.source.errors import GymdbdError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from gymdbd.config.config import Config
    from gymdbd.runs.overview import Overview

# Each has `write(settings, overview)`, which writes what the configuration asks for, and returns
# when it must be written again, or None.
_WRITERS = (
    "gymdbd.notices.published",
    "gymdbd.notices.metrics",
    "gymdbd.notices.heard",
    "gymdbd.notices.report",
)
# A job is late if its last success is older than `max_age`, not as old.
_JUST_AFTER = timedelta(seconds=1)


@dataclass(frozen=True)
class Looked:
    """What came of a look: whom it told, and when the next one is needed at the latest.

    `unsaved` is the memory if it could not be written.
    """

    report: Report
    next: datetime | None = None
    unsaved: Memory | None = None


def look(
    settings: Config, now: Clock, *, by_daemon: bool = False, kept: Memory | None = None
) -> Looked:
    """Take one look; `kept` is the memory of the one before, if that could not be written."""
    try:
        found: Overview | GymdbdError = overview.take(settings, now)
    except GymdbdError as error:
        found = error
    except Exception as error:  # noqa: BLE001 - that nothing is known of the jobs is to be told
        logger().debug("unexpected error", exc_info=True)
        found = unexpected(error)
    with store.alone(settings.status_file):
        looked = _tell(settings, now, found, by_daemon=by_daemon, kept=kept)
        # Two looks at the same time would remove each other's unfinished files.
        again = [] if isinstance(found, GymdbdError) else list(_written(settings, found))
    late = [] if isinstance(found, GymdbdError) else list(_late(settings, found))
    moments = [looked.next, *again, *late]
    return replace(looked, next=min((at for at in moments if at), default=None))


def _tell(
    settings: Config,
    now: Clock,
    found: Overview | GymdbdError,
    *,
    by_daemon: bool,
    kept: Memory | None,
) -> Looked:
    """Tell what is to be told, and keep it after each channel that was told."""
    seen = facts.seen(found)
    daemon = found.daemon if by_daemon and not isinstance(found, GymdbdError) else None
    this = Look(
        moment=moment(now),
        seen=seen,
        subjects={*seen, *((policy.JOB, name) for name in settings.jobs)},
        started=daemon.started if daemon else None,
        down=daemon.down_since if daemon else None,
    )
    wanted = settings.notify or NotifyConfig(to={})
    rules = Rules(
        after=wanted.after, remind_every=wanted.remind_every, quiet=wanted.quiet, zone=now.zone
    )
    read, report = store.read(settings.status_file), Report()
    memory = policy.observe(_newer(read, kept), this, rules, wanted.to)
    unsaved = _save(settings, memory, quietly=kept is not None)
    for after, so_far in tell(settings, memory, this, rules, tongue(settings, now)):
        memory, report = after, so_far
        unsaved = _save(settings, memory, quietly=True)
    reached = wanted.to.keys() - report.failed.keys()
    return Looked(report, policy.next_look(memory, reached, this, rules), unsaved)


def _late(settings: Config, found: Overview) -> Iterator[datetime]:
    """Yield when a job turns late if nothing happens: no run of it tells the daemon."""
    for name, judged in found.jobs.items():
        success = instant(judged.entry.last_success)
        if success is not None:
            late = success + verdict.max_age(settings.jobs[name], found.at, found.zone)
            if late >= found.at:
                yield late + _JUST_AFTER


def tongue(settings: Config, now: Clock) -> Tongue:
    """Return what messages of this machine are worded in now."""
    language = settings.notify.language if settings.notify else "en"
    return Tongue(language, socket.gethostname(), now.now(), now.zone)


def _newer(read: Memory, kept: Memory | None) -> Memory:
    if kept is None or kept.seen is None or read.seen is None:
        return kept or read
    is_newer = kept.seen.boot != read.seen.boot or kept.seen.up_s > read.seen.up_s
    return kept if is_newer else read


def _save(settings: Config, memory: Memory, *, quietly: bool) -> Memory | None:
    """Keep the memory; return it if it could not be written, which the log need not have twice."""
    try:
        store.write(settings.status_file, memory)
    except GymdbdError as error:
        report = logger().debug if quietly else logger().warning
        report("notices not written", reason=error.message, remedy=error.hint)
        return memory
    return None


def moment(now: Clock) -> Moment:
    """Return this moment, with what shows later whether the clock was set."""
    return Moment(now.now(), _boot(), now.since_boot())


def _boot() -> str:
    """Return what names this start of the machine, "" if nothing does."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with contextlib.suppress(OSError):
        command = ("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid")
        done = groups.run(command, timeout_s=5, most=100)
        return done.output.decode("ascii", "replace").strip()
    return ""


def _written(settings: Config, found: Overview) -> Iterator[datetime | None]:
    """Let everything be written that others read; yield when that is needed again.

    Each fails alone.
    """
    for name in _WRITERS:
        try:
            yield importlib.import_module(name).write(settings, found)
        except Exception as error:  # noqa: BLE001 - the others are written all the same
            told = error if isinstance(error, GymdbdError) else unexpected(error)
            logger().error("not written", what=name, error=told.message, hint=told.hint)


def main() -> int:
    """Be the child: read the order, take the look, print when the next one is needed."""
    order = json.loads(sys.stdin.buffer.read())
    answer: dict[str, Any] = {"in_s": None, "kept": order["kept"]}
    # Until the configuration is read, what goes wrong is logged as without one.
    log.configure(LogConfig())
    try:
        settings = config.parse(order["text"], Path(order["source"]))
        log.configure(settings.log)
        kept = Memory.from_json(order["kept"]) if order["kept"] else None
        now = Clock()
        looked = look(settings, now, by_daemon=True, kept=kept)
    except GymdbdError as error:
        faults = error.faults if isinstance(error, ConfigError) else ()
        problem = "; ".join((error.message, *faults))
        logger().error("look failed", error=problem, hint=error.hint)
    else:
        answer["kept"] = looked.unsaved.to_json() if looked.unsaved else None
        if looked.next:
            answer["in_s"] = (looked.next - now.now()).total_seconds()
    # A daemon that was killed meanwhile does not read it.
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(answer))
        sys.stdout.flush()
    # A thread may still wait for a disk that does not answer.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
