"""What lies in an archive, in which order, and what may be removed from it."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from gymdbd.archive import manifest as manifests
from gymdbd.archive.catalog import Catalog
from gymdbd.errors import FolderMissingError
from gymdbd.origin import Origin
from tests.support.archives import CREATED, GYM, add_backup, manifest
from tests.support.command import ORDINARY_USER, environment

if TYPE_CHECKING:
    from pathlib import Path

_SEOUL = ZoneInfo("Asia/Seoul")
_SIDE_FILES = ("-wal", "-shm", "-journal")


def _names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def _listed(folder: Path) -> list[str]:
    return [backup.path.name for backup in Catalog(folder, UTC).backups()]


def test_a_name_says_the_database_and_the_local_time(tmp_path: Path) -> None:
    """As the older scripts named theirs: stem, date and time of the zone, to the second."""
    path = Catalog(tmp_path, _SEOUL).name("gym_system", CREATED)
    assert path == tmp_path / "gym_system_backup_20261123_120000.db"


def test_no_name_is_given_twice_in_one_second(tmp_path: Path) -> None:
    """The second backup of a second is -2, the third -3, the eleventh -11."""
    catalog = Catalog(tmp_path, UTC)
    names = [add_backup(catalog.name("gym", CREATED)).name for _ in range(11)]
    assert names[:3] == [
        "gym_backup_20261123_030000.db",
        "gym_backup_20261123_030000-2.db",
        "gym_backup_20261123_030000-3.db",
    ]
    assert names[-1] == "gym_backup_20261123_030000-11.db"


def test_a_name_is_taken_while_only_its_manifest_is_there(tmp_path: Path) -> None:
    """The manifest of another backup must not come to lie beside a new one."""
    catalog = Catalog(tmp_path, UTC)
    add_backup(catalog.name("gym", CREATED)).unlink()
    assert catalog.name("gym", CREATED).name == "gym_backup_20261123_030000-2.db"


def test_backups_of_one_second_are_listed_newest_first(tmp_path: Path) -> None:
    """-11 is newer than -2, though its name sorts before."""
    catalog = Catalog(tmp_path, UTC)
    made = [add_backup(catalog.name("gym", CREATED)).name for _ in range(11)]
    assert _listed(tmp_path) == made[::-1]


def test_backups_are_listed_by_their_instants(tmp_path: Path) -> None:
    """An hour that the autumn change repeats gives the later backup the smaller name."""
    for name, moment in (
        ("gym_backup_20261025_023000.db", "2026-10-25T02:30:00+02:00"),
        ("gym_backup_20261025_020000.db", "2026-10-25T02:00:00+01:00"),
    ):
        add_backup(tmp_path / name, created_at=moment)
    assert _listed(tmp_path) == ["gym_backup_20261025_020000.db", "gym_backup_20261025_023000.db"]


def test_only_the_backups_of_one_database_are_listed_when_asked(tmp_path: Path) -> None:
    """Also where the name of one database is the beginning of the other's."""
    for stem in ("gym", "gym_system", "gym_backup_20260101_000000", "회원 2"):
        add_backup(tmp_path / f"{stem}_backup_20261123_030000.db")
    catalog = Catalog(tmp_path, UTC)
    for stem in ("gym", "gym_system", "gym_backup_20260101_000000", "회원 2"):
        assert [one.stem for one in catalog.backups(Origin(stem, GYM.places))] == [stem]
    assert len(catalog.backups()) == 4


def test_a_backup_with_its_manifest_is_verified(tmp_path: Path) -> None:
    """All that is known of it comes from the manifest."""
    add_backup(tmp_path / "gym_backup_20200101_000000.db")
    (backup,) = Catalog(tmp_path, UTC).backups()
    assert (backup.verdict, backup.created, backup.size) == ("verified", CREATED, 8192)
    assert (backup.manifest, backup.note) == (manifest(), "")


