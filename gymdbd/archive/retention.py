"""Which backups are retained and why: a pure function of the catalog, the rule and the time."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

from gymdbd import words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gymdbd.archive.backup import Backup

# Two readings of the clock may differ a little; more than this means that it was set back.
_TOLERANCE = timedelta(seconds=2)

# `undo` puts back what the last restore has overwritten, and then what it has overwritten itself.
_UNDO_TIME = timedelta(days=14)
_UNDO_COUNT = 2

# The periods of which the newest backup is retained, each named by local time; a week is that of
# ISO 8601.
_PERIODS = {
    "hourly": ("hour", "%Y-%m-%d %H:00"),
    "daily": ("day", "%Y-%m-%d"),
    "weekly": ("week", "%G-W%V"),
    "monthly": ("month", "%Y-%m"),
    "yearly": ("year", "%Y"),
}


@dataclass(frozen=True)
class Decision:
    """Whether a backup stays, and the reason as text."""

    backup: Backup
    stays: bool
    reason: str


def plan(
    backups: list[Backup], rule: Mapping[str, int], now: datetime, zone: tzinfo
) -> list[Decision]:
    """Decide for each backup of one database, newest first, whether it stays.

    `rule` has numbers under `days`, `count`, `hourly`, `daily`, `weekly`, `monthly` and `yearly`; 0
    is none. The newest good backup always stays, and so do pinned backups, those whose facts cannot
    be read, for 14 days what the last two restores have overwritten, those younger than `days`, the
    newest `count`, and the newest of each of the last `hourly` hours, `daily` days, ... of `zone`
    in which there are backups. A good one is counted only among good ones, so that unverified files
    cannot displace it. If the newest backup has a time in the future, the clock is wrong and all
    stay.
    """
    ordered = sorted(backups, key=lambda backup: backup.order, reverse=True)
    if ordered and ordered[0].created > now + _TOLERANCE:
        wrong = f"the clock is not to be trusted: {ordered[0].path.name} is from the future"
        return [Decision(backup, True, wrong) for backup in ordered]
    # By rank: there may be thousands, of which no paths are made.
    every = list(enumerate(ordered))
    young = itertools.takewhile(lambda pair: now - pair[1].created < _UNDO_TIME, every)
    overwritten = [rank for rank, backup in young if backup.is_overwritten][:_UNDO_COUNT]
    # Whether a backup is good costs a look at it. Among those of the last days nothing is counted.
    ranks = (rank for rank, backup in every if backup.good)
    counts = any(most for name, most in rule.items() if name != "days")
    good = {
        rank: place for place, rank in enumerate(itertools.islice(ranks, None if counts else 1))
    }
    among_good = _periods([(rank, ordered[rank]) for rank in good], rule, zone)
    among_all = _periods(every, rule, zone)
    gone = _why_gone(rule)
    decisions = []
    for rank, backup in every:
        is_good, place = rank in good, good.get(rank, rank)
        reasons = [_why_retained(backup, place, rule, now, is_newest=is_good and place == 0)]
        if rank in overwritten:
            reasons.append(f"overwritten by a restore less than {_UNDO_TIME.days} days ago")
        reasons += (among_good if is_good else among_all).get(rank, [])
        reason = ", ".join(filter(None, reasons))
        decisions.append(Decision(backup, bool(reason), reason or gone))
    return decisions


def _periods(
    ordered: list[tuple[int, Backup]], rule: Mapping[str, int], zone: tzinfo
) -> dict[int, list[str]]:
    """Return, by the rank of each backup that stands for periods, which these are."""
    found: dict[int, list[str]] = {}
    for name, (_, form) in _PERIODS.items():
        most = rule.get(name, 0)
        seen: set[str] = set()
        for rank, backup in ordered if most else ():
            period = backup.created.astimezone(zone).strftime(form)
            if period in seen:
                continue
            if len(seen) == most:
                break
            seen.add(period)
            found.setdefault(rank, []).append(f"{name} {period}")
    return found


def _why_retained(
    backup: Backup, place: int, rule: Mapping[str, int], now: datetime, *, is_newest: bool
) -> str:
    """Return why a backup stays, whatever periods it stands for; "" if for no reason."""
    if is_newest:
        return "the newest verified backup always stays"
    if backup.unknown:
        return backup.unknown
    if backup.marks.kept_at is not None:
        note = f": {backup.marks.note}" if backup.marks.note else ""
        return f"pinned{note}"
    days, count = rule.get("days", 0), rule.get("count", 0)
    if now - backup.created < timedelta(days=days):
        return f"younger than {days} days"
    return f"among the newest {count}" if place < count else ""


def _why_gone(rule: Mapping[str, int]) -> str:
    days, count = rule.get("days", 0), rule.get("count", 0)
    reasons = [f"older than {days} days"] if days else []
    reasons += [f"not among the newest {count}"] if count else []
    periods = [
        words.counted(most, noun)
        for name, (noun, _) in _PERIODS.items()
        if (most := rule.get(name, 0))
    ]
    if periods:
        reasons.append(f"not the newest of the last {' or '.join(periods)} with backups")
    return " and ".join(reasons)
