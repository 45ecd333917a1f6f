"""The marks beside a backup, and what its verdict, the catalog and pruning make of them."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gymdbd.archive import marks as all_marks
from gymdbd.archive import retention
from gymdbd.archive.catalog import Catalog
from gymdbd.archive.marks import Marks
from gymdbd.errors import BackupMissingError, FormatError
from gymdbd.origin import Origin
from tests.support.archives import CREATED, GYM, add_backup

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.archive.backup import Backup

_NAME = "gym_backup_20261123_030000.db"
_OLDER = "gym_backup_20261122_030000.db"
_NOON = "2026-11-23T12:00:00+00:00"


def _listed(folder: Path) -> list[Backup]:
    return Catalog(folder, UTC).backups()


def _add(folder: Path, name: str, *, days: int = 0, **changes: Any) -> Path:
    created_at = (CREATED - timedelta(days=days)).isoformat()
    return add_backup(folder / name, created_at=created_at, **changes)


def test_marks_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Each change leaves the others as they are."""
    path = _add(tmp_path, _NAME)
    all_marks.change(path, kept_at=_NOON, note="월말")
    all_marks.change(path, verified_at=_NOON, problems=["rotten"])
    expected = Marks(kept_at=_NOON, note="월말", verified_at=_NOON, problems=["rotten"])
    assert all_marks.read(path) == expected


def test_a_backup_without_marks_has_empty_ones(tmp_path: Path) -> None:
    """Nobody has looked at it since it was made."""
    assert all_marks.read(_add(tmp_path, _NAME)) == Marks()


@given(data=st.data())
def test_any_flipped_bit_in_the_marks_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Wherever in the file it is."""
    backup = tmp_path_factory.getbasetemp() / "marked.db"
    all_marks.change(backup, kept_at=_NOON, note="월말", problems=[])
    path = all_marks.marks_path(backup)
    flipped = bytearray(path.read_bytes())
    flipped[data.draw(st.integers(0, len(flipped) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(flipped)
    try:
        with pytest.raises(FormatError, match="cannot be used"):
            all_marks.read(backup)
    finally:
        path.unlink()


def test_damaged_marks_keep_their_backup_and_are_begun_anew_with_a_pin(tmp_path: Path) -> None:
    """There may have been a pin: who cannot know does not prune."""
    _add(tmp_path, _NAME)
    old = _add(tmp_path, _OLDER, days=900)
    all_marks.marks_path(old).write_text("{}")
    assert [one.stays for one in _plan(tmp_path)] == [True, True]
    all_marks.change(old, verified_at=_NOON)
    assert [one.stays for one in _plan(tmp_path)] == [True, True]
    assert "were damaged" in all_marks.read(old).note


def _plan(folder: Path) -> list[retention.Decision]:
    rule = {"days": 1, "count": 1}
    return retention.plan(_listed(folder), rule, CREATED + timedelta(days=30), UTC)


def test_a_pinned_backup_stays_and_the_reason_is_its_note(tmp_path: Path) -> None:
    """However old it is; without the pin it goes."""
    _add(tmp_path, _NAME)
    old = _add(tmp_path, _OLDER, days=900)
    assert [one.stays for one in _plan(tmp_path)] == [True, False]
    all_marks.change(old, kept_at=_NOON, note="before the move")
    assert _plan(tmp_path)[1].reason == "pinned: before the move"
    assert _plan(tmp_path)[1].stays


def test_a_damaged_backup_is_not_counted_as_a_good_one(tmp_path: Path) -> None:
    """The newest good one stays, though a younger rotten one lies in the archive."""
    rotten = _add(tmp_path, _NAME)
    _add(tmp_path, _OLDER, days=900)
    all_marks.change(rotten, verified_at=_NOON, problems=["sha256 differs"])
    assert [(one.backup.verdict, one.stays) for one in _plan(tmp_path)][1] == ("verified", True)


def test_the_latest_is_the_newest_good_one(tmp_path: Path) -> None:
    """Neither a damaged, nor a suspicious, nor an unverified one is offered."""
    for day, changes in ((5, {}), (4, {"suspicious": ["members fell"]}), (3, {}), (2, {})):
        _add(tmp_path, f"gym_backup_2026112{day}_030000.db", days=-day, **changes)
    add_backup(tmp_path / "gym_backup_20261122_030000.db", verified=False)
    all_marks.change(tmp_path / "gym_backup_20261125_030000.db", problems=["rotten"])
    assert Catalog(tmp_path, UTC).find("latest").path.name == "gym_backup_20261123_030000.db"


def test_an_accepted_backup_is_good(tmp_path: Path) -> None:
    """And pruning, which was frozen, goes on."""
    path = _add(tmp_path, _NAME, suspicious=["members fell from 344 to 12"])
    catalog = Catalog(tmp_path, UTC)
    assert catalog.backups()[0].verdict == "suspicious"
    assert catalog.frozen(GYM) == f"{_NAME} is suspicious and nobody has accepted it"
    all_marks.change(path, accepted_at=_NOON)
    assert catalog.backups()[0].verdict == "verified"
    assert catalog.frozen(GYM) == ""


def test_the_backup_of_a_moment_is_the_newest_that_is_not_younger(tmp_path: Path) -> None:
    """One of the very second counts."""
    _add(tmp_path, _NAME)
    _add(tmp_path, _OLDER, days=1)
    catalog = Catalog(tmp_path, UTC)
    assert catalog.at(CREATED).path.name == _NAME
    assert catalog.at(CREATED - timedelta(seconds=1)).path.name == _OLDER
    with pytest.raises(BackupMissingError, match="no good backup made at or before 2026-11-20"):
        catalog.at(CREATED - timedelta(days=3))


def test_the_latest_of_several_databases_is_refused(tmp_path: Path) -> None:
    """Which one is meant is not guessed; with the name of the database it is clear."""
    _add(tmp_path, _NAME)
    _add(tmp_path, "shop_backup_20261123_030000.db")
    catalog = Catalog(tmp_path, UTC)
    with pytest.raises(BackupMissingError, match="several databases: gym, shop"):
        catalog.find("latest")
    assert catalog.find("latest", Origin("shop", GYM.places)).stem == "shop"


def test_a_name_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """The hint says how to see what there is."""
    _add(tmp_path, _NAME)
    with pytest.raises(BackupMissingError, match=r"no backup called gym\.db") as caught:
        Catalog(tmp_path, UTC).find("gym.db")
    assert "gymdbd list" in caught.value.hint


def test_marks_go_with_their_backup_and_orphans_are_swept(tmp_path: Path) -> None:
    """They must not come to lie beside another backup of the same name."""
    path = _add(tmp_path, _NAME)
    all_marks.change(path, kept_at=_NOON)
    catalog = Catalog(tmp_path, UTC)
    catalog.remove(catalog.backups()[0])
    assert list(tmp_path.iterdir()) == []
    all_marks.change(path, kept_at=_NOON)
    assert catalog.sweep() == [all_marks.marks_path(path)]
