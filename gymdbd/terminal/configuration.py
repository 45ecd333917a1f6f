"""The configuration that a command line names, and its jobs and archives."""

from __future__ import annotations

import contextlib
import functools
import os
from typing import TYPE_CHECKING, TypeVar

from gymdbd import files
from gymdbd.archive import belonging
from gymdbd.archive.catalog import Catalog
from gymdbd.clock import Clock
from gymdbd.config import config
from gymdbd.config.kinds import JobConfig
from gymdbd.errors import ConfigError, UsageError
from gymdbd.runs import as_owner
from gymdbd.terminal.output import Output

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from gymdbd.archive.backup import Backup
    from gymdbd.config.config import Config
    from gymdbd.config.kinds import Backups
    from gymdbd.source.errors import GymdbdError

Job = TypeVar("Job", bound=JobConfig)

# The arguments with which a verb needs no configuration.
INSTEAD = {
    **dict.fromkeys(("list", "verify", "drill", "growth"), "--archive DIR"),
    **dict.fromkeys(("keep", "unkeep", "accept", "reject"), "BACKUP --archive DIR"),
    "restore": "BACKUP --archive DIR --to PATH",
    "diff": "BACKUP --archive DIR --database PATH",
    "rescue": "BACKUP --archive DIR --table TABLE",
    "prune": "--archive DIR --keep-days N",
    "backup": "--database PATH",
    "authorize": "--database PATH --key FILE",
    **dict.fromkeys(("pull", "emergency"), "--host HOST --remote-database PATH --replica PATH"),
}


def load(arguments: argparse.Namespace, *, quietly: bool = False) -> Config:
    """Load the configuration named by the command line, or found in the usual places.

    As whom root acts is not printed if it is to be done `quietly`.
    """
    found = files.absolute(config.find(arguments.config, instead=_instead(arguments)))
    user = as_owner.act_as_owner([found], None)
    say_acting("" if quietly else user)
    return config.load(found)


@functools.cache
def say_acting(user: str) -> None:
    """Print once as whom root acts from now on; nothing if `user` is empty."""
    if user:
        Output().remark(f"gymdbd: acting as {user}")


def act(arguments: argparse.Namespace, places: list[Path]) -> None:
    """Act, if this is root, as the user who decides about `places`, before they are opened.

    Another process handles a live database that belongs to another user.
    """
    if os.geteuid() != 0:
        return
    settings = None
    with contextlib.suppress(ConfigError):
        settings = load(arguments)
    read = _databases(arguments, settings)
    say_acting(as_owner.act_as_owner(places, settings, read=read))


def _instead(arguments: argparse.Namespace) -> str:
    """Return a command line with which this verb needs no configuration; empty if it needs one."""
    verb = _verb(arguments)
    return f"gymdbd {verb} {INSTEAD[verb]}" if verb in INSTEAD else ""


def _verb(arguments: argparse.Namespace) -> str:
    parser = getattr(arguments, "parser", None)
    return parser.prog.split()[-1] if parser else ""


def choose_job(settings: Config, name: str | None, kind: type[Job]) -> Job:
    """Return the job called `name`, or the only job of its kind if `name` is None."""
    candidates = [job for job in settings.jobs.values() if isinstance(job, kind)]
    word = kind.__name__.removesuffix("Config").lower()
    if name is None:
        if len(candidates) == 1:
            return candidates[0]
        others = ", ".join(f"{job.name} ({job.kind})" for job in settings.jobs.values())
        if not candidates:
            raise UsageError(
                f"{settings.source} has no {word} job",
                hint=f"its jobs are: {others}; the {word} job may belong to another machine",
            )
        raise UsageError(
            f"{settings.source} has {len(candidates)} {word} jobs; name one of them",
            hint=f"its {word} jobs are: {', '.join(job.name for job in candidates)}",
        )
    job = settings.job(name)
    if not isinstance(job, kind):
        names = ", ".join(job.name for job in candidates) or "none"
        raise UsageError(
            f"job {name} is a {job.kind} job, not a {word} job",
            hint=f"its {word} jobs are: {names}",
        )
    return job


def archives(arguments: argparse.Namespace) -> list[Path]:
    """Return the archive of --archive, or those of the configuration."""
    if arguments.archive:
        found = [files.absolute(arguments.archive)]
    else:
        found = archives_of(load(arguments))
    act(arguments, found)
    return found


# The verbs that open a live database beside an archive, and the argument that names it.
_DATABASES = {"restore": "to", "diff": "database", "rescue": "database"}


def _databases(arguments: argparse.Namespace, settings: Config | None) -> list[Path]:
    """Return the live databases that a verb may open besides the archive."""
    name = _DATABASES.get(_verb(arguments))
    if name is None:
        return []
    if given := getattr(arguments, name):
        return [files.absolute(given)]
    jobs = settings.jobs.values() if settings else ()
    return [job.backups.file for job in jobs if job.backups]


def archives_of(settings: Config) -> list[Path]:
    """Return every archive of the configuration; a pull's default archive only if it exists."""
    return sorted({path for job in settings.jobs.values() for path in job.archives()})


def makers_of(backup: Backup, arguments: argparse.Namespace) -> list[Backups]:
    """Return what the jobs are configured to make that make backups like this one."""
    folder = backup.path.parent
    made = [job.backups for job in load(arguments).jobs.values() if job.backups]
    made = [of for of in made if os.path.realpath(of.archive) == os.path.realpath(folder)]
    every = Catalog(folder, Clock().zone).backups() if made else []
    return [
        of
        for of in made
        if any(other.path == backup.path for other in belonging.likely(every, of.origin))
    ]


def report_unread(errors: list[GymdbdError]) -> None:
    """Print the archives that could not be read; the other archives are shown anyway."""
    for error in errors:
        Output().remark(f"gymdbd: left out: {error.message}. What to do: {error.hint}")
