"""What a share, or a disk that is not macOS' own, refuses: flushing a folder, locks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from gymdbd.sqlite import opening
from tests.faults.tracing import tracing
from tests.support import samples, zygote
from tests.support.databases import backups, make_database
from tests.support.mac import mac_json

if TYPE_CHECKING:
    from pathlib import Path

_NO_FOLDER_FSYNC = ["ENOENT", "ENOTTY", "EOPNOTSUPP", "ENOTSUP", "EINVAL"]
_NO_FLOCK = ["ENOTSUP", "EOPNOTSUPP", "ENOLCK", "ENOSYS", "EINVAL"]


@pytest.fixture
def words(tmp_path: Path) -> list[object]:
    """Give the words of a backup into an empty archive."""
    (tmp_path / "archive").mkdir()
    database = make_database(tmp_path / "gym.db")
    return ["backup", "--database", database, "--archive", tmp_path / "archive"]


@pytest.mark.parametrize("answer", samples.sample(_NO_FOLDER_FSYNC, "folder fsync", 2))
def test_a_folder_that_cannot_be_flushed_is_no_failure(words: list[object], answer: str) -> None:
    """The names are as durable as the share makes them."""
    code, told = mac_json(*words, DARWIN_FOLDER_FSYNC=answer)
    assert (code, told["state"]) == (0, "ok"), told


def test_the_kernels_own_refusal_to_flush_a_folder_is_no_failure(
    words: list[object], tmp_path: Path
) -> None:
    """Here strace lets the kernel answer as it does for SMB."""
    options = ("-P", str(tmp_path / "archive"), "-e", "inject=fsync:error=ENOENT")
    with tracing("-e", "trace=fsync", *options) as traced:
        done = zygote.shared().run(*words, "--json", traced=traced)
    assert json.loads(done.stdout)["state"] == "ok"


def test_a_folder_that_the_disk_fails_to_flush_is_a_failure(words: list[object]) -> None:
    """A broken disk is not a share."""
    code, told = mac_json(*words, DARWIN_FOLDER_FSYNC="EIO")
    assert (code, told["code"]) == (1, "write-failed")


@pytest.mark.parametrize("answer", samples.sample(_NO_FLOCK, "flock", 2))
def test_a_share_without_locks_is_named(words: list[object], answer: str, tmp_path: Path) -> None:
    """Nothing is written there that two runs could write at once."""
    code, told = mac_json(*words, DARWIN_FLOCK=answer)
    assert (code, told["code"]) == (1, "no-locks")
    assert str(tmp_path / "archive") in told["error"]
    assert "nolock" in told["hint"]
    assert backups(tmp_path / "archive") == []


def test_folders_are_flushed_to_the_platter_too(words: list[object], tmp_path: Path) -> None:
    """Without its name in the folder, a file that was flushed is lost."""
    log = tmp_path / "calls"
    mac_json(*words, DARWIN_LOG=str(log))
    assert f"F_FULLFSYNC {tmp_path / 'archive'}/" in log.read_text().splitlines()


def test_what_sqlite_commits_for_us_is_flushed_to_the_platter(tmp_path: Path) -> None:
    """A restore into a live database, a checkpoint: SQLite alone would use fsync."""
    with opening.writing(make_database(tmp_path / "gym.db")) as writer:
        asked = ("fullfsync", "checkpoint_fullfsync")
        found = {name: writer.execute(f"PRAGMA {name}").fetchone()[0] for name in asked}
    assert found == {"fullfsync": 1, "checkpoint_fullfsync": 1}
