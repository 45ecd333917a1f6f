"""Archives in folders that macOS keeps programs out of, or moves away from the disk."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.jobs.backup import backup
from gymdbd.runs import clouds
from tests.support.databases import make_database
from tests.support.jobs import backup_job, context, write_config
from tests.support.mac import mac, mac_json

if TYPE_CHECKING:
    from pathlib import Path

_PLACES = ["Documents", "Desktop", "Library/Mobile Documents/com~apple~CloudDocs"]


def _configured(home: Path, archive: Path) -> Path:
    """Write a configuration with one backup job."""
    archive.mkdir(parents=True)
    database = make_database(home / "gym.db")
    entry = {"kind": "backup", "every": "1d", "database": str(database), "archive": str(archive)}
    return write_config(home, {"nightly": entry})


def _warnings(config: Path, **environment: Any) -> list[str]:
    told = json.loads(mac("-c", config, "check", "--json", **environment).stdout)
    return [check["message"] for check in told["checks"] if check["name"].startswith("folder ")]


@pytest.mark.parametrize("place", _PLACES)
def test_check_warns_of_an_archive_that_icloud_may_take(tmp_path: Path, place: str) -> None:
    """The folder is named, and what it lies in; a folder beside it is no matter."""
    config = _configured(tmp_path, tmp_path / place / "backups")
    (message,) = _warnings(config, HOME=str(tmp_path))
    assert str(tmp_path / place / "backups") in message
    assert _warnings(config, HOME="/Users/another") == []


def test_an_archive_behind_a_link_lies_where_the_link_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere than on a Mac such folders are ordinary."""
    home = tmp_path / "home"
    (home / "Library" / "CloudStorage" / "gym").mkdir(parents=True)
    (tmp_path / "backups").symlink_to(home / "Library" / "CloudStorage" / "gym")
    monkeypatch.setenv("HOME", str(home))
    (check,) = clouds.examine([tmp_path / "backups"], "darwin")
    assert "lies in the folder of a cloud" in check.message
    assert list(clouds.examine([tmp_path / "backups"], "linux")) == []


def test_check_counts_the_files_that_are_in_a_cloud_and_reads_none(tmp_path: Path) -> None:
    """Reading one would download it, and fails here."""
    config = _configured(tmp_path, tmp_path / "backups")
    (tmp_path / "backups" / "old.txt").touch()
    away = {"DARWIN_DATALESS": "*/old.txt", "DARWIN_OPEN": "EDEADLK:*/old.txt"}
    (message,) = _warnings(config, **away)
    assert message.startswith("1 file in ")


@pytest.mark.parametrize(
    ("answer", "advice"), [("EPERM", "Full Disk Access"), ("EDEADLK", "Finder")]
)
def test_a_backup_that_macos_withholds_is_not_damaged(
    tmp_path: Path, answer: str, advice: str
) -> None:
    """The privacy settings refuse it, or iCloud has evicted it: the hint says what to do."""
    archive = tmp_path / "backups"
    archive.mkdir()
    made = backup.run(backup_job(make_database(tmp_path / "gym.db"), archive), context()).path
    code, told = mac_json("verify", made, DARWIN_READ=f"{answer}:*.db")
    assert (code, told["code"]) == (1, "source-unreadable")
    assert advice in told["hint"]
