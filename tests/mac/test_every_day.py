"""What gymdbd does every day, on Macs of several kinds."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.commands import VERBS
from tests.support import ledger, samples
from tests.support.command import GYMDBD
from tests.support.databases import backups, make_database, query, sqlite_elsewhere
from tests.support.jobs import write_config
from tests.support.mac import environment, mac, mac_json
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.pulling import Peer

# What the disk of each answers.
_MACS = {
    "APFS": {},
    "HFS+": {"DARWIN_CLONE": "ENOTSUP", "DARWIN_NAMES": "decomposed"},
    "SMB": {
        "DARWIN_CLONE": "ENOTSUP",
        "DARWIN_FULLFSYNC": "ENOTSUP",
        "DARWIN_FOLDER_FSYNC": "ENOENT",
        "DARWIN_NAMES": "decomposed",
    },
    "FAT": {"DARWIN_CLONE": "ENOTSUP", "DARWIN_FULLFSYNC": "EINVAL"},
}
_OF_LINUX = ("systemctl", "journalctl", "ReadWritePaths", "namei", "/proc")
_every_mac = pytest.mark.parametrize("kind", samples.sample(_MACS, "Macs", 2))


def _configuration(folder: Path) -> Path:
    """Write one with two jobs, for a database with a Hangul name and for its archive."""
    database = make_database(folder / "회원.db")
    archive = folder / "archive"
    archive.mkdir(mode=0o700)
    jobs: dict[str, dict[str, Any]] = {
        "nightly": {"database": str(database), "archive": str(archive), "keep": {"count": 5}},
        "drill": {"kind": "drill", "archive": str(archive)},
    }
    return write_config(folder, {name: {"every": "1d", **job} for name, job in jobs.items()})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Give a configuration."""
    return _configuration(tmp_path)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a configuration with a backup, for what only reads."""
    config = _configuration(tmp_path_factory.mktemp("kept"))
    assert mac("-c", config, "backup").returncode == 0
    return config


def _rows(database: Path) -> int:
    ((count,),) = query(database, "SELECT count(*) FROM t")
    return int(count)


@_every_mac
def test_a_backup_is_made_listed_verified_and_restored(
    config: Path, tmp_path: Path, kind: str
) -> None:
    """The same as on Linux, whatever the disk can."""
    code, made = mac_json("-c", config, "backup", **_MACS[kind])
    assert (code, made["state"]) == (0, "ok")
    assert len(backups(tmp_path / "archive")) == 1
    code, listed = mac_json("-c", config, "list", **_MACS[kind])
    assert (code, [backup["verdict"] for backup in listed["backups"]]) == (0, ["verified"])
    code, verified = mac_json("-c", config, "verify", **_MACS[kind])
    assert (code, verified["state"]) == (0, "ok")
    restored = tmp_path / "restored.db"
    done = mac("-c", config, "restore", "latest", "--to", restored, **_MACS[kind])
    assert (done.returncode, done.stderr) == (0, "")
    assert _rows(restored) == _rows(tmp_path / "회원.db")


@_every_mac
def test_a_restore_into_the_open_database_goes_through_sqlite(
    config: Path, tmp_path: Path, kind: str
) -> None:
    """The application keeps its connection, and sees what was restored."""
    database = tmp_path / "회원.db"
    assert mac("-c", config, "backup", **_MACS[kind]).returncode == 0
    with closing(sqlite3.connect(database, isolation_level=None)) as application:
        ((before,),) = application.execute("SELECT count(*) FROM t").fetchall()
        application.execute("DELETE FROM t")
        done = mac("-c", config, "restore", "latest", **_MACS[kind])
        assert (done.returncode, done.stderr) == (0, "")
        assert application.execute("SELECT count(*) FROM t").fetchall() == [(before,)]


@_every_mac
def test_a_pull_brings_the_database_and_then_what_has_changed(peer: Peer, kind: str) -> None:
    """From a real sshd, whose Python is that of a Pi; the old replica is archived."""
    pull = ("-c", peer.config(), "pull")
    code, first = mac_json(*pull, **_MACS[kind])
    assert (code, first["strategy"]) == (0, "full")
    ledger.add_payments(peer.database, 5)
    code, second = mac_json(*pull, **_MACS[kind])
    assert (code, second["state"]) == (0, "ok")
    assert second["pages_changed"] < second["pages_total"]
    assert second["saved"]
    copy = ledger.check_copy(peer.replica)
    assert (copy.problems, copy.commits) == ((), ledger.check_copy(peer.database).commits)


def test_a_check_finds_no_fault_and_no_linux(kept: Path) -> None:
    """Neither a failing check nor a word of what only Linux has."""
    done = mac("-c", kept, "check")
    assert done.returncode == 0, done.stdout
    assert [word for word in _OF_LINUX if word in done.stdout] == []


def test_a_check_reaches_the_other_machine(peer: Peer) -> None:
    """It logs in and looks at the database there."""
    done = mac("-c", peer.config(), "check")
    assert (done.returncode, str(peer.database) in done.stdout) == (0, True), done.stdout


def test_two_commands_at_once_name_each_other(config: Path, tmp_path: Path) -> None:
    """A lock that a process holds names that process, without /proc."""
    script = (
        "import sys; from pathlib import Path; from gymdbd import lock\n"
        "with lock.hold([lock.archive_lock(Path(sys.argv[1]))]):\n"
        "    print(flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [GYMDBD[0], "-c", script, str(tmp_path / "archive")],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        code, told = mac_json("-c", config, "backup")
        holder.communicate()
    assert (code, told["code"]) == (3, "busy")
    assert f"process {holder.pid}" in told["error"]


def test_a_database_in_use_is_not_replaced(config: Path, tmp_path: Path) -> None:
    """Who has it open is seen without /proc, and the application keeps what it has."""
    database = tmp_path / "회원.db"
    assert mac("-c", config, "backup").returncode == 0
    with sqlite_elsewhere(database, "SELECT count(*) FROM t"):
        code, told = mac_json("-c", config, "restore", "latest", "--replace")
    assert (code, told["code"]) == (1, "target-in-use")
    assert "systemctl" not in told["hint"]


@pytest.mark.parametrize("lsof", samples.sample(["missing", "hanging", "failing"], "lsof"))
def test_a_pull_needs_no_lsof(peer: Peer, tmp_path: Path, lsof: str) -> None:
    """With nobody there, a replica is replaced whether or not lsof can be asked."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("ps", "ssh", "sleep", "sh", "true", "caffeinate"):
        if found := shutil.which(name):
            (programs / name).symlink_to(found)
    if lsof != "missing":
        program = programs / "lsof"
        program.write_text(f"#!/bin/sh\n{'exec sleep 600' if lsof == 'hanging' else 'exit 1'}\n")
        program.chmod(0o755)
    pull = ("-c", peer.config(), "pull")
    assert mac(*pull).returncode == 0
    ledger.add_payments(peer.database, 5)
    code, result = mac_json(*pull, PATH=str(programs), DARWIN_LIBPROC="EPERM")
    assert (code, result["state"]) == (0, "ok"), result
    copy = ledger.check_copy(peer.replica)
    assert (copy.problems, copy.commits) == ((), ledger.check_copy(peer.database).commits)


