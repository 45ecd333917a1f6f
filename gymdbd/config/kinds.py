"""The configuration of each kind of job. `config.example.yaml` documents the keys."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gymdbd import files, lock, names, origin
from gymdbd.config import values
from gymdbd.config.document import items, key, path, scalar, section, sections
from gymdbd.config.notify import ping_url
from gymdbd.config.parts import Gates, Keep, Newest, Probe, RepairConfig, Retry, SshConfig
from gymdbd.config.rate import Limit, limit
from gymdbd.config.scalars import DURATION, FLAG, INTERVAL, PERCENT, SIZE, TEXT
from gymdbd.config.unit import PEERS, PUBLIC_STATUS
from gymdbd.errors import ConfigError
from gymdbd.origin import Origin, Place
from gymdbd.schedule import Cron, Interval, Schedule

if TYPE_CHECKING:
    from gymdbd.config.secrets import Secret


class Backups(NamedTuple):
    """The backups that a job makes: copies of `file` in `archive`, which are of `origin`."""

    file: Path
    archive: Path
    origin: Origin


@dataclass(frozen=True, kw_only=True)
class JobConfig:
    """The keys of every job: its kind, when it runs, and when its last success is too old."""

    name: str
    kind: str = key(scalar(values.text, "str"))
    schedule: Cron | None = key(scalar(Cron, "str"), None)
    every: Interval | None = key(INTERVAL, None)
    max_age: timedelta | None = key(DURATION, None)
    timeout: timedelta = key(DURATION, timedelta(hours=1))
    retry: Retry = key(section(Retry), Retry())
    ping: Secret | None = key(ping_url, None)

    @property
    def is_scheduled(self) -> bool:
        """Return whether it ever runs by itself: a watch never does."""
        return self.schedule is not None or self.every is not None

    @property
    def when(self) -> Schedule:
        """Return its schedule, or its interval."""
        when = self.schedule or self.every
        if when is None:
            raise ConfigError(f"job {self.name} has no schedule")
        return when

    @property
    def backups(self) -> Backups | None:
        """Return which backups the job makes, None if it makes none."""
        return None

    def archives(self) -> list[Path]:
        """Return the archives that the job makes or verifies, as far as they are to exist."""
        return []

    @property
    def newest(self) -> Newest | None:
        """Return the column that dates the newest row, None if the job looks at none."""
        return None

    def locks(self) -> list[Path]:
        """Return the locks that a run of this job holds, for what it writes."""
        return []

    def folders(self) -> list[Path]:
        """Return the folders that must exist before a run; they are never created.

        If a disk is not mounted, a folder created in its mount point would put the backup on the
        wrong disk, unnoticed.
        """
        return []

    def places(self) -> list[Path]:
        """Return what a run opens on this machine; its user is whoever decides about the first."""
        return self.archives()

    def scratch(self) -> list[Path]:
        """Return the locks of the folders whose partial files are worthless after a killed run."""
        return []

    def faults(self) -> list[str]:
        """Return the errors of the job as a whole."""
        if (self.schedule is None) == (self.every is None):
            return ['expected either schedule: "0 3 * * *" or every: 15m']
        return []


@dataclass(frozen=True, kw_only=True)
class BackupConfig(JobConfig):
    """A backup of a local database into an archive.

    Four fields are not keys of the configuration: `method` for the manifest, if it is not the
    usual one, and `overwritten_by`; `source`, the origin of the backup, if it is not `database`;
    and `deleted`, to back up the deleted or replaced file that a process still has open.
    """

    database: Path = key(path)
    archive: Path = key(path)
    checkpoint: str = key(scalar(values.one_of("truncate", "passive", "none"), "str"), "truncate")
    raw: bool = key(FLAG, default=False)
    busy_timeout: timedelta = key(DURATION, timedelta(seconds=5))
    count_changes: bool = key(FLAG, default=True)
    keep: Keep | None = key(section(Keep), None)
    gates: Gates | None = key(section(Gates), Gates())
    newest: Newest | None = key(section(Newest), None)
    method: str | None = None
    overwritten_by: str | None = None
    source: Origin | None = None
    deleted: bool = False

    @property
    def origin(self) -> Origin:
        """Return the origin that selects the backups of this database."""
        return self.source or origin.here(self.database)

    @property
    def backups(self) -> Backups:
        """Return those of the database."""
        return Backups(self.database, self.archive, self.origin)

    def archives(self) -> list[Path]:
        """Return its archive."""
        return [self.archive]

    def places(self) -> list[Path]:
        """Return its archive and the database."""
        return [self.archive, self.database]

    def locks(self) -> list[Path]:
        """Return the archive's lock, which pruning and marking take as well."""
        return [lock.archive_lock(self.archive)]

    def scratch(self) -> list[Path]:
        """Return the archive's lock, because a partial backup is worthless."""
        return self.locks()

    def folders(self) -> list[Path]:
        """Return the archive."""
        return [self.archive]


