"""The daemon as a process: systemd's protocol, schedules, signals, and trouble it must survive."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymdbd import lock, partials
from gymdbd.config import config
from gymdbd.runs.child import KILL, Supervisor
from gymdbd.runs.runner import Run
from gymdbd.runs.status import StatusFile
from tests.support import disks
from tests.support.command import GYMDBD, ROOT, environment, gymdbd, gymdbd_json
from tests.support.daemon_process import DaemonProcess, running_daemon
from tests.support.databases import backups, broken_promises, make_database, query
from tests.support.gym import running_app
from tests.support.jobs import write_config
from tests.support.waiting import times_open, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

_IDLE_S = 10.0
_IDLE_RSS_KIB = 45 * 1024
# A host that does not answer is waited for 15 s.
_NO_HOST_S = 10.0


def _job(database: Path, archive: Path, **settings: Any) -> dict[str, Any]:
    archive.mkdir(mode=0o700, exist_ok=True)
    when = {} if "every" in settings else {"schedule": "0 3 * * *"}
    return {"database": str(database), "archive": str(archive), **when, **settings}


def _nightly(folder: Path, **settings: Any) -> Path:
    """Write a configuration with one job, `nightly`, on a small database."""
    database = folder / "gym.db"
    if not database.exists():
        make_database(database)
    return write_config(folder, {"nightly": _job(database, folder / "archive", **settings)})


def _remember_success(folder: Path, *jobs: str, age: timedelta) -> None:
    """Write the status file that a daemon of `age` ago would have left."""
    moment = (datetime.now(UTC) - age).isoformat(timespec="seconds")  # noqa: TID251 - real time
    entry = {"kind": "backup", "state": "ok", "last_success": moment, "last_run": moment}
    content = {"schema": 1, "daemon": None, "jobs": dict.fromkeys(jobs, entry)}
    (folder / "status.json").write_text(json.dumps(content))


def _good_runs(daemon: DaemonProcess, job: str) -> list[dict[str, Any]]:
    return [run for run in daemon.entry(job).get("runs", []) if run["state"] == "ok"]


def test_ready_is_sent_when_the_schedule_stands(tmp_path: Path) -> None:
    """READY=1 comes with the next run in STATUS, which is also in the status file."""
    with running_daemon(_nightly(tmp_path)) as daemon:
        heard = daemon.heard()
        assert heard[0] == "READY=1"
        assert heard[1].startswith("STATUS=next: nightly at 20")
        assert "03:00" in heard[1]
        next_run = until(lambda: daemon.entry("nightly").get("next_run"), "next_run in the file")
        assert "T03:00:00" in next_run
        assert daemon.stop() == 0
        daemon.wait_for_state("STOPPING=1")


def test_the_status_line_tells_the_newest_run_whoever_made_it(tmp_path: Path) -> None:
    """No run yet is said where there was none; after a restart, a run by hand is the last one."""
    config = _nightly(tmp_path)
    with running_daemon(config) as daemon:
        assert daemon.heard()[1].endswith("; last: no run yet")
    assert gymdbd("-c", config, "backup", "nightly").returncode == 0
    with running_daemon(config) as daemon:
        assert "; last: nightly ok at 20" in daemon.heard()[1]


def test_the_watchdog_is_fed_while_the_daemon_lives_and_not_while_it_hangs(
    tmp_path: Path,
) -> None:
    """WATCHDOG=1 arrives well within its time, and a stopped process sends none."""
    with running_daemon(_nightly(tmp_path), watchdog_s=0.6) as daemon:
        daemon.wait_for_state("WATCHDOG=1", times=5, within_s=4)
        daemon.process.send_signal(signal.SIGSTOP)
        until(lambda: _state_of(daemon.pid) == "T", "the daemon is stopped")
        count = len(daemon.heard())
        begun = time.monotonic()
        until(lambda: time.monotonic() - begun > 1.5, "time to pass", within_s=3)
        assert len(daemon.heard()) == count
        daemon.process.send_signal(signal.SIGCONT)
        until(lambda: len(daemon.heard()) > count, "WATCHDOG=1 again")


# A daemon whose clock jumps by 100 s, to the eyes of everybody but its scheduler, once a file is
# there: the next heartbeat comes up to 20 s later.
_SILENT = """
import sys
from datetime import timedelta
from pathlib import Path
from gymdbd import clock
from gymdbd.config import config
from gymdbd.daemon.loop import Daemon
class Late(clock.Clock):
    def late(self):
        return 100 if Path(sys.argv[1]).exists() else 0
    def now(self):
        return super().now() + timedelta(seconds=self.late())
    def monotonic(self):
        return super().monotonic() + self.late()
