"""Root acts as the user who decides about what a run, or a verb, is to open."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from gymdbd import acting
from gymdbd.config.kinds import BackupConfig, RestoreConfig
from gymdbd.jobs import elsewhere
from gymdbd.runs import keeper

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from gymdbd.acting import User
    from gymdbd.config.config import Config
    from gymdbd.config.kinds import JobConfig
    from gymdbd.jobs.elsewhere import Elsewhere


def run_as_owner(job: JobConfig, settings: Config | None) -> str:
    """Act as the user who decides about what a run of `job` opens; return as whom, "" if no other.

    That is the user of the archive or replica. Another process handles the database if that is
    another user's.
    """
    first, *others = job.places()
    read = others if isinstance(job, (BackupConfig, RestoreConfig)) else []
    return act_as_owner([first], settings, read=read, also=others)


def act_as_owner(
    places: Sequence[Path],
    settings: Config | None,
    *,
    read: Iterable[Path] = (),
    also: Iterable[Path] = (),
) -> str:
    """Act as the user who decides about all of `places`; return as whom, "" if no other.

    Another process handles those of the databases `read` that another user decides about. Root
    itself opens nothing of another user's in `also`.
    """
    if os.geteuid() != 0:
        return ""
    users = {acting.decider(place): place for place in places}
    if len(users) > 1:
        raise acting.several(users)
    user = next(iter(users), None)
    others = {acting.decider(place): place for place in also}
    of_databases = {path: acting.decider(path) for path in read}
    strange = {other: place for other, place in others.items() if place not in of_databases}
    if user is None and set(strange) - {None}:
        raise acting.several({**users, **strange})
    for path, other in of_databases.items():
        if other != user:
            _handle(path, other)
    if user is None:
        return ""
    if settings is None:
        acting.become(user)
    else:
        jobs = [name for name, job in settings.jobs.items() if _decides(user, job)]
        keeper.go_on_as(user, settings, jobs)
    return f"{user.name}, to whom {places[0]} belongs"


def handle(path: Path) -> Elsewhere | None:
    """Return the database at `path` if another user's process handles it, which root starts."""
    if (user := acting.decider(path)) is not None:
        _handle(path, user)
    return elsewhere.of(path)


def _handle(path: Path, user: User | None) -> None:
    from gymdbd.jobs import handled  # noqa: PLC0415 - only if the users differ

    elsewhere.start(user, path, partial(handled.await_requests, path=path))


def act_as_home(settings: Config) -> str:
    """Act as the user who decides about the status file and the log file; return as whom."""
    if os.geteuid() != 0:
        return ""
    users = {acting.decider(place): place for place in keeper.home(settings)}
    if len(users) > 1:
        raise acting.several(users)
    user, place = users.popitem()
    if user is None:
        return ""
    acting.become(user)
    return f"{user.name}, to whom {place} belongs"


def _decides(user: User, job: JobConfig) -> bool:
    return user in acting.deciders(job.places())
