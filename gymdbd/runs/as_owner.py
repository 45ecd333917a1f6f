"""Root acts as the user who decides about what a run, or a verb, is to open."""

from __future__ import annotations

import json
import os
from functools import partial
from typing import TYPE_CHECKING

from gymdbd import acting, bounded
from gymdbd.config.kinds import BackupConfig, RestoreConfig
from gymdbd.jobs import elsewhere
from gymdbd.jobs.finding import WARNING, Check
from gymdbd.runs import keeper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path
    from socket import socket

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
    foreign = {
        path: other
        for path, other in of_databases.items()
        if other != user and elsewhere.of(path) is None
    }
    for path, other in foreign.items():
        _handle(path, other)
    acting_as = [f"{other.name if other else 'root'} for {path}" for path, other in foreign.items()]
    if settings is None:
        if user is not None:
            acting.become(user)
    else:
        jobs = [name for name, job in settings.jobs.items() if _decides(user, job)]
        keeper.go_on_as(user, settings, jobs)
    own = [f"{user.name}, to whom {places[0]} belongs"] if user is not None else []
    return " and ".join([*own, *acting_as])


def examined(name: str, places: Sequence[Path], examine: Callable[[], list[Check]]) -> list[Check]:
    """Return what `examine` finds of job `name`, in a process of the user whose `places` are."""
    users = acting.deciders(places)
    if users <= {None}:
        return examine()
    if len(users) > 1:
        told = acting.several({acting.decider(place): place for place in places})
        return [Check(name, WARNING, f"not looked at: {told.message}", told.hint)]

    def tell(line: socket) -> None:
        line.sendall(json.dumps([vars(check) for check in examine()]).encode())

    with acting.start(users.pop(), tell) as answering, answering.makefile("rb") as found:
        told = bounded.parse(found.read(bounded.MOST_BYTES) or b"[]")
    fields = ("name", "state", "message", "hint")
    return [Check(*(str(check.get(name, "")) for name in fields)) for check in told]


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


def _decides(user: User | None, job: JobConfig) -> bool:
    return user in acting.deciders(job.places())
