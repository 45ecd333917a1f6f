"""How a database and its tables grew, and when they fell: pure functions of its backups."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from gymdbd.archive.backup import Backup
    from gymdbd.archive.manifest import Manifest


@dataclass(frozen=True)
class Point:
    """The size of the database (bytes), or the rows of a table, in a backup."""

    backup: Backup
    value: int

    @property
    def at(self) -> datetime:
        """Return when the backup was made."""
        return self.backup.created


@dataclass(frozen=True)
class Fall:
    """What was less in a backup than in the one before it."""

    before: Point
    after: Point

    @property
    def lost(self) -> int:
        """Return how much less."""
        return self.before.value - self.after.value


def sizes(backups: Iterable[Backup]) -> list[Point]:
    """Return the size of the database in each backup that has a manifest, oldest first.

    That of the pages counts: the `.db` of a raw backup may be smaller.
    """
    described = _described(backups)
    return [Point(backup, facts.page_count * facts.page_size) for backup, facts in described]


def tables(backups: Iterable[Backup]) -> list[str]:
    """Return the names of all tables that were ever counted, the newest first."""
    described = _described(backups)
    return list(dict.fromkeys(name for _, facts in described[::-1] for name in facts.tables))


def rows(backups: Iterable[Backup], table: str) -> list[Point]:
    """Return the rows of a table in each backup since it exists, oldest first.

    A table that is gone has no row. A backup in which it could not be counted tells nothing.
    """
    described = [pair for pair in _described(backups) if table not in pair[1].uncounted]
    since = itertools.dropwhile(lambda pair: table not in pair[1].tables, described)
    return [Point(backup, facts.tables.get(table, 0)) for backup, facts in since]


def falls(points: list[Point]) -> list[Fall]:
    """Return where it fell, newest first."""
    pairs = itertools.pairwise(points)
    return [Fall(before, after) for before, after in pairs if after.value < before.value][::-1]


def per_day(points: list[Point]) -> float | None:
    """Return how much it grew a day, from the first to the last; None within a day."""
    if not points:
        return None
    days = (points[-1].at - points[0].at).total_seconds() / 86400
    return (points[-1].value - points[0].value) / days if days >= 1 else None


def _described(backups: Iterable[Backup]) -> list[tuple[Backup, Manifest]]:
    ordered = sorted(backups, key=lambda backup: backup.order)
    return [(backup, backup.manifest) for backup in ordered if backup.manifest]
