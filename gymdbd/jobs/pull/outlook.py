"""Whether the next pull will succeed, and the state that the last one left."""

from __future__ import annotations

import os
import shlex
import shutil
from typing import TYPE_CHECKING, Any

from gymdbd import files, words
from gymdbd.archive.catalog import Catalog
from gymdbd.jobs import peer, wal_reset
from gymdbd.jobs.backup import room
from gymdbd.jobs.backup.outlook import unanswered
from gymdbd.jobs.context import Context
from gymdbd.jobs.finding import ERROR, OK, WARNING, Check, Finding, Health, not_writable
from gymdbd.jobs.pull import foresight
from gymdbd.jobs.pull.replica import Replica
from gymdbd.log import logger
from gymdbd.source import processes
from gymdbd.source.errors import GymdbdError, RemoteError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, tzinfo

    from gymdbd.clock import Clock
    from gymdbd.config.kinds import PullConfig


def look(
    job: PullConfig, now: datetime, zone: tzinfo, *, was_good: bool
) -> Iterator[Finding | datetime]:
    """Yield the replica's faults, and the backups in its archive that wait for an answer."""
    yield from _room(job, now, zone, was_good=was_good)
    if files.is_folder(job.archive_folder):
        yield from unanswered(job.name, job.backups, zone, asks=True)


def _room(job: PullConfig, now: datetime, zone: tzinfo, *, was_good: bool) -> Iterator[Finding]:
    replica = Replica(job.replica)
    if not replica.exists:
        if was_good:
            reason = f"the replica {job.replica} no longer exists"
            hint = f"pull it again: gymdbd pull {job.name}"
            yield Finding(Health.FAILING, reason, hint, "replica-gone")
        return
    missing = max(0, job.replica.stat().st_size - replica.reusable_bytes(replica.state()))
    try:
        catalog = Catalog(job.archive_folder, zone)
        room.require(job, catalog, missing, now, folder=replica.path.parent)
    except GymdbdError as error:
        # If nothing changes on the other machine, no room is needed.
        yield Finding(Health.LATE, error.message, error.hint, error.code)


def examine(job: PullConfig, now: Clock) -> list[Check]:
    """Check the other machine, the folder of the replica, and the archive."""
    found = _other_side(job, now)
    if job.archive and not os.access(job.archive, os.W_OK | os.X_OK):
        found.append(not_writable(f"{job.name} archive", job.archive))
    elif files.is_folder(job.archive_folder):
        found += _replicas_archive(job, now)
    return found


def _replicas_archive(job: PullConfig, now: Clock) -> list[Check]:
    """Check whether pulled content waits for accept or reject."""
    name = f"{job.name} archive"
    try:
        frozen = Catalog(job.archive_folder, now.zone).frozen(job.origin)
    except GymdbdError as error:
        return [Check(name, ERROR, error.message, error.hint)]
    word = shlex.quote(job.name)
    hint = f"look at it (gymdbd diff), then gymdbd accept {word} or gymdbd reject {word}"
    return [Check(name, WARNING, f"pruning is frozen: {frozen}", hint)] if frozen else []


def _other_side(job: PullConfig, now: Clock) -> list[Check]:
    """Connect to the other machine without transferring data, and check the replica's folder."""
    try:
        facts = peer.inspect(job, Context(log=logger(), clock=now))
    except RemoteError as error:
        return [Check(f"{job.name} host", ERROR, error.message, error.hint), _replica(job, 0)]
    except GymdbdError as error:
        # The host has answered, so the error is about its database.
        failed = Check(f"{job.name} database", ERROR, error.message, error.hint)
        return [_reached(job), failed, _replica(job, 0)]
    size = facts["page_size"] * facts["page_count"]
    return [
        _reached(job),
        *_remote_database(job, facts, size),
        *_limit(job, size, now.now(), now.zone),
        _replica(job, size),
    ]


def _limit(job: PullConfig, size: int, now: datetime, zone: tzinfo) -> list[Check]:
    """Check how long the limit makes a transfer of `size` bytes take, which a first pull is."""
    if job.limit is None:
        return []
    begin = job.when.next_after(now, zone) if job.is_scheduled else now
    seconds = job.limit.seconds(size, begin, zone)
    name, text = f"{job.name} limit", f"{job.limit}: {foresight.takes(size, seconds)}"
    if seconds > job.timeout.total_seconds():
        timeout = words.limit(job.timeout)
        warning = f"{text}, and timeout is {timeout}: a run is stopped before it has everything"
        hint = "raise timeout: or limit: of the job; the next run goes on where one was stopped"
        return [Check(name, WARNING, warning, hint)]
    if seconds > foresight.LONG_S:
        grows = f"the WAL on {job.host} grows with what is written meanwhile"
        hint = "raise limit: of the job, or let it pull outside the hours of the limit"
        return [Check(name, WARNING, f"{text}, and {grows}", hint)]
    return [Check(name, OK, text)]


def _reached(job: PullConfig) -> Check:
    return Check(f"{job.name} host", OK, f"{job.host} answers, accepts the key and has Python")


def _remote_database(job: PullConfig, facts: dict[str, Any], size: int) -> list[Check]:
    tables = words.counted(len(facts["tables"]), "table")
    text = (
        f"{facts['database']}: {files.to_size(size)}, {tables}, "
        f"journal mode {facts['journal_mode']}"
    )
    versions = f"SQLite {facts['sqlite']}, Python {facts['python']} on the other machine"
    return [
        Check(f"{job.name} database", OK, text),
        *_unknown_there(job, facts),
        Check(f"{job.name} sqlite", OK, versions),
        *([wal_reset.met(facts["sqlite"], job.host)] if facts["wal_reset_bug"] else []),
    ]


def _unknown_there(job: PullConfig, facts: dict[str, Any]) -> list[Check]:
    unknown = peer.unknown(facts)
    name, text = f"{job.name} unchecked", f"unknown on the other machine: {unknown}"
    return [Check(name, OK, text)] if unknown else []


def _replica(job: PullConfig, needed: int) -> Check:
    """Check the replica's folder, its space, and that no process has it open for writing."""
    name, replica = f"{job.name} replica", Replica(job.replica)
    folder = replica.path.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        return not_writable(name, folder)
    try:
        files.require_space(folder, max(0, needed - replica.reusable_bytes(replica.state())))
    except GymdbdError as error:
        return Check(name, ERROR, error.message, error.hint)
    writers = processes.writers(replica.path)
    if writers:
        return Check(
            name,
            ERROR,
            f"{replica.path} is open for writing in {processes.describe(writers)}",
            "stop it, or let it open the replica read-only (file:...?mode=ro)",
        )
    free = files.to_size(shutil.disk_usage(folder).free)
    state = "exists" if replica.exists else "does not exist yet"
    return Check(name, OK, f"{replica.path} {state}, {free} free")
