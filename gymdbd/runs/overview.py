"""An overview: how this machine's jobs, the machine itself and its peers are at one moment.

`gymdbd status`, the notices, the metrics and the page all tell of one overview, so that they never
disagree.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gymdbd.runs import condition, health, peers, verdict

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from gymdbd.clock import Clock
    from gymdbd.config.config import Config
    from gymdbd.jobs.finding import Finding, Health
    from gymdbd.runs.entry import Status
    from gymdbd.runs.health import Daemon, Judged


@dataclass(frozen=True, kw_only=True)
class Overview:
    """How everything is at the instant `at`.

    `jobs` are those of the configuration, in its order. `peers` are the jobs of other machines, by
    `HOST/JOB`, as their machines told it. `remarks` say of a host why nothing is known of its jobs;
    that makes no health worse. `machine` are findings about this machine, by what they are about;
    if all is well with something, its finding says so, if it is known at all.
    """

    at: datetime
    zone: tzinfo
    host: str
    status: Status
    daemon: Daemon
    jobs: dict[str, Judged]
    peers: dict[str, Judged] = field(default_factory=dict)
    remarks: dict[str, Finding] = field(default_factory=dict)
    machine: dict[str, Finding] = field(default_factory=dict)

    @property
    def health(self) -> Health:
        """Return the worst health of all."""
        judged = [*self.jobs.values(), *self.peers.values()]
        found = [one.found.health for one in judged]
        return verdict.worst([*found, *(finding.health for finding in self.machine.values())])


def take(settings: Config, now: Clock) -> Overview:
    """Return the overview of a configuration; GymdbdError if its status file cannot be read."""
    status, daemon = health.read(settings)
    machine = condition.begin(settings, status, now.now())
    others, remarks = peers.judge_all(settings, now)
    return Overview(
        at=now.now(),
        zone=now.zone,
        host=socket.gethostname(),
        status=status,
        daemon=daemon,
        jobs=health.judge_all(settings, status, daemon, now),
        peers=others,
        machine=machine(),
        remarks=remarks,
    )