def test_a_backup_of_the_older_scripts_is_unverified_and_dated_by_its_name(tmp_path: Path) -> None:
    """It has no manifest; its name is local time; its -wal, -shm and -journal belong to it."""
    path = add_backup(tmp_path / "gym_system_backup_20260101_030000.db", verified=False)
    for suffix in _SIDE_FILES:
        path.with_name(path.name + suffix).write_bytes(b"x")
    (backup,) = Catalog(tmp_path, _SEOUL).backups()
    assert (backup.verdict, backup.note, backup.stem) == ("unverified", "", "gym_system")
    assert backup.created == datetime(2025, 12, 31, 18, tzinfo=UTC)
    assert [one.name.removeprefix(path.name) for one in backup.side_files] == list(_SIDE_FILES)


def test_a_backup_is_removed_together_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    """Its manifest and side files go, those of its neighbours stay."""
    for number in ("", "-2"):
        path = add_backup(tmp_path / f"gym_backup_20261123_030000{number}.db")
        for suffix in _SIDE_FILES:
            path.with_name(path.name + suffix).write_bytes(b"x")
    catalog = Catalog(tmp_path, UTC)
    catalog.remove(catalog.backups()[0])
    kept = "gym_backup_20261123_030000.db"
    assert _names(tmp_path) == sorted(kept + end for end in ("", ".json", *_SIDE_FILES))


@pytest.mark.parametrize("stamp", ["99999999_999999", "20260230_030000", "00010101_000000"])
def test_a_name_whose_digits_are_no_date_is_dated_by_its_file(tmp_path: Path, stamp: str) -> None:
    """Such a file is listed rather than standing in the way of all the others."""
    path = add_backup(tmp_path / f"gym_backup_{stamp}.db", verified=False)
    os.utime(path, (0, CREATED.timestamp()))
    assert [one.created for one in Catalog(tmp_path, _SEOUL).backups()] == [CREATED]


@pytest.mark.parametrize("size", [0, 4096, 8191, 8193])
def test_a_size_that_is_not_the_manifests_makes_a_backup_unverified(
    tmp_path: Path, size: int
) -> None:
    """The note tells both sizes."""
    path = add_backup(tmp_path / "gym_backup_20261123_030000.db")
    os.truncate(path, size)
    (backup,) = Catalog(tmp_path, UTC).backups()
    assert backup.verdict == "unverified"
    assert backup.note == f"it has {size} bytes, its manifest says 8192"


def test_a_damaged_manifest_makes_a_backup_unverified(tmp_path: Path) -> None:
    """It is listed, dated by its name, and the note says what is wrong."""
    path = add_backup(tmp_path / "gym_backup_20261123_040000.db")
    manifests.manifest_path(path).write_text("{}")
    (backup,) = Catalog(tmp_path, UTC).backups()
    assert (backup.verdict, backup.created) == ("unverified", CREATED + timedelta(hours=1))
    assert "cannot be used" in backup.note


def _put_foreign_files(folder: Path) -> list[str]:
    """Fill a folder with what is not ours, though some of it looks similar."""
    for name in (
        "notes.txt",
        "gym.db",
        "gym.db-wal",
        "gym_backup_20261123.db",
        "gym_backup_20261123_030000.db.gz",
        "gym_backup_20261123_030000-old.db",
        "gym_backup_20261123_030000.sqlite-wal",
        "_backup_20261123_030000.db",
        "gym_damaged_20261123_030000.db",
        ".gymdbd.lock",
        ".gym.frozen.json",
        ".hidden",
        "upload.partial",
    ):
        (folder / name).write_bytes(b"x")
    (folder / "folder_backup_20261123_030000.db").mkdir()
    (folder / ".folder.partial").mkdir()
    (folder / "link_backup_20261123_030000.db").symlink_to("gym.db")
    return _names(folder)


def test_what_is_not_a_backup_is_not_listed(tmp_path: Path) -> None:
    """Neither other names nor a folder or a symbolic link under the name of a backup."""
    _put_foreign_files(tmp_path)
    assert _listed(tmp_path) == []


def test_sweeping_touches_nothing_that_is_not_ours(tmp_path: Path) -> None:
    """Nor any backup with what belongs to it."""
    before = _put_foreign_files(tmp_path)
    assert Catalog(tmp_path, UTC).sweep() == []
    assert _names(tmp_path) == before


