"""Pings around runs, at a real receiver: what they say, and that no run waits for them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gymdbd.config import config
from gymdbd.config.kinds import VerifyConfig
from gymdbd.config.secrets import Secret
from gymdbd.errors import StoppedError, WriteFailedError
from gymdbd.notices.ping import Pings
from gymdbd.runs.outcome import Outcome, failure
from tests.support import receivers
from tests.support.command import GYMDBD, gymdbd
from tests.support.daemon_process import running_daemon
from tests.support.databases import make_database
from tests.support.jobs import write_config
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from gymdbd.config.config import Config
    from tests.support.receivers import Web


@pytest.fixture
def web() -> Iterator[Web]:
    """Run a web server."""
    with receivers.web() as receiver:
        yield receiver


def _configuration(folder: Path, url: str | dict[str, str], **job: Any) -> Path:
    (folder / "archive").mkdir(mode=0o700, exist_ok=True)
    backup = {
        "every": "1h",
        "database": str(folder / "gym.db"),
        "archive": str(folder / "archive"),
        "ping": url,
        **job,
    }
    descriptor = os.open(folder / "config.yaml", os.O_CREAT | os.O_WRONLY, 0o600)
    os.close(descriptor)
    return write_config(folder, {"nightly": backup})


def _settings(folder: Path, url: str) -> Config:
    return config.load(_configuration(folder, url))


def _ends(web: Web) -> list[str]:
    """Return the paths of the pings, without their rid."""
    return [urlsplit(path).path for path in web.paths]


def _arguments() -> Iterator[str]:
    """Yield the arguments of every process, which every user may read."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield entry.read_text(errors="replace")


def _await(web: Web, count: int) -> None:
    until(lambda: len(web.requests) >= count, f"{count} pings, not {web.paths}")


def test_a_run_by_hand_pings_its_start_and_its_end(tmp_path: Path, web: Web) -> None:
    """Both with one id; a query stays where it is, and the path of the key is kept."""
    make_database(tmp_path / "gym.db")
    path = _configuration(tmp_path, web.url("ping/KEY/slug?create=1"))
    assert gymdbd("-c", path, "backup").returncode == 0
    _await(web, 2)
    assert _ends(web) == ["/ping/KEY/slug/start", "/ping/KEY/slug"]
    queries = [parse_qs(urlsplit(request).query) for request in web.paths]
    assert queries[0] == queries[1]
    assert queries[0]["create"] == ["1"]
    assert len(queries[0]["rid"][0]) == 36
    assert [request.body for request in web.requests] == ["", ""]


def test_a_run_that_fails_pings_the_error_without_its_paths(tmp_path: Path, web: Web) -> None:
    """Neither the database nor its place is the receiver's business."""
    path = _configuration(tmp_path, web.url("KEY"))
    assert gymdbd("-c", path, "backup").returncode == 1
    _await(web, 2)
    assert _ends(web) == ["/KEY/start", "/KEY/fail"]
    assert web.requests[1].body == "source-missing: there is no database at …"


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("cannot write /srv/my archive/x.db (No space left)", "cannot write … (No space left)"),
        ("cannot read ~/gym.db: Input/output error", "cannot read …: Input/output error"),
        ("pi@host:/home/pi/gym.db is gone", "pi@host:… is gone"),
        ("lost 3/4 of it", "lost 3/4 of it"),
        ("x" * 5000, "x" * 983 + "…"),
        ("없음" * 2000, "없음" * 163 + "없…"),
        ("odd \udcff name", "odd ? name"),
    ],
)
def test_no_path_leaves_this_machine(tmp_path: Path, web: Web, message: str, told: str) -> None:
    """Neither those that the job names, which may have spaces, nor others; the line is short."""
    settings = _settings(tmp_path, web.url("KEY"))
    job = VerifyConfig(
        name="nightly",
        kind="verify",
        archive=Path("/srv/my archive/x.db"),
        ping=Secret(literal=web.url("KEY")),
    )
    Pings().begin(settings, job)(failure(WriteFailedError(message)))
    _await(web, 2)
    assert web.requests[1].body == f"write-failed: {told}"


