"""What a person answers to suspicious backups: that they are right, or that they are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd.archive import marks
from gymdbd.archive.backup import SUSPICIOUS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gymdbd.archive.backup import Backup


def unanswered(backups: Iterable[Backup]) -> list[Backup]:
    """Return the backups that wait for an answer."""
    return [backup for backup in backups if backup.verdict == SUSPICIOUS]


def mark(backups: Iterable[Backup], now: str, *, right: bool) -> list[Backup]:
    """Accept or reject backups and return them; the archive's lock is held."""
    answered = list(backups)
    for backup in answered:
        accepted, rejected = (now, None) if right else (None, now)
        marks.change(backup.path, accepted_at=accepted, rejected_at=rejected)
    return answered