def test_a_backup_is_flushed_to_the_platter_before_it_has_its_name(
    config: Path, tmp_path: Path
) -> None:
    """F_FULLFSYNC of the file, and after the renaming a flush of the folder."""
    log = tmp_path / "calls"
    assert mac("-c", config, "backup", DARWIN_LOG=str(log)).returncode == 0
    calls = [line.split(" ", 1) for line in log.read_text().splitlines() if "/archive/" in line]
    last = {path: call for call, path in calls}
    assert set(last.values()) == {"F_FULLFSYNC"}
    assert len(last) > 1
    assert calls[-1][1] == f"{tmp_path / 'archive'}/"


def _caffeinate(folder: Path) -> Path:
    """Put a double of caffeinate into a folder: it writes what it was told, and waits."""
    folder.mkdir()
    program = folder / "caffeinate"
    program.write_text(f'#!/bin/sh\necho "$$ $*" >>{folder}/told\nexec sleep 600\n')
    program.chmod(0o755)
    return folder / "told"


def test_a_run_keeps_the_mac_awake_and_no_longer(config: Path, tmp_path: Path) -> None:
    """By caffeinate, which is told to end with the run's process, and has ended after it."""
    told = _caffeinate(tmp_path / "programs")
    path = f"{told.parent}:/usr/bin:/bin"
    assert mac("-c", config, "backup", PATH=path).returncode == 0
    assert mac("-c", config, "list", PATH=path).returncode == 0
    ((keeper, *words),) = [line.split() for line in told.read_text().splitlines()]
    assert words[:2] == ["-i", "-w"]
    assert words[2].isdigit()
    assert not Path("/proc", keeper).exists()


