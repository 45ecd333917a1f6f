"""What `status` says, held against what is the case: full disks, lost backups, stopped daemons."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import sqlite3
import subprocess
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.archive import manifest as manifests
from tests.support.application import application
from tests.support.command import GYMDBD, ORDINARY_USER, environment, gymdbd, gymdbd_json
from tests.support.daemon_process import running_daemon
from tests.support.databases import backups, make_database
from tests.support.disks import mounted
from tests.support.jobs import write_config
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _nightly(folder: Path, **settings: Any) -> Path:
    """Write a configuration with one job, `nightly`, on a small database."""
    archive = folder / "archive"
    archive.mkdir(mode=0o700)
    database = make_database(folder / "gym.db", rows=2000)
    job = {"database": str(database), "archive": str(archive), "schedule": "0 3 * * *"}
    return write_config(folder, {"nightly": {**job, **settings}})


def _status(config: Path, **options: Any) -> tuple[int, dict[str, Any]]:
    code, answer = gymdbd_json("-c", config, "status", **options)
    return code, {**answer["jobs"]["nightly"], "daemon_running": answer["daemon_running"]}


def _fill(disk: Path) -> None:
    """Leave not one free block."""
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


@pytest.fixture
def card(tmp_path: Path) -> Iterator[Path]:
    """Give a small disk of its own."""
    with mounted(tmp_path, "tmpfs", size="8m") as place:
        yield place


def test_failures_are_recorded_on_a_disk_that_is_full_and_stays_full(card: Path) -> None:
    """Each of them, in the place that was held back; with room there is a reserve again."""
    config = _nightly(card)
    reserve = card / ".status.json.reserve"
    assert gymdbd("-c", config, "backup").returncode == 0
    held = reserve.stat()
    assert (held.st_mode & 0o777, held.st_size, held.st_blocks * 512) == (0o600, 65536, 65536)
    _fill(card)
    for count in (1, 2, 3):
        done = gymdbd("-c", config, "backup")
        assert (done.returncode, "status not written" in done.stderr) == (1, False)
        code, entry = _status(config)
        assert (code, entry["health"]) == (2, "failing")
        assert (entry["consecutive_failures"], entry["code"]) == (count, "disk-full")
    assert (card / ".status.json.reserve").stat().st_blocks * 512 >= 16384
    (card / "filler").unlink()
    assert gymdbd("-c", config, "backup").returncode == 0
    code, entry = _status(config)
    assert (code, entry["consecutive_failures"]) == (0, 0)
    assert reserve.stat().st_blocks * 512 == 65536


def test_a_full_disk_is_failing_even_if_no_run_could_record_it(card: Path) -> None:
    """The file says ok, for whose new content there is no block; status looks for itself."""
    config = _nightly(card)
    assert gymdbd("-c", config, "backup").returncode == 0
    (card / ".status.json.reserve").unlink()
    _fill(card)
    assert gymdbd("-c", config, "backup").returncode == 1
    assert json.loads((card / "status.json").read_text())["jobs"]["nightly"]["state"] == "ok"
    code, entry = _status(config)
    assert (code, entry["health"]) == (2, "failing")
    assert f"{card / 'archive'} has 0 B free, but " in entry["reason"]
    assert "free some space" in entry["hint"]


def test_a_disk_that_became_read_only_is_failing_before_the_next_run(card: Path) -> None:
    """The kernel does that after an error of the card; who is root need not be let in."""
    config = _nightly(card)
    assert gymdbd("-c", config, "backup").returncode == 0
    assert _status(config)[0] == 0
    subprocess.run(["mount", "-o", "remount,ro", card], check=True)
    code, entry = _status(config)
    assert (code, entry["health"]) == (2, "failing")
    assert entry["reason"] == f"the disk of {card / 'archive'} is mounted read-only"
    code, answer = gymdbd_json("-c", config, "backup")
    assert (code, answer["code"]) == (1, "not-writable")
    checked = {one["name"]: one for one in gymdbd_json("-c", config, "check")[1]["checks"]}
    for hint in (entry["hint"], answer["hint"], checked["nightly archive"]["hint"]):
        assert ("mounted read-only" in hint, "dmesg" in hint, "uid" in hint) == (True, True, False)


def test_a_daemon_whose_disk_is_full_from_its_start_is_told_as_running(card: Path) -> None:
    """It has its lock, and could not write who it is."""
    config = _nightly(card)
    _fill(card)
    command = [*GYMDBD, "-c", str(config), "run"]
    daemon = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
    try:
        until(lambda: _status(config)[1]["daemon_running"], "the daemon")
        assert gymdbd("-c", config, "status").stdout.splitlines()[0] == "daemon running"
    finally:
        daemon.terminate()
        daemon.wait(30)


def test_nothing_is_held_back_on_a_disk_that_is_nearly_full(card: Path) -> None:
    """The last blocks are the application's."""
    config = _nightly(card)
    with (card / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(card).free - 800 * 1024)
    assert gymdbd("-c", config, "backup").returncode == 0
    assert (card / "status.json").exists()
    assert not (card / ".status.json.reserve").exists()


