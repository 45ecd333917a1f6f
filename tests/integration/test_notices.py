"""Being told: by a real daemon, over real sockets, and by hand."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from gymdbd import lock
from gymdbd.clock import Clock, to_text
from gymdbd.config import config
from gymdbd.daemon.lookout import Lookout
from gymdbd.notices import look, store
from gymdbd.notices.memory import Memory
from gymdbd.runs.entry import Entry
from gymdbd.runs.status import StatusFile
from tests.support.clocks import HandClock
from tests.support.command import GYMDBD, gymdbd, gymdbd_json
from tests.support.daemon_process import running_daemon
from tests.support.databases import make_database
from tests.support.jobs import write_config
from tests.support.receivers import Web, web
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.daemon_process import DaemonProcess

_JOB = {"kind": "backup", "every": "2s"}
# So a look is taken for the change, and one when `after` is over.
_AFTER = "2s"


def _config(folder: Path, to: dict[str, Any], **notify: Any) -> Path:
    """Write a configuration with one job, `nightly`, whose database is missing."""
    archive = folder / "archive"
    archive.mkdir(mode=0o700, exist_ok=True)
    job = {**_JOB, "database": str(folder / "gym.db"), "archive": str(archive)}
    notify = {"after": _AFTER, "to": to, **notify}
    written = write_config(folder, {"nightly": job}, notify=notify)
    written.chmod(0o600)
    return written


def _looks(folder: Path) -> str:
    """Return the moment of the last look."""
    with contextlib.suppress(OSError, ValueError):
        return str(json.loads((folder / "notices.json").read_text())["seen"]["at"])
    return ""


def _titles(receiver: Web, channel: str = "owner") -> list[str]:
    return [request.headers["Title"] for request in receiver.requests if channel in request.path]


def _await_look(daemon: DaemonProcess, folder: Path) -> None:
    """Let the daemon take a look, by a reload, and wait until it is over."""
    before = _looks(folder)
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: _looks(folder) > before, "a look", within_s=60)


def test_a_failing_backup_is_told_once_and_so_is_its_end(tmp_path: Path) -> None:
    """Also if the daemon is killed and started in between, and another channel refuses.

    That one is named by `status`, until it takes what it is sent.
    """
    with web() as receiver:
        to = {
            "owner": {"url": receiver.url("owner")},
            "office": {"url": receiver.url("404/office")},
        }
        written = _config(tmp_path, to)
        with running_daemon(written, watchdog_s=1.5) as daemon:
            until(lambda: _titles(receiver), "the notice", within_s=90)
            assert _titles(receiver) == [f"{socket.gethostname()}: nightly is failing"]
            failures = until(lambda: store.failures(tmp_path / "status.json"), "its failure")
            assert failures.keys() == {"office"}
            daemon.process.kill()
            daemon.process.wait()
        answer = gymdbd_json("-c", written, "status")[1]
        assert answer["notices"].keys() == {"office"}
        assert "404" in answer["notices"]["office"]["error"]
        assert "notify office: not told since 20" in gymdbd("-c", written, "status").stdout
        with running_daemon(written, watchdog_s=1.5) as daemon:
            _await_look(daemon, tmp_path)
            _await_look(daemon, tmp_path)
            assert len(_titles(receiver)) == 1
            make_database(tmp_path / "gym.db")
            until(lambda: len(_titles(receiver)) > 1, "the end", within_s=90)
            _await_look(daemon, tmp_path)
    assert _titles(receiver)[1:] == [f"{socket.gethostname()}: nightly is well again"]
    assert (tmp_path / "notices.json").stat().st_mode & 0o777 == 0o600


def _told_of(folder: Path, channel: str) -> bool:
    """Return whether it is kept that a channel was told."""
    with contextlib.suppress(OSError, ValueError):
        kept = json.loads((folder / "notices.json").read_text())
        return any(channel in trouble["told"] for trouble in kept["troubles"])
    return False


def test_a_receiver_that_hangs_delays_neither_runs_nor_the_end_of_the_daemon(
    tmp_path: Path,
) -> None:
    """It takes the connection and never answers; the other channel is told meanwhile."""
    with web() as receiver, socket.create_server(("127.0.0.1", 0)) as hanging:
        port = hanging.getsockname()[1]
        to = {
            "hangs": {"url": f"http://127.0.0.1:{port}/"},
            "owner": {"url": receiver.url("owner")},
        }
        with running_daemon(_config(tmp_path, to), watchdog_s=1.5) as daemon:
            hanging.settimeout(90)
            connection, _ = hanging.accept()
            with connection:
                until(lambda: _titles(receiver), "the notice")
                # A look that is killed now does not tell the owner once more.
                until(lambda: _told_of(tmp_path, "owner"), "what was told, kept at once")
                runs = len(daemon.events("run failed"))
                until(lambda: len(daemon.events("run failed")) >= runs + 3, "the runs", within_s=12)
                assert daemon.stop(within_s=20) == 0


@pytest.fixture
def clock() -> HandClock:
    """Return a clock that is moved by hand."""
    return HandClock(zone=UTC)


@contextlib.contextmanager
def _told(folder: Path, **notify: Any) -> Iterator[tuple[config.Config, Web]]:
    """Yield a configuration whose job fails, and the receiver of its only channel."""
    with web() as receiver:
        written = _config(folder, {"owner": {"url": receiver.url("owner")}}, **notify)
        gymdbd("-c", written, "backup", "nightly")
        yield config.load(written), receiver


def _later(clock: HandClock, **by: float) -> None:
    clock.shows[0] += timedelta(**by)
    clock.runs[0] += timedelta(**by).total_seconds()


def test_a_look_by_hand_tells_what_a_daemon_would(tmp_path: Path) -> None:
    """For those whose jobs are run by cron: one of the looks tells, and no other."""
    with _told(tmp_path, after="1s") as (settings, receiver):
        sent = f"owner: sent: {socket.gethostname()}: nightly is failing\n"
        until(lambda: _notify(settings) == sent, "the notice")
        assert _notify(settings) == "there is nothing to tell\n"
    code, answer = gymdbd_json("-c", settings.source, "notify", "--test")
    assert (code, answer["state"]) == (1, "failed")
    assert answer["channels"]["owner"]["sent"] is False
    assert answer["channels"]["owner"]["code"] == "receiver-away"
    assert len(receiver.requests) == 1


def test_a_look_by_hand_is_no_sign_of_life_of_the_daemon(tmp_path: Path, clock: HandClock) -> None:
    """Its absence would not be told, if somebody looks meanwhile."""
    alive = []
    with _told(tmp_path) as (settings, _):
        StatusFile(settings.status_file).planned(clock.now().isoformat(), {})
        for by_daemon in (False, True):
            look.look(settings, clock, by_daemon=by_daemon)
            alive.append(store.read(settings.status_file).alive)
    assert alive == [None, clock.now()]


def test_what_cannot_be_written_keeps_nothing_else_from_being_written(
    tmp_path: Path, clock: HandClock
) -> None:
    """Somebody has put a file where a folder was: the log names what is missing."""
    (tmp_path / "folder").touch()
    written = _config(tmp_path, {"owner": {"command": ["true"]}}, after="24h")
    content = json.loads(written.read_text())
    content["metrics"] = {"textfile": str(tmp_path / "folder" / "gymdbd.prom")}
    content["report"] = {"file": str(tmp_path / "report.html")}
    written.write_text(json.dumps(content))
    with structlog.testing.capture_logs() as events:
        looked = look.look(config.load(written), clock)
    # What was written is to be written again before it is old.
    assert looked.next is not None
    assert looked.next - clock.now() <= timedelta(hours=1)
    assert [event["what"] for event in events if event["event"] == "not written"] == [
        "gymdbd.notices.metrics"
    ]
    assert (tmp_path / "report.html").exists()
    assert (tmp_path / "status.public.json").exists()


def test_of_two_looks_at_the_same_time_one_tells(tmp_path: Path) -> None:
    """The other waits for it, and finds that all is told; also one by hand for the daemon's."""
    tell = tmp_path / "tell"
    tell.write_text(f"#!/bin/sh\nsleep 0.5\necho told >> {tmp_path}/told\n")
    tell.chmod(0o700)
    written = _config(tmp_path, {"owner": {"command": [str(tell)]}}, after="1s")
    gymdbd("-c", written, "backup", "nightly")
    command = [*GYMDBD, "-c", str(written), "notify"]

    def look_together() -> bool:
        looks = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
        assert [look.wait(60) for look in looks] == [0] * 2
        return (tmp_path / "told").exists()

    until(look_together, "the notice")
    assert (tmp_path / "told").read_text() == "told\n"