sys.exit(Daemon(config.load(Path(sys.argv[-2])), Late()).run())
"""


def test_the_watchdog_is_not_fed_for_a_scheduler_that_is_silent(tmp_path: Path) -> None:
    """A main loop that turns starts no backup: systemd shall begin anew."""
    config, late = _nightly(tmp_path), tmp_path / "late"
    prefix = [sys.executable, "-c", _SILENT, str(late)]
    with running_daemon(config, watchdog_s=0.3, prefix=prefix) as daemon:
        daemon.wait_for_state("WATCHDOG=1", times=3)
        late.touch()
        begun = time.monotonic()
        # A turn that has begun may end as if nothing were.
        until(lambda: time.monotonic() - begun > 0.5, "a few turns")
        count = len(daemon.heard())
        until(lambda: time.monotonic() - begun > 1.5, "some more turns")
        assert daemon.heard()[count:] == []
        late.unlink()
        daemon.wait_for_state("WATCHDOG=1", times=5)
        assert daemon.stop() == 0


def test_a_daemon_that_nobody_listens_to_goes_on_and_ends_when_told(tmp_path: Path) -> None:
    """With the socket full the runs go on, the log says so once, and SIGTERM is obeyed."""
    with running_daemon(_nightly(tmp_path, every="1s"), watchdog_s=0.6) as daemon:
        with contextlib.ExitStack() as stack:
            sent = 1
            while sent:
                sent = _fill(daemon, stack)
            daemon.wait_for_event("systemd not reached")
            before = len(_good_runs(daemon, "nightly"))
            until(lambda: len(_good_runs(daemon, "nightly")) > before, "another backup")
            assert daemon.stop() == 0
        assert len(daemon.events("systemd not reached")) == 1


def _fill(daemon: DaemonProcess, stack: contextlib.ExitStack) -> int:
    """Send to the daemon's socket what nobody reads, until no more is taken; return how much."""
    sender = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    sender.setblocking(False)
    sender.connect(daemon.socket.getsockname())
    for count in range(10_000):
        try:
            sender.send(b"X=1")
        except BlockingIOError:
            return count
    raise AssertionError


def test_scheduled_backups_run_while_an_application_writes(tmp_path: Path) -> None:
    """Every second a backup of the live database: each sound, whole and newer than the last."""
    archive = tmp_path / "archive"
    with running_app(tmp_path / "gym.db") as app:
        app.ask("POST", "/writer")
        with running_daemon(_nightly(tmp_path, every="1s")) as daemon:
            until(lambda: len(_good_runs(daemon, "nightly")) >= 4, "four backups")
            assert {run["reason"] for run in _good_runs(daemon, "nightly")} == {"scheduled"}
            assert daemon.stop() == 0
        writer = app.ask("DELETE", "/writer")
    assert writer["trouble"] == ""
    assert [broken_promises(path) for path in backups(archive)] == [[]] * len(backups(archive))
    counts = [query(path, "SELECT rentals FROM totals")[0][0] for path in backups(archive)]
    assert len(counts) >= 4
    assert counts == sorted(set(counts))
    assert list(archive.glob(".*.partial*")) == []


def test_a_good_configuration_is_taken_on_sighup(tmp_path: Path) -> None:
    """RELOADING=1, then READY=1 with the new next run."""
    with running_daemon(_nightly(tmp_path)) as daemon:
        _nightly(tmp_path, schedule="30 4 * * *")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for_state("READY=1", times=2)
        heard = daemon.heard()
        assert heard.index("RELOADING=1") > heard.index("READY=1")
        assert any(one.startswith("MONOTONIC_USEC=") for one in heard)
        assert "04:30" in [one for one in heard if one.startswith("STATUS=")][-1]
        until(lambda: "T04:30" in daemon.entry("nightly")["next_run"], "the new next run")
        assert daemon.wait_for_event("configuration reloaded")["jobs"] == 1


