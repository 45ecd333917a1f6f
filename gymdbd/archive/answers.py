"""The answers to suspicious backups: accept or reject."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd.archive import marks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gymdbd.archive.backup import Backup


def unanswered(backups: Iterable[Backup]) -> list[Backup]:
    """Return the backups that wait for an answer."""
    return [backup for backup in backups if backup.waits]


def mark(backups: Iterable[Backup], now: str, *, right: bool) -> list[Backup]:
    """Accept or reject backups and return them; the caller holds the archive's lock."""
    answered = list(backups)
    for backup in answered:
        accepted, rejected = (now, None) if right else (None, now)
        marks.change(backup.path, accepted_at=accepted, rejected_at=rejected)
    return answered