def _notify(settings: config.Config) -> str:
    found = gymdbd("-c", settings.source, "notify")
    assert (found.returncode, found.stderr) == (0, "")
    return found.stdout


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_channels_can_be_tried(tmp_path: Path, language: str) -> None:
    """All of them or one, with what a message would look like; nothing of it is remembered."""
    with _told(tmp_path, language=language) as (settings, receiver):
        for flags in (
            ["--test"],
            ["--test", "owner"],
            *(["--simulate", state, "nightly"] for state in ("failing", "late", "suspicious")),
            ["--simulate", "recovered", "nightly"],
            ["--simulate", "machine"],
        ):
            assert gymdbd("-c", settings.source, "notify", *flags).returncode == 0
        bodies = [request.body for request in receiver.requests]
        assert len(bodies) == 7
        first = {"en": "This is only a test", "ko": "시험일 뿐"}[language]
        assert all(body.startswith(first) for body in bodies)
    assert not (tmp_path / "notices.json").exists()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--test", "ower"], 'did you mean "owner"?'),
        (["--simulate", "faling", "nightly"], 'did you mean "failing"?'),
        (["--simulate", "failing", "nightlx"], 'did you mean "nightly"?'),
        (["--simulate", "failing"], "needs the name of one job"),
    ],
)
def test_a_mistyped_name_is_told(tmp_path: Path, flags: list[str], told: str) -> None:
    """With the nearest right one, and nothing is sent."""
    with _told(tmp_path) as (settings, receiver):
        found = gymdbd("-c", settings.source, "notify", *flags)
    assert (found.returncode, told in found.stderr) == (2, True)
    assert receiver.requests == []


