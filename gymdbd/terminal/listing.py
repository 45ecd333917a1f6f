"""The backups of archives for `gymdbd list`: one in a line, or a day in a line, the newest last."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd import clock, disk, files, words
from gymdbd.archive import backup as verdicts
from gymdbd.machine import use
from gymdbd.names import plain

if TYPE_CHECKING:
    from datetime import datetime, tzinfo
    from pathlib import Path

    from gymdbd.archive.backup import Backup
    from gymdbd.clock import Clock
    from gymdbd.origin import Origin
    from gymdbd.terminal.output import Output

# How the digits of a moment stand in the name of a backup.
_STAMP = "%Y%m%d_%H%M%S"
_VERDICTS = (
    verdicts.VERIFIED,
    verdicts.UNVERIFIED,
    verdicts.SUSPICIOUS,
    verdicts.REJECTED,
    verdicts.DAMAGED,
)


@dataclass(frozen=True)
class Series:
    """The backups of one database in an archive, newest first.

    Those that are asked for are `shown`. `origin` is None if nothing says of which database they
    are.
    """

    archive: Path
    origin: Origin | None
    every: list[Backup]
    shown: list[Backup]


@dataclass(frozen=True)
class Day:
    """The backups of a day, newest first; `date` is that of the clocks of this machine."""

    date: str
    backups: list[Backup]

    @property
    def size(self) -> int:
        """Return the bytes of their `.db` files."""
        return sum(backup.size for backup in self.backups)

    @property
    def verdicts(self) -> dict[str, int]:
        """Return how many have each verdict, of those that any has."""
        found = Counter(backup.verdict for backup in self.backups)
        return {verdict: found[verdict] for verdict in _VERDICTS if found[verdict]}


def days(backups: list[Backup], zone: tzinfo) -> list[Day]:
    """Return the days with these backups, newest first as they are."""

    def date(backup: Backup) -> str:
        return f"{backup.created.astimezone(zone):%Y-%m-%d}"

    return [Day(day, list(found)) for day, found in itertools.groupby(backups, date)]


def rows(backup: Backup) -> int | None:
    """Return the rows of all tables of a backup; None if they are unknown."""
    return backup.facts.rows if backup.facts else None


def on_disk(series: list[Series]) -> int:
    """Return the bytes that all files of the backups in an archive take on its disk."""
    archive = series[0].archive
    names = {plain(backup.path.name) for part in series for backup in part.every}
    with disk.checking(archive):
        return use.held(archive, lambda name: f"{plain(name).rpartition('.db')[0]}.db" in names)


def note(backup: Backup) -> str:
    """Return what else is known about a backup in one line."""
    facts, marks = backup.facts, backup.marks
    said = [
        "content overwritten by a restore" if backup.is_overwritten else "",
        "pinned" if marks.kept_at else "",
        "could not be checked completely" if facts and facts.has_unchecked else "",
        "violates constraints" if facts and facts.has_remarks else "",
        marks.note,
        "accepted" if marks.accepted_at else "",
        backup.note,
        backup.unknown,
        *marks.problems,
    ]
    # Few are suspicious, and only their manifests are read.
    if facts and facts.is_suspicious and backup.manifest:
        said += backup.manifest.suspicious
    return "; ".join(filter(None, said))


def show(
    series: list[Series], since: datetime | None, now: Clock, output: Output, *, by_day: bool
) -> None:
    """Print what an archive holds: its path, a table for each database, and how much it is.

    `since` is the moment that the backups are asked from; None for all of them.
    """
    output.print_line(str(series[0].archive))
    for part in series:
        if len(series) > 1:
            output.print_line(
                f"of {part.origin}" if part.origin else "without a manifest, of any of these"
            )
        if since is not None and not part.shown:
            output.print_line(_none_since(since, part.every[0], now))
        elif by_day:
            found = days(part.shown, now.zone)
            output.table(_DAY, [_day_row(day, now.zone) for day in reversed(found)])
        else:
            output.table(_BACKUP, [_row(backup, now) for backup in reversed(part.shown)])
    newest = max(part.every[0].created for part in series)
    output.print_line(f"{total([series])}; the newest is {_age(newest, now)} old")


def total(archives: list[list[Series]]) -> str:
    """Say how many backups archives hold, how many of them are shown, and how much they are."""
    parts = [part for series in archives for part in series]
    every = sum(len(part.every) for part in parts)
    shown = sum(len(part.shown) for part in parts)
    size = files.to_size(sum(map(on_disk, archives)))
    of = f"{shown:,} of " if shown < every else ""
    return f"{of}{words.counted(every, 'backup')}; {size} on disk in all"


_BACKUP = ["backup", "size", "rows", "verdict", "proven", "note"]
_DAY = ["day", "backups", "size", "rows", "newest", "verdicts"]


def _row(backup: Backup, now: Clock) -> list[str]:
    proven = clock.from_text(backup.verified_at) if backup.verified_at else None
    here = backup.created.astimezone(now.zone)
    made = (
        "" if f"{here:{_STAMP}}" in backup.path.name else f"made {clock.to_minute(here, now.zone)}"
    )
    return [
        backup.path.name,
        files.to_size(backup.size),
        _number(rows(backup)),
        backup.verdict,
        _age(proven, now) if proven else "-",
        "; ".join(filter(None, [made, note(backup)])),
    ]


def _day_row(day: Day, zone: tzinfo) -> list[str]:
    newest = day.backups[0]
    return [
        day.date,
        f"{len(day.backups):,}",
        files.to_size(day.size),
        _number(rows(newest)),
        f"{newest.created.astimezone(zone):%H:%M:%S}",
        ", ".join(f"{count:,} {verdict}" for verdict, count in day.verdicts.items()),
    ]


def _none_since(since: datetime, newest: Backup, now: Clock) -> str:
    return (
        f"none since {clock.to_minute(since, now.zone)}; "
        f"the newest is {newest.path.name}, {_age(newest.created, now)} old"
    )


def _age(moment: datetime, now: Clock) -> str:
    return words.age((now.now() - moment).total_seconds())


def _number(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"
