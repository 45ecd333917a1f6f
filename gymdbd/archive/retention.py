"""Which backups stay and why: a pure function of the catalog, the rule and the time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gymdbd.archive.backup import Backup

# Reading the clock twice may differ by a moment; more than that means that it went back.
_TOLERANCE = timedelta(seconds=2)


@dataclass(frozen=True)
class Decision:
    """Whether one backup stays, and the reason in words."""

    backup: Backup
    stays: bool
    reason: str


def plan(backups: list[Backup], *, days: int, count: int, now: datetime) -> list[Decision]:
    """Decide for each backup of one database, newest first, whether it stays.

    What stays: the newest good one always; what somebody pinned; those younger than `days`; the
    newest `count`, counted among the good for a good one, so that files of unknown worth cannot
    push out proven ones. When the newest is from the future the clock is wrong, and all stay.
    """
    ordered = sorted(backups, key=lambda one: one.order, reverse=True)
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
    if backup.doubt:
        return Decision(backup, True, backup.doubt)
    if backup.marks.kept_at is not None:
        return Decision(backup, True, f"kept{': ' if backup.marks.note else ''}{backup.marks.note}")
    if age < timedelta(days=days):
        return Decision(backup, True, f"younger than {days} days")
    if place < count:
        return Decision(backup, True, f"among the newest {count}")
    limits = [f"older than {days} days"] if days else []
    limits += [f"not among the newest {count}"] if count else []
    return Decision(backup, False, " and ".join(limits))
