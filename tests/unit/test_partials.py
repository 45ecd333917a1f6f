"""Files that are not finished yet: nobody can foresee their names, and they are found again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from gymdbd import files, partials

if TYPE_CHECKING:
    from pathlib import Path


def test_partials_are_listed_with_their_side_files_and_nothing_else(tmp_path: Path) -> None:
    """Hidden files with the mark; no folder, and no file that somebody called so in the open."""
    expected = [".a.db.json.partial", ".a.db.partial", ".a.db.partial-shm", ".a.db.partial-wal"]
    for name in (*expected, "a.db", "b.db.partial", ".hidden", ".gymdbd.lock", ".my.partials.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / ".folder.partial").mkdir()
    assert [path.name for path in partials.left(tmp_path)] == expected


@pytest.mark.parametrize("name", ["gym.db", "회원.db", "a\nb", "\udcff.db", "x" * 240])
def test_what_a_crashed_run_left_of_a_file_is_found_and_removed(tmp_path: Path, name: str) -> None:
    """Whatever its name, and with its side files; not what is left of another file."""
    final, other = tmp_path / name, tmp_path / f"{name[:200]}2"
    left = partials.begin(final)
    left.write_text("half")
    left.with_name(f"{left.name}-wal").write_text("log")
    kept = partials.begin(other)
    kept.write_text("half")
    assert (partials.resume(final), partials.resume(other)) == (left, kept)
    again = partials.begin(final)
    assert (again == left, list(tmp_path.iterdir())) == (False, [kept])


def test_the_newest_of_several_is_resumed(tmp_path: Path) -> None:
    """It has most of what a pull has fetched last."""
    for age in (3, 1, 2):
        path = tmp_path / f".gym.db.0000000{age}.partial"
        path.write_text("half")
        os.utime(path, (1000 - age, 1000 - age))
    assert partials.resume(tmp_path / "gym.db").name == ".gym.db.00000001.partial"


def test_what_release_0_1_left_is_found_too(tmp_path: Path) -> None:
    """Its names could be foreseen."""
    for name in (".gym.db.partial", ".gym.db.partial-wal"):
        (tmp_path / name).write_text("half")
    assert partials.resume(tmp_path / "gym.db") == tmp_path / ".gym.db.partial"
    partials.begin(tmp_path / "gym.db")
    assert list(tmp_path.iterdir()) == []


def test_no_two_names_are_alike_and_none_is_too_long(tmp_path: Path) -> None:
    """Whatever the file is called."""
    for name in ("gym.db", "x" * 255, "한" * 85):
        names = {partials.begin(tmp_path / name).name for _ in range(20)}
        assert len(names) == 20
        assert max(len(os.fsencode(name)) for name in names) < 130


@pytest.mark.parametrize("what", ["link", "hard link", "folder", "pipe", "another user's"])
def test_only_a_file_of_this_user_is_resumed(tmp_path: Path, what: str) -> None:
    """A pull would write into whatever lies there."""
    theirs, there = tmp_path / "theirs", partials.begin(tmp_path / "gym.db")
    theirs.write_text("precious")
    if what == "link":
        there.symlink_to(theirs)
    elif what == "hard link":
        os.link(theirs, there)
    elif what == "folder":
        there.mkdir()
    elif what == "pipe":
        os.mkfifo(there)
    else:
        there.write_text("theirs")
        os.chown(there, 12002, 12002)
    assert partials.resume(tmp_path / "gym.db") != there


def test_what_a_crash_left_of_a_small_file_goes_with_the_next_write(tmp_path: Path) -> None:
    """Such as that of a daemon that was killed while it wrote its status."""
    partials.begin(tmp_path / "status.json").write_text("half")
    files.write_atomically(tmp_path / "status.json", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]