def test_the_runs_after_a_reload_are_those_of_the_new_configuration(tmp_path: Path) -> None:
    """What is written in it is done, and not only when."""
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    with running_daemon(_nightly(tmp_path)) as daemon:
        _nightly(tmp_path, every="1s")
        config = json.loads(daemon.config.read_text())
        config["jobs"]["nightly"]["archive"] = str(other)
        daemon.config.write_text(json.dumps(config))
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: backups(other), "a backup where it is to be now")
        assert daemon.stop() == 0
    assert backups(tmp_path / "archive") == []


# A daemon whose clock is three months ahead until a file is there.
_AHEAD = """
import sys
from datetime import timedelta
from pathlib import Path
from gymdbd import clock, log
from gymdbd.config import config
from gymdbd.daemon.loop import Daemon
class Ahead(clock.Clock):
    def now(self):
        return super().now() + timedelta(days=0 if Path(sys.argv[1]).exists() else 90)
settings = config.load(Path(sys.argv[-2]))
log.configure(settings.log)
sys.exit(Daemon(settings, Ahead()).run())
"""


def test_tonight_comes_back_when_a_clock_that_was_ahead_is_set(tmp_path: Path) -> None:
    """What was planned by the wrong clock would not be run for three months."""
    config, put_right = _nightly(tmp_path), tmp_path / "put_right"

    def in_days() -> float:
        planned = datetime.fromisoformat(daemon.entry("nightly").get("next_run", "9999-01-01T00Z"))
        return (planned - datetime.now(UTC)) / timedelta(days=1)  # noqa: TID251 - real time

    prefix = [sys.executable, "-c", _AHEAD, str(put_right)]
    with running_daemon(config, watchdog_s=0.3, prefix=prefix) as daemon:
        until(lambda: 89 < in_days() < 92, "a plan by the wrong clock")
        put_right.touch()
        jumped = daemon.wait_for_event("clock jumped, next runs recomputed")
        assert round(jumped["by_s"] / 86400) == -90
        until(lambda: 0 <= in_days() <= 2, "a plan by the right clock")
        assert daemon.stop() == 0


def test_a_faulty_configuration_is_refused_on_sighup_and_the_old_schedule_stays(
    tmp_path: Path,
) -> None:
    """One error event lists every fault, READY=1 follows, and runs go on as before."""
    with running_daemon(_nightly(tmp_path, every="1s")) as daemon:
        _nightly(tmp_path, every="1s", bussy_timeout="1s", timeout="5")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for_state("READY=1", times=2)
        refused = daemon.wait_for_event("configuration refused, the old one stays")
        assert refused["level"] == "error"
        assert "bussy_timeout" in refused["error"]
        assert "busy_timeout" in refused["error"]
        assert "jobs.nightly.timeout" in refused["error"]
        before = len(_good_runs(daemon, "nightly"))
        until(lambda: len(_good_runs(daemon, "nightly")) >= before + 2, "two more backups")
        assert daemon.stop() == 0


def test_a_configuration_with_another_status_file_is_refused_on_sighup(tmp_path: Path) -> None:
    """Its lock is another: a second daemon could start beside this one."""
    with running_daemon(_nightly(tmp_path)) as daemon:
        jobs = json.loads(daemon.config.read_text())["jobs"]
        write_config(tmp_path, jobs, status_file=str(tmp_path / "other.json"))
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for_state("READY=1", times=2)
        refused = daemon.wait_for_event("configuration refused, the old one stays")
        assert "status_file cannot change while the daemon runs" in refused["error"]
        assert refused["hint"] == "restart the daemon instead of reloading it"
        assert not (tmp_path / "other.json").exists()
        assert daemon.stop() == 0


def test_sigterm_during_a_run_ends_it_at_a_safe_point(tmp_path: Path, large: Path) -> None:
    """Exit code 0 soon, STOPPING=1, the run told as stopped, and no partial."""
    archive = tmp_path / "archive"
    config = write_config(tmp_path, {"large": _job(large, archive)})
    _remember_success(tmp_path, "large", age=timedelta(days=2))
    with running_daemon(config) as daemon:
        until(lambda: list(archive.glob(".*.partial")), "the copy is under way")
        assert daemon.stop(within_s=10) == 0
        daemon.wait_for_state("STOPPING=1")
        entry = daemon.entry("large")
    assert (entry["state"], entry["code"]) == ("failed", "stopped")
    assert [path.name for path in archive.iterdir()] == [".gymdbd.lock"]


