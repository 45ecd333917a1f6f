"""How the jobs really are: the status file, held against what can be seen at this moment.

The file says how the last run ended. Whether its backup is still there, whether there is room for
the next one, and whether anybody will start it, the file cannot know; and it may be the file itself
that could not be written.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from gymdbd import clock, files, lock
from gymdbd.archive import answers
from gymdbd.archive.backup import DAMAGED
from gymdbd.archive.catalog import Catalog
from gymdbd.config.kinds import BackupConfig, DrillConfig, PullConfig, VerifyConfig
from gymdbd.errors import GymdbdError, NotAllowedError, ReadFailedError, SourceUnreadableError
from gymdbd.jobs.backup import room
from gymdbd.jobs.pull.replica import Replica
from gymdbd.runs import status
from gymdbd.runs.status import GOOD_STATES, Health, StatusFile
from gymdbd.source import database, identity
from gymdbd.words import service_command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gymdbd.clock import Clock
    from gymdbd.config.config import Config
    from gymdbd.config.kinds import JobConfig

# A run may wait ten minutes for another one on the same files before it shows in the file.
_START_MARGIN = timedelta(minutes=15)
# Two moments that are written to the second, of one run.
_SAME_RUN = timedelta(minutes=1)
# So many damaged backups are named, the others counted.
_NAMED = 3
# A disk that sleeps needs ten seconds to start.
_PATIENCE_S = 15.0
_DENIED = (NotAllowedError, SourceUnreadableError)
_DEAD = "look for a dead disk or network mount (dmesg, mount)"
_ACCOUNT = "run gymdbd status as the user that the daemon runs as"

_T = TypeVar("_T")


class Finding(NamedTuple):
    """What one look at a job has found: its health, the reason, and what to do about it."""

    health: Health
    reason: str = ""
    hint: str = ""


class Seen(NamedTuple):
    """What there was to see of a job: `newest` is its newest good backup, if it has any."""

    findings: list[Finding]
    newest: datetime | None = None
    killed: bool = False


# What is seen, waited for so many seconds.
Look = Callable[[float], Seen]


@dataclass(frozen=True)
class Daemon:
    """What is known of the daemon: `alive` is None if this user may not look.

    `started` is when one last did with this status file, None if none ever has: then the jobs are
    run by hand, or by cron, and nobody waits for a daemon. A `mute` one is there and cannot write
    the file.
    """

    alive: bool | None
    started: datetime | None
    status_file: str
    mute: bool = False


def read(settings: Config, patience_s: float = _PATIENCE_S) -> tuple[dict[str, Any], Daemon]:
    """Return what is in the status file, and what it and its lock tell about the daemon."""
    file = StatusFile(settings.status_file)

    def look() -> tuple[dict[str, Any], Daemon]:
        content, alive = file.read(), file.is_daemon_alive()
        mute = not alive and _holds_configuration(settings)
        started = status.instant(content["daemon"] or {}, "started_at")
        return content, Daemon(mute or alive, started, str(file.path), mute=mute)

    try:
        return meanwhile(look)(patience_s)
    except TimeoutError as error:
        message = f"the status file {file.path} has not answered for {patience_s:g} s"
        raise ReadFailedError(message, hint=_DEAD) from error


def _holds_configuration(settings: Config) -> bool:
    """Say whether a daemon is there that could not lock its status file."""
    try:
        return lock.is_held(settings.source)
    except OSError:
        return False


def begin(job: JobConfig, entry: dict[str, Any], file: StatusFile, now: Clock) -> Look:
    """Begin to look at the disks of a job; `judge` waits for what there is to see."""
    known = dict(entry)

    def look() -> Seen:
        seen = list(_look(job, known, now.now(), now.zone))
        findings = [found for found in seen if isinstance(found, Finding)]
        newest = next((found for found in seen if isinstance(found, datetime)), None)
        return Seen(findings, newest, killed=file.was_killed(job, known))

    return meanwhile(look)


def judge(
    job: JobConfig,
    entry: dict[str, Any],
    look: Look,
    daemon: Daemon,
    now: Clock,
    patience_s: float = _PATIENCE_S,
) -> Finding:
    """Return the worst finding about a job; of several that are as bad, the first.

    Its disks get `patience_s` to answer, counted from when the look was begun.

    `entry`, what the status file has of it, is brought up to date with what there is to see: the
    archive's newest backup, and that the run which is noted as `running` was `interrupted`. A hint
    of its last run stays with that run's own failure.
    """
    moment, zone = now.now(), now.zone
    try:
        seen = look(patience_s)
    except TimeoutError:
        reason = f"its folders have not answered for {patience_s:g} s"
        seen = Seen([Finding(Health.UNKNOWN, reason, _DEAD)])
    if seen.newest is not None:
        _bring_up_to_date(entry, seen.newest, zone)
    health, reason = status.health(job, entry, moment, zone)
    findings = [Finding(health, reason, str(entry.get("hint") or "")), *seen.findings]
    findings += _next_run(entry, daemon, moment, health)
    if seen.killed:
        entry["interrupted"] = entry.pop("running")
    worst = status.worst([finding.health for finding in findings])
    return next(finding for finding in findings if finding.health == worst)


def meanwhile(work: Callable[[], _T]) -> Callable[[float], _T]:
    """Begin `work`; the answer gives what came of it, or TimeoutError so many seconds after now.

    So a dead network mount does not keep `gymdbd status` from answering.
    """
    began, done = time.monotonic(), threading.Event()
    came: list[_T] = []
    failed: list[Exception] = []

    def do() -> None:
        try:
            came.append(work())
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is asked for
            failed.append(error)
        done.set()

    threading.Thread(target=do, daemon=True).start()

    def answer(patience_s: float) -> _T:
        if not done.wait(max(0.0, began + patience_s - time.monotonic())):
            raise TimeoutError
        if failed:
            raise failed[0]
        return came[0]

    return answer


def _bring_up_to_date(entry: dict[str, Any], newest: datetime, zone: tzinfo) -> None:
    """Let an entry say what the archive says, unless its last run failed.

    A backup that the file does not know of was made while the file could not be written.
    """
    if entry.get("state") not in (None, *GOOD_STATES):
        return
    success, started = status.instant(entry, "last_success"), status.instant(entry, "last_run")
    if success and started and newest >= started - _SAME_RUN:
        newest = max(newest, success)
    entry.update(state=entry.get("state") or "ok", last_success=clock.to_text(newest, zone))


def _look(
    job: JobConfig, entry: dict[str, Any], now: datetime, zone: tzinfo
) -> Iterator[Finding | datetime]:
    """Look at the disk: yield what is wrong, and when the newest good backup was made."""
    try:
        _require_places(job)
        if isinstance(job, BackupConfig):
            yield from _its_backups(job, entry, zone)
            identity.require(job.database)
            source = database.locate(job.database)
            room.require(job, Catalog(job.archive, zone), source.stat().st_size, now)
        elif isinstance(job, PullConfig):
            yield from _replica(job, entry, now, zone)
            if job.archive_folder.is_dir():
                yield from _unanswered(job, Catalog(job.archive_folder, zone))
        elif isinstance(job, VerifyConfig | DrillConfig):
            Catalog(job.archive, zone).backups()
    except _DENIED as error:
        yield Finding(Health.UNKNOWN, error.message, _ACCOUNT)
    except GymdbdError as error:
        yield Finding(Health.FAILING, error.message, error.hint)
    except OSError as error:
        told = files.system_error(error)
        yield Finding(Health.UNKNOWN, told.message, told.hint)


def _require_places(job: JobConfig) -> None:
    for folder in job.folders():
        files.require_folder(folder)
        if isinstance(job, BackupConfig | PullConfig):
            files.require_writable_disk(folder)


def _its_backups(
    job: BackupConfig, entry: dict[str, Any], zone: tzinfo
) -> Iterator[Finding | datetime]:
    catalog = Catalog(job.archive, zone)
    yield from _unanswered(job, catalog)
    newest = catalog.good_before(job.origin)
    if newest is not None:
        yield newest.created
    elif entry.get("state") in GOOD_STATES:
        yield Finding(
            Health.FAILING,
            f"{job.archive} holds no good backup of it any more",
            f"find out who removed them, and make one: gymdbd backup {job.name}",
        )
    backups = catalog.backups(job.origin)
    damaged = [backup.path.name for backup in backups if backup.verdict == DAMAGED]
    if damaged:
        yield Finding(
            Health.FAILING,
            f"damaged, and so no backup any more: {', '.join(damaged[:_NAMED])}"
            + (f" and {len(damaged) - _NAMED} more" if len(damaged) > _NAMED else ""),
            "fetch a good copy (gymdbd verify --repair), or remove it once gymdbd list shows good "
            "ones; look at the disk too (dmesg, SMART)",
        )


def _unanswered(job: BackupConfig | PullConfig, catalog: Catalog) -> Iterator[Finding]:
    """Yield what has stopped the pruning of an archive, although no status file may tell of it."""
    waiting = answers.unanswered(catalog.backups(job.origin))
    frozen = catalog.frozen(job.origin)
    if waiting or (frozen and isinstance(job, PullConfig)):
        what = f"{waiting[0].path.name} waits for accept or reject" if waiting else frozen
        hint = (
            "look at it (gymdbd diff latest); if the change is right run gymdbd accept "
            f"{job.name}, if not gymdbd reject {job.name}"
        )
        yield Finding(Health.FAILING, f"{what}; pruning is stopped", hint)
    elif frozen:
        hint = "mend or restore the database; the next good backup lets pruning go on"
        yield Finding(Health.FAILING, f"pruning is stopped: {frozen}", hint)


def _replica(
    job: PullConfig, entry: dict[str, Any], now: datetime, zone: tzinfo
) -> Iterator[Finding]:
    replica = Replica(job.replica)
    if not replica.exists:
        if entry.get("state") in GOOD_STATES:
            reason = f"the replica {job.replica} is not there any more"
            yield Finding(Health.FAILING, reason, f"fetch it again: gymdbd pull {job.name}")
        return
    missing = max(0, job.replica.stat().st_size - replica.reusable_bytes(replica.state()))
    try:
        catalog = Catalog(job.archive_folder, zone)
        room.require(job, catalog, missing, now, folder=replica.path.parent)
    except GymdbdError as error:
        # As long as nothing changes over there, none is needed.
        yield Finding(Health.LATE, error.message, error.hint)


def _next_run(
    entry: dict[str, Any], daemon: Daemon, now: datetime, health: Health
) -> Iterator[Finding]:
    """Yield why the next run will not begin, if it will not."""
    if daemon.mute:
        yield Finding(
            Health.UNKNOWN,
            f"the daemon cannot write {daemon.status_file}: how its runs end is not known",
            "let the daemon's user write to that folder (under systemd it must be named in "
            "ReadWritePaths= of the unit), and look into the daemon's log meanwhile",
        )
    elif daemon.started is None:
        return
    elif daemon.alive is None:
        reason = "whether the daemon is running cannot be seen by this user"
        yield Finding(Health.UNKNOWN, reason, _ACCOUNT)
    elif not daemon.alive:
        # While its last success is young enough there is time to start it.
        yield Finding(
            Health.LATE if health in (Health.OK, Health.UNKNOWN) else Health.FAILING,
            "the daemon is not running, so that the next run will not happen",
            f"start it ({service_command('start')}, or gymdbd run); if something else runs the "
            f"jobs now, remove {daemon.status_file}, which the next run writes anew",
        )
    elif now - daemon.started > _START_MARGIN:
        yield from _unplanned(entry, now)


def _unplanned(entry: dict[str, Any], now: datetime) -> Iterator[Finding]:
    planned = status.instant(entry, "next_run")
    if planned is None:
        reason = "the daemon has no plan for it"
        hint = f"let it read the configuration again: {service_command('reload')}"
        yield Finding(Health.LATE, reason, hint)
    elif "running" not in entry and now - planned > _START_MARGIN:
        reason = f"its run of {entry['next_run']} is not known to have begun"
        hint = "look into the daemon's log, and whether it can write the status file"
        yield Finding(Health.LATE, reason, hint)
