"""The configuration that a command line names, and its jobs and archives."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gymdbd import files, origin
from gymdbd.archive import belonging
from gymdbd.clock import Clock
from gymdbd.config import config
from gymdbd.config.kinds import JobConfig
from gymdbd.errors import BackupMissingError, ConfigError, UsageError
from gymdbd.runs import as_owner
from gymdbd.terminal.output import Output

if TYPE_CHECKING:
    import argparse

    from gymdbd.archive.backup import Backup
    from gymdbd.config.config import Config
    from gymdbd.config.kinds import Backups
    from gymdbd.origin import Origin
    from gymdbd.source.errors import GymdbdError

Job = TypeVar("Job", bound=JobConfig)

# The archive of a database for which no configuration names one.
ARCHIVE = Path("data/backups/database")

# The arguments with which a verb needs no configuration.
INSTEAD = {
    **dict.fromkeys(("list", "verify", "drill", "growth", "prune", "status"), "--database PATH"),
    **dict.fromkeys(("keep", "unkeep", "accept", "reject"), "BACKUP --database PATH"),
    **dict.fromkeys(("restore", "diff", "rescue"), "BACKUP --database PATH"),
    "backup": "--database PATH",
    "authorize": "--database PATH --key FILE",
    "undo": "--database PATH",
    **dict.fromkeys(("pull", "emergency"), "--host HOST --remote-database PATH --replica PATH"),
}
# Of these, the verbs that look for backups: an archive in another place is named as well.
_ARCHIVED = f" (whose backups are in {ARCHIVE}, or --archive DIR)"
# What to do if the configuration has no job of a kind, besides looking at those that it has.
_NO_JOB = {
    "backup": "it may belong to another machine; gymdbd init writes one, or says what to add",
    "pull": "it may belong to another machine; gymdbd init --host HOST writes one, or says what to "
    "add",
    "drill": "gymdbd drill latest rehearses a restore without one",
}
_NOT_ARCHIVED = ("backup", "undo", "authorize", "pull", "emergency")


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
    where = "" if verb in _NOT_ARCHIVED else _ARCHIVED
    return f"gymdbd {verb} {INSTEAD[verb]}{where}" if verb in INSTEAD else ""


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
                hint=f"its jobs are: {others}; {_NO_JOB[word]}",
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


def loaded(arguments: argparse.Namespace) -> Config | None:
    """Load the configuration beside what the command line names; None if there is none.

    One that is invalid is no obstacle to work on an archive that is named.
    """
    try:
        return load(arguments)
    except ConfigError:
        absent = database(arguments) is not None and config.found(arguments.config) is None
        if not absent and not getattr(arguments, "archive", None):
            raise
        return None


def database(arguments: argparse.Namespace) -> Path | None:
    """Return the database that --database names."""
    named = getattr(arguments, "source", None) or getattr(arguments, "database", None)
    return files.absolute(named) if named else None


def meant(arguments: argparse.Namespace, settings: Config | None) -> Origin | None:
    """Return the database of whose backups alone --database speaks; None for those of any.

    A verb that compares with a database takes backups of any if something else says where they are.
    """
    compared = getattr(arguments, "source", None) is None
    named = None if compared and (arguments.archive or settings) else database(arguments)
    if named is None:
        return None
    here = origin.here(named)
    # A job may know more places of it.
    of_jobs = (made.origin for made in made_by(settings))
    return next((of for of in of_jobs if any(map(here.places[0].same, of.places))), here)


def of_named(backups: list[Backup], arguments: argparse.Namespace) -> list[Backup]:
    """Return the backups of the database of --database; all if none is named."""
    if database(arguments) is None:
        return backups
    of = meant(arguments, loaded(arguments))
    return belonging.likely(backups, of) if of else backups


def databases_in(
    archive: Path, settings: Config | None, arguments: argparse.Namespace
) -> list[Origin]:
    """Return the databases with backups in an archive: those of jobs as the jobs know them.

    If --database names one, it is that alone.
    """
    from gymdbd.archive.catalog import Catalog  # noqa: PLC0415 - a pull looks into no archive

    every = Catalog(archive, Clock().zone).backups()
    if of := meant(arguments, settings):
        return [of] if belonging.likely(every, of) else []
    of_jobs = [
        made.origin for made in made_in(archive, settings) if belonging.of(every, made.origin)
    ]
    known = {backup.path for of in of_jobs for backup in belonging.of(every, of)}
    others = [backup for backup in every if backup.path not in known]
    return [*of_jobs, *belonging.origins(others)]


def made_in(archive: Path, settings: Config | None) -> list[Backups]:
    """Return what the jobs are configured to make in an archive; links are followed."""
    here = files.resolved(archive)
    return [made for made in made_by(settings) if files.resolved(made.archive) == here]


def archives(arguments: argparse.Namespace) -> list[Path]:
    """Return the archive of --archive, or those of the configuration.

    If no job of it makes backups of the database of --database, the archive in which `gymdbd backup
    --database` puts them counts as well.
    """
    if arguments.archive:
        found = [files.absolute(arguments.archive)]
    else:
        settings = loaded(arguments)
        found = [*(archives_of(settings) if settings else ()), *_unconfigured(arguments, settings)]
    act(arguments, found)
    return found


def _unconfigured(arguments: argparse.Namespace, settings: Config | None) -> list[Path]:
    """Return the archive of a database that no job names; BackupMissingError if it is needed."""
    of = meant(arguments, settings)
    if of is None or any(of == made.origin for made in made_by(settings)):
        return []
    usual = files.absolute(ARCHIVE)
    if files.is_folder(usual):
        return [usual] if settings is None or usual not in archives_of(settings) else []
    if settings is not None:
        return []
    raise BackupMissingError(
        f"there are no backups of {database(arguments)} in {usual}, which does not exist",
        hint="name their folder with --archive DIR, or make one: gymdbd backup --database PATH",
    )


def made_by(settings: Config | None) -> list[Backups]:
    """Return what the jobs of a configuration make that make backups."""
    jobs = settings.jobs.values() if settings else ()
    return [job.backups for job in jobs if job.backups]


# The verbs that open a live database beside an archive.
_LIVE = ("restore", "diff", "rescue")


def _databases(arguments: argparse.Namespace, settings: Config | None) -> list[Path]:
    """Return the live databases that a verb may open besides the archive."""
    if _verb(arguments) not in _LIVE:
        return []
    if given := getattr(arguments, "to", None) if _verb(arguments) == "restore" else None:
        return [files.absolute(given)]
    named = database(arguments)
    return [named] if named else [made.file for made in made_by(settings)]


def archives_of(settings: Config) -> list[Path]:
    """Return every archive of the configuration; a pull's default archive only if it exists."""
    return sorted({path for job in settings.jobs.values() for path in job.archives()})


def makers_of(backup: Backup, arguments: argparse.Namespace) -> list[Backups]:
    """Return what the jobs are configured to make that make backups like this one."""
    from gymdbd.archive.catalog import Catalog  # noqa: PLC0415 - a pull looks into no archive

    folder = backup.path.parent
    absent = config.found(arguments.config) is None
    made = made_in(folder, None if absent else load(arguments))
    unsure = [of for of in made if not belonging.is_surely_of(backup, of.origin)]
    every = Catalog(folder, Clock().zone).backups() if unsure else []
    return [
        of
        for of in made
        if of not in unsure
        or any(other.path == backup.path for other in belonging.likely(every, of.origin))
    ]


def report_unread(errors: list[GymdbdError]) -> None:
    """Print the archives that could not be read; the other archives are shown anyway."""
    for error in errors:
        Output().remark(f"gymdbd: left out: {error.message}. What to do: {error.hint}")