# Python imports this before the first line of the child; no other process of the daemon's stops.
_STOPS_AT_ITS_START = """
import os, signal, sys
if "gymdbd.runs.child" in sys.orig_argv:
    os.kill(os.getpid(), signal.SIGSTOP)
"""


def _stopping_runs(folder: Path) -> str:
    """Return the PYTHONPATH with which the process of a run is stopped before it listens."""
    (folder / "start").mkdir()
    (folder / "start" / "sitecustomize.py").write_text(_STOPS_AT_ITS_START)
    return f"{folder / 'start'}:{ROOT}"


def test_a_run_that_is_stopped_before_it_listens_is_told_as_stopped(tmp_path: Path) -> None:
    """Its process is still starting when the daemon ends: no crash, and it is made up for."""
    config = _nightly(tmp_path)
    _remember_success(tmp_path, "nightly", age=timedelta(days=2))
    with running_daemon(config, PYTHONPATH=_stopping_runs(tmp_path)) as daemon:
        (child,) = until(lambda: _stopped(daemon.children()), "the process of the run")
        daemon.process.send_signal(signal.SIGTERM)
        until(lambda: _is_asked_to_end(child), "SIGTERM waiting for the run")
        os.kill(child, signal.SIGCONT)
        assert daemon.process.wait(20) == 0
        entry = daemon.entry("nightly")
    assert (entry["state"], entry["code"]) == ("failed", "stopped")


# Whatever a library may print in the process of a run, it prints into the answer.
_CHATTERS = """
import os, sys
if "gymdbd.runs.child" in sys.orig_argv:
    for _ in range(400):
        os.write(1, b"x" * 1048576)
"""


def test_a_run_that_prints_without_end_takes_no_memory_of_the_daemon(tmp_path: Path) -> None:
    """The daemon reads on, so that the run goes on, and keeps only what an answer can need."""
    config = _nightly(tmp_path)
    _remember_success(tmp_path, "nightly", age=timedelta(days=2))
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "sitecustomize.py").write_text(_CHATTERS)
    with running_daemon(config, PYTHONPATH=f"{tmp_path / 'start'}:{ROOT}") as daemon:
        until(lambda: daemon.entry("nightly")["state"] == "failed", "the daemon's entry")
        entry = daemon.entry("nightly")
        most_kb = int(_process_status(daemon.process.pid)["VmHWM"].split()[0])
    assert entry["code"] == "crashed"
    assert list((tmp_path / "archive").glob("*.db"))
    assert most_kb < 300 * 1024


def _stopped(pids: list[int]) -> list[int]:
    return [pid for pid in pids if "(stopped)" in _process_status(pid).get("State", "")]


def _is_asked_to_end(pid: int) -> bool:
    pending = _process_status(pid).get("ShdPnd", "0")
    return bool(int(pending, 16) & 1 << signal.SIGTERM - 1)


def _process_status(pid: int) -> dict[str, str]:
    """Return what Linux says of a process, nothing if it has ended."""
    lines: list[str] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value for key, _, value in (line.partition(":\t") for line in lines)}


def _waiting_for_the_archive(daemon: DaemonProcess, archive: Path) -> int:
    """Return the process of the one run, which has waited for the archive's lock for a second."""
    archive_lock = lock.archive_lock(archive)
    waiting = until(
        lambda: [pid for pid in daemon.children() if times_open(archive_lock, pid)],
        "the run wants the archive",
    )
    begun = time.monotonic()
    until(lambda: time.monotonic() - begun > 1, "a second")
    return int(waiting[0])


