"""What each kind of job does: the folder of its name here, whose modules are loaded when needed.

`gymdbd.config.kinds.KINDS` has the kinds that a configuration may name.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime, tzinfo

    from gymdbd.clock import Clock
    from gymdbd.config.kinds import JobConfig
    from gymdbd.jobs.context import Context
    from gymdbd.jobs.finding import Check, Finding
    from gymdbd.jobs.result import Result


class Outlook(Protocol):
    """The module `outlook` of a kind: what can be seen of a job without running it."""

    def look(
        self, job: Any, now: datetime, zone: tzinfo, *, was_good: bool
    ) -> Iterator[Finding | datetime]:
        """Yield what is wrong on the disk, and the time of the newest good backup.

        `was_good` says whether the last run was.
        """

    def examine(self, job: Any, now: Clock) -> list[Check]:
        """Check all that the job's configuration names."""


def work(job: JobConfig) -> Callable[[JobConfig, Context], Result]:
    """Return what a run of the job does."""
    run: Callable[[JobConfig, Context], Result] = _load(job, job.kind).run
    return run


def outlook(job: JobConfig) -> Outlook:
    """Return what looks at the job."""
    module: Outlook = _load(job, "outlook")
    return module


def _load(job: JobConfig, name: str) -> Any:
    return importlib.import_module(f"gymdbd.jobs.{job.kind}.{name}")
