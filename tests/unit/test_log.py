"""The log: a JSON line, a sentence in the journal, a rotated file; and sinks that fail."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from logging_journald import JournaldTransport

from gymdbd import log
from gymdbd.config.config import LogConfig
from gymdbd.log import log_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A process configures its log once and its sinks live as long as it does; here they are dropped.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _leave_logging_as_it_was() -> Iterator[None]:
    """Undo what `configure` does to the whole process."""
    root = logging.getLogger()
    before = (root.handlers, root.level)
    yield
    root.handlers, root.level = before[0], before[1]
    structlog.reset_defaults()


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Be journald: a datagram socket where the library looks for it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "journal"))
        listener.settimeout(10)
        monkeypatch.setattr(JournaldTransport, "SOCKET_PATH", tmp_path / "journal")
        yield listener


def entry(listener: socket.socket) -> dict[str, str]:
    """Receive one entry in journald's own protocol."""
    data = listener.recv(1 << 20)
    fields = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack("<Q", data[:8])
            value, data = data[8 : 8 + size], data[8 + size + 1 :]
        fields[name.decode()] = value.decode()
    return fields


def test_a_json_line_holds_every_fact(capsys: pytest.CaptureFixture[str]) -> None:
    """One line an event, with what a reader looks for in front, in any script."""
    log.configure(LogConfig(format="json"))
    with structlog.contextvars.bound_contextvars(job="nightly", run_id="ab12"):
        log.logger().warning("backup published", path="/백업/gym.db", lines="a\nb", tables={"t": 1})
    (line,) = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert list(event)[:5] == ["timestamp", "level", "event", "job", "run_id"]
    assert event.pop("timestamp").count(":") >= 2
    assert event == {
        "level": "warning",
        "event": "backup published",
        "job": "nightly",
        "run_id": "ab12",
        "path": "/백업/gym.db",
        "lines": "a\nb",
        "tables": {"t": 1},
    }


def test_the_console_shows_events_without_colours_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A line a person can read, with no escape sequence in a file."""
    log.configure(LogConfig(format="console"))
    log.logger().info("backup published", path="/백업/gym.db")
    shown = capsys.readouterr().err
    assert "backup published" in shown
    assert "path=/백업/gym.db" in shown
    assert "\x1b" not in shown


def test_the_level_says_what_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Below the level nothing is shown; by hand only warnings are, and errors by the verb."""
    log.configure(LogConfig(format="json", level="warning"))
    log.logger().info("quiet")
    log.logger().error("loud")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["loud"]
    log.configure(LogConfig(format="json"), by_hand=True)
    for level in ("info", "warning", "error"):
        getattr(log.logger(), level)(level)
    events = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert events == ["warning"]


@pytest.mark.parametrize(
    ("level", "priority"), [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3")]
)
def test_the_journal_gets_a_sentence_and_every_fact_as_a_field(
    journal: socket.socket, level: str, priority: str
) -> None:
    """MESSAGE reads like a sentence, PRIORITY is right, and GYMDBD_* can be searched for."""
    log.configure(LogConfig(format="journald", level="debug"))
    with structlog.contextvars.bound_contextvars(job="nightly-backup", run_id="ab12"):
        getattr(log.logger(), level)(
            "run failed",
            error="the database is locked",
            hint="stop the app",
            path="/백업/gym.db",
            size=3,
            tables={"회원": 2},
        )
    fields = entry(journal)
    expected = {
        "MESSAGE": "nightly-backup: run failed: the database is locked (path /백업/gym.db, size 3, "
        'tables {"회원": 2}). What to do: stop the app',
        "PRIORITY": priority,
        "SYSLOG_IDENTIFIER": "gymdbd",
        "GYMDBD_EVENT": "run failed",
        "GYMDBD_JOB": "nightly-backup",
        "GYMDBD_RUN_ID": "ab12",
        "GYMDBD_ERROR": "the database is locked",
        "GYMDBD_HINT": "stop the app",
        "GYMDBD_PATH": "/백업/gym.db",
        "GYMDBD_SIZE": "3",
        "GYMDBD_TABLES": '{"회원": 2}',
    }
    assert {name: fields.get(name) for name in expected} == expected


def test_a_field_of_several_lines_reaches_the_journal_whole(journal: socket.socket) -> None:
    """A traceback, or a value that looks like another field, stays one field."""
    log.configure(LogConfig(format="journald"))
    text = "첫째\nPRIORITY=0\n\nlast\n"
    log.logger().info("several lines", text=text)
    fields = entry(journal)
    assert (fields["GYMDBD_TEXT"], fields["PRIORITY"]) == (text, "6")


def test_libraries_that_log_join_the_same_stream(capsys: pytest.CaptureFixture[str]) -> None:
    """A warning through the standard library is an event like any other."""
    log.configure(LogConfig(format="json"))
    logging.getLogger("some.library").warning("odd %s", "packet")
    event = json.loads(capsys.readouterr().err)
    assert (event["event"], event["level"]) == ("odd packet", "warning")
    assert event["logger"] == "some.library"


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"event": "started"}, "started"),
        ({"event": "done", "job": "a"}, "a: done"),
        ({"event": "done", "took": 1.23456, "none": None, "empty": []}, "done (took 1.23)"),
        ({"event": "done", "zero": 0, "no": False}, "done (zero 0, no False)"),
        ({"event": "lost", "error": "why", "hint": "mend"}, "lost: why. What to do: mend"),
        ({"event": "done", "level": "info", "timestamp": "t", "run_id": "r"}, "done"),
    ],
)
def test_a_sentence_says_what_is_there_and_no_more(event: dict[str, Any], expected: str) -> None:
    """The job, the event, its error, its facts and what to do; nothing for what is empty."""
    assert log.sentence(event) == expected


