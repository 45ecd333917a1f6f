"""When the watched machine last came: the time of a file that `gymdbd serve --peer` touches."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import bounded, clock, files
from gymdbd.config.unit import PEERS
from gymdbd.jobs.finding import ERROR, OK, WARNING, Check, Finding, Health
from gymdbd.words import age, limit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo

    from gymdbd.clock import Clock
    from gymdbd.config.kinds import WatchConfig

_CLOCKS_DIFFER = timedelta(minutes=10)


def look(
    job: WatchConfig, now: datetime, zone: tzinfo, *, was_good: bool
) -> Iterator[Finding | datetime]:
    """Yield when the peer last came, and what is wrong with that."""
    del was_good
    try:
        came = _came(job)
    except OSError as error:
        yield Finding(Health.UNKNOWN, _unseen(job, error), _how(job), "peer-unseen")
        return
    if came is None:
        yield Finding(Health.UNKNOWN, f"{job.peer} has not come yet", _how(job), "never-came")
        return
    at = clock.to_text(came, zone)
    if came > now + _CLOCKS_DIFFER:
        reason = f"{job.peer} came at {at}, which is in the future"
        yield Finding(Health.UNKNOWN, reason, "check the clock", "clock-wrong")
        return
    yield came
    if job.max_age is not None and now - came > job.max_age:
        since = age((now - came).total_seconds())
        within = limit(job.max_age)
        reason = f"{job.peer} last came {since} ago, at {at}; it is due within {within}"
        hint = f"see whether {job.peer} is on and connected, and what gymdbd status says there"
        yield Finding(Health.LATE, reason, hint, "peer-away")


def examine(job: WatchConfig, now: Clock) -> list[Check]:
    """Check that there is a folder in which a peer can be noted, and that it came."""
    name = f"{job.name} peer"
    try:
        came = _came(job)
    except OSError as error:
        return [Check(name, ERROR, _unseen(job, error), _how(job))]
    if came is None:
        return [Check(name, WARNING, f"{job.peer} has not come yet", _how(job))]
    return [Check(name, OK, f"{job.peer} last came at {clock.to_text(came, now.zone)}")]


def _came(job: WatchConfig) -> datetime | None:
    """Return when the peer last came, None if it never did; OSError if that cannot be seen."""
    try:
        facts = os.lstat(job.mark)
    except FileNotFoundError:
        if files.is_folder(job.folder):
            return None
        raise
    bounded.require_ordinary(facts)
    try:
        return datetime.fromtimestamp(facts.st_mtime, UTC)
    except (ValueError, OverflowError) as error:
        raise OSError("its time is outside the calendar") from error


def _unseen(job: WatchConfig, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"there is no folder {job.folder}, in which it is noted when {job.peer} comes"
    return f"when {job.peer} came cannot be seen at {job.mark}: {error.strerror or error}"


def _how(job: WatchConfig) -> str:
    if not os.path.isdir(job.folder):  # noqa: PTH112 - Path.is_dir raises in a forbidden folder
        return (
            "make it as root, for the account that the key logs in to: install -d -o ACCOUNT "
            f"{job.folder}"
        )
    folder = f" --peers {job.folder}" if job.folder != Path(PEERS) else ""
    return (
        f"let the key of {job.peer} say who comes: gymdbd authorize --peer {job.peer}{folder} "
        "prints its line for authorized_keys"
    )