def test_backups_that_are_gone_are_failing_whatever_the_last_run_said(tmp_path: Path) -> None:
    """Removed one by one, and with the whole folder."""
    config = _nightly(tmp_path)
    assert gymdbd("-c", config, "backup").returncode == 0
    assert _status(config)[0] == 0
    archive = tmp_path / "archive"
    for path in archive.iterdir():
        path.unlink()
    code, entry = _status(config)
    assert (code, entry["health"]) == (2, "failing")
    assert entry["reason"] == f"{archive} no longer holds a good backup of it"
    archive.rmdir()
    code, entry = _status(config)
    assert (code, entry["reason"]) == (2, f"there is no folder {archive}")
    archive.mkdir()
    (tmp_path / "gym.db").unlink()
    assert gymdbd("-c", config, "backup").returncode == 1
    assert _status(config)[1]["reason"] == f"there is no database at {tmp_path / 'gym.db'}"


def _back_date(backup: Path, by: timedelta) -> None:
    """Let a backup be as old as its manifest then says."""
    manifest = manifests.read(backup)
    assert manifest is not None
    created = (manifest.created - by).isoformat(timespec="seconds")
    manifests.write(dataclasses.replace(manifest, created_at=created), backup)


def test_the_age_is_that_of_the_newest_good_backup_that_is_there(tmp_path: Path) -> None:
    """An older one is late, although the last run was a moment ago; so is it without a file."""
    config = _nightly(tmp_path)
    assert gymdbd("-c", config, "backup").returncode == 0
    (backup,) = backups(tmp_path / "archive")
    _back_date(backup, timedelta(days=3))
    code, entry = _status(config)
    assert (code, entry["health"]) == (1, "late")
    (tmp_path / "status.json").unlink()
    assert _status(config)[0] == 1


def test_a_backup_that_no_status_file_tells_of_counts_all_the_same(tmp_path: Path) -> None:
    """It was lost, or could not be written, and the newest backup is young enough."""
    config = _nightly(tmp_path)
    assert _status(config)[0] == 3
    assert gymdbd("-c", config, "backup").returncode == 0
    (tmp_path / "status.json").unlink()
    code, entry = _status(config)
    assert (code, entry["health"]) == (0, "ok")
    (backup,) = backups(tmp_path / "archive")
    manifest = manifests.read(backup)
    assert manifest is not None
    assert entry["last_success"] == manifest.created_at
    assert "never" not in gymdbd("-c", config, "status").stdout


def test_a_damaged_backup_is_failing_until_it_is_removed(tmp_path: Path) -> None:
    """No verify job is needed: somebody ran `gymdbd verify`, and a newer backup is good."""
    config = _nightly(tmp_path)
    assert gymdbd("-c", config, "backup").returncode == 0
    (rotten,) = backups(tmp_path / "archive")
    assert gymdbd("-c", config, "backup").returncode == 0
    with rotten.open("r+b") as file:
        file.seek(20_000)
        file.write(b"x")
    assert gymdbd("-c", config, "verify", "--all").returncode == 1
    code, entry = _status(config)
    assert (code, entry["health"]) == (2, "failing")
    assert entry["reason"] == f"damaged, so no longer a backup: {rotten.name}"
    rotten.unlink()
    assert _status(config)[0] == 0


def test_an_application_that_goes_on_in_a_replaced_file_is_failing(tmp_path: Path) -> None:
    """The last run saved what it had; what it commits now is in no file that has a name."""
    (tmp_path / "instance").mkdir()
    live = make_database(tmp_path / "instance" / "gym.db")
    config = _nightly(tmp_path, database=str(live))
    with application(live) as app:
        app.write()
        shutil.copy(live, tmp_path / "copy.db")
        for path in live.parent.iterdir():
            path.unlink()
        code, entry = _status(config)
        assert (code, entry["health"]) == (2, "failing")
        assert f"{live} was removed" in entry["reason"]
        (tmp_path / "copy.db").rename(live)
        app.write()
        assert gymdbd("-c", config, "backup", "--deleted").returncode == 0
        code, entry = _status(config)
        assert (code, entry["health"]) == (2, "failing")
        assert f"(pid {app.pid})" in entry["reason"]
    assert _status(config)[0] == 0