@dataclass(frozen=True, kw_only=True)
class PullConfig(JobConfig):
    """A replica of a remote database; `remote_database` is a path on `host`.

    Without `gates`, only missing or emptied tables make the pulled content suspicious; without
    `max_size`, only a database many times larger than the replica is refused. `limit` is how fast
    it may arrive. `remote_status` is where `host` has its public status, which is asked for only if
    that key may see it.
    """

    host: str = key(TEXT)
    remote_database: str = key(TEXT)
    replica: Path = key(path)
    method: str = key(scalar(values.one_of("query", "scp"), "str"), "query")
    verify: str = key(scalar(values.one_of("quick", "full"), "str"), "quick")
    check_every: timedelta = key(DURATION, timedelta(hours=1))
    full_verify_every: timedelta = key(DURATION, timedelta(days=1))
    backup_before: bool = key(FLAG, default=True)
    archive: Path | None = key(path, None)
    keep: Keep = key(section(Keep), Keep(count=5))
    gates: Gates | None = key(section(Gates), None)
    max_size: int | None = key(SIZE, None)
    limit: Limit | None = key(limit, None)
    on_local_change: str = key(scalar(values.one_of("backup", "refuse"), "str"), "backup")
    replica_wait: timedelta = key(DURATION, timedelta(seconds=30))
    remote_status: str = key(TEXT, PUBLIC_STATUS)
    ssh: SshConfig = key(section(SshConfig), SshConfig())

    @property
    def archive_folder(self) -> Path:
        """Return the archive of old replicas: `archive`, or `backups` beside the replica."""
        return self.archive or self.replica.parent / "backups"

    @property
    def origin(self) -> Origin:
        """Return the origin that selects backups of the remote database and of the replica."""
        there = Place(self.host, self.remote_database)
        return Origin(names.plain(self.replica.stem), (there, *origin.here(self.replica).places))

    @property
    def backups(self) -> Backups:
        """Return those of the replica."""
        return Backups(self.replica, self.archive_folder, self.origin)

    def archives(self) -> list[Path]:
        """Return its archive; the default one only if a pull has made it."""
        return [self.archive_folder] if self.archive or files.is_folder(self.archive_folder) else []

    def places(self) -> list[Path]:
        """Return the replica and its archive."""
        return [self.replica, self.archive_folder]

    def locks(self) -> list[Path]:
        """Return the replica's lock; the archive's lock is taken only while it is written."""
        return [lock.file_lock(self.replica)]

    def folders(self) -> list[Path]:
        """Return the replica's folder, and `archive`; a pull creates the default archive."""
        return [self.replica.parent, *([self.archive] if self.archive else [])]


@dataclass(frozen=True, kw_only=True)
class DrillConfig(JobConfig):
    """A drill: the newest good backup is restored to a scratch folder and tested.

    `database` selects whose backups, if an archive has backups of several databases. `only` is no
    key: it is the file name of another backup to rehearse with.
    """

    archive: Path = key(path)
    database: Path | None = key(path, None)
    only: str | None = None
    scratch_folder: Path | None = key(path, None)
    probes: tuple[Probe, ...] = key(sections(Probe), ())
    command: tuple[str, ...] = key(items(scalar(values.text, "str", "int", "float")), ())
    command_timeout: timedelta = key(DURATION, timedelta(minutes=1))

    @property
    def origin(self) -> Origin | None:
        """Return the origin that selects the backups, None for those of the only database."""
        return origin.here(self.database) if self.database else None

    @property
    def scratch_in(self) -> Path:
        """Return where a run creates a folder of its own, and removes it."""
        return self.scratch_folder or self.archive

    def places(self) -> list[Path]:
        """Return the archive and the scratch folder."""
        return self.folders()

    def locks(self) -> list[Path]:
        """Return a lock in the archive; the archive's own is taken only to read a backup.

        It is not beside the scratch folder, which may be in a folder that all users share. An
        archive that this user may not write has none: then a run removes its own folder only.
        """
        if not os.access(self.archive, os.W_OK):
            return []
        return [lock.file_lock(self.archive / f".{self.name}.drill")]

    def folders(self) -> list[Path]:
        """Return the archive, and where the scratch folder is made."""
        return [self.archive, self.scratch_in]


