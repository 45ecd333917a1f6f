"""Which backups are retained and why: a pure function of the catalog, the rule and the time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gymdbd.archive.backup import Backup

# Two readings of the clock may differ a little; more than this means that it was set back.
_TOLERANCE = timedelta(seconds=2)


@dataclass(frozen=True)
class Decision:
    """Whether a backup stays, and the reason as text."""

    backup: Backup
    stays: bool
    reason: str


def plan(backups: list[Backup], *, days: int, count: int, now: datetime) -> list[Decision]:
    """Decide for each backup of one database, newest first, whether it stays.

    The newest good backup always stays, and so do pinned backups, those whose facts cannot be read,
    those younger than `days`, and the newest `count`. A good one is counted only among good ones,
    so that unverified files cannot displace it. If the newest backup has a time in the future, the
    clock is wrong and all stay.
    """
    ordered = sorted(backups, key=lambda backup: backup.order, reverse=True)
    if ordered and ordered[0].created > now + _TOLERANCE:
        wrong = f"the clock is not to be trusted: {ordered[0].path.name} is from the future"
        return [Decision(backup, True, wrong) for backup in ordered]
    decisions = []
    good = 0
    for rank, backup in enumerate(ordered):
        place = good if backup.good else rank
        good += backup.good
        decisions.append(_decide(backup, place, days, count, now))
    return decisions


def _decide(backup: Backup, place: int, days: int, count: int, now: datetime) -> Decision:
    age = now - backup.created
    if backup.good and place == 0:
        return Decision(backup, True, "the newest verified backup always stays")
    if backup.unknown:
        return Decision(backup, True, backup.unknown)
    if backup.marks.kept_at is not None:
        note = f": {backup.marks.note}" if backup.marks.note else ""
        return Decision(backup, True, f"pinned{note}")
    if age < timedelta(days=days):
        return Decision(backup, True, f"younger than {days} days")
    if place < count:
        return Decision(backup, True, f"among the newest {count}")
    limits = [f"older than {days} days"] if days else []
    limits += [f"not among the newest {count}"] if count else []
    return Decision(backup, False, " and ".join(limits))