def test_a_database_that_is_gone_is_failing_before_the_next_run(tmp_path: Path) -> None:
    """It will fail, and until then the file says ok."""
    config = _nightly(tmp_path)
    assert gymdbd("-c", config, "backup").returncode == 0
    (tmp_path / "gym.db").rename(tmp_path / "moved.db")
    code, entry = _status(config)
    assert (code, entry["reason"]) == (2, f"there is no database at {tmp_path / 'gym.db'}")


@pytest.mark.parametrize("hidden", ["archive", "instance"])
def test_what_this_user_may_not_look_at_is_unknown(tmp_path: Path, hidden: str) -> None:
    """Neither ok nor failing: the archive of another user, or the folder of the database."""
    (tmp_path / "instance").mkdir()
    make_database(tmp_path / "instance" / "gym.db")
    config = _nightly(tmp_path, database=str(tmp_path / "instance/gym.db"))
    assert gymdbd("-c", config, "backup").returncode == 0
    assert _status(config, prefix=ORDINARY_USER)[0] == 0
    os.chown(tmp_path / hidden, 12345, 12345)
    (tmp_path / hidden).chmod(0o700)
    code, entry = _status(config, prefix=ORDINARY_USER)
    assert (code, entry["health"]) == (3, "unknown")
    assert str(tmp_path / hidden) in entry["reason"]


@pytest.mark.parametrize("what", ["config.yaml", "status.json"])
@pytest.mark.parametrize("how", ["unreadable", "damaged"])
def test_a_status_that_cannot_be_read_is_unknown_and_not_failing(
    tmp_path: Path, what: str, how: str
) -> None:
    """By its exit code, on which a monitor goes; the error says which file, and what to do."""
    config = _nightly(tmp_path)
    assert gymdbd("-c", config, "backup").returncode == 0
    if how == "damaged":
        (tmp_path / what).write_text("{")
    else:
        (tmp_path / what).chmod(0)
    code, answer = gymdbd_json("-c", config, "status", prefix=ORDINARY_USER)
    assert (code, answer["state"]) == (3, "failed")
    assert str(tmp_path / what) in answer["error"]
    told = gymdbd("-c", config, "status", prefix=ORDINARY_USER)
    assert (told.returncode, answer["hint"] in told.stderr, told.stdout) == (3, True, "")


def test_what_to_do_about_a_job_is_told(tmp_path: Path) -> None:
    """The hint of the run that failed stands below the table, and nothing for one that is well."""
    config = _nightly(tmp_path)
    assert gymdbd("-c", config, "backup").returncode == 0
    assert "what to do" not in gymdbd("-c", config, "status").stdout
    (tmp_path / "gym.db").write_bytes(b"this is no database" * 500)
    code, failed = gymdbd_json("-c", config, "backup")
    assert code == 1
    told = gymdbd("-c", config, "status")
    assert told.returncode == 2
    assert f"nightly: what to do: {failed['hint']}" in told.stdout.splitlines()
    assert gymdbd_json("-c", config, "status")[1]["jobs"]["nightly"]["hint"] == failed["hint"]


def test_a_job_whose_daemon_is_stopped_is_late_and_then_failing(tmp_path: Path) -> None:
    """The next run will not happen, and none is shown; a daemon that is there is well."""
    config = _nightly(tmp_path)
    assert gymdbd("-c", config, "backup").returncode == 0
    with running_daemon(config) as daemon:
        until(lambda: daemon.entry("nightly").get("next_run"), "the plan")
        code, entry = _status(config)
        assert (code, entry["daemon_running"], entry["next_run"][10:16]) == (0, True, "T03:00")
        assert daemon.stop() == 0
    code, entry = _status(config)
    assert (code, entry["health"], entry["daemon_running"]) == (1, "late", False)
    assert entry["reason"] == "the daemon is not running, so the next run will not happen"
    assert "systemctl start gymdbd" in entry["hint"]
    assert entry["next_run"] is None
    told = gymdbd("-c", config, "status").stdout
    assert "daemon not running" in told
    assert "03:00" not in told
    (backup,) = backups(tmp_path / "archive")
    _back_date(backup, timedelta(days=3))
    assert _status(config)[0] == 2