@dataclass(frozen=True, kw_only=True)
class VerifyConfig(JobConfig):
    """A verification of the backups in an archive: all of them, or a `sample` in percent per run.

    `only` names the backups to read; it is not a key of the configuration. The archive's lock is
    taken only to write, so that a backup does not wait while gigabytes are read.
    """

    archive: Path = key(path)
    sample: int | None = key(PERCENT, None)
    repair_from: RepairConfig | None = key(section(RepairConfig), None)
    only: tuple[str, ...] = ()

    def archives(self) -> list[Path]:
        """Return the archive."""
        return [self.archive]

    def folders(self) -> list[Path]:
        """Return the archive."""
        return [self.archive]


@dataclass(frozen=True, kw_only=True)
class WatchConfig(JobConfig):
    """A watch on another machine: the pulls of `peer` are to come, and it never runs itself.

    `folder` is where `gymdbd serve --peer` notes that `peer` came.
    """

    peer: str = key(scalar(values.job_name, "str"))
    folder: Path = key(path, Path(PEERS))

    @property
    def mark(self) -> Path:
        """Return the file whose time is when the peer last came."""
        return self.folder / self.peer

    def faults(self) -> list[str]:
        """Return the errors of the job as a whole."""
        if self.is_scheduled:
            return ["a watch has no schedule and no every: it never runs, and only looks"]
        if self.ping:
            return ["a watch has no ping, because it never runs"]
        return [] if self.max_age else ["expected max_age: 26h, after which the peer is late"]


@dataclass(frozen=True, kw_only=True)
class EmergencyConfig(JobConfig):
    """An emergency run; it has no schedule and is never in a configuration."""

    pull: PullConfig

    def places(self) -> list[Path]:
        """Return those of the pull."""
        return self.pull.places()

    def locks(self) -> list[Path]:
        """Return the locks of the pull; the archive's lock is taken only while it is written."""
        return self.pull.locks()

    def folders(self) -> list[Path]:
        """Return the replica's folder, because the first steps do not need the archive."""
        return [self.pull.replica.parent]


@dataclass(frozen=True, kw_only=True)
class RestoreConfig(JobConfig):
    """A restore; it has no schedule and is never in a configuration.

    `source` is the origin of the target's backups, if it is the database or replica of a job.
    With `across`, another user's process restores into the target, and locks it. With `is_undo`,
    `backup` is what the last restore into the target has overwritten.
    """

    backup: Path
    target: Path
    replace: bool = False
    busy_timeout: timedelta = timedelta(seconds=5)
    source: Origin | None = None
    across: bool = False
    is_undo: bool = False

    def places(self) -> list[Path]:
        """Return the backup and the target."""
        return [self.backup, self.target]

    def locks(self) -> list[Path]:
        """Return the locks of the archive, so that the backup is not pruned, and of the target."""
        locks = lock.reader_locks(self.backup.parent)
        return locks if self.across else [*locks, lock.file_lock(self.target)]


@dataclass(frozen=True, kw_only=True)
class RebuildConfig(JobConfig):
    """A rebuild: the replica of a pull, or a `backup`, is put where the pull's database was.

    It has no schedule and is never in a configuration.
    """

    pull: PullConfig
    backup: Path | None = None
    replace: bool = False
    dry_run: bool = False
    timeout: timedelta = timedelta(days=1)

    def places(self) -> list[Path]:
        """Return what is sent."""
        return [self.backup or self.pull.replica]

    def locks(self) -> list[Path]:
        """Return the lock of what is sent, so that no pull replaces it and nothing prunes it."""
        return self.pull.locks() if self.backup is None else lock.reader_locks(self.backup.parent)


KINDS: dict[str, type[JobConfig]] = {
    "backup": BackupConfig,
    "pull": PullConfig,
    "drill": DrillConfig,
    "verify": VerifyConfig,
    "watch": WatchConfig,
}
