"""Whether the next backup will succeed, and whether the last one is still there."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING

from gymdbd import files
from gymdbd.archive import answers
from gymdbd.archive.backup import SUSPICIOUS
from gymdbd.archive.catalog import Catalog
from gymdbd.jobs.backup import room
from gymdbd.jobs.finding import ERROR, OK, WARNING, Check, Finding, Health, not_writable
from gymdbd.source import database, identity, live, processes, uses
from gymdbd.source.errors import GymdbdError
from gymdbd.source.format import side_files
from gymdbd.source.schema import read_facts, table_names
from gymdbd.sqlite import freshness, opening, soundness
from gymdbd.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gymdbd.archive.backup import Backup
    from gymdbd.archive.look import Look
    from gymdbd.clock import Clock
    from gymdbd.config.kinds import BackupConfig, Backups

# So many damaged backups are named; the others are counted.
_NAMED = 3


def look(
    job: BackupConfig, now: datetime, zone: tzinfo, *, was_good: bool
) -> Iterator[Finding | datetime]:
    """Yield faults on the disk, and the time of the newest good backup."""
    yield from _its_backups(job, zone, was_good=was_good)
    identity.require(job.database)
    source = database.locate(job.database)
    room.require(job, Catalog(job.archive, zone), source.stat().st_size, now)


def _its_backups(
    job: BackupConfig, zone: tzinfo, *, was_good: bool
) -> Iterator[Finding | datetime]:
    seen = Catalog(job.archive, zone).look()
    yield from unanswered(job.name, job.backups, zone, seen)
    newest = seen.good_before(job.origin)
    backups = seen.backups(job.origin)
    unread = [backup.unread for backup in backups if backup.unread]
    if unread:
        yield Finding(Health.UNKNOWN, unread[0].message, unread[0].hint, unread[0].code)
    if newest is not None:
        yield newest.created
    elif was_good and not unread:
        yield Finding(
            Health.FAILING,
            f"{job.archive} no longer holds a good backup of it",
            f"find out who removed them, and make a new one: gymdbd backup {job.name}",
            "backups-gone",
        )
    damaged = [backup.path.name for backup in backups if backup.is_damaged]
    if damaged:
        yield Finding(
            Health.FAILING,
            f"damaged, so no longer a backup: {', '.join(damaged[:_NAMED])}"
            + (f" and {len(damaged) - _NAMED} more" if len(damaged) > _NAMED else ""),
            "fetch a good copy (gymdbd verify --repair), or remove it once gymdbd list shows good "
            "backups; check the disk as well (dmesg, SMART)",
            "backup-damaged",
        )


def unanswered(
    name: str, made: Backups, zone: tzinfo, seen: Look | None = None, *, asks: bool = False
) -> Iterator[Finding]:
    """Yield what has stopped the pruning of an archive, even if no status file records it.

    `seen` is how the archive is now. If it `asks`, whatever has stopped it waits for an answer.
    """
    catalog = Catalog(made.archive, zone)
    seen = seen or catalog.look()
    waiting = answers.unanswered(seen.backups(made.origin))
    frozen = catalog.frozen(made.origin, seen)
    if waiting or (frozen and asks):
        what = f"{waiting[0].path.name} waits for accept or reject" if waiting else frozen
        hint = (
            "look at it (gymdbd diff latest); if the change is right, run gymdbd accept "
            f"{name}, otherwise gymdbd reject {name}"
        )
        yield Finding(Health.FAILING, f"{what}; pruning is stopped", hint, "suspicious")
    elif frozen:
        hint = "repair or restore the database; pruning resumes with the next good backup"
        yield Finding(Health.FAILING, f"pruning is stopped: {frozen}", hint, "pruning-stopped")


def examine(job: BackupConfig, now: Clock) -> list[Check]:
    """Check the database, its application and the archive."""
    return [*examine_database(job), *examine_archive(job, now)]


def examine_database(job: BackupConfig) -> list[Check]:
    """Check the database and its application."""
    name = f"{job.name} database"
    view = uses.look(job.database)
    try:
        identity.refuse(job.database, view)
        path = database.locate(job.database)
        message, unknown = _look_into(path)
        newest = [_newest(job, path)] if job.newest else []
    except GymdbdError as error:
        return [Check(name, ERROR, error.message, error.hint)]
    seen = [Check(name, OK, message), *_uncheckable(job, unknown), *newest, *_rights(job, path)]
    remarks = [
        Check(f"{job.name} file", WARNING if hint else OK, text, hint)
        for text, hint in identity.remarks(path, view)
    ]
    return [*seen, *remarks, _holders(job, path)]


def _rights(job: BackupConfig, path: Path) -> list[Check]:
    """Warn if this user's backups can do less than those of the database's owner."""
    name, user = f"{job.name} rights", f"this user (uid {os.geteuid()})"
    hint = "run as the database's owner or as root; see deploy/README.md"
    needed = (path, path.parent)
    lacking = [str(place) for place in needed if not os.access(place, os.W_OK)]
    if lacking:
        message = f"{user} may not write {' and '.join(lacking)}: no checkpoint; while the "
        message += "application is stopped, a database in WAL mode is read without locks"
        return [Check(name, WARNING, message, hint)]
    if not live.may_leave_sides(path):
        message = f"{user} is not the owner of {path}, who could not use a -wal and -shm of this "
        message += "user: while the application is stopped, a database in WAL mode is read "
        message += "without them, and there is no checkpoint"
        return [Check(name, WARNING, message, hint)]
    return []


def _look_into(path: Path) -> tuple[str, tuple[str, ...]]:
    """Return a description of a database, and what cannot be checked in it."""
    in_use = all(files.is_there(side) for side in side_files(path)[:2])
    # If no process has it open, reading it the usual way could leave a -wal and a -shm.
    with opening.reading_live(path, leave_nothing=True) as connection:
        connection.execute("BEGIN")
        facts = read_facts(connection)
        unknown = soundness.foresee(connection)
    tables = counted(len(table_names(facts)), "table")
    mode = f"journal mode {facts.journal_mode}" if in_use else "not open in WAL mode"
    text = f"{path}: {files.to_size(facts.size_bytes)}, {tables}, {mode}"
    return text, unknown


def _uncheckable(job: BackupConfig, unknown: tuple[str, ...]) -> list[Check]:
    """List what no backup can check, because only the application or a newer SQLite can."""
    name = f"{job.name} unchecked"
    return [Check(name, OK, f"cannot be checked here: {what}") for what in unknown]


def _newest(job: BackupConfig, path: Path) -> Check:
    """Check that the newest row can be dated."""
    name, wanted = f"{job.name} newest row", job.newest
    assert wanted is not None  # noqa: S101 - the caller has checked it
    hint = "correct newest: in the configuration (the names of a table and of its column)"
    with opening.reading_live(path, leave_nothing=True) as connection:
        try:
            value = freshness.newest(connection, wanted.table, wanted.column)
        except sqlite3.Error as error:
            return Check(name, ERROR, str(error), hint)
    if value is not None and freshness.to_moment(value, UTC) is None:
        return Check(name, ERROR, f"{wanted.table}.{wanted.column} is not a time: {value!r}", hint)
    return Check(name, OK, f"{wanted.table}.{wanted.column}: {value!r}")


def _holders(job: BackupConfig, path: Path) -> Check:
    found = processes.holders(path)
    if found:
        return Check(f"{job.name} app", OK, f"in use by {processes.describe(found)}")
    return Check(
        f"{job.name} app",
        WARNING,
        "no process that this user can see has the database open",
        "start the application if it should be running"
        + ("; one that runs as another user is not seen" if os.geteuid() else ""),
    )


def examine_archive(job: BackupConfig, now: Clock) -> list[Check]:
    """Check the archive, and that it has room for a backup."""
    return [_archive(job, now)]


def _archive(job: BackupConfig, now: Clock) -> Check:
    name = f"{job.name} archive"
    if not os.access(job.archive, os.W_OK | os.X_OK):
        return not_writable(name, job.archive)
    needed = 0
    with contextlib.suppress(OSError):
        needed = job.database.stat().st_size
    try:
        seen = Catalog(job.archive, now.zone).look()
        backups = seen.backups(job.origin)
        files.require_space(job.archive, needed)
    except GymdbdError as error:
        return Check(name, ERROR, error.message, error.hint)
    frozen = Catalog(job.archive, now.zone).frozen(job.origin, seen)
    if frozen:
        return Check(name, WARNING, f"pruning is frozen: {frozen}", _thaw_hint(backups))
    free = files.to_size(shutil.disk_usage(job.archive).free)
    if backups and backups[0].created > now.now():
        message = f"{backups[0].path.name} has a time in the future: nothing is pruned"
        return Check(name, WARNING, message, "check the clock")
    return Check(name, OK, f"{job.archive}: {counted(len(backups), 'backup')}, {free} free")


def _thaw_hint(backups: list[Backup]) -> str:
    if any(backup.verdict == SUSPICIOUS for backup in backups):
        return "look at it (gymdbd diff); pruning resumes after gymdbd accept or gymdbd reject"
    return "repair or restore the database; pruning resumes with the next good backup"
