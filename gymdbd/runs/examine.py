"""The checks of `gymdbd check`: everything that a configuration names, without changing it."""

from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any

from gymdbd import clock, disk, files
from gymdbd.archive.backup import DAMAGED, SUSPICIOUS
from gymdbd.archive.catalog import LATEST, Catalog
from gymdbd.config.kinds import BackupConfig, DrillConfig, PullConfig, VerifyConfig
from gymdbd.errors import TimeZoneError
from gymdbd.jobs.context import Context
from gymdbd.jobs.pull.replica import Replica
from gymdbd.log import logger
from gymdbd.runs import status
from gymdbd.source import database, identity, live, processes, uses
from gymdbd.source.errors import GymdbdError, RemoteError
from gymdbd.source.format import side_files
from gymdbd.source.schema import read_facts, table_names
from gymdbd.sqlite import freshness, opening, soundness
from gymdbd.words import counted, service_command

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.archive.backup import Backup
    from gymdbd.clock import Clock
    from gymdbd.config.config import Config
    from gymdbd.config.kinds import JobConfig
    from gymdbd.config.parts import RepairConfig

OK, WARNING, ERROR = "ok", "warning", "error"


@dataclass(frozen=True)
class Check:
    """The result of one check; its state is `ok`, `warning` or `error`."""

    name: str
    state: str
    message: str
    hint: str = ""


def examine(settings: Config, now: Clock) -> list[Check]:
    """Run all checks of a configuration; whatever they find, nothing is raised."""
    checks = [
        Check("config", OK, f"{settings.source}, {counted(len(settings.jobs), 'job')}"),
        _clock(now),
        *_zone(),
        _sqlite(),
        _status(settings),
        *_log(settings),
    ]
    for job in settings.jobs.values():
        checks.append(_next_run(job, now))
        if isinstance(job, BackupConfig):
            checks += _backup(job, now)
        elif isinstance(job, PullConfig):
            checks += _pull(job, now)
        elif isinstance(job, DrillConfig):
            checks += _drill(job, now)
        elif isinstance(job, VerifyConfig):
            checks += _verify(job, now)
    return checks


def _clock(now: Clock) -> Check:
    text = f"{clock.to_text(now.now(), now.zone)} ({now.zone})"
    if clock.is_plausible(now.now()):
        return Check("clock", OK, text)
    hint = "set the clock, and synchronize it with the network (systemd-timesyncd)"
    return Check("clock", ERROR, f"{text} is wrong", hint)


def _zone() -> list[Check]:
    """Check that the time zone is known; if it is, the check of the clock shows it."""
    try:
        clock.local_zone()
    except TimeZoneError as error:
        return [Check("time zone", ERROR, f"{error.message}; times are shown in UTC", error.hint)]
    fault = clock.fault_of_machine()
    hint = "set it, for example timedatectl set-timezone Europe/Berlin; install the package tzdata"
    return [Check("time zone", WARNING, f"{fault}: using UTC", hint)] if fault else []


def _sqlite() -> Check:
    version = f"SQLite {sqlite3.sqlite_version}"
    if not database.has_wal_reset_bug():
        return Check("sqlite", OK, version)
    return Check(
        "sqlite",
        WARNING,
        f"{version} has the WAL-reset bug: gymdbd's own checkpoints avoid it, but those of an "
        "application with several writing processes may lose commits",
        "update SQLite to 3.51.3 (or 3.50.7, 3.44.6) when your system offers it",
    )


def _status(settings: Config) -> Check:
    file = status.StatusFile(settings.status_file)
    try:
        file.read()
    except GymdbdError as error:
        return Check("status", ERROR, error.message, error.hint)
    if not os.access(settings.status_file.parent, os.W_OK):
        return _not_writable("status", settings.status_file.parent)
    if file.is_daemon_alive():
        return Check("status", OK, f"{settings.status_file}; the daemon is running")
    return Check(
        "status",
        WARNING,
        f"{settings.status_file}; the daemon is not running",
        f"{service_command('start')}, or gymdbd run",
    )


def _log(settings: Config) -> list[Check]:
    """Check that the log file can be written, if one is configured."""
    if settings.log.file is None:
        return []
    folder = settings.log.file.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        return [_not_writable("log", folder)]
    return [Check("log", OK, str(settings.log.file))]


