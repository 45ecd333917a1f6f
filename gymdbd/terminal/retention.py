"""Which backups the command line wants pruned, by which rule, and where that rule comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd import files
from gymdbd.config.kinds import BackupConfig
from gymdbd.config.parts import Keep
from gymdbd.errors import BackupMissingError, UsageError
from gymdbd.terminal import configuration, options

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from gymdbd.config.config import Config
    from gymdbd.origin import Origin

# The retention of the scripts that gymdbd replaces.
DEFAULT = Keep(days=14, count=10)

_NONE = (
    "add --keep-days N, --keep-count N, --keep-daily N or another of them, or a keep: section to "
)
_NONE += "the job"
_OTHERS = "a job has that archive, but for another database or without keep:"


@dataclass(frozen=True)
class Rule:
    """The rule for the backups of one database in an archive; `told` says whose rule it is.

    If `told` is empty, the command line itself has it, or names the job.
    """

    archive: Path
    origin: Origin
    keep: Keep
    told: str = ""

    def __str__(self) -> str:
        """Return it for people."""
        numbers = [f"{name} {number}" for name, number in vars(self.keep).items() if number]
        return f"{self.origin} in {self.archive}: keep {', '.join(numbers)} ({self.told})"


def rules(arguments: argparse.Namespace) -> list[Rule]:
    """Return the rule for each database that is meant; UsageError if there is none.

    Flags come first, then the job whose archive it is, and the default only in an archive that no
    job has.
    """
    flags = options.retention(arguments)
    given = Keep(**flags) if flags else None
    if given and given.faults():
        raise UsageError("there is no retention rule", hint=_NONE)
    if not (arguments.archive or arguments.source):
        return [_of_job(arguments, given)]
    if arguments.job:
        raise UsageError("name either a JOB, or --archive DIR or --database PATH")
    settings = configuration.loaded(arguments)
    found, without = [], []
    for archive in configuration.archives(arguments):
        for origin in configuration.databases_in(archive, settings, arguments):
            rule = _rule(archive, origin, settings, given)
            found += [rule] if rule else []
            without += [] if rule else [f"{origin} in {archive}"]
    if without:
        told = f"there is no retention rule for {' and '.join(without)}"
        raise UsageError(f"{told}: {_OTHERS}", hint=_NONE)
    if not found and arguments.source:
        raise BackupMissingError(
            f"there are no backups of {arguments.source} to prune",
            hint="gymdbd list prints all backups; their folder is named with --archive DIR",
        )
    return found


def _of_job(arguments: argparse.Namespace, given: Keep | None) -> Rule:
    job = configuration.choose_job(configuration.load(arguments), arguments.job, BackupConfig)
    configuration.act(arguments, [job.archive])
    keep = given or job.keep
    if keep is None:
        raise UsageError("there is no retention rule", hint=_NONE)
    return Rule(job.archive, job.origin, keep)


def _rule(
    archive: Path, origin: Origin, settings: Config | None, given: Keep | None
) -> Rule | None:
    """Return the rule for a database, None if it is a job's, and that has none."""
    if given:
        return Rule(archive, origin, given)
    here, is_used = files.resolved(archive), False
    for job in settings.jobs.values() if settings else ():
        if job.backups is None or files.resolved(job.backups.archive) != here:
            continue
        is_used = True
        keep = getattr(job, "keep", None)
        if job.backups.origin == origin and keep and settings:
            return Rule(archive, origin, keep, f"keep: of {job.name} in {settings.source}")
    if is_used:
        return None
    return Rule(archive, origin, DEFAULT, "the default: no job of a configuration has this archive")
