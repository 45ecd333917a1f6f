"""`gymdbd status` of what the command line names: an archive, a database, or both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import files, words
from gymdbd.errors import UsageError
from gymdbd.runs import standing, verdict
from gymdbd.runs.standing import Standing, Wanted
from gymdbd.terminal import configuration

if TYPE_CHECKING:
    import argparse

    from gymdbd.clock import Clock
    from gymdbd.config.config import Config
    from gymdbd.origin import Origin
    from gymdbd.terminal.output import Output


def run(arguments: argparse.Namespace, now: Clock, output: Output) -> int:
    """Print how the backups are; the exit code is that of the worst."""
    if arguments.brief:
        raise UsageError("--brief is for all jobs of a configuration: leave out what you named")
    wanted = _wanted(arguments, now)
    if not wanted:
        raise UsageError(
            f"there are no backups in {arguments.archive}",
            hint="gymdbd backup --database PATH --archive DIR makes one",
        )
    found = [standing.take(one, now) for one in wanted]
    worst = verdict.worst([one.found.health for one in found])

    def show() -> None:
        for one in found:
            _print(one, now, output)

    databases = [one.to_json(now.zone) for one in found]
    output.result({"databases": databases, "state": worst.name.lower()}, show)
    return int(worst)


def _wanted(arguments: argparse.Namespace, now: Clock) -> list[Wanted]:
    """Return each database that is meant, in each archive with backups of it."""
    settings = configuration.loaded(arguments)
    archives = configuration.archives(arguments)
    named = configuration.database(arguments)
    wanted = [
        _lent(Wanted(archive=archive, origin=origin, file=named or _here(origin)), settings, now)
        for archive in archives
        for origin in configuration.databases_in(archive, settings, arguments)
    ]
    of = configuration.meant(arguments, settings)
    if of and not wanted:
        # Nowhere is a backup of it: say so for the first.
        return [_lent(Wanted(archive=archives[0], origin=of, file=named), settings, now)]
    return wanted


def _here(origin: Origin) -> Path | None:
    place = next((place for place in origin.places if place.is_here), None)
    return Path(place.path) if place else None


def _lent(wanted: Wanted, settings: Config | None, now: Clock) -> Wanted:
    """Return it with the `max_age` of the job that makes these backups, if one does."""
    for made in configuration.made_in(wanted.archive, settings):
        for job in settings.jobs.values() if settings else ():
            if made.origin == wanted.origin and job.backups == made and job.is_scheduled:
                age = verdict.max_age(job, now.now(), now.zone)
                return Wanted(
                    archive=wanted.archive,
                    origin=wanted.origin,
                    file=wanted.file,
                    max_age=age,
                    lent=job.name,
                )
    return wanted


def _print(one: Standing, now: Clock, output: Output) -> None:
    newest, found = one.newest, one.found
    lent = (
        f"; max_age {words.limit(one.wanted.max_age)} of {one.wanted.lent}"
        if (one.wanted.max_age)
        else ""
    )
    facts = [
        ("database", str(one.wanted.file or one.wanted.origin)),
        ("archive", f"{one.wanted.archive}, {words.counted(len(one.backups), 'backup')}"),
    ]
    if newest is not None:
        age = words.age((now.now() - newest.created).total_seconds())
        facts.append(("newest", f"{newest.path.name}, {newest.verdict}, {age} old{lent}"))
    if one.written_at is not None and newest is not None:
        ago = words.age((now.now() - one.written_at).total_seconds())
        since = f"yes, {ago} ago" if one.written_since else f"no, last {ago} ago"
        facts.append(("written since", since))
    if one.free is not None:
        facts.append(("free", files.to_size(one.free)))
    reason = f": {found.reason}" if found.reason else ""
    facts.append(("health", f"{found.health.name.lower()}{reason}"))
    if found.hint:
        facts.append(("what to do", found.hint))
    output.facts(facts)
    output.print_line()