def test_a_scheduled_run_waits_for_one_by_hand(tmp_path: Path) -> None:
    """A night that meets a restore is not lost: it comes after it."""
    config = _nightly(tmp_path)
    _remember_success(tmp_path, "nightly", age=timedelta(days=2))
    with contextlib.ExitStack() as held:
        by_hand = held.enter_context(contextlib.ExitStack())
        by_hand.enter_context(lock.hold([lock.archive_lock(tmp_path / "archive")]))
        daemon = held.enter_context(running_daemon(config))
        _waiting_for_the_archive(daemon, tmp_path / "archive")
        assert daemon.entry("nightly").get("runs", []) == []
        by_hand.close()
        until(lambda: daemon.entry("nightly").get("runs"), "the run has ended")
        assert [run["state"] for run in daemon.entry("nightly")["runs"]] == ["ok"]


def test_a_run_ends_with_its_daemon_however_that_ended(tmp_path: Path) -> None:
    """Killed, the daemon says nothing to it; it would run beside the one of the next daemon."""
    config = _nightly(tmp_path)
    _remember_success(tmp_path, "nightly", age=timedelta(days=2))
    with lock.hold([lock.archive_lock(tmp_path / "archive")]), running_daemon(config) as daemon:
        _waiting_for_the_archive(daemon, tmp_path / "archive")
        daemon.stop(signal.SIGKILL)
        until(lambda: daemon.entry("nightly").get("runs"), "the run has ended")
        entry = daemon.entry("nightly")
    assert (entry["state"], entry["code"]) == ("failed", "stopped")
    assert backups(tmp_path / "archive") == []


def test_a_second_sigterm_ends_a_run_that_does_not_listen(tmp_path: Path) -> None:
    """Whoever asks twice does not want to wait for stop_timeout."""
    config = _nightly(tmp_path)
    _remember_success(tmp_path, "nightly", age=timedelta(days=2))
    with running_daemon(config, PYTHONPATH=_stopping_runs(tmp_path)) as daemon:
        (child,) = until(lambda: _stopped(daemon.children()), "the process of the run")
        daemon.process.send_signal(signal.SIGTERM)
        until(lambda: _is_asked_to_end(child), "SIGTERM waiting for the run")
        assert daemon.stop(within_s=15) == 0
        entry = daemon.entry("nightly")
    assert (entry["state"], entry["code"]) == ("failed", "stopped")


def test_a_run_that_does_not_listen_is_ended_after_stop_timeout(tmp_path: Path) -> None:
    """One signal is enough in the end: systemd would kill the daemon itself."""
    config = write_config(
        tmp_path,
        {"nightly": _job(make_database(tmp_path / "gym.db"), tmp_path / "archive")},
        stop_timeout="1s",
    )
    _remember_success(tmp_path, "nightly", age=timedelta(days=2))
    with running_daemon(config, PYTHONPATH=_stopping_runs(tmp_path)) as daemon:
        until(lambda: _stopped(daemon.children()), "the process of the run")
        assert daemon.stop(within_s=15) == 0
        entry = daemon.entry("nightly")
    assert (entry["state"], entry["code"]) == ("failed", "stopped")
    assert "within stop_timeout" in entry["error"]


def test_a_second_daemon_on_the_same_status_file_is_refused(tmp_path: Path) -> None:
    """Exit code 3, and the first one goes on."""
    config = _nightly(tmp_path)
    with running_daemon(config) as daemon:
        second = gymdbd("-c", config, "run")
        assert second.returncode == 3
        assert f"process {daemon.pid}" in second.stderr
        assert daemon.process.poll() is None


def test_a_missed_run_is_made_up_once_after_start_with_its_reason(tmp_path: Path) -> None:
    """Two nights were missed: one run follows, and its reason is in the log and the status."""
    config = _nightly(tmp_path)
    _remember_success(tmp_path, "nightly", age=timedelta(days=2, hours=1))
    with running_daemon(config) as daemon:
        until(lambda: _good_runs(daemon, "nightly"), "the run is made up")
        (run,) = daemon.entry("nightly")["runs"]
        assert run["reason"].startswith("made up: the run due at 20")
        (started,) = daemon.events("run started")
        assert started["reason"] == run["reason"]
        assert daemon.stop() == 0
    with running_daemon(config) as daemon:
        assert daemon.stop() == 0
        assert len(daemon.entry("nightly")["runs"]) == 1
    assert len(backups(tmp_path / "archive")) == 1