def test_a_run_works_without_caffeinate(config: Path, tmp_path: Path) -> None:
    """It is a courtesy, not a condition."""
    (tmp_path / "empty").mkdir()
    assert mac("-c", config, "backup", PATH=str(tmp_path / "empty")).returncode == 0


@contextlib.contextmanager
def _running(config: Path, **extra: str) -> Iterator[subprocess.Popen[bytes]]:
    told = environment(**extra)
    told.pop("NOTIFY_SOCKET", None)
    with config.with_name("daemon.log").open("wb") as log:
        daemon = subprocess.Popen([*GYMDBD, "-c", str(config), "run"], env=told, stderr=log)
    try:
        yield daemon
    finally:
        daemon.kill()
        daemon.wait()


def _entry(config: Path) -> dict[str, Any]:
    path = config.with_name("status.json")
    content = json.loads(path.read_text()) if path.exists() else {"jobs": {}}
    return dict(content["jobs"].get("nightly", {}))


def _events(config: Path) -> list[str]:
    lines = config.with_name("daemon.log").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines if line.startswith("{")]


@pytest.mark.parametrize("kind", samples.sample(_MACS, "Macs of a daemon"))
def test_the_daemon_runs_reloads_is_seen_and_stops(config: Path, kind: str) -> None:
    """As launchd starts it: without a socket for its state, by signals alone."""
    content = json.loads(config.read_text())
    content["jobs"]["nightly"]["every"] = "1s"
    config.write_text(json.dumps(content))
    with _running(config, **_MACS[kind]) as daemon:
        until(lambda: _entry(config).get("state") == "ok", "a scheduled backup")
        _, status = mac_json("-c", config, "status", **_MACS[kind])
        assert (status["daemon_running"], status["jobs"]["nightly"]["health"]) == (True, "ok")
        daemon.send_signal(signal.SIGHUP)
        until(lambda: "configuration reloaded" in _events(config), "a reload")
        daemon.terminate()
        assert daemon.wait(30) == 0
    assert [event for event in _events(config) if "not reached" in event] == []
    _, status = mac_json("-c", config, "status", **_MACS[kind])
    assert status["daemon_running"] is False


def test_a_status_without_a_daemon_says_how_launchd_starts_it(config: Path) -> None:
    """Not by systemctl."""
    with _running(config) as daemon:
        until(lambda: _entry(config).get("next_run"), "the plan")
        daemon.terminate()
        daemon.wait(30)
    assert mac("-c", config, "backup").returncode == 0
    text = mac("-c", config, "status").stdout
    assert ("launchctl bootstrap" in text, "systemctl" in text) == (True, False), text


_READING: dict[str, list[str]] = {
    "demo": [],
    "diff": ["latest"],
    "drill": ["drill"],
    "keep": ["latest"],
    "list": [],
    "prune": ["--dry-run"],
    "rescue": ["latest", "--table", "t", "--to", "rescued.sql"],
    "schedule": [],
    "verify": [],
}


@pytest.mark.parametrize("verb", _READING)
def test_the_other_verbs_work(kept: Path, verb: str) -> None:
    """Each does on a Mac what it is for."""
    words = [kept.with_name(word) if "." in word else word for word in _READING[verb]]
    done = mac("-c", kept, verb, *words)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


@pytest.mark.parametrize("verb", samples.sample(VERBS, "help of a verb", 3))
def test_the_help_names_no_tool_of_linux(verb: str) -> None:
    """It is the same on both systems."""
    text = mac(verb, "--help").stdout
    assert (len(text) > 200, [word for word in _OF_LINUX if word in text]) == (True, [])
