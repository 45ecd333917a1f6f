"""A disk that is unplugged, a log or status folder that is gone: only what needs it stops."""

from __future__ import annotations

import json
import signal
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.archive.catalog import Catalog
from gymdbd.clock import Clock
from gymdbd.config.kinds import PullConfig
from gymdbd.errors import FolderMissingError
from gymdbd.jobs.pull import old_replica
from gymdbd.jobs.pull.replica import Replica
from tests.support.command import ORDINARY_USER, gymdbd, gymdbd_json
from tests.support.daemon_process import DaemonProcess, running_daemon
from tests.support.databases import backups, make_database
from tests.support.jobs import context, write_config
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """Give the archive that is always there."""
    folder = tmp_path / "card"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Give the archive on a disk that can be unplugged: its mount point is there, and empty."""
    (tmp_path / "mnt").mkdir()
    return tmp_path / "mnt" / "disk"


def _config(folder: Path, card: Path, disk: Path, *, every: str = "1h", **top: Any) -> Path:
    database = make_database(folder / "gym.db")
    common = {"database": str(database), "every": every}
    jobs = {
        "to-card": {**common, "archive": str(card)},
        "to-disk": {**common, "archive": str(disk)},
    }
    return write_config(folder, jobs, **top)


def _runs(daemon: DaemonProcess, job: str, state: str) -> list[dict[str, Any]]:
    return [run for run in daemon.entry(job).get("runs", []) if run["state"] == state]


def test_a_daemon_whose_disk_is_unplugged_goes_on_with_the_others_and_takes_it_back(
    tmp_path: Path, card: Path, disk: Path
) -> None:
    """It starts, reloads and backs up without it; the one job fails, and is well once it is back.

    Nothing comes to be in the empty mount point.
    """
    config = _config(tmp_path, card, disk, every="1s")
    with running_daemon(config) as daemon:
        until(lambda: _runs(daemon, "to-disk", "failed"), "the run that needs the disk")
        until(lambda: _runs(daemon, "to-card", "ok"), "a backup on the card")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for_event("configuration reloaded")
        before = len(backups(card))
        until(lambda: len(backups(card)) > before, "another backup on the card")
        assert not disk.exists()
        entry = daemon.entry("to-disk")
        assert (entry["state"], entry["code"]) == ("failed", "folder-missing")
        assert entry["error"] == f"there is no folder {disk}"
        assert "mount the disk" in entry["hint"]
        disk.mkdir(mode=0o700)
        until(lambda: backups(disk), "a backup on the disk")
        assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("list", "_backup_"),
        ("status", "to-card"),
        ("schedule", "to-disk"),
        ("restore latest --to {folder}/restored.db", "restored"),
        ("restore latest --dry-run", "Nothing has been changed"),
        ("diff latest", "changes  nothing"),
        ("rescue latest --table t", "-- t: 0 rows"),
        ("keep {backup}", "pinned"),
        ("prune to-card --keep-count 1", "0 of 1 backups removed"),
        ("backup to-card", "integrity ok"),
    ],
)
def test_every_verb_that_does_not_need_the_missing_disk_works(
    tmp_path: Path, card: Path, disk: Path, words: str, told: str
) -> None:
    """What the other archive holds is read, and what is left out is said; the job is failing."""
    config = _config(tmp_path, card, disk)
    assert gymdbd("-c", config, "backup", "to-card").returncode == 0
    (backup,) = backups(card)
    command = words.format(folder=tmp_path, backup=backup.name).split()
    done = gymdbd("-c", config, *command)
    assert done.returncode == (2 if words == "status" else 0), done.stderr
    assert told in done.stdout
    searches = command[0] in ("list", "restore", "diff", "rescue", "keep")
    assert (f"left out: there is no archive at {disk}" in done.stderr) == searches
    assert not disk.exists()


def test_a_verification_reads_the_archives_that_are_there_and_fails_for_the_other(
    tmp_path: Path, card: Path, disk: Path
) -> None:
    """With all archives and with the newest of each."""
    config = _config(tmp_path, card, disk)
    assert gymdbd("-c", config, "backup", "to-card").returncode == 0
    for words in (["verify", "--all"], ["verify"]):
        code, answer = gymdbd_json("-c", config, *words)
        assert (code, answer["code"]) == (1, "folder-missing")
        assert [one["verdict"] for one in answer["backups"]] == ["verified"]


def test_what_is_left_out_is_told_to_programs_and_nothing_at_all_is_an_error(
    tmp_path: Path, card: Path, disk: Path
) -> None:
    """One archive of two is an answer; none of them is none."""
    config = _config(tmp_path, card, disk)
    code, answer = gymdbd_json("-c", config, "list")
    assert (code, answer["backups"]) == (0, [])
    assert [one["error"] for one in answer["unread"]] == [f"there is no archive at {disk}"]
    card.rename(tmp_path / "gone")
    code, answer = gymdbd_json("-c", config, "list")
    assert (code, answer["code"]) == (1, "folder-missing")


def test_the_missing_archive_of_a_pull_is_left_out_aloud(tmp_path: Path, card: Path) -> None:
    """If it is one that the configuration names: the other one a pull makes when it needs it."""
    pull = {"kind": "pull", "every": "1h", "host": "pi", "remote_database": "/x.db"}
    (tmp_path / "replica").mkdir()
    jobs = {
        "check": {"kind": "verify", "every": "1h", "archive": str(card)},
        "named": {**pull, "replica": str(tmp_path / "a.db"), "archive": str(tmp_path / "mnt")},
        "plain": {**pull, "replica": str(tmp_path / "replica" / "b.db")},
    }
    code, answer = gymdbd_json("-c", write_config(tmp_path, jobs), "list")
    told = [f"there is no archive at {tmp_path / 'mnt'}"]
    assert (code, [one["error"] for one in answer["unread"]]) == (0, told)


def test_a_pull_whose_archive_is_unplugged_fails_before_it_reaches_for_the_host(
    tmp_path: Path,
) -> None:
    """The archive that it would make itself, beside the replica, is no such thing."""
    archive = tmp_path / "mnt" / "disk"
    job = {"kind": "pull", "every": "1h", "host": "nowhere.invalid", "remote_database": "/x.db"}
    named = {**job, "replica": str(tmp_path / "replica.db"), "archive": str(archive)}
    gone = {**job, "replica": str(archive / "replica.db")}
    config = write_config(tmp_path, {"named": named, "gone": gone})
    for name in ("named", "gone"):
        code, answer = gymdbd_json("-c", config, "pull", name)
        assert (code, answer["code"]) == (1, "folder-missing")
        assert answer["error"] == f"there is no folder {archive}"
    assert not archive.parent.exists()


def test_an_archive_that_is_unplugged_during_a_pull_is_not_made_anew(tmp_path: Path) -> None:
    """It was there when the run began: neither the old replica nor a copy is saved elsewhere."""
    path, archive = make_database(tmp_path / "replica.db"), tmp_path / "mnt"
    job = PullConfig(
        name="p", kind="pull", host="pi", remote_database="/x.db", replica=path, archive=archive
    )
    for save in (
        lambda: old_replica.save(job, Replica(path), None, context()),
        lambda: old_replica.keep_copy(job, Replica(path), context()),
    ):
        with pytest.raises(FolderMissingError):
            save()
    assert not archive.exists()


def test_an_archive_typed_by_hand_is_made_only_if_the_folder_above_it_is_there(
    tmp_path: Path,
) -> None:
    """So that no backup lands below the mount point of a disk that is not mounted."""
    database = make_database(tmp_path / "gym.db")
    words = ("backup", "--database", database, "--archive")
    code, answer = gymdbd_json(*words, tmp_path / "mnt" / "backups")
    assert (code, answer["code"]) == (1, "folder-missing")
    assert not (tmp_path / "mnt").exists()
    assert gymdbd_json(*words, tmp_path / "backups")[0] == 0
    assert gymdbd("backup", "--database", database, cwd=tmp_path).returncode == 0
    assert len(backups(tmp_path / "data/backups/database")) == 1


def _nightly(folder: Path, card: Path, **top: Any) -> Path:
    database = make_database(folder / "gym.db")
    job = {"database": str(database), "archive": str(card), "every": "1s"}
    return write_config(folder, {"nightly": job}, **top)


def test_a_missing_status_folder_stops_no_run_and_is_used_once_it_is_there(
    tmp_path: Path, card: Path
) -> None:
    """The daemon starts without it, and says so once; afterwards it is known to be alive."""
    folder = tmp_path / "run"
    config = _nightly(tmp_path, card, status_file=str(folder / "status.json"))
    done = gymdbd("-c", config, "backup")
    assert (done.returncode, len(backups(card))) == (0, 1)
    assert f"{folder}" in done.stderr
    with running_daemon(config) as daemon:
        until(lambda: len(backups(card)) > 1, "a backup without a status")
        own = [one for one in daemon.events("status not written") if "job" not in one]
        assert len(own) == 1
        until(lambda: _status(config)["daemon_running"], "the daemon is seen without a status file")
        folder.mkdir(mode=0o700)
        # Before the daemon's next turn, a second one could lock the status file instead.
        assert gymdbd("-c", config, "run", prefix=["timeout", "20"]).returncode == 3
        until((folder / "status.json").exists, "the status file")
        until(lambda: _status(config)["daemon_running"], "the daemon is seen")
        assert gymdbd("-c", config, "run").returncode == 3
        content = json.loads((folder / "status.json").read_text())
        assert content["daemon"]["pid"] == daemon.pid
        assert daemon.stop() == 0


def _status(config: Path) -> dict[str, Any]:
    return gymdbd_json("-c", config, "status")[1]


def test_a_status_folder_that_was_taken_away_and_came_back_shows_the_daemon_again(
    tmp_path: Path, card: Path
) -> None:
    """The lock by which it is known went with the folder."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    config = _nightly(tmp_path, card, status_file=str(folder / "status.json"))
    with running_daemon(config) as daemon:
        until(lambda: _status(config)["daemon_running"], "the daemon is seen")
        folder.rename(tmp_path / "taken")
        folder.mkdir(mode=0o700)
        until(lambda: _status(config)["daemon_running"], "the daemon is seen again")
        assert daemon.stop() == 0