def test_a_run_that_is_killed_is_a_failed_run_and_the_next_one_works(tmp_path: Path) -> None:
    """The daemon lives, says by which signal the process died, and runs again."""
    large = _middling(tmp_path)
    archive = tmp_path / "archive"
    config = write_config(tmp_path, {"large": _job(large, archive, every="2s")})
    with running_daemon(config) as daemon:
        until(lambda: list(archive.glob(".*.partial")), "the copy is under way")
        (child,) = daemon.children()
        os.kill(child, signal.SIGKILL)
        failed = daemon.wait_for_event("run failed")
        assert (failed["code"], "SIGKILL" in failed["error"] or "9" in failed["error"]) == (
            "crashed",
            True,
        )
        until(lambda: _good_runs(daemon, "large"), "the next run succeeds", within_s=30)
        assert daemon.stop() == 0
        states = [run["state"] for run in daemon.entry("large")["runs"]]
    assert states[-1] == "failed"
    assert list(archive.glob(".*.partial*")) == []


# With nothing but the folder $1 to write to: not even a temporary file has a place.
_NOWHERE_TEMPORARY = """
mount --bind "$1" "$1"
mount --rbind /tmp /tmp
mount -o remount,ro,bind /tmp
mount -t tmpfs -o ro tmpfs /var/tmp
unset TMPDIR TEMP TMP
cd /proc
shift
exec "$@"
"""


def test_runs_need_no_room_for_temporary_files(tmp_path: Path) -> None:
    """The card may be full, or read-only, while the archive lies on another disk."""
    settings = _nightly(tmp_path, every="1s")
    prefix = ["unshare", "--mount", "sh", "-ec", _NOWHERE_TEMPORARY, "sh", str(tmp_path)]
    with running_daemon(settings, prefix=prefix) as daemon:
        until(lambda: _good_runs(daemon, "nightly"), "a backup")
        assert daemon.stop() == 0