def test_a_run_that_was_stopped_pings_no_end(tmp_path: Path, web: Web) -> None:
    """It is made up for after the next start, and pings then; a failing one would cry wolf."""
    settings = _settings(tmp_path, web.url("KEY"))
    pings = Pings()
    pings.begin(settings, settings.jobs["nightly"])(failure(StoppedError("stopped")))
    pings.begin(settings, settings.jobs["nightly"])(Outcome())
    _await(web, 3)
    assert sorted(_ends(web)) == ["/KEY", "/KEY/start", "/KEY/start"]


def test_a_daemon_pings_around_each_run_of_its_life_and_keeps_nothing_open(
    tmp_path: Path, web: Web
) -> None:
    """More than may be stuck at a time; of each, the process ends and the pipe is closed."""
    settings, pings = _settings(tmp_path, web.url("KEY")), Pings()
    before = _open_files()
    for outcome in [Outcome(), failure(StoppedError("stopped"))] * 3:
        pings.begin(settings, settings.jobs["nightly"])(outcome)
        (pids,) = pings._at_work.values()  # noqa: SLF001 - they are nobody else's business
        _await_ends(pids)
    assert sorted(_ends(web)) == ["/KEY"] * 3 + ["/KEY/start"] * 6
    until(lambda: _open_files() == before, "the end of the receiver's connections")


def _open_files() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def _await_ends(pids: Collection[int]) -> None:
    """Wait until these children of this process have ended, and leave them to it."""
    ended = os.WEXITED | os.WNOWAIT | os.WNOHANG
    until(lambda: all(os.waitid(os.P_PID, pid, ended) for pid in pids), "their end")


def test_a_ping_that_was_killed_or_is_too_long_to_pass_on_is_no_trouble_of_the_run(
    tmp_path: Path, web: Web
) -> None:
    """The one cannot hear the end any more, and the other begins nothing; neither raises."""
    settings, pings = _settings(tmp_path, web.url("KEY")), Pings()
    end = pings.begin(settings, settings.jobs["nightly"])
    (pids,) = pings._at_work.values()  # noqa: SLF001 - they are nobody else's business
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    _await_ends(pids)
    end(Outcome())
    too_long = Secret(literal=web.url("x" * 100_000))
    job = dataclasses.replace(settings.jobs["nightly"], name="long", ping=too_long)
    pings.begin(settings, job)(Outcome())
    (pid,) = pings._at_work["long"]  # noqa: SLF001
    assert os.waitpid(pid, 0)[1] == 0
    assert not [path for path in web.paths if "x" in path]


def test_a_run_of_root_pings_with_the_secret_of_another_user(web: Web) -> None:
    """Root has put it into a folder of its own, for the user of the daemon alone."""
    with tempfile.TemporaryDirectory(prefix="gymdbd-ping-") as name:
        folder = Path(name)
        make_database(folder / "gym.db")
        secret = folder / "url"
        secret.touch(0o600)
        secret.write_text(web.url("KEY"))
        os.chown(secret, 12002, 12002)
        path = _configuration(folder, {"file": str(secret)})
        folder.chmod(0o755)
        assert gymdbd("-c", path, "backup").returncode == 0
        _await(web, 2)
    assert _ends(web) == ["/KEY/start", "/KEY"]


def test_the_daemon_pings_around_its_runs(tmp_path: Path, web: Web) -> None:
    """As a run by hand does; a URL from a file is read at each run."""
    make_database(tmp_path / "gym.db")
    (tmp_path / "url").touch(0o600)
    (tmp_path / "url").write_text(web.url("KEY") + "\n")
    path = _configuration(tmp_path, {"file": str(tmp_path / "url")}, every="1s")
    with running_daemon(path) as process:
        _await(web, 4)
        assert process.stop() == 0
    assert _ends(web)[:2] == ["/KEY/start", "/KEY"]


