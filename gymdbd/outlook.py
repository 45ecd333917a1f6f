"""How the jobs really are: the status file, held against what can be seen at this moment.

The file says how the last run ended. Whether its backup is still there, whether there is room for
the next one, and whether anybody will start it, the file cannot know; and it may be the file itself
that could not be written.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, NamedTuple

from gymdbd import clock, files, status
from gymdbd.archive.catalog import DAMAGED, Catalog
from gymdbd.errors import GymdbdError, NotAllowedError, SourceUnreadableError
from gymdbd.job_config import BackupConfig, DrillConfig, PullConfig, VerifyConfig
from gymdbd.replica import Replica
from gymdbd.sqlite import database, identity
from gymdbd.status import GOOD_STATES, Health

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gymdbd.clock import Clock
    from gymdbd.job_config import JobConfig

# A run may wait ten minutes for another one on the same files before it shows in the file.
_START_MARGIN = timedelta(minutes=15)
# Two moments that are written to the second, of one run.
_SAME_RUN = timedelta(minutes=1)
# So many damaged backups are named, the others counted.
_NAMED = 3
# A disk that sleeps needs ten seconds to start.
_PATIENCE_S = 15.0
_DENIED = (NotAllowedError, SourceUnreadableError)
_ACCOUNT = "run gymdbd status as the user that the daemon runs as"


class Finding(NamedTuple):
    """How a job is by one of the things that were looked at, why, and what to do about it."""

    health: Health
    reason: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Daemon:
    """What is known of the daemon: `alive` is None if this user may not look.

    `started` is when one last did with this status file, None if none ever has: then the jobs are
    run by hand, or by cron, and nobody waits for a daemon.
    """

    alive: bool | None
    started: datetime | None
    status_file: str


def daemon_of(file: status.StatusFile, content: dict[str, Any]) -> Daemon:
    """Return what the status file and its lock tell about the daemon."""
    started = status.instant(content["daemon"] or {}, "started_at")
    return Daemon(file.is_daemon_alive(), started, str(file.path))


def judge(
    job: JobConfig,
    entry: dict[str, Any],
    daemon: Daemon,
    now: Clock,
    patience_s: float = _PATIENCE_S,
) -> Finding:
    """Return the worst of what is found about a job; of several the first.

    Its disks get `patience_s` to answer, so that a dead network mount does not leave whoever asks
    without any answer.

    `entry`, what the status file has of it, is brought up to date with what the archive holds. A
    hint of its last run stays with that run's own failure.
    """
    moment, zone = now.now(), now.zone
    seen = _look_within(patience_s, job, entry, zone)
    for newest in seen:
        if isinstance(newest, datetime):
            _bring_up_to_date(entry, newest, zone)
    health, reason = status.health(job, entry, moment, zone)
    findings = [Finding(health, reason, str(entry.get("hint") or ""))]
    findings += [one for one in seen if isinstance(one, Finding)]
    findings += _next_run(entry, daemon, moment, health)
    worst = status.worst([one.health for one in findings])
    return next(one for one in findings if one.health == worst)


def _look_within(
    patience_s: float, job: JobConfig, entry: dict[str, Any], zone: tzinfo
) -> list[Finding | datetime]:
    seen: list[Finding | datetime] = []
    done = threading.Event()

    def look() -> None:
        found = list(_look(job, dict(entry), zone))
        seen.extend(found)
        done.set()

    threading.Thread(target=look, daemon=True).start()
    if done.wait(patience_s):
        return seen
    reason = f"its folders have not answered for {patience_s:g} s"
    hint = "look for a dead disk or network mount (dmesg, findmnt)"
    return [Finding(Health.UNKNOWN, reason, hint)]


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


def _look(job: JobConfig, entry: dict[str, Any], zone: tzinfo) -> Iterator[Finding | datetime]:
    """Look at the disk: yield what is wrong, and when the newest good backup was made."""
    try:
        for folder in job.folders():
            files.require_folder(folder)
        if isinstance(job, BackupConfig):
            yield from _its_backups(job, entry, zone)
            identity.require(job.database)
            source = database.locate(job.database)
            files.require_space(job.archive, source.stat().st_size)
        elif isinstance(job, PullConfig):
            yield from _replica(job, entry)
        elif isinstance(job, VerifyConfig | DrillConfig):
            Catalog(job.archive, zone).backups()
    except _DENIED as error:
        yield Finding(Health.UNKNOWN, error.message, _ACCOUNT)
    except GymdbdError as error:
        yield Finding(Health.FAILING, error.message, error.hint)
    except OSError as error:
        told = files.system_error(error)
        yield Finding(Health.UNKNOWN, told.message, told.hint)


def _its_backups(
    job: BackupConfig, entry: dict[str, Any], zone: tzinfo
) -> Iterator[Finding | datetime]:
    newest = Catalog(job.archive, zone).good_before(job.origin)
    if newest is not None:
        yield newest.created
    elif entry.get("state") in GOOD_STATES:
        yield Finding(
            Health.FAILING,
            f"{job.archive} holds no good backup of it any more",
            f"find out who removed them, and make one: gymdbd backup {job.name}",
        )
    damaged = [backup.path.name for backup in backups if backup.verdict == DAMAGED]
    if damaged:
        yield Finding(
            Health.FAILING,
            f"damaged, and so no backup any more: {', '.join(damaged[:_NAMED])}"
            + (f" and {len(damaged) - _NAMED} more" if len(damaged) > _NAMED else ""),
            "fetch a good copy (gymdbd verify --repair), or remove it once gymdbd list shows good "
            "ones; look at the disk too (dmesg, SMART)",
        )


def _replica(job: PullConfig, entry: dict[str, Any]) -> Iterator[Finding]:
    replica = Replica(job.replica)
    if not replica.exists:
        if entry.get("state") in GOOD_STATES:
            reason = f"the replica {job.replica} is not there any more"
            yield Finding(Health.FAILING, reason, f"fetch it again: gymdbd pull {job.name}")
        return
    missing = max(0, job.replica.stat().st_size - replica.reusable_bytes(replica.state()))
    try:
        files.require_space(job.replica.parent, missing)
    except GymdbdError as error:
        # As long as nothing changes over there, none is needed.
        yield Finding(Health.LATE, error.message, error.hint)


def _next_run(
    entry: dict[str, Any], daemon: Daemon, now: datetime, health: Health
) -> Iterator[Finding]:
    """Yield why the next run will not begin, if it will not."""
    if daemon.started is None:
        return
    if daemon.alive is None:
        reason = "whether the daemon is running cannot be seen by this user"
        yield Finding(Health.UNKNOWN, reason, _ACCOUNT)
    elif not daemon.alive:
        # While its last success is young enough there is time to start it.
        yield Finding(
            Health.LATE if health in (Health.OK, Health.UNKNOWN) else Health.FAILING,
            "the daemon is not running, so that the next run will not happen",
            "start it (systemctl start gymdbd, or gymdbd run); if something else runs the jobs "
            f"now, remove {daemon.status_file}, which the next run writes anew",
        )
    elif now - daemon.started > _START_MARGIN:
        yield from _unplanned(entry, now)


def _unplanned(entry: dict[str, Any], now: datetime) -> Iterator[Finding]:
    planned = status.instant(entry, "next_run")
    if planned is None:
        reason = "the daemon has no plan for it"
        hint = "let it read the configuration again: systemctl reload gymdbd"
        yield Finding(Health.LATE, reason, hint)
    elif "running" not in entry and now - planned > _START_MARGIN:
        reason = f"its run of {entry['next_run']} is not known to have begun"
        hint = "look into the daemon's log, and whether it can write the status file"
        yield Finding(Health.LATE, reason, hint)