def test_a_file_is_rotated_by_size_and_kept_private(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No file grows past its size by more than a line, none but the newest few stay, mode 0600."""
    path = tmp_path / "gymdbd.log"
    log.configure(LogConfig(format="json", file=path, max_size=2000, keep_files=2))
    for number in range(100):
        log.logger().info("event", number=number, text="김" * 20)
    capsys.readouterr()
    files = sorted(one for one in tmp_path.glob("gymdbd.log*"))
    assert [one.name for one in files] == ["gymdbd.log", "gymdbd.log.1", "gymdbd.log.2"]
    assert all(one.stat().st_size <= 2300 for one in files)
    assert {one.stat().st_mode & 0o777 for one in files} == {0o600}
    lines = [line for one in reversed(files) for line in one.read_text("utf-8").splitlines()]
    numbers = [json.loads(line)["number"] for line in lines]
    assert numbers == list(range(100 - len(numbers), 100))


class _Full(io.StringIO):
    """A stream on a disk that is full."""

    def write(self, text: str) -> int:
        """Fail."""
        del text
        raise OSError(28, "No space left on device")


def test_a_sink_that_fails_fails_neither_the_run_nor_the_other_sinks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With stderr full the event is in the file all the same, and nobody gets an exception."""
    monkeypatch.setattr(sys, "stderr", _Full())
    log.configure(LogConfig(format="json", file=tmp_path / "gymdbd.log"))
    log.logger().error("still here")
    assert "still here" in (tmp_path / "gymdbd.log").read_text()


def test_a_log_file_that_cannot_be_written_fails_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a folder in the file's place the event is on stderr, and the complaint is too."""
    (tmp_path / "gymdbd.log").mkdir()
    log.configure(LogConfig(format="json", file=tmp_path / "gymdbd.log"))
    log.logger().error("still here")
    assert '"event": "still here"' in capsys.readouterr().err


def test_a_process_that_hangs_with_the_log_in_its_hands_holds_up_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event is on stderr, with the lock's name, and later ones are in the file again."""
    monkeypatch.setattr(log_file, "_LOCK_WAIT_S", 0.05)
    log.configure(LogConfig(format="json", file=tmp_path / "gymdbd.log"))
    log.logger().info("before")
    with (tmp_path / ".__gymdbd.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        log.logger().error("in between")
    log.logger().info("after")
    said = capsys.readouterr().err
    assert "gymdbd: cannot write the log: " in said
    assert "/.__gymdbd.lock" in said
    assert '"event": "in between"' in said
    written = [json.loads(line) for line in (tmp_path / "gymdbd.log").read_text().splitlines()]
    assert [one["event"] for one in written] == ["before", "after"]


def test_a_journal_that_is_gone_fails_no_run(
    journal: socket.socket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With journald stopped the run goes on, and stderr says that the log cannot be written."""
    log.configure(LogConfig(format="journald"))
    journal.close()
    (tmp_path / "journal").unlink()
    log.logger().error("nobody listens")
    assert "gymdbd: cannot write the log: " in capsys.readouterr().err


def test_what_root_logs_belongs_to_whom_the_folder_belongs_to(tmp_path: Path) -> None:
    """The daemon's own user goes on writing after a run by hand as root, rotated files included."""
    folder = tmp_path / "log"
    folder.mkdir()
    os.chown(folder, 12345, 23456)
    log.configure(LogConfig(format="json", file=folder / "gymdbd.log", max_size=100, keep_files=2))
    for number in range(5):
        log.logger().info("a line", number=number)
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in folder.iterdir()}
    names = (".__gymdbd.lock", "gymdbd.log", "gymdbd.log.1", "gymdbd.log.2")
    assert owners == dict.fromkeys(names, (12345, 23456))
