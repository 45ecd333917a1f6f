"""Fetching one snapshot whole: if the other side ends it early, the next takes what arrived."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd.source.errors import SourceMovedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gymdbd.config.kinds import PullConfig
    from gymdbd.jobs.context import Context
    from gymdbd.jobs.pull.arrived import Arrived

_ATTEMPTS = 5


@dataclass
class Attempt:
    """What is known of an attempt that failed: whether the other side has a WAL, and pages came."""

    has_wal: bool = True
    is_further: bool = False


def repeat(fetch: Callable[[Attempt], Arrived], job: PullConfig, context: Context) -> Arrived:
    """Fetch until a snapshot was held to the end; give up after some attempts.

    With a WAL, each snapshot that pages came from brings the replica further, and is no failure.
    Without one, an application that writes all the time lets none come to its end.
    """
    failed = 0
    while True:
        attempt = Attempt()
        try:
            return fetch(attempt)
        except SourceMovedError as error:
            failed += not attempt.is_further
            if failed == _ATTEMPTS:
                raise (error if attempt.has_wal else _always_written(job)) from error
            context.log.info("pull goes on", reason=error.message)


def _always_written(job: PullConfig) -> SourceMovedError:
    return SourceMovedError(
        f"{job.remote_database} on {job.host} was written during each of {_ATTEMPTS} attempts to "
        "read it: it has no WAL, so that the application may write only in the pauses",
        hint="let the application use WAL mode (PRAGMA journal_mode=WAL), or copy the file in a "
        f"quiet moment: gymdbd pull {job.name} --method scp",
    )