def _next_run(job: JobConfig, now: Clock) -> Check:
    moment = job.when.next_after(now.now(), now.zone)
    seconds = (moment - now.now()).total_seconds()
    hours, minutes = divmod(int(seconds) // 60, 60)
    text = f"runs in {hours} h {minutes} min, at {clock.to_text(moment, now.zone)}"
    return Check(f"{job.name} schedule", OK, text)


def _backup(job: BackupConfig, now: Clock) -> list[Check]:
    name = f"{job.name} database"
    view = uses.look(job.database)
    try:
        identity.refuse(job.database, view)
        path = database.locate(job.database)
        message, size, unknown = _look_into(path)
        newest = [_newest(job, path)] if job.newest else []
    except GymdbdError as error:
        return [Check(name, ERROR, error.message, error.hint), _archive(job, now, 0)]
    seen = [Check(name, OK, message), *_uncheckable(job, unknown), *newest, *_rights(job, path)]
    remarks = [
        Check(f"{job.name} file", WARNING if hint else OK, text, hint)
        for text, hint in identity.remarks(path, view)
    ]
    return [*seen, *remarks, _holders(job, path), _archive(job, now, size)]


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


def _look_into(path: Path) -> tuple[str, int, tuple[str, ...]]:
    """Return a description of a database, its size in bytes, and what cannot be checked in it."""
    in_use = all(side.exists() for side in side_files(path)[:2])
    # If no process has it open, reading it the usual way could leave a -wal and a -shm.
    with opening.reading_live(path, leave_nothing=True) as connection:
        connection.execute("BEGIN")
        facts = read_facts(connection)
        unknown = soundness.foresee(connection)
    tables = counted(len(table_names(facts)), "table")
    mode = f"journal mode {facts.journal_mode}" if in_use else "not open in WAL mode"
    text = f"{path}: {files.to_size(facts.size_bytes)}, {tables}, {mode}"
    return text, facts.size_bytes, unknown


def _unknown_there(job: PullConfig, facts: dict[str, Any]) -> list[Check]:
    from gymdbd.jobs import peer  # noqa: PLC0415 - brings paramiko, which nothing else here needs

    unknown = peer.unknown(facts)
    name, text = f"{job.name} unchecked", f"unknown on the other machine: {unknown}"
    return [Check(name, OK, text)] if unknown else []


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
        + ("; run this as root to see everything" if os.geteuid() else ""),
    )


def _archive(job: BackupConfig, now: Clock, needed: int) -> Check:
    name = f"{job.name} archive"
    if not os.access(job.archive, os.W_OK | os.X_OK):
        return _not_writable(name, job.archive)
    try:
        backups = Catalog(job.archive, now.zone).backups(job.origin)
        files.require_space(job.archive, needed)
    except GymdbdError as error:
        return Check(name, ERROR, error.message, error.hint)
    frozen = Catalog(job.archive, now.zone).frozen(job.origin)
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


def _drill(job: DrillConfig, now: Clock) -> list[Check]:
    """Check that there is a backup to restore, room for it, and the command."""
    name = f"{job.name} backup"
    try:
        backup = Catalog(job.archive, now.zone).find(LATEST, job.origin)
        files.require_space(job.folder.parent, backup.size)
        checks = [Check(name, OK, str(backup.path))]
    except GymdbdError as error:
        checks = [Check(name, ERROR, error.message, error.hint)]
    if not os.access(job.folder.parent, os.W_OK | os.X_OK):
        checks.append(_not_writable(name, job.folder.parent))
    if job.command:
        found = shutil.which(job.command[0])
        message = found or f"there is no program {job.command[0]}"
        hint = "" if found else "correct command: in the configuration"
        checks.append(Check(f"{job.name} command", OK if found else ERROR, message, hint))
    return checks