def test_sweeping_removes_partials_and_orphans_only(tmp_path: Path) -> None:
    """What a crash before the last rename left goes; a whole backup stays with its side files."""
    whole = add_backup(tmp_path / "gym_backup_20261123_030000.db")
    for suffix in _SIDE_FILES:
        whole.with_name(whole.name + suffix).write_bytes(b"x")
    before = _names(tmp_path)
    lost = "gym_backup_20261123_040000.db"
    leftovers = [
        *(lost + end for end in (".json", *_SIDE_FILES)),
        *(f".{lost}.partial{end}" for end in ("", *_SIDE_FILES)),
        f".{lost}.json.partial",
    ]
    for name in leftovers:
        (tmp_path / name).write_bytes(b"x")
    removed = Catalog(tmp_path, UTC).sweep()
    assert sorted(one.name for one in removed) == sorted(leftovers)
    assert _names(tmp_path) == before


def test_pruning_is_frozen_and_thawed_for_one_database(tmp_path: Path) -> None:
    """The reason and the time are kept in the archive; other databases there are not frozen."""
    catalog = Catalog(tmp_path, UTC)
    assert catalog.frozen(GYM) == ""
    catalog.freeze(GYM, "the source is damaged", CREATED)
    assert catalog.frozen(GYM) == "the source is damaged (since 2026-11-23T03:00:00+00:00)"
    assert Catalog(tmp_path, UTC).frozen(GYM) == catalog.frozen(GYM)
    assert catalog.frozen(Origin("gym_system", ())) == ""
    catalog.thaw(GYM)
    catalog.thaw(GYM)
    assert catalog.frozen(GYM) == ""
    assert _names(tmp_path) == []


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", "[" * 100_000])
def test_a_freeze_that_cannot_be_read_is_a_freeze(tmp_path: Path, text: str) -> None:
    """A half-written file from a full disk must not let pruning go on."""
    (tmp_path / ".gym.frozen.json").write_text(text)
    assert "cannot be read" in Catalog(tmp_path, UTC).frozen(GYM)


def test_a_missing_archive_is_an_error_that_names_it(tmp_path: Path) -> None:
    """A disk that is not mounted is not an archive without backups."""
    catalog = Catalog(tmp_path / "not-mounted", UTC)
    for ask in (catalog.backups, catalog.sweep):
        with pytest.raises(FolderMissingError, match="not-mounted") as caught:
            ask()
        assert "mount" in caught.value.hint


def test_an_archive_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    """It is one of ours, with the system's reason."""
    (tmp_path / "archive").write_text("")
    found = _list_as_ordinary_user(tmp_path / "archive")
    assert found == "the archive cannot be read (Not a directory)"


def test_an_archive_that_may_not_be_read_is_an_error(tmp_path: Path) -> None:
    """It is not taken for empty."""
    archive = tmp_path / "archive"
    archive.mkdir(mode=0)
    found = _list_as_ordinary_user(archive)
    assert found == "the archive cannot be read (Permission denied)"


def _list_as_ordinary_user(archive: Path) -> str:
    """List an archive without root's powers; return the error with the path left out."""
    script = (
        "import sys\n"
        "from datetime import UTC\n"
        "from pathlib import Path\n"
        "from gymdbd.archive.catalog import Catalog\n"
        "from gymdbd.errors import GymdbdError\n"
        "try:\n"
        "    Catalog(Path(sys.argv[1]), UTC).backups()\n"
        "except GymdbdError as error:\n"
        "    print(error.message.replace(' ' + sys.argv[1], ''))\n"
    )
    done = subprocess.run(
        [*ORDINARY_USER, sys.executable, "-c", script, str(archive)],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_the_order_of_the_folder_does_not_matter(tmp_path: Path) -> None:
    """Whatever order files were made in, the list is the same."""
    names = [f"gym_backup_2026112{day}_030000.db" for day in (1, 2, 3)]
    for number, order in enumerate(itertools.permutations(names)):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in order:
            add_backup(folder / name, verified=False)
        assert _listed(folder) == names[::-1]
        shutil.rmtree(folder)
