"""The sections within the configuration of a job."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from gymdbd.config import values
from gymdbd.config.document import key, mapping, path, scalar, section
from gymdbd.config.scalars import BOUND, DURATION, FLAG, NUMBER, PERCENT, TEXT

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Keep:
    """The retention rule: backups younger than `days` and the newest `count` are retained.

    So is the newest of each of the last `hourly` hours, `daily` days, ... that have backups.
    """

    days: int = key(NUMBER, 0)
    count: int = key(NUMBER, 0)
    hourly: int = key(NUMBER, 0)
    daily: int = key(NUMBER, 0)
    weekly: int = key(NUMBER, 0)
    monthly: int = key(NUMBER, 0)
    yearly: int = key(NUMBER, 0)

    def faults(self) -> list[str]:
        """Return an error if the rule retains nothing."""
        if any(vars(self).values()):
            return []
        return [f"expected at least one of {', '.join(vars(self))} above zero"]


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How often a run is attempted if the error is transient, and the delay before a retry."""

    attempts: int = key(NUMBER, 3)
    delay: timedelta = key(DURATION, timedelta(seconds=30))

    def faults(self) -> list[str]:
        """Return an error if a run would never be attempted."""
        return [] if self.attempts else ["expected attempts above zero: 1 means no retry"]


@dataclass(frozen=True, kw_only=True)
class Gates:
    """How much less than the newest good backup a new one may hold before it is suspicious."""

    max_row_drop: int = key(PERCENT, 20)
    max_size_drop: int = key(PERCENT, 50)
    ignore_rows: int = key(NUMBER, 10)
    tables: tuple[tuple[str, int], ...] = key(mapping(PERCENT), ())


@dataclass(frozen=True, kw_only=True)
class Newest:
    """The column with the time of each row, and how old the newest row may be."""

    table: str = key(TEXT)
    column: str = key(TEXT)
    max_age: timedelta | None = key(DURATION, None)
    naive: str = key(scalar(values.one_of("utc", "local"), "str"), "utc")


@dataclass(frozen=True, kw_only=True)
class SshConfig:
    """Settings for reaching the host, which override `~/.ssh/config`."""

    user: str | None = key(TEXT, None)
    port: int | None = key(NUMBER, None)
    identity_file: str | None = key(TEXT, None)
    identities_only: bool | None = key(FLAG, None)
    known_hosts: str | None = key(TEXT, None)
    host_key_alias: str | None = key(TEXT, None)
    proxy_jump: str | None = key(TEXT, None)
    proxy_command: str | None = key(TEXT, None)
    ciphers: str | None = key(TEXT, None)
    connect_timeout: timedelta | None = key(DURATION, None)
    auth_timeout: timedelta = key(DURATION, timedelta(seconds=30))
    stall_timeout: timedelta = key(DURATION, timedelta(seconds=60))
    keepalive: timedelta | None = key(DURATION, None)
    python: str = key(TEXT, "python3")
    gymdbd: str = key(TEXT, "gymdbd")


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A query of a restored database, and the expected first value of its result."""

    sql: str = key(TEXT)
    expect: str | None = key(scalar(str, "str", "int", "float"), None)
    at_least: float | None = key(BOUND, None)
    at_most: float | None = key(BOUND, None)

    def faults(self) -> list[str]:
        """Return an error if every result would be right."""
        bounds = self.at_least is not None or self.at_most is not None
        if (self.expect is not None) == bounds:
            return ["expected either expect, or at_least, at_most or both"]
        return []


@dataclass(frozen=True, kw_only=True)
class RepairConfig:
    """The archive on another machine that may hold the same backups."""

    host: str = key(TEXT)
    archive: str = key(TEXT)
    ssh: SshConfig = key(section(SshConfig), SshConfig())


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """The page to look at, which the daemon keeps up to date: its file and its language."""

    file: Path = key(path)
    language: str = key(scalar(values.one_of("en", "ko"), "str"), "en")


@dataclass(frozen=True, kw_only=True)
class MetricsConfig:
    """The metrics for Prometheus: the file in the folder of node_exporter's textfile collector."""

    textfile: Path = key(path)

    def faults(self) -> list[str]:
        """Return an error if the collector would not read the file."""
        if self.textfile.suffix == ".prom":
            return []
        return [f"textfile: expected a name that ends in .prom (got {self.textfile.name})"]


@dataclass(frozen=True, kw_only=True)
class MachineConfig:
    """When the machine itself is late: if the next backup will not fit in so many days."""

    min_free_days: int = key(NUMBER, 14)
