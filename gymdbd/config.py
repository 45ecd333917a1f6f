"""The configuration as frozen dataclasses. `config.example.yaml` documents the keys."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import lock, values
from gymdbd.document import Document, did_you_mean, join, key, path, scalar, section
from gymdbd.errors import ConfigError
from gymdbd.schedule import Cron, Interval, Schedule
from gymdbd.sqlite.checkpoint import MODES

if TYPE_CHECKING:
    import yaml

_PLACES = ("config.yaml", "~/.config/gymdbd/config.yaml", "/etc/gymdbd/config.yaml")

_TEXT = scalar(values.text, "str")
_NUMBER = scalar(values.number, "int")
_FLAG = scalar(values.flag, "bool")
# YAML sees a number without a unit as a number; the reader then says that the unit is missing.
_DURATION = scalar(values.duration, "str", "int", "float")
_INTERVAL = scalar(values.interval, "str", "int", "float")
_SIZE = scalar(values.size, "str", "int", "float")


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """How and how much is logged."""

    level: str = key(scalar(values.one_of("debug", "info", "warning", "error"), "str"), "info")
    format: str = key(scalar(values.one_of("auto", "journald", "console", "json"), "str"), "auto")
    file: Path | None = key(path(values.in_folder), None)
    max_size: int = key(_SIZE, 10 * 1024**2)
    keep_files: int = key(_NUMBER, 5)


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Which backups stay: the younger than `days` and the newest `count`, whichever are more."""

    days: int = key(_NUMBER, 0)
    count: int = key(_NUMBER, 0)

    def faults(self) -> list[str]:
        """Refuse a rule that keeps nothing."""
        return [] if self.days or self.count else ["expected days, count or both, above zero"]


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How often a run tries again when trying again can help, and how long it waits first."""

    attempts: int = key(_NUMBER, 3)
    delay: timedelta = key(_DURATION, timedelta(seconds=30))

    def faults(self) -> list[str]:
        """Refuse a run that is never tried at all."""
        return [] if self.attempts else ["expected attempts above zero: 1 is to try once"]


@dataclass(frozen=True, kw_only=True)
class JobConfig:
    """What every job has: a name, a kind, when it runs and when to worry."""

    name: str
    kind: str = key(scalar(values.text, "str"))
    schedule: Cron | None = key(scalar(Cron, "str"), None)
    every: Interval | None = key(_INTERVAL, None)
    max_age: timedelta | None = key(_DURATION, None)
    timeout: timedelta = key(_DURATION, timedelta(hours=1))
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
    """A backup of one local database into one archive."""

    database: Path = key(path(values.in_folder))
    archive: Path = key(path(values.folder))
    checkpoint: str = key(scalar(values.one_of(*MODES), "str"), "truncate")
    raw: bool = key(_FLAG, default=False)
    busy_timeout: timedelta = key(_DURATION, timedelta(seconds=5))
    keep: Keep | None = key(section(Keep), None)

    def locks(self) -> list[Path]:
        """Return the archive's lock: pruning and marking take it too."""
        return [lock.archive_lock(self.archive)]

    def scratch(self) -> list[Path]:
        """Return the archive's lock: a partial backup is of no use to anybody."""
        return self.locks()


@dataclass(frozen=True, kw_only=True)
class SshConfig:
    """How to reach the host, where `~/.ssh/config` does not say so or says it differently."""

    user: str | None = key(_TEXT, None)
    port: int | None = key(_NUMBER, None)
    identity_file: str | None = key(_TEXT, None)
    identities_only: bool | None = key(_FLAG, None)
    known_hosts: str | None = key(_TEXT, None)
    host_key_alias: str | None = key(_TEXT, None)
    proxy_jump: str | None = key(_TEXT, None)
    proxy_command: str | None = key(_TEXT, None)
    ciphers: str | None = key(_TEXT, None)
    connect_timeout: timedelta = key(_DURATION, timedelta(seconds=15))
    auth_timeout: timedelta = key(_DURATION, timedelta(seconds=30))
    stall_timeout: timedelta = key(_DURATION, timedelta(seconds=60))
    keepalive: timedelta = key(_DURATION, timedelta(seconds=15))
    python: str = key(_TEXT, "python3")