def _pull(job: PullConfig, now: Clock) -> list[Check]:
    """Check the other machine, the folder of the replica, and the archive."""
    found = _other_side(job, now)
    if job.archive and not os.access(job.archive, os.W_OK | os.X_OK):
        found.append(_not_writable(f"{job.name} archive", job.archive))
    elif job.archive_folder.is_dir():
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
    from gymdbd.jobs import peer  # noqa: PLC0415 - brings paramiko, which nothing else here needs

    try:
        facts = peer.inspect(job, Context(log=logger(), clock=now))
    except RemoteError as error:
        return [Check(f"{job.name} host", ERROR, error.message, error.hint), _replica(job, 0)]
    except GymdbdError as error:
        # The host has answered, so the error is about its database.
        failed = Check(f"{job.name} database", ERROR, error.message, error.hint)
        return [_reached(job), failed, _replica(job, 0)]
    size = facts["page_size"] * facts["page_count"]
    return [_reached(job), *_remote_database(job, facts, size), _replica(job, size)]


def _reached(job: PullConfig) -> Check:
    return Check(f"{job.name} host", OK, f"{job.host} answers, accepts the key and has Python")


def _remote_database(job: PullConfig, facts: dict[str, Any], size: int) -> list[Check]:
    text = (
        f"{facts['database']}: {files.to_size(size)}, {counted(len(facts['tables']), 'table')}, "
        f"journal mode {facts['journal_mode']}"
    )
    versions = f"SQLite {facts['sqlite']}, Python {facts['python']} on the other machine"
    found = [Check(f"{job.name} database", OK, text), *_unknown_there(job, facts)]
    if not facts["wal_reset_bug"]:
        return [*found, Check(f"{job.name} sqlite", OK, versions)]
    warning = f"{versions}: this SQLite has the WAL-reset bug, which can lose commits of several "
    hint = "update its SQLite to 3.51.3 (or 3.50.7, 3.44.6) when its system offers it"
    return [*found, Check(f"{job.name} sqlite", WARNING, f"{warning}writing processes", hint)]


def _replica(job: PullConfig, needed: int) -> Check:
    """Check the replica's folder, its space, and that no process has it open for writing."""
    name, replica = f"{job.name} replica", Replica(job.replica)
    folder = replica.path.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        return _not_writable(name, folder)
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


def _verify(job: VerifyConfig, now: Clock) -> list[Check]:
    """Check the archive, and the archive to repair from."""
    found = [_verified_archive(job, now)]
    if job.repair_from is not None:
        found.append(_copies(f"{job.name} repair_from", job.repair_from, now))
    return found


def _verified_archive(job: VerifyConfig, now: Clock) -> Check:
    name = f"{job.name} archive"
    try:
        backups = Catalog(job.archive, now.zone).backups()
    except GymdbdError as error:
        return Check(name, ERROR, error.message, error.hint)
    damaged = [backup.path.name for backup in backups if backup.verdict == DAMAGED]
    if damaged:
        hint = "gymdbd verify reads them again; gymdbd verify --repair fetches good copies"
        return Check(name, ERROR, f"{job.archive}: damaged: {', '.join(damaged)}", hint)
    if not backups:
        return Check(name, WARNING, f"{job.archive} holds no backup yet", "gymdbd backup makes one")
    if not os.access(job.archive, os.W_OK | os.X_OK):
        found = _not_writable(name, job.archive)
        return Check(name, WARNING, f"{found.message}, so verdicts are not stored", found.hint)
    share = f", {job.sample}% of them at a time" if job.sample else ""
    return Check(
        name, OK, f"{job.archive}: {counted(len(backups), 'backup')}{share}, none known damaged"
    )


def _copies(name: str, place: RepairConfig, now: Clock) -> Check:
    from gymdbd.jobs.verify import repair  # noqa: PLC0415 - brings paramiko, as above

    try:
        with repair.reach(place, Context(log=logger(), clock=now)) as there:
            count = len(there.names())
    except GymdbdError as error:
        return Check(name, ERROR, error.message, error.hint)
    if count == 0:
        message = f"{there.name} holds no backup with a manifest"
        return Check(name, WARNING, message, "check the path: nothing can be repaired from there")
    return Check(name, OK, f"{there.name} answers and holds {counted(count, 'backup')}")


def _not_writable(name: str, folder: Path) -> Check:
    """Return why a folder cannot be written: it is missing, or this user may not write to it."""
    try:
        files.require_folder(folder)
        disk.require_writable_disk(folder)
    except GymdbdError as error:
        return Check(name, ERROR, error.message, error.hint)
    return Check(
        name,
        ERROR,
        f"{folder} cannot be written by this user (uid {os.geteuid()})",
        "run as the user of the daemon, or let this user write to it",
    )
