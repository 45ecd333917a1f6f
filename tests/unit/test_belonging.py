"""Which backups are of a database that was moved, and which only look like it."""

from __future__ import annotations

import socket
from datetime import UTC
from typing import TYPE_CHECKING, Any

from gymdbd import origin
from gymdbd.archive.catalog import Catalog
from gymdbd.archive.manifest import OVERWRITTEN
from gymdbd.origin import Place
from tests.support.archives import add_backup

if TYPE_CHECKING:
    from pathlib import Path


def _made_of(archive: Path, day: int, source: Path, **said: Any) -> None:
    """Put a backup of `source` into the archive, made on a day of a month."""
    created = f"2026-11-{day:02}T03:00:00+00:00"
    path = archive / f"gym_backup_202611{day:02}_030000.db"
    host = said.pop("host", socket.gethostname())
    add_backup(path, source=str(source), host=host, created_at=created, **said)


def _moved_from(archive: Path) -> list[str]:
    """Return where the database was that lies at new/gym.db now."""
    return Catalog(archive, UTC).look().moved_from(origin.here(archive / "new" / "gym.db"))


def test_the_one_source_that_is_gone_was_moved(tmp_path: Path) -> None:
    """Nothing else can be meant."""
    _made_of(tmp_path, 1, tmp_path / "old" / "gym.db")
    assert _moved_from(tmp_path) == [str(tmp_path / "old" / "gym.db")]


def test_of_two_sources_that_are_gone_nobody_knows_which_was_moved(tmp_path: Path) -> None:
    """The backups of each stay its own."""
    _made_of(tmp_path, 1, tmp_path / "old" / "gym.db")
    _made_of(tmp_path, 2, tmp_path / "older" / "gym.db")
    assert _moved_from(tmp_path) == []


def test_a_place_from_which_another_database_was_moved_is_not_taken_again(tmp_path: Path) -> None:
    """Its backups went along with that one, which is still there."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "gym.db").touch()
    old = tmp_path / "old" / "gym.db"
    _made_of(tmp_path, 1, old)
    _made_of(tmp_path, 2, tmp_path / "other" / "gym.db", moved_from=[str(old)])
    assert _moved_from(tmp_path) == []


def test_what_a_restore_has_overwritten_says_nothing_of_a_move(tmp_path: Path) -> None:
    """A database that was restored to its new place has come from the old one all the same."""
    _made_of(tmp_path, 1, tmp_path / "old" / "gym.db")
    new = tmp_path / "new" / "gym.db"
    new.parent.mkdir()
    new.touch()
    _made_of(tmp_path, 2, new, method=OVERWRITTEN)
    assert _moved_from(tmp_path) == [str(tmp_path / "old" / "gym.db")]


def test_whether_a_file_of_another_machine_is_gone_is_not_known_here(tmp_path: Path) -> None:
    """Nothing of the same path need be here."""
    _made_of(tmp_path, 1, tmp_path / "old" / "gym.db", host="another")
    assert _moved_from(tmp_path) == []


def test_a_name_of_a_machine_may_gain_its_domain() -> None:
    """It is the same machine; one whose name only begins alike is not."""
    name = socket.gethostname().partition(".")[0]
    assert Place(f"{name}.example", "/x").is_here
    assert not Place(f"{name}2", "/x").is_here