def test_who_would_not_be_told_at_all_learns_that(tmp_path: Path) -> None:
    """From `check` and `notify` as a remark, of a test as an error; all say how to set it up.

    Where cron runs the jobs, what others read is written by this look all the same.
    """
    written = write_config(tmp_path, {"nightly": {**_JOB, "database": "/x", "archive": "/y"}})
    look = gymdbd("-c", written, "notify")
    assert (look.returncode, "\nwhat to do: add a channel" in look.stdout) == (0, True)
    assert (tmp_path / "status.public.json").exists()
    tried = gymdbd("-c", written, "notify", "--test")
    assert (tried.returncode, "gymdbd notify --test" in tried.stderr) == (2, True)
    checks = gymdbd_json("-c", written, "check")[1]["checks"]
    (remark,) = [check for check in checks if check["name"] == "notify"]
    assert (remark["state"], "notify:" in remark["hint"]) == ("warning", True)


def test_a_missing_folder_for_what_was_told_is_named(tmp_path: Path) -> None:
    """By hand, nothing is told that would be told again each time."""
    with _told(tmp_path) as (settings, receiver):
        gone = str(tmp_path / "gone" / "status.json")
        text = settings.text.replace(str(settings.status_file), gone)
        settings.source.write_text(text)
        code, answer = gymdbd_json("-c", settings.source, "notify")
    assert (code, answer["code"], receiver.requests) == (1, "folder-missing", [])


def test_what_was_told_is_remembered_although_it_cannot_be_written(
    tmp_path: Path, clock: HandClock
) -> None:
    """The disk became read-only, which is what has to be told: the daemon hands it on."""
    with _told(tmp_path) as (settings, receiver):
        (tmp_path / "notices.json").mkdir()
        kept: Memory | None = None
        for _ in range(4):
            kept = look.look(settings, clock, by_daemon=True, kept=kept).unsaved
            assert kept is not None
            kept = Memory.from_json(json.loads(json.dumps(kept.to_json())))
            _later(clock, minutes=1)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("is_kept_newer", [False, True])
def test_of_two_memories_the_newer_one_counts(
    tmp_path: Path, clock: HandClock, *, is_kept_newer: bool
) -> None:
    """The daemon's, if the file became read-only; the file's, if somebody told by hand since."""
    with _told(tmp_path) as (settings, receiver):
        older = Memory(seen=look.moment(clock))
        _later(clock, minutes=1)
        look.look(settings, clock)
        newer = store.read(settings.status_file)
        assert len(receiver.requests) == 1
        written, kept = (older, newer) if is_kept_newer else (newer, older)
        store.write(settings.status_file, written)
        _later(clock, minutes=1)
        look.look(settings, clock, by_daemon=True, kept=kept)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("content", ["", "{", '{"schema": 1, "troubles": 3}', "[]", "\0" * 99])
def test_a_damaged_memory_is_none(tmp_path: Path, clock: HandClock, content: str) -> None:
    """Then what is wrong is told once more."""
    with _told(tmp_path) as (settings, receiver):
        (tmp_path / "notices.json").write_text(content)
        for _ in range(3):
            look.look(settings, clock)
            _later(clock, minutes=1)
    assert len(receiver.requests) == 1


