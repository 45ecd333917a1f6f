"""The machine itself: failing and full disks, as runs, `status` and `check` report them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.runs import ledger
from tests.faults.tracing import tracing
from tests.support import zygote
from tests.support.command import gymdbd, gymdbd_json
from tests.support.databases import make_database
from tests.support.disks import card, may_mount, mounted
from tests.support.jobs import write_config

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not may_mount(), reason="file systems cannot be mounted here")


def _config(folder: Path, database: Path, archive: Path, **keys: Any) -> Path:
    """Write a configuration with one job, `nightly`, and its status file in `folder`."""
    archive.mkdir(mode=0o700, exist_ok=True)
    job = {"database": str(database), "archive": str(archive), "schedule": "0 3 * * *"}
    return write_config(folder, {"nightly": job}, **keys)


def _machine(config: Path) -> tuple[int, dict[str, Any]]:
    code, answer = gymdbd_json("-c", config, "status")
    return code, answer["machine"]


def test_a_card_that_fails_is_told_by_the_run_and_from_then_on_by_status(tmp_path: Path) -> None:
    """The database is elsewhere: what the archive needs is another disk."""
    database = make_database(tmp_path / "gym.db", rows=20_000)
    with card(tmp_path) as broken:
        archive = broken.place / "archive"
        config = _config(tmp_path, database, archive)
        name = f"disk {archive}"
        assert gymdbd("-c", config, "backup").returncode == 0
        code, machine = _machine(config)
        assert (code, machine[name]["health"]) == (0, "ok")
        broken.fail()
        code, done = gymdbd_json("-c", config, "backup")
        assert (code, done["code"]) == (1, "disk-failing")
        assert "gymdbd emergency" in done["hint"]
        code, machine = _machine(config)
        found = machine[name]
        assert (code, found["health"], found["code"]) == (2, "failing", "disk-failing")
        assert "the live database is not on it" in found["hint"]
        checked = {one["name"]: one for one in gymdbd_json("-c", config, "check")[1]["checks"]}
        assert checked[name]["state"] == "error"


def test_a_card_that_fails_with_the_database_on_it_is_an_emergency(tmp_path: Path) -> None:
    """It can still be read, from the machine that pulls it."""
    with card(tmp_path) as broken:
        place = broken.place
        config = _config(tmp_path, make_database(place / "gym.db"), tmp_path / "archive")
        broken.fail()
        broken.make_noticed()
        _, machine = _machine(config)
        found = machine[f"disk {place}"]
        assert (found["health"], found["code"]) == ("failing", "disk-failing")
        assert "run gymdbd emergency on the machine that pulls it" in found["hint"]
        assert machine[f"disk {tmp_path / 'archive'}"]["health"] == "ok"
        told = gymdbd("-c", config, "status").stdout
        assert f"disk {place}: failing: the disk of {place} has failed" in told
        assert f"disk {place}: what to do: the database is on it: run gymdbd emergency" in told


def test_a_disk_that_is_mounted_read_only_is_named_so(tmp_path: Path) -> None:
    """It is the archive's; a database may be on one that nobody can write to."""
    with mounted(tmp_path, "tmpfs") as disk:
        config = _config(tmp_path, make_database(tmp_path / "gym.db"), disk / "archive")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        code, machine = _machine(config)
        found = machine[f"disk {disk / 'archive'}"]
        assert (code, found["code"]) == (2, "read-only")
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        database = make_database(disk / "gym.db")
        config = _config(tmp_path, database, tmp_path / "archive")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert _machine(config)[1][f"disk {disk}"]["health"] == "ok"


def test_a_backup_that_will_not_fit_is_failing(tmp_path: Path) -> None:
    """The machine's finding names the disk, beside that of the job."""
    with mounted(tmp_path, "tmpfs", size="1m") as disk:
        database = make_database(tmp_path / "gym.db", rows=20_000)
        config = _config(tmp_path, database, disk / "archive")
        code, machine = _machine(config)
        found = machine[f"disk {disk / 'archive'}"]
        assert (code, found["health"], found["code"]) == (2, "failing", "no-room")


def test_runs_that_cannot_record_their_outcome_are_no_failures_and_told(tmp_path: Path) -> None:
    """The disk is the status file's alone: the backups are made all the same."""
    database = make_database(tmp_path / "gym.db")
    with mounted(tmp_path, "tmpfs", size="1m") as disk:
        keys = {"status_file": str(disk / "status.json")}
        config = _config(tmp_path, database, tmp_path / "archive", **keys)

        def told() -> tuple[int, str, str]:
            assert gymdbd("-c", config, "backup").returncode == 0
            code, machine = _machine(config)
            found = machine[f"disk {disk}"]
            return code, found["code"], found["reason"].partition(":")[0]

        assert told()[:2] == (0, "ok")
        with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while filler.write(bytes(4096)):
                pass
        silent = (3, "status-not-written", "runs cannot record their outcome")
        assert told() == silent
        (disk / "filler").unlink()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert told() == silent


@pytest.mark.parametrize("first", [1, 20])
def test_a_read_error_of_the_source_is_no_damage_and_no_failure_of_the_archives_disk(
    tmp_path: Path, first: int
) -> None:
    """SQLite calls a page that it cannot read malformed, and a copy cannot be made either."""
    database = make_database(tmp_path / "gym.db", rows=20_000)
    config = _config(tmp_path, database, tmp_path / "archive")
    faults = (
        f"pread64:error=EIO:when={first}+",
        "copy_file_range:error=EIO",
        "read:error=EIO:when=4+",
    )
    inject = [word for fault in faults for word in ("-e", f"inject={fault}")]
    trace = "trace=pread64,copy_file_range,read"
    with tracing("-P", str(database), "-e", trace, *inject) as traced:
        done = zygote.shared().run("-c", config, "backup", "--json", traced=traced)
    told = json.loads(done.stdout)
    assert (done.exit_code, told["code"]) == (1, "source-unread")
    assert told["error"].startswith(f"{database} cannot be read")
    assert "gymdbd emergency" in told["hint"]


def test_a_run_records_what_it_wrote_and_the_space_it_left(on_disk: Path) -> None:
    """The page, the metrics and the forecast have it from the ledger."""
    database = make_database(on_disk / "gym.db", rows=20_000)
    with mounted(on_disk, "ext4") as disk:
        config = _config(on_disk, database, disk / "archive")
        code, made = gymdbd_json("-c", config, "backup")
        assert code == 0
        (line,) = ledger.read(on_disk / "ledger.jsonl")
        assert line.written is not None
        assert made["size"] <= line.written < 4 * made["size"] + 2**20
        assert line.device_written is not None
        assert line.device_written >= made["size"]
        space = os.statvfs(disk)
        assert line.disk_size == space.f_blocks * space.f_frsize
        assert line.disk_free is not None
        assert abs(line.disk_free - space.f_bavail * space.f_frsize) < 2**20
        assert line.disk_held is not None
        assert made["size"] <= line.disk_held < made["size"] + 2**16