@pytest.mark.parametrize("before", [False, True])
def test_a_daemon_that_cannot_write_its_status_is_told_as_running(
    tmp_path: Path, before: bool
) -> None:
    """Its runs happen and nobody hears how they end: it may have been that way from its start."""
    place = tmp_path / "place"
    place.mkdir()
    config = _nightly(tmp_path)
    content = json.loads(config.read_text())
    config.write_text(json.dumps({**content, "status_file": str(place / "status.json")}))
    assert gymdbd("-c", config, "backup").returncode == 0
    if before:
        with running_daemon(config) as daemon:
            until((place / ".status.json.daemon.lock").exists, "a daemon of yesterday")
    subprocess.run(["mount", "--bind", place, place], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
        with running_daemon(config) as daemon:
            daemon.wait_for_event("status not written")
            code, entry = _status(config)
            assert (code, entry["health"], entry["daemon_running"]) == (3, "unknown", True)
            file = place / "status.json"
            assert entry["reason"] == (
                f"the daemon cannot write {file}: the outcome of its runs is unknown"
            )
            assert "ReadWritePaths" in entry["hint"]
            assert "daemon running, pid" not in gymdbd("-c", config, "status").stdout
            assert daemon.stop() == 0
        assert _status(config)[1]["daemon_running"] is False
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_suspicion_without_an_answer_is_failing_also_without_a_status_file(
    tmp_path: Path,
) -> None:
    """The archive tells of it, and how to answer; once that is done all is well."""
    config = _nightly(tmp_path, gates={"max_row_drop": "50%"})
    assert gymdbd("-c", config, "backup").returncode == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "gym.db")) as database:
        database.execute("DELETE FROM t")
        database.commit()
    assert gymdbd("-c", config, "backup").returncode == 1
    (tmp_path / "status.json").unlink()
    code, entry = _status(config)
    assert (code, entry["health"]) == (2, "failing")
    assert entry["reason"].endswith(" waits for accept or reject; pruning is stopped")
    assert "gymdbd accept nightly" in entry["hint"]
    assert gymdbd("-c", config, "accept", "nightly").returncode == 0
    assert _status(config)[0] == 0


def test_jobs_that_are_run_by_hand_or_by_cron_need_no_daemon(tmp_path: Path) -> None:
    """None has ever been started with this status file; nor is one waited for once it is gone."""
    config = _nightly(tmp_path)
    assert gymdbd("-c", config, "backup").returncode == 0
    assert _status(config)[0] == 0
    with running_daemon(config) as daemon:
        until(lambda: daemon.entry("nightly").get("next_run"), "the plan")
    assert _status(config)[0] == 1
    (tmp_path / "status.json").unlink()
    assert gymdbd("-c", config, "backup").returncode == 0
    assert _status(config)[0] == 0


def test_a_status_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    """What is in the archive is judged all the same."""
    config = _nightly(tmp_path)
    content = json.loads(config.read_text())
    config.write_text(json.dumps({**content, "status_file": str(tmp_path / "run/status.json")}))
    assert gymdbd("-c", config, "backup").returncode == 0
    done = gymdbd("-c", config, "status")
    assert done.returncode == 0
    assert f"there is no folder {tmp_path / 'run'}" in done.stdout


def test_the_status_line_of_the_unit_tells_of_a_run_by_hand_within_seconds(tmp_path: Path) -> None:
    """The daemon looks into the file that the run has left."""
    config = _nightly(tmp_path)
    with running_daemon(config, watchdog_s=300) as daemon:
        assert daemon.heard()[1].endswith("; last: no run yet")
        assert gymdbd("-c", config, "backup").returncode == 0
        until(lambda: "last: nightly ok at" in daemon.heard()[-1], "the run", within_s=15)


def test_a_job_that_the_daemon_took_on_is_in_its_plan(tmp_path: Path) -> None:
    """Also if it is not the next one to run."""
    config = _nightly(tmp_path)
    with running_daemon(config) as daemon:
        until(lambda: daemon.entry("nightly").get("next_run"), "the plan")
        content = json.loads(config.read_text())
        yearly = {**content["jobs"]["nightly"], "schedule": "0 3 29 2 *"}
        config.write_text(json.dumps({**content, "jobs": {**content["jobs"], "yearly": yearly}}))
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: daemon.entry("yearly").get("next_run"), "the plan of the new job")