def test_a_channel_that_failed_is_tried_once_at_each_look(tmp_path: Path, clock: HandClock) -> None:
    """And three times at the first one: others are not to wait for it each time."""
    with web() as receiver:
        settings = config.load(_config(tmp_path, {"owner": {"url": receiver.url("503/owner")}}))
        gymdbd("-c", settings.source, "backup", "nightly")
        _later(clock, days=3)
        tried = []
        for _ in range(3):
            looked = look.look(settings, clock)
            assert looked.report.failed.keys() == {"owner"}
            # Nor is it a reason to look again at once.
            assert looked.next is None or looked.next > clock.now()
            tried.append(len(receiver.requests))
            _later(clock, minutes=5)
    assert tried == [3, 4, 5]


def test_a_channel_that_fails_is_in_the_log_once_and_in_the_status_until_it_is_well(
    tmp_path: Path, clock: HandClock
) -> None:
    """With the moment of its first failure; its end is no event of its own."""
    with web() as receiver:
        settings = config.load(_config(tmp_path, {"owner": {"url": receiver.url("503/owner")}}))
        gymdbd("-c", settings.source, "backup", "nightly")
        _later(clock, days=3)
        first = clock.now()
        with structlog.testing.capture_logs() as events:
            for _ in range(2):
                look.look(settings, clock)
                _later(clock, minutes=5)
        levels = [event["log_level"] for event in events if event["event"] == "notice not sent"]
        assert levels == ["error", "debug"]
        assert store.failures(settings.status_file)["owner"].since == first
        well = config.load(_config(tmp_path, {"owner": {"url": receiver.url("owner")}}))
        look.look(well, clock)
    assert store.failures(settings.status_file) == {}


def test_a_status_that_cannot_be_read_is_told(tmp_path: Path, clock: HandClock) -> None:
    """Nothing is known of the jobs then: what was told of them stays."""
    with _told(tmp_path) as (settings, receiver):
        status = (tmp_path / "status.json").read_bytes()
        for content in (status, status, b"{", b"{", status, status):
            (tmp_path / "status.json").write_bytes(content)
            look.look(settings, clock)
            _later(clock, minutes=1)
    assert [title.partition(": ")[2] for title in _titles(receiver)] == [
        "nightly is failing",
        "the status of gymdbd is unknown",
        "the status of gymdbd is well again",
    ]


def test_a_look_whose_configuration_has_become_invalid_says_so_and_answers(tmp_path: Path) -> None:
    """What it logs is no part of its answer, in which the daemon gets back what was not kept."""
    order = {"source": str(tmp_path / "config.yaml"), "text": "jobs: 3", "kept": {"schema": 1}}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "gymdbd.notices.look"],
        input=json.dumps(order),
        capture_output=True,
        check=True,
        text=True,
    )
    assert json.loads(done.stdout) == {"in_s": None, "kept": {"schema": 1}}
    assert ("look failed" in done.stderr, "jobs: expected" in done.stderr) == (True, True)


def test_that_the_daemon_was_down_is_told_by_the_next_one(tmp_path: Path) -> None:
    """From its last sign of life on, which is in the status file as well."""
    with _told(tmp_path) as (settings, receiver):
        make_database(tmp_path / "gym.db")
        gymdbd("-c", settings.source, "backup", "nightly")
        before = datetime.now(UTC) - timedelta(hours=3)  # noqa: TID251 - real time
        StatusFile(tmp_path / "status.json").planned(before.isoformat(timespec="seconds"), {})
        store.write(settings.status_file, Memory(alive=before))
        with running_daemon(settings.source, watchdog_s=1.5):
            until(lambda: receiver.requests, "the notice", within_s=60)
            down = f"; down before, from {to_text(before, Clock().zone)} on"
            assert down in gymdbd("-c", settings.source, "status").stdout.splitlines()[0]
        with running_daemon(settings.source, watchdog_s=1.5) as daemon:
            _await_look(daemon, tmp_path)
    assert receiver.requests[0].headers["Title"].endswith(": the daemon was down")
    # The run that the first daemon stopped at its end may be told as well.
    told = [request.body for request in receiver.requests if "did not run for" in request.body]
    assert len(told) == 1
    assert "did not run for 3 h 0 min" in told[0]


