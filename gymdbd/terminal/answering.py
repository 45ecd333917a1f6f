"""The common part of accept and reject: what an argument names, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import files
from gymdbd.archive.backup import DAMAGED
from gymdbd.config.kinds import PullConfig
from gymdbd.errors import BackupMissingError, ConfigError, UsageError
from gymdbd.jobs.pull.replica import Replica
from gymdbd.origin import Origin
from gymdbd.runs import answering
from gymdbd.runs.answering import Subject
from gymdbd.terminal import configuration, naming, options

if TYPE_CHECKING:
    import argparse

    from gymdbd.config.config import Config
    from gymdbd.config.kinds import JobConfig
    from gymdbd.terminal.naming import Name
    from gymdbd.terminal.output import Output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    naming.add_words(
        parser,
        "BACKUP|JOB",
        f"{naming.HELP}; or a job, for everything of it that waits for an answer",
    )
    naming.add_at(parser)
    options.add_search(parser)
    options.add_json(parser)


def run(arguments: argparse.Namespace, output: Output, *, right: bool) -> int:
    """Accept what is meant if it is `right`, otherwise reject it; print what that has changed."""
    settings = _settings(arguments)
    name = naming.only(naming.named(arguments))
    subject = _subject(name, arguments, settings, output)
    places = [subject.archive, *([subject.pull.replica] if subject.pull else [])]
    configuration.act(arguments, places)
    if right and subject.backup and subject.backup.verdict == DAMAGED:
        raise UsageError(
            f"{subject.backup.path} is damaged: {'; '.join(subject.backup.marks.problems)}",
            hint="a damaged backup cannot be accepted; try to repair it: gymdbd verify --repair",
        )
    paths = answering.answer(subject, settings, right=right)
    word = "accepted" if right else "rejected"

    def show() -> None:
        for path in paths:
            output.print_line(f"{word}  {path}")
        if not paths:
            output.print_line(f"nothing of {name} needed to be {word}")

    output.result({"state": "ok" if paths else "unchanged", word: paths}, show)
    return 0


def _settings(arguments: argparse.Namespace) -> Config | None:
    try:
        return configuration.load(arguments)
    except ConfigError:
        if arguments.archive is None and arguments.config is not None:
            raise
        return None


def _subject(
    name: Name, arguments: argparse.Namespace, settings: Config | None, output: Output
) -> Subject:
    """Find the job, replica or backup that is named."""
    word = "" if name.is_time else name.text
    if settings is not None and word in settings.jobs:
        return _of_job(settings.jobs[word])
    if word and files.is_file(Path(word)):
        configuration.act(arguments, [files.absolute(word)])
    pull = _of_replica(files.absolute(word), arguments) if word else None
    if pull is not None:
        return _of_job(pull)
    try:
        backup = naming.find_backup(arguments, output)
    except BackupMissingError as error:
        raise naming.no_job(error, name, settings.jobs if settings else ()) from error
    origin = Origin(backup.stem, (backup.place,) if backup.place else ())
    return Subject(backup.path.parent, origin, backup=backup)


def _of_job(job: JobConfig) -> Subject:
    made = job.backups
    if made is None:
        raise UsageError(f"job {job.name} is a {job.kind} job, which makes no backups")
    return Subject(made.archive, made.origin, pull=job if isinstance(job, PullConfig) else None)


def _of_replica(path: Path, arguments: argparse.Namespace) -> PullConfig | None:
    """Return the pull that made the replica at `path` without a configuration; None if none did."""
    state = Replica(path).state() if path.is_file() else None
    if state is None:
        return None
    return PullConfig(
        name="pull",
        kind="pull",
        host=state.host,
        remote_database=state.remote_database,
        replica=path,
        archive=arguments.archive,
    )
