"""Which backups a rolling verification reads: all of them, in time, with nothing to remember."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gymdbd.archive.backup import Backup
from gymdbd.archive.marks import Marks
from gymdbd.jobs.verify.verify import choose
from tests.support.archives import CREATED, manifest

_DAY = timedelta(days=1)


def _backup(night: int, *, made: bool = True, **marks: object) -> Backup:
    """Return the backup of one night, without a manifest if it was not made by gymdbd."""
    created = CREATED + night * _DAY
    return Backup(
        path=Path(f"gym_backup_{night}.db"),
        stem="gym",
        created=created,
        size=8192,
        manifest=manifest(created_at=created.isoformat()) if made else None,
        marks=Marks(**marks),  # type: ignore[arg-type]
    )


def _verified(backup: Backup, night: int) -> Backup:
    at = (CREATED + night * _DAY + timedelta(hours=1)).isoformat()
    return dataclasses.replace(backup, marks=Marks(verified_at=at))


@given(kept=st.integers(1, 60), share=st.integers(1, 100), growing=st.booleans())
def test_every_backup_is_read_within_the_period_while_new_ones_arrive(
    kept: int, share: int, *, growing: bool
) -> None:
    """One more every night, the oldest pruned or not: nobody waits for more than 100 / share."""
    archive = {night: _backup(night) for night in range(-kept, 0)}
    waiting = dict.fromkeys(archive, 0)
    for night in range(3 * -(-100 // share)):
        archive[night] = _backup(night)
        waiting[night] = 0
        if not growing:
            oldest = min(archive)
            del archive[oldest], waiting[oldest]
        now = CREATED + night * _DAY + timedelta(hours=1)
        read = {one.created for one in choose(list(archive.values()), share, now)}
        for one, backup in archive.items():
            if backup.created in read:
                archive[one], waiting[one] = _verified(backup, night), 0
            else:
                waiting[one] += 1
            assert waiting[one] < -(-100 // share)


def test_what_was_never_proven_comes_first(tmp_path: Path) -> None:
    """A backup of the older scripts has no manifest, and nobody knows what it is worth."""
    del tmp_path
    backups = [_backup(3), _backup(2, made=False), _backup(1)]
    assert choose(backups, 34, CREATED + 9 * _DAY) == [backups[1], backups[2]]
    assert choose(backups, 1, CREATED + 9 * _DAY) == [backups[1]]


def test_what_is_marked_damaged_is_always_read() -> None:
    """However lately it was read, and beside the share."""
    damaged = _verified(_backup(1), 5)
    damaged = dataclasses.replace(
        damaged, marks=dataclasses.replace(damaged.marks, problems=["rotten"])
    )
    backups = [_backup(3), _backup(2), damaged]
    assert choose(backups, 50, CREATED + 9 * _DAY) == [damaged, backups[1]]


def test_a_proof_from_the_future_counts_for_nothing() -> None:
    """A clock that was a year ahead must not keep a backup unread for a year."""
    ahead = _verified(_backup(1), 365)
    backups = [_backup(3), _verified(_backup(2), 4), ahead]
    assert choose(backups, 1, CREATED + 9 * _DAY) == [ahead]