def test_a_look_that_hangs_is_killed_and_the_next_one_is_taken(tmp_path: Path) -> None:
    """Two are never at work at a time."""
    with _told(tmp_path) as (settings, _):
        lookout = Lookout(StatusFile(settings.status_file), Clock(), deadline_s=2.5)
        with structlog.testing.capture_logs() as events:
            with lock.hold([lock.file_lock(store.place(settings.status_file))]):
                lookout.turn(settings)
                (first,) = until(_children, "the child")
                lookout.soon()
                lookout.turn(settings)
                assert _children() == [first]
                until(lambda: first not in _children(), "its end")
            until(lambda: events, "the event")
            lookout._deadline_s = 60.0  # noqa: SLF001 - the machine may be busy
            lookout.soon()
            until(lambda: _turn(lookout, settings), "the next look", within_s=60)
            lookout.stop()
    assert [(event["event"], event["log_level"]) for event in events] == [
        ("look hung and was ended", "error")
    ]


def test_a_look_is_taken_when_a_state_changes_and_no_more_often_than_is_good(
    tmp_path: Path, clock: HandClock
) -> None:
    """At most each ten seconds then, and otherwise each five minutes."""
    settings = config.load(_config(tmp_path, {"owner": {"command": ["true"]}}, after="24h"))
    status = StatusFile(settings.status_file)
    lookout, taken = Lookout(status, clock), []
    steps = [(0, "", True), (1, "a", False), (4, "", False), (5, "", True), (12, "a", False)]
    steps += [(1, "b", True), (299, "", False), (1, "", True)]
    for seconds, code, _ in steps:
        clock.runs[0] += seconds
        if code:
            _become(status, code)
        lookout.turn(settings)
        looks = [thread for thread in threading.enumerate() if thread.name == "look"]
        taken.append(bool(looks))
        for thread in looks:
            thread.join()
    assert taken == [is_taken for *_, is_taken in steps]


def _become(status: StatusFile, code: str) -> None:
    status.update(lambda found: found.but("nightly", Entry(code=code)))


def test_the_daemon_hands_on_to_each_look_what_could_not_be_written(tmp_path: Path) -> None:
    """So that what it told before the disk became read-only is told once."""
    with _told(tmp_path, after="1s") as (settings, receiver):
        (tmp_path / "notices.json").mkdir()
        lookout = Lookout(StatusFile(settings.status_file), Clock())

        def look_once() -> bool:
            lookout.soon()
            lookout.turn(settings)
            for thread in threading.enumerate():
                if thread.name == "look":
                    thread.join()
            return bool(receiver.requests)

        until(look_once, "the notice")
        look_once()
        assert len(receiver.requests) == 1


def test_a_look_that_was_killed_is_soon_taken_again_and_forgets_nothing(
    tmp_path: Path, clock: HandClock
) -> None:
    """Such as by the out-of-memory killer, while the disk of what was told is read-only."""
    with _told(tmp_path, after="1s") as (settings, receiver):
        (tmp_path / "notices.json").mkdir()
        lookout = Lookout(StatusFile(settings.status_file), clock)

        def look_after(seconds: float, *, killed: bool = False) -> bool:
            clock.runs[0] += seconds
            lookout.turn(settings)
            threads = [thread for thread in threading.enumerate() if thread.name == "look"]
            if killed:
                (child,) = until(_children, "the child")
                os.kill(int(child), signal.SIGKILL)
            for thread in threads:
                thread.join()
            return bool(threads)

        until(lambda: look_after(300) and receiver.requests, "the notice")
        assert look_after(300, killed=True)
        assert look_after(31)
        assert len(receiver.requests) == 1


def test_a_look_whose_daemon_was_killed_ends_without_a_traceback(tmp_path: Path) -> None:
    """It has told and written what it had to; only the answer has no reader."""
    settings = config.load(_config(tmp_path, {"other": {"command": ["/bin/true"]}}))
    order = {"source": str(settings.source), "text": settings.text, "kept": None}
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "gymdbd.notices.look"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        child.stdin.write(json.dumps(order).encode())
        child.stdin.close()
        told = child.stderr.read().decode()

    assert "BrokenPipeError" not in told
    assert (child.returncode, _looks(tmp_path) != "") == (0, True)


def test_two_status_files_in_one_folder_keep_what_was_told_apart(tmp_path: Path) -> None:
    """The look of a daemon forgets the jobs that are not in its configuration."""
    memory = Memory(alive=datetime(2026, 11, 28, 3, tzinfo=UTC))
    store.write(tmp_path / "status.json", memory)
    assert store.read(tmp_path / "status.json") == memory
    assert store.read(tmp_path / "other.json") == Memory()


def _turn(lookout: Lookout, settings: config.Config) -> str:
    lookout.turn(settings)
    return _looks(settings.status_file.parent)


def _children() -> list[str]:
    """Return the looks that this process has started."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if "gymdbd.notices.look" in Path(f"/proc/{pid}/cmdline").read_text():
                    found.append(pid)
    return found
