"""What each kind of job is configured with. `config.example.yaml` documents the keys."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from gymdbd import lock, origin
from gymdbd.config import values
from gymdbd.config.document import items, key, path, scalar, section, sections
from gymdbd.config.parts import Gates, Keep, Newest, Probe, RepairConfig, Retry, SshConfig
from gymdbd.config.scalars import DURATION, FLAG, INTERVAL, PERCENT, TEXT
from gymdbd.errors import ConfigError
from gymdbd.origin import Origin, Place
from gymdbd.schedule import Cron, Interval, Schedule

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class JobConfig:
    """What every job has: a name, a kind, when it runs and when to worry."""

    name: str
    kind: str = key(scalar(values.text, "str"))
    schedule: Cron | None = key(scalar(Cron, "str"), None)
    every: Interval | None = key(INTERVAL, None)
    max_age: timedelta | None = key(DURATION, None)
    timeout: timedelta = key(DURATION, timedelta(hours=1))
    retry: Retry = key(section(Retry), Retry())

    @property
    def when(self) -> Schedule:
        """Return when it runs."""
        when = self.schedule or self.every
        if when is None:
            raise ConfigError(f"job {self.name} has no schedule")
        return when

    def locks(self) -> list[Path]:
        """Return the locks of everything that a run of this job writes."""
        return []

    def folders(self) -> list[Path]:
        """Return the folders that must be there before a run: none of them is ever created.

        In the empty mount point of a disk that is not mounted a backup would lie on the wrong
        disk, and nobody would know.
        """
        return []

    def scratch(self) -> list[Path]:
        """Return the locks of the folders in which a killed run leaves nothing worth keeping."""
        return []

    def faults(self) -> list[str]:
        """Return what is wrong with the job as a whole."""
        if (self.schedule is None) == (self.every is None):
            return ['expected either schedule: "0 3 * * *" or every: 15m']
        return []


@dataclass(frozen=True, kw_only=True)
class BackupConfig(JobConfig):
    """A backup of one local database into one archive.

    `method` is what the manifest says of how it was made, if that is not the usual way, `source`
    what the backup is of if that is not `database` itself, and `deleted` wants what a process has
    open that nothing leads to any more. None of them is a key of the configuration.
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
    source: Origin | None = None
    deleted: bool = False

    @property
    def origin(self) -> Origin:
        """Return which backups of the archive are of this database."""
        return self.source or origin.here(self.database)

    def locks(self) -> list[Path]:
        """Return the archive's lock: pruning and marking take it too."""
        return [lock.archive_lock(self.archive)]

    def scratch(self) -> list[Path]:
        """Return the archive's lock: a partial backup is of no use to anybody."""
        return self.locks()

    def folders(self) -> list[Path]:
        """Return the archive."""
        return [self.archive]


@dataclass(frozen=True, kw_only=True)
class PullConfig(JobConfig):
    """A replica of one remote database; `remote_database` is a path over there.

    Without `gates` only a table that is gone or emptied makes what is pulled suspicious.
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
    on_local_change: str = key(scalar(values.one_of("backup", "refuse"), "str"), "backup")
    replica_wait: timedelta = key(DURATION, timedelta(seconds=30))
    ssh: SshConfig = key(section(SshConfig), SshConfig())

    @property
    def archive_folder(self) -> Path:
        """Return where old replicas go: `archive`, or the folder `backups` beside the replica."""
        return self.archive or self.replica.parent / "backups"

    @property
    def origin(self) -> Origin:
        """Return which backups of the archive are of the remote database or of the replica."""
        there = Place(self.host, self.remote_database)
        return Origin(self.replica.stem, (there, *origin.here(self.replica).places))

    def locks(self) -> list[Path]:
        """Return the replica's lock; that of the archive is taken only while it is written."""
        return [lock.file_lock(self.replica)]

    def folders(self) -> list[Path]:
        """Return the replica's folder, and the archive if it is not the one that a pull makes."""
        return [self.replica.parent, *([self.archive] if self.archive else [])]


@dataclass(frozen=True, kw_only=True)
class DrillConfig(JobConfig):
    """A rehearsal: the newest good backup is restored to a scratch place and put to the test.

    `database` says whose backups are meant if an archive holds those of several.
    """

    archive: Path = key(path)
    database: Path | None = key(path, None)
    scratch_folder: Path | None = key(path, None)
    probes: tuple[Probe, ...] = key(sections(Probe), ())
    command: tuple[str, ...] = key(items(scalar(values.text, "str", "int", "float")), ())
    command_timeout: timedelta = key(DURATION, timedelta(minutes=1))

    @property
    def origin(self) -> Origin | None:
        """Return which backups of the archive are meant, None for those of its only database."""
        return origin.here(self.database) if self.database else None

    @property
    def folder(self) -> Path:
        """Return the folder, in `scratch_folder` or the archive, that a run makes and removes."""
        return (self.scratch_folder or self.archive) / f".{self.name}.drill"

    def locks(self) -> list[Path]:
        """Return the lock of its folder; the archive's is taken only while a backup is read."""
        return [lock.file_lock(self.folder)]

    def folders(self) -> list[Path]:
        """Return the archive and the folder in which the scratch folder is made."""
        return [self.archive, self.folder.parent]


@dataclass(frozen=True, kw_only=True)
class VerifyConfig(JobConfig):
    """A verification of the backups in one archive, of all or of a share in percent at a time.

    `only` names the backups to read; it is no key of the configuration. The archive's lock is
    taken only while something is written there: a backup must not wait for gigabytes to be read.
    """

    archive: Path = key(path)
    sample: int | None = key(PERCENT, None)
    repair_from: RepairConfig | None = key(section(RepairConfig), None)
    only: tuple[str, ...] = ()

    def folders(self) -> list[Path]:
        """Return the archive."""
        return [self.archive]


@dataclass(frozen=True, kw_only=True)
class EmergencyConfig(JobConfig):
    """One emergency; it has no schedule, so that no configuration holds it."""

    pull: PullConfig

    def locks(self) -> list[Path]:
        """Return those of the pull; the archive's lock is taken only while it is written."""
        return self.pull.locks()

    def folders(self) -> list[Path]:
        """Return the replica's folder: without an archive the first steps are worth as much."""
        return [self.pull.replica.parent]


@dataclass(frozen=True, kw_only=True)
class RestoreConfig(JobConfig):
    """One restore; it has no schedule, so that no configuration holds it.

    `source` says which backups are of the target, if it is the database or replica of a job.
    """

    backup: Path
    target: Path
    replace: bool = False
    busy_timeout: timedelta = timedelta(seconds=5)
    source: Origin | None = None

    def locks(self) -> list[Path]:
        """Return the locks of the archive, which must not lose the backup, and of the target.

        An archive that this user may not write, on a disk gone read-only say, cannot be locked.
        """
        archive = self.backup.parent
        locks = [lock.archive_lock(archive)] if os.access(archive, os.W_OK) else []
        return [*locks, lock.file_lock(self.target)]


KINDS: dict[str, type[JobConfig]] = {
    "backup": BackupConfig,
    "pull": PullConfig,
    "drill": DrillConfig,
    "verify": VerifyConfig,
}