def test_a_run_that_cannot_be_started_is_a_failed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process needs memory and a program, which an upgrade may just be replacing."""
    settings = config.load(_nightly(tmp_path))
    status = StatusFile(settings.status_file)
    python = str(tmp_path / "python")
    monkeypatch.setattr(sys, "executable", python)
    run = Run(job=settings.jobs["nightly"], reason="test", status=status)
    outcome = Supervisor(settings, lambda: 0).execute(run).outcome
    assert (outcome.state, outcome.error) == (
        "failed",
        f"the operating system refused {python}: No such file or directory",
    )
    assert status.read().to_json()["jobs"]["nightly"]["error"] == outcome.error


def test_the_partial_file_of_a_run_at_work_is_left_to_it(tmp_path: Path) -> None:
    """What a killed run has left is removed, unless another run holds the archive meanwhile."""
    settings = config.load(_nightly(tmp_path))
    partial = partials.begin(tmp_path / "archive" / "gym_backup_20261123_030000.db")
    partial.touch()

    def killed() -> str | None:
        run = Run(job=settings.jobs["nightly"], reason="test")
        return Supervisor(settings, lambda: KILL).execute(run).outcome.code

    with lock.hold([lock.archive_lock(tmp_path / "archive")]):
        assert killed() == "stopped"
        assert partial.exists()
    assert killed() == "stopped"
    assert not partial.exists()


# A daemon that kills a run three seconds after its timeout.
_IMPATIENT = """
import sys
from pathlib import Path
from gymdbd import clock, log
from gymdbd.config import config
from gymdbd.daemon.loop import Daemon
settings = config.load(Path(sys.argv[-2]))
log.configure(settings.log)
sys.exit(Daemon(settings, clock.Clock(), grace_s=3).run())
"""


def test_a_run_that_hangs_is_ended_by_its_deadline_and_the_daemon_lives(tmp_path: Path) -> None:
    """A stopped process cannot end by itself: it is killed, and the failure names the timeout."""
    large = _middling(tmp_path)
    archive = tmp_path / "archive"
    config = write_config(tmp_path, {"large": _job(large, archive, timeout="3s")})
    _remember_success(tmp_path, "large", age=timedelta(days=2))
    prefix = [sys.executable, "-c", _IMPATIENT]
    with running_daemon(config, watchdog_s=3, prefix=prefix) as daemon:
        until(lambda: list(archive.glob(".*.partial")), "the copy is under way")
        (child,) = daemon.children()
        os.kill(child, signal.SIGSTOP)
        failed = daemon.wait_for_event("run failed", within_s=25)
        assert failed["code"] == "deadline"
        heard = len(daemon.heard())
        until(lambda: len(daemon.heard()) > heard, "the daemon lives")
        assert daemon.children() == []
        assert daemon.stop() == 0
        assert daemon.entry("large")["code"] == "deadline"
    assert list(archive.glob(".*.partial*")) == []


def test_one_job_does_not_wait_for_another(tmp_path: Path, large: Path) -> None:
    """While a large database is copied, a small one is backed up several times."""
    small = make_database(tmp_path / "small.db")
    config = write_config(
        tmp_path,
        {
            "large": _job(large, tmp_path / "large"),
            "small": _job(small, tmp_path / "small", every="1s"),
        },
    )
    _remember_success(tmp_path, "large", age=timedelta(days=2))
    with running_daemon(config) as daemon:
        run_id = until(lambda: daemon.entry("large").get("running"), "it is at work")["run_id"]
        until(lambda: len(_good_runs(daemon, "small")) >= 2, "two small backups")
        assert daemon.entry("large")["running"]["run_id"] == run_id
        assert daemon.stop() == 0


def test_the_idle_daemon_is_small_and_sleeps(tmp_path: Path) -> None:
    """Less than 45 MiB resident, and fewer than one wake-up a second."""
    with running_daemon(_nightly(tmp_path)) as daemon:
        until(lambda: daemon.entry("nightly").get("next_run"), "the daemon has settled")
        begun, before = time.monotonic(), _wake_ups(daemon.pid)
        until(lambda: time.monotonic() - begun > _IDLE_S, "time to pass", within_s=_IDLE_S + 5)
        woken = _wake_ups(daemon.pid) - before
        resident_kib = int(_status_of(daemon.pid)["VmRSS"].split()[0])
    assert woken < _IDLE_S
    assert resident_kib < _IDLE_RSS_KIB


def test_a_faulty_configuration_at_start_ends_with_every_fault(tmp_path: Path) -> None:
    """Exit code 2; the impossible schedule and the unknown key are both named."""
    config = write_config(
        tmp_path,
        {
            "nightly": {
                "schedule": "0 3 31 2 *",
                "database": str(tmp_path / "gym.db"),
                "archive": str(tmp_path / "nowhere"),
                "compress": "yes",
            }
        },
    )
    done = gymdbd("-c", config, "run")
    assert (done.returncode, done.stdout) == (2, "")
    assert "jobs.nightly.compress: unknown key" in done.stderr
    assert "jobs.nightly.schedule" in done.stderr
    assert not (tmp_path / "nowhere").exists()


def test_a_reload_can_be_tried_beforehand_without_looking_at_any_disk_or_host(
    tmp_path: Path,
) -> None:
    """Exit code 2 for what the daemon would refuse, with the event that it would log."""
    config = _nightly(tmp_path)
    content = json.loads(config.read_text())
    pull = {"kind": "pull", "every": "1h", "host": "192.0.2.1", "remote_database": "/x.db"}
    gone = {**pull, "replica": "/no/disk/replica.db"}
    reload = ("-c", config, "check", "--reload")
    with running_daemon(config) as daemon:
        config.write_text(json.dumps({**content, "jobs": {**content["jobs"], "pull": gone}}))
        begun = time.monotonic()
        taken = gymdbd(*reload)
        assert (taken.returncode, taken.stdout, taken.stderr) == (0, "", "")
        assert time.monotonic() - begun < _NO_HOST_S
        for faulty, told in (
            ({**content, "stop_timeout": 60}, "stop_timeout: expected a duration"),
            ({**content, "status_file": str(tmp_path / "other.json")}, "cannot change while"),
        ):
            config.write_text(json.dumps(faulty))
            done = gymdbd(*reload)
            assert (done.returncode, told in done.stderr) == (2, True)
            code, answer = gymdbd_json(*reload)
            assert (code, answer["code"]) == (2, "config")
        config.write_text(json.dumps({**content, "status_file": "/no/disk/status.json"}))
        assert gymdbd(*reload).returncode == 0
        assert daemon.stop() == 0


def test_status_tells_by_its_exit_code_with_the_daemon_up_and_down(tmp_path: Path) -> None:
    """3 before the first run, 0 after a good one, 1 without the daemon, 2 after a failure."""
    config = _nightly(tmp_path)
    status = ("-c", config, "status")
    assert _verdict(*status) == (3, "unknown", False)
    with running_daemon(config) as daemon:
        assert gymdbd("-c", config, "backup").returncode == 0
        assert _verdict(*status) == (0, "ok", True)
        until(lambda: daemon.entry("nightly").get("next_run"), "the plan")
    assert _verdict(*status) == (1, "late", False)
    (tmp_path / "gym.db").unlink()
    assert gymdbd("-c", config, "backup").returncode == 1
    assert _verdict(*status) == (2, "failing", False)


def _verdict(*arguments: object) -> tuple[int, str, bool]:
    exit_code, answer = gymdbd_json(*arguments)
    return exit_code, answer["state"], answer["daemon_running"]


def _middling(folder: Path) -> Path:
    """Create a database whose copying takes long enough to be caught at it."""
    path = folder / "large.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("CREATE TABLE t (data BLOB)")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t VALUES (zeroblob(4000000))", [()] * 75)
        connection.execute("COMMIT")
    return path


def _status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _state_of(pid: int) -> str:
    return _status_of(pid)["State"][0]


def _wake_ups(pid: int) -> int:
    """Add up how often the threads of a process went to sleep by themselves."""
    return sum(
        int(line.split()[1])
        for task in Path(f"/proc/{pid}/task").iterdir()
        for line in (task / "status").read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches")
    )


@contextlib.contextmanager
def _unwatched(config: Path, limit_s: float) -> Iterator[subprocess.Popen[bytes]]:
    """Run a daemon as launchd does, without a socket for its state."""
    told = environment(WATCHDOG_USEC=str(int(limit_s * 1e6)))
    told.pop("NOTIFY_SOCKET", None)
    with config.with_name("daemon.log").open("wb") as log:
        daemon = subprocess.Popen([*GYMDBD, "-c", str(config), "run"], env=told, stderr=log)
    try:
        yield daemon
    finally:
        daemon.kill()
        daemon.wait()


def _is_scheduled(folder: Path) -> bool:
    path = folder / "status.json"
    return path.exists() and "next_run" in json.loads(path.read_text())["jobs"].get("nightly", {})


def test_a_daemon_that_hangs_ends_itself_where_nobody_watches(tmp_path: Path) -> None:
    """Its disk does not answer any more. It ends with an error, so launchd starts it again."""
    config = _nightly(tmp_path)
    place = tmp_path / "place"
    place.symlink_to(tmp_path / "alive")
    (tmp_path / "alive").mkdir()
    content = json.loads(config.read_text())
    config.write_text(json.dumps({**content, "status_file": str(place / "status.json")}))
    with disks.dead(tmp_path) as dead, _unwatched(config, 2.5) as daemon:
        until(lambda: _is_scheduled(tmp_path / "alive"), "the daemon has started")
        (tmp_path / "link").symlink_to(dead)
        (tmp_path / "link").replace(place)
        assert daemon.wait(20) == 1
    told = json.loads(config.with_name("daemon.log").read_text().splitlines()[-1])
    assert (told["level"], told["event"]) == ("error", "daemon hung")
    assert "/gymdbd/" in told["where"]


def _is_past(moment: float) -> bool:
    return time.monotonic() > moment


def test_a_daemon_that_waits_or_sleeps_is_not_taken_for_hung(tmp_path: Path) -> None:
    """Nothing is due within the limit; then all threads stand still, as while a Mac sleeps."""
    limit_s = 1.5
    with _unwatched(_nightly(tmp_path), limit_s) as daemon:
        until(lambda: _is_scheduled(tmp_path), "the daemon has started")
        for stopped in (False, True, True):
            daemon.send_signal(signal.SIGSTOP if stopped else signal.SIGCONT)
            end = time.monotonic() + limit_s + 0.5
            until(functools.partial(_is_past, end), "the limit")
            daemon.send_signal(signal.SIGCONT)
            assert daemon.poll() is None
        daemon.terminate()
        assert daemon.wait(20) == 0