def test_a_status_that_may_not_be_written_stops_no_run(tmp_path: Path, card: Path) -> None:
    """Neither one by hand nor the daemon's; an ordinary user meets a folder of another's."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    config = _nightly(tmp_path, card, status_file=str(folder / "status.json"))
    done = gymdbd("-c", config, "backup", prefix=ORDINARY_USER)
    assert (done.returncode, len(backups(card))) == (0, 1), done.stderr
    assert "cannot write" in done.stderr


def test_a_missing_log_folder_stops_no_run_and_is_complained_of_once(
    tmp_path: Path, card: Path
) -> None:
    """The events are on standard error all the same; once the folder is there they go to it."""
    file = tmp_path / "logs" / "gymdbd.log"
    config = _nightly(tmp_path, card, log={"format": "json", "file": str(file)})
    done = gymdbd("-c", config, "backup")
    assert (done.returncode, len(backups(card))) == (0, 1)
    said = f"gymdbd: cannot write the log: {file}: No such file or directory. The work continues"
    assert [line for line in done.stderr.splitlines() if "the log" in line] == [said]
    with running_daemon(config) as daemon:
        until(lambda: len(backups(card)) > 1, "a backup without a log file")
        file.parent.mkdir(mode=0o700)
        until(lambda: file.exists() and "run finished" in file.read_text(), "the log file")
        assert daemon.stop() == 0


def test_check_lists_everything_that_is_missing(tmp_path: Path, card: Path, disk: Path) -> None:
    """Each with its remedy, in one go; the exit code says that there is an error."""
    places = {name: tmp_path / "mnt" / name for name in ("status", "log", "disk", "scratch")}
    config = _config(
        tmp_path,
        card,
        disk,
        status_file=str(places["status"] / "status.json"),
        log={"file": str(places["log"] / "x.log")},
    )
    content = json.loads(config.read_text())
    drill = {"kind": "drill", "every": "1h", "archive": str(card)}
    content["jobs"]["drill"] = {**drill, "scratch_folder": str(places["scratch"])}
    config.write_text(json.dumps(content))
    code, answer = gymdbd_json("-c", config, "check")
    errors = [one["message"] for one in answer["checks"] if one["state"] == "error"]
    assert code == 1
    for place in places.values():
        assert f"there is no folder {place}" in errors
        assert not place.exists()


def test_completion_offers_what_is_there(tmp_path: Path, card: Path) -> None:
    """The missing archive, which comes first, hides nothing of the other."""
    early = tmp_path / "a-disk-that-is-not-mounted"
    config = _config(tmp_path, card, early)
    assert gymdbd("-c", config, "backup", "to-card").returncode == 0
    (backup,) = Catalog(card, Clock().zone).backups()
    line = f"gymdbd -c {config} restore "
    with closing((tmp_path / "offered").open("wb+")) as offered:
        gymdbd(
            _ARGCOMPLETE="1",
            _ARGCOMPLETE_STDOUT_FILENAME=offered.name,
            COMP_LINE=line,
            COMP_POINT=str(len(line)),
            _ARGCOMPLETE_SHELL="bash",
        )
        assert backup.path.name.encode() in offered.read()
