"""Places: by a name of the kernel's, or by a file where there is none."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from gymdbd import places
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

_NOBODY = 65534


@pytest.fixture(params=[True, False], ids=["by name", "by file"])
def is_linux(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """Give both ways; files lie in the folder of the test."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return bool(request.param)


@pytest.fixture
def purpose(tmp_path: Path) -> str:
    """Give a purpose that no other test has."""
    return f"test-{os.getpid()}-{tmp_path.name}"


def test_there_are_as_many_places_as_are_asked_for(purpose: str, *, is_linux: bool) -> None:
    """The next one has to wait until somebody leaves."""
    taken = [places.take(purpose, 2, is_linux=is_linux) for _ in range(3)]
    assert [place is not None for place in taken] == [True, True, False]
    assert taken[0]
    taken[0].leave()
    assert places.take(purpose, 2, is_linux=is_linux)


def test_a_place_is_left_with_the_process(purpose: str, *, is_linux: bool) -> None:
    """However it ends."""
    script = (
        "import os, sys; from gymdbd import places; "
        f"assert places.take({purpose!r}, 1, is_linux={is_linux}); "
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert places.take(purpose, 1, is_linux=is_linux)


def test_a_place_can_be_kept_after_the_process(purpose: str, *, is_linux: bool) -> None:
    """For a time that was said, and no longer."""
    script = (
        f"from gymdbd import places; places.take({purpose!r}, 1, is_linux={is_linux}).keep(1.5)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert places.take(purpose, 1, is_linux=is_linux) is None
    until(lambda: places.take(purpose, 1, is_linux=is_linux), "the end of that time")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_another_user_who_has_the_name_keeps_nobody_from_a_place(purpose: str) -> None:
    """He can neither use up the places nor see more than that they are taken."""
    os.seteuid(_NOBODY)
    try:
        squatter = socket.socket(socket.AF_UNIX)
        squatter.bind(f"\0gymdbd-0-{purpose}-0")
        squatter.listen(1)
    finally:
        os.seteuid(0)
    with contextlib.closing(squatter):
        assert places.take(purpose, 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="makes another user's file")
def test_a_file_of_another_user_keeps_nobody_from_a_place_and_no_link_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a place is a file, the folder for temporary files may be everybody's."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    theirs, link = (tmp_path / f"gymdbd-{os.geteuid()}-{name}-0" for name in ("theirs", "link"))
    with theirs.open("w") as file:
        os.chown(theirs, _NOBODY, _NOBODY)
        fcntl.flock(file, fcntl.LOCK_EX)
        place = places.take("theirs", 1, is_linux=False)
        assert place is not None
        place.leave()
    link.symlink_to(tmp_path / "new")
    with pytest.raises(OSError, match="symbolic links"):
        places.take("link", 1, is_linux=False)
    assert not (tmp_path / "new").exists()
