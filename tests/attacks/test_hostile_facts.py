"""Odd facts in the files beside backups: one bad file makes one bad backup."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from gymdbd import bounded
from gymdbd.archive import manifest as manifests
from gymdbd.archive import marks, sealed
from gymdbd.archive.manifest import Manifest, manifest_path
from gymdbd.archive.marks import Marks
from gymdbd.errors import FormatError
from tests.support import samples
from tests.support.archives import add_backup, manifest
from tests.support.command import gymdbd_json

# One of each kind that JSON has, and what is odd among its own kind.
ODD: list[Any] = [None, True, -1, 10**400, float("nan"), "", "\0", [], [[]], {}, {"a": []}]
# Times outside the calendar, paths that no system has, files beside it that lie elsewhere.
ODD_FACTS: list[dict[str, Any]] = [
    {"created_at": "0001-01-01T00:00:00+00:00"},
    {"created_at": "9999-12-31T23:59:59-23:59"},
    {"created_at": "2026-11-23T03:00:00"},
    {"source": "/srv/\ud800.db"},
    {"source": "/srv/" + "a/" * 5000},
    {"moved_from": ["\0"]},
    {"side_files": {"-wal": {"size": 1}}},
    {"side_files": {"-wal": {"size": "1", "md5": "", "sha256": ""}}},
    {"side_files": {"../../x": {"size": 1, "md5": "", "sha256": ""}}},
    {"tables": {"t": 2**64}},
    {"tables": dict.fromkeys(map(str, range(100_000)), 0)},
    {"mode": "07777"},
]
NOT_FACTS = (b"[" * 1_000_000, b"9" * 100_000, b"[]", b"null", b'{"checksum": [], "schema": 1}')


class Archive:
    """A folder of backups, each with one odd file beside it, and a good backup."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names = {add_backup(folder / "gym_backup_20261123_030000.db").name}

    def add(self) -> Path:
        """Add one more backup."""
        path = add_backup(self.folder / f"gym_backup_20261122_{len(self.names):06}.db")
        self.names.add(path.name)
        return path

    def require_all_listed(self) -> None:
        """Let the command line list all of them."""
        exit_code, answer = gymdbd_json("list", "--archive", self.folder)
        assert exit_code == 0, answer
        assert {Path(entry["path"]).name for entry in answer["backups"]} == self.names


def test_a_manifest_with_an_odd_value_hides_no_other_backup(tmp_path: Path) -> None:
    """Its checksum is right: whoever made it meant harm."""
    archive = Archive(tmp_path)
    names = [field.name for field in fields(Manifest)]
    for odd in [{name: value} for name in names for value in ODD] + ODD_FACTS:
        sealed.write(manifest_path(archive.add()), {**asdict(manifest()), **odd})
    archive.require_all_listed()


def test_marks_with_an_odd_value_hide_no_other_backup(tmp_path: Path) -> None:
    """Marks are read with every list, and before pruning."""
    archive = Archive(tmp_path)
    for name in [field.name for field in fields(Marks)]:
        for value in ODD:
            sealed.write(marks.marks_path(archive.add()), {**asdict(Marks()), name: value})
    archive.require_all_listed()


def test_what_is_no_manifest_hides_no_other_backup(tmp_path: Path) -> None:
    """It is nested too deep, is a number that is too long, or no object."""
    archive = Archive(tmp_path)
    for content in NOT_FACTS:
        path = archive.add()
        manifest_path(path).write_bytes(content)
        marks.marks_path(path).write_bytes(content)
    archive.require_all_listed()


@pytest.mark.parametrize(
    "odd",
    [
        {"source": "/srv/\0"},
        {"moved_from": ["\0"]},
        {"source": "/srv/\ud800.db"},
        {"side_files": {"-wal": {"size": "1"}}},
        {"side_files": {"-wal": {"size": 1, "md5": 2}}},
    ],
)
def test_a_manifest_that_could_not_be_used_is_damaged(odd: dict[str, Any], tmp_path: Path) -> None:
    """It is one for paths that no system has, and for odd facts of the files beside it."""
    backup = tmp_path / "gym_backup_20261123_030000.db"
    sealed.write(manifest_path(backup), {**asdict(manifest()), **odd})
    with pytest.raises(FormatError):
        manifests.read(backup)


@pytest.mark.parametrize("name", ["verified_at", "accepted_at", "rejected_at", "kept_at"])
def test_marks_of_no_time_are_damaged(name: str, tmp_path: Path) -> None:
    """The backup stays until there are new ones."""
    backup = tmp_path / "gym_backup_20261123_030000.db"
    sealed.write(marks.marks_path(backup), {**asdict(Marks()), name: "yesterday"})
    with pytest.raises(FormatError, match="cannot be used"):
        marks.read(backup)


@pytest.mark.parametrize("odd", [2**63, -(2**63), 1.0, True, "1", None])
def test_a_size_is_a_number_that_sqlite_has(odd: object) -> None:
    """Others cannot be used, such as for the room on a disk."""
    with pytest.raises(TypeError, match="its size is no int"):
        bounded.typed(Manifest, {**asdict(manifest()), "size": odd})


@pytest.mark.parametrize("odd", samples.sample(ODD_FACTS, "odd facts", 2))
def test_an_odd_manifest_makes_one_bad_backup(odd: dict[str, Any], tmp_path: Path) -> None:
    """The verdict of verify on it is that it is damaged, and the others are read as well."""
    archive = Archive(tmp_path)
    sealed.write(manifest_path(archive.add()), {**asdict(manifest()), **odd})
    exit_code, answer = gymdbd_json("verify", "--archive", tmp_path, "--all")
    assert exit_code == 1
    assert len(answer["backups"]) == 2
