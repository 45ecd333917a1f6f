"""list the backups of an archive, newest last

verified    verified when it was made, or later by gymdbd verify (the column
            "proven" shows how long ago)
unverified  not verified, like the backups of older scripts and an old replica
            of a large database between two checks (check_every)
suspicious  intact, but with much less content than the newest good backup;
            decide with gymdbd accept or gymdbd reject
rejected    somebody has marked its content as wrong; latest never chooses it
damaged     gymdbd verify found damage; it does not count as a backup

"rows" are those of all tables. With --by-day, "rows" and "newest" are of the
newest backup of that day. --json has the newest first.

examples:
  gymdbd list
      every archive of the configuration
  gymdbd list --last 10
      the newest ten of each database
  gymdbd list --since yesterday --by-day
      a line for each day
  gymdbd list --archive data/backups/database --json
      one archive, for a program
  gymdbd list --database instance/gym_system.db
      the backups of one database, with or without a configuration
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gymdbd import clock, files, when
from gymdbd.archive import belonging
from gymdbd.archive.catalog import Catalog
from gymdbd.clock import Clock
from gymdbd.config.kinds import BackupConfig
from gymdbd.errors import UsageError
from gymdbd.source.errors import GymdbdError
from gymdbd.terminal import configuration, listing, options
from gymdbd.terminal.listing import Series

if TYPE_CHECKING:
    import argparse
    from datetime import datetime, tzinfo
    from pathlib import Path

    from gymdbd.archive.backup import Backup
    from gymdbd.terminal.output import Output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    options.add_search(parser)
    parser.add_argument(
        "--last", type=options.number, metavar="N", help="only the newest N of each database"
    )
    parser.add_argument(
        "--since", metavar="TIME", help=f"only those made since: {when.EXAMPLES}".replace("%", "%%")
    )
    parser.add_argument("--by-day", action="store_true", help="one line for each day")
    options.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the backups."""
    now = Clock()
    if arguments.last == 0:
        raise UsageError("--last is to be at least 1", hint="leave it out to see all backups")
    since = when.since(arguments.since, now.now(), now.zone) if arguments.since else None
    archives = configuration.archives(arguments)
    backups, unread = _read(archives, now)
    configuration.report_unread(unread)
    backups = configuration.of_named(backups, arguments)
    found = [
        series
        for archive in archives
        if (series := _series(archive, backups, since, arguments.last))
    ]

    def show() -> None:
        if not found:
            output.print_line(_none(arguments))
        for series in found:
            listing.show(series, since, now, output, by_day=arguments.by_day)
            if len(found) > 1:
                output.print_line()
        if len(found) > 1:
            output.print_line(f"in all: {listing.total(found)}")

    # An archive may have thousands, so only what is printed is described.
    output.result(_payload(found, unread, arguments, now.zone) if output.json else {}, show)
    return 0


def _payload(
    found: list[list[Series]],
    unread: list[GymdbdError],
    arguments: argparse.Namespace,
    zone: tzinfo,
) -> dict[str, Any]:
    describe = _days if arguments.by_day else _backups
    return {
        **describe(found, zone),
        "unread": [{"error": error.message, "hint": error.hint} for error in unread],
        "size_on_disk": sum(map(listing.on_disk, found)),
    }


def _series(
    archive: Path, backups: list[Backup], since: datetime | None, last: int | None
) -> list[Series]:
    """Return the backups in an archive by their databases, each with those that are asked for."""
    here = [backup for backup in backups if backup.path.parent == archive]
    return [
        Series(
            archive,
            origin,
            every,
            [backup for backup in every if since is None or backup.created >= since][:last],
        )
        for origin, every in belonging.apart(here)
    ]


def _read(archives: list[Path], now: Clock) -> tuple[list[Backup], list[GymdbdError]]:
    """Return the backups of all archives, and why others could not be read, if not all failed."""
    backups: list[Backup] = []
    unread: list[GymdbdError] = []
    for archive in archives:
        try:
            backups += Catalog(archive, now.zone).backups()
        except GymdbdError as error:
            unread.append(error)
    if unread and len(unread) == len(archives):
        raise unread[0]
    return backups, unread


def _none(arguments: argparse.Namespace) -> str:
    """Return the message if there are no backups, and what creates one."""
    of = f" of {arguments.source}" if arguments.source else ""
    if arguments.archive:
        return f"there are no backups{of} in {arguments.archive}"
    if database := configuration.database(arguments):
        missing = "" if files.is_file(database) else ", and there is no file at that path"
        return f"there are no backups of {database} yet{missing}; gymdbd backup makes one"
    jobs = configuration.load(arguments).jobs.values()
    if any(isinstance(job, BackupConfig) for job in jobs):
        return "there are no backups yet; gymdbd backup makes one"
    return "there are no backups yet; gymdbd pull saves each replica that it replaces"


def _backups(found: list[list[Series]], zone: tzinfo) -> dict[str, Any]:
    """Return the backups of each archive, newest first."""
    shown = [
        backup
        for series in found
        for backup in sorted(
            (backup for part in series for backup in part.shown),
            key=lambda backup: backup.order,
            reverse=True,
        )
    ]
    return {"backups": [_describe(backup, zone) for backup in shown]}


def _describe(backup: Backup, zone: tzinfo) -> dict[str, Any]:
    facts = backup.facts
    # Few have any, and only their manifests are read.
    remarked = backup.manifest if facts and facts.has_remarks else None
    partly = backup.manifest if facts and facts.has_unchecked else None
    return {
        "path": str(backup.path),
        "created_at": clock.to_text(backup.created, zone),
        "size": backup.size,
        "rows": listing.rows(backup),
        "source": str(backup.place) if backup.place else None,
        "verdict": backup.verdict,
        "verified_at": backup.verified_at,
        "kept": backup.marks.kept_at is not None,
        "remarks": remarked.remarks if remarked else [],
        "unchecked": partly.unchecked if partly else [],
        "note": listing.note(backup),
    }


def _days(found: list[list[Series]], zone: tzinfo) -> dict[str, Any]:
    """Return the days of each database, newest first."""
    return {
        "days": [
            {
                "archive": str(part.archive),
                "source": str(part.origin) if part.origin else None,
                "day": day.date,
                "backups": len(day.backups),
                "size": day.size,
                "newest": str(day.backups[0].path),
                "verdicts": day.verdicts,
            }
            for series in found
            for part in series
            for day in listing.days(part.shown, zone)
        ]
    }