@dataclass(frozen=True, kw_only=True)
class PullConfig(JobConfig):
    """A replica of one remote database; `remote_database` is a path over there."""

    host: str = key(_TEXT)
    remote_database: str = key(_TEXT)
    replica: Path = key(path(values.in_folder))
    method: str = key(scalar(values.one_of("query", "scp"), "str"), "query")
    verify: str = key(scalar(values.one_of("quick", "full"), "str"), "quick")
    full_verify_every: timedelta = key(_DURATION, timedelta(days=7))
    backup_before: bool = key(_FLAG, default=True)
    archive: Path | None = key(path(values.folder), None)
    keep: Keep = key(section(Keep), Keep(count=5))
    on_local_change: str = key(scalar(values.one_of("backup", "refuse"), "str"), "backup")
    replica_wait: timedelta = key(_DURATION, timedelta(seconds=30))
    ssh: SshConfig = key(section(SshConfig), SshConfig())

    @property
    def archive_folder(self) -> Path:
        """Return where old replicas go: `archive`, or the folder `backups` beside the replica."""
        return self.archive or self.replica.parent / "backups"

    def locks(self) -> list[Path]:
        """Return the replica's lock; that of the archive is taken only while it is written."""
        return [lock.file_lock(self.replica)]


KINDS: dict[str, type[JobConfig]] = {"backup": BackupConfig, "pull": PullConfig}


def _read_jobs(document: Document, node: yaml.Node, keypath: str) -> dict[str, JobConfig]:
    """Read the jobs, each into the class of its kind."""
    jobs = {}
    entries = document.entries(node, keypath)
    if not entries:
        raise ValueError("expected at least one job")
    for name, (name_node, job_node) in entries.items():
        try:
            job = _read_job(document, job_node, values.job_name(name), join(keypath, name))
        except ValueError as error:
            document.fault(name_node, join(keypath, name), str(error))
        else:
            jobs.update({name: job} if job else {})
    for name, fault in _shared_names(jobs):
        document.fault(entries[name][0], join(keypath, name), fault)
    return jobs


def _read_job(document: Document, node: yaml.Node, name: str, keypath: str) -> JobConfig | None:
    kinds = ", ".join(KINDS)
    entries = document.entries(node, keypath)
    if "kind" not in entries:
        raise ValueError(f"kind is missing (expected one of {kinds})")
    kind = entries["kind"][1].value
    if not isinstance(kind, str) or kind not in KINDS:
        meant = did_you_mean(str(kind), KINDS)
        raise ValueError(f"unknown kind {kind}{meant} (expected one of {kinds})")
    return document.section(node, KINDS[kind], keypath, name=name)


def _shared_names(jobs: dict[str, JobConfig]) -> list[tuple[str, str]]:
    """Find two databases whose backups would have the same names in the same archive."""
    owners: dict[tuple[Path, str], BackupConfig] = {}
    faults = []
    for job in jobs.values():
        if isinstance(job, BackupConfig):
            other = owners.setdefault((job.archive, job.database.stem), job)
            if other.database != job.database:
                fault = (
                    f"its backups would have the same names as those of {other.name} in "
                    f"{job.archive}: give each database an archive of its own"
                )
                faults.append((job.name, fault))
    return faults


@dataclass(frozen=True, kw_only=True)
class Config:
    """The whole configuration, read from the file `source` with the text `text`."""

    source: Path
    text: str
    status_file: Path = key(path(values.in_folder))
    stop_timeout: timedelta = key(_DURATION, timedelta(seconds=60))
    log: LogConfig = key(section(LogConfig), LogConfig())
    jobs: dict[str, JobConfig] = key(_read_jobs)

    def job(self, name: str) -> JobConfig:
        """Return the job called `name`; ConfigError with the nearest one otherwise."""
        if name in self.jobs:
            return self.jobs[name]
        raise ConfigError(
            f'{self.source} has no job "{name}"{did_you_mean(name, self.jobs)}',
            hint=f"its jobs are: {', '.join(self.jobs)}",
        )


def find(explicit: Path | None) -> Path:
    """Return the configuration to use: the one named, or the first in the usual places."""
    if explicit is not None:
        return explicit
    if os.environ.get("GYMDBD_CONFIG"):
        return Path(os.environ["GYMDBD_CONFIG"])
    for place in _PLACES:
        candidate = Path(place).expanduser()
        if candidate.is_file():
            return candidate
    raise ConfigError(
        f"there is no configuration: looked for $GYMDBD_CONFIG, {', '.join(_PLACES)}",
        hint="copy config.example.yaml there and edit it, name one with -c FILE, "
        "or give the verb what it needs (gymdbd backup --database PATH)",
    )


def load(source: Path) -> Config:
    """Read and check the configuration at `source`; ConfigError lists every fault."""
    try:
        text = source.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot read the configuration {source} ({error.strerror})",
            hint="check the path given with -c or in $GYMDBD_CONFIG",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{source} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8"
        ) from error
    return parse(text, source)


def parse(text: str, source: Path) -> Config:
    """Check the configuration in `text`; `source` says where it came from."""
    return Document(text, source).read(Config, source=source, text=text)
