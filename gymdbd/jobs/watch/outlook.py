"""When the watched machine last came: the time of a file that `gymdbd serve --peer` touches."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import bounded, clock, files
from gymdbd.config.unit import PEERS
from gymdbd.jobs.finding import ERROR, OK, WARNING, Check, Finding, Health
from gymdbd.words import age

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo

    from gymdbd.clock import Clock
    from gymdbd.config.kinds import WatchConfig

_CLOCKS_DIFFER = timedelta(minutes=10)


def look(
    job: WatchConfig, now: datetime, zone: tzinfo, *, was_good: bool
) -> Iterator[Finding | datetime]:
    """Yield when the peer last came, and what is wrong with that; OSError if it cannot be seen."""
    del was_good
    came = _came(job)
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
        reason = f"{job.peer} last came {since} ago, at {at}; it is due within {job.max_age}"
        hint = f"see whether {job.peer} is on and connected, and what gymdbd status says there"
        yield Finding(Health.LATE, reason, hint, "peer-away")


def examine(job: WatchConfig, now: Clock) -> list[Check]:
    """Check that there is a folder in which a peer can be noted, and that it came."""
    name = f"{job.name} peer"
    if not files.is_folder(job.folder):
        hint = (
            f"make it as root, for the account that the key logs in to: install -d -o ACCOUNT "
            f"{job.folder}"
        )
        return [Check(name, ERROR, f"there is no folder {job.folder}", hint)]
    try:
        came = _came(job)
    except OSError as error:
        reason = error.strerror or str(error)
        return [Check(name, WARNING, f"{job.mark} cannot be seen: {reason}", _how(job))]
    if came is None:
        return [Check(name, WARNING, f"{job.peer} has not come yet", _how(job))]
    return [Check(name, OK, f"{job.peer} last came at {clock.to_text(came, now.zone)}")]


def _came(job: WatchConfig) -> datetime | None:
    """Return when the peer last came, None if it never did."""
    try:
        facts = os.lstat(job.mark)
    except FileNotFoundError:
        return None
    bounded.require_ordinary(facts)
    try:
        return datetime.fromtimestamp(facts.st_mtime, UTC)
    except (ValueError, OverflowError) as error:
        raise OSError(f"the time of {job.mark} is outside the calendar") from error


def _how(job: WatchConfig) -> str:
    folder = f" --peers {job.folder}" if job.folder != Path(PEERS) else ""
    return (
        f"let the key of {job.peer} say who comes: gymdbd authorize --peer {job.peer}{folder} "
        "prints its line for authorized_keys"
    )