def test_a_receiver_that_hangs_delays_no_run_and_gathers_no_processes(tmp_path: Path) -> None:
    """The run ends while its first ping still waits; of the next runs three at most ping."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        settings = _settings(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}/KEY")
        pings, job = Pings(), settings.jobs["nightly"]
        begun = time.monotonic()
        for _ in range(20):
            pings.begin(settings, job)(Outcome())
        assert time.monotonic() - begun < 5
        (pids,) = pings._at_work.values()  # noqa: SLF001 - they are nobody else's business
        assert len(pids) == 3
        # A Ctrl-C in the terminal is for the run alone.
        assert [os.getsid(pid) for pid in pids] == [*pids]
        for pid in pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)


def test_a_run_by_hand_ends_while_its_ping_waits(tmp_path: Path) -> None:
    """Nor does a program wait that reads what the run prints, until nobody can print any more."""
    # Other processes of the machine may have any common word in their arguments.
    key = uuid.uuid4().hex
    make_database(tmp_path / "gym.db")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        path = _configuration(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}/{key}")
        subprocess.run([*GYMDBD, "-c", path, "backup"], check=True, capture_output=True)
        connection, _ = silent.accept()
        with connection:
            # It has sent all, and waits for the answer: its end is not there yet.
            connection.settimeout(20)
            assert connection.recv(65536).startswith(f"POST /{key}/start?rid=".encode())
            connection.setblocking(False)
            with pytest.raises(BlockingIOError):
                connection.recv(1)
            # Its process is at work now, and every user may read its arguments.
            assert not [words for words in _arguments() if key in words]
            connection.setblocking(True)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(65536).startswith(f"POST /{key}?rid=".encode())
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def test_a_ping_that_cannot_be_sent_is_logged_and_the_run_is_good(tmp_path: Path, web: Web) -> None:
    """The log has the host and what to do, and not the URL."""
    make_database(tmp_path / "gym.db")
    path = _configuration(tmp_path, web.url("404/hunter2"))
    content = json.loads(path.read_text())
    content["log"]["file"] = str(tmp_path / "log")
    path.write_text(json.dumps(content))
    assert gymdbd("-c", path, "backup").returncode == 0
    log = tmp_path / "log"
    until(lambda: "ping not received" in log.read_text(), "the warning")
    assert "hunter2" not in log.read_text()
    assert "refused the message (404 Not Found)" in log.read_text()
    assert len(web.requests) == 2


def test_the_end_is_pinged_again_if_the_receiver_has_trouble(tmp_path: Path, web: Web) -> None:
    """It is the one that counts, and may not be lost by a moment's trouble; the start may."""
    settings, pings = _settings(tmp_path, web.url("503/KEY")), Pings()
    pings.begin(settings, settings.jobs["nightly"])(Outcome())
    _await(web, 3)
    for pid in pings._at_work["nightly"]:  # noqa: SLF001 - its third try would be in 4 s
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert _ends(web) == ["/503/KEY/start", "/503/KEY", "/503/KEY"]


def test_a_check_that_does_not_exist_is_told_as_such(tmp_path: Path) -> None:
    """Healthchecks answers 200 to the id of a check that was deleted."""
    make_database(tmp_path / "gym.db")
    with receivers.web(answer=b"OK (not found)") as web:
        path = _configuration(tmp_path, web.url("KEY"))
        content = json.loads(path.read_text())
        content["log"]["file"] = str(tmp_path / "log")
        path.write_text(json.dumps(content))
        assert gymdbd("-c", path, "backup").returncode == 0
        log = tmp_path / "log"
        until(lambda: "knows no check of this URL" in log.read_text(), "the warning")
