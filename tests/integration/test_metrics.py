"""The metrics and their alerts, as Prometheus's own programs read them."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import subprocess
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gymdbd import lock
from gymdbd.clock import Clock
from gymdbd.config import config
from gymdbd.notices import look, metrics, published, store
from gymdbd.runs import overview
from tests.support.command import ROOT, gymdbd, gymdbd_json, require
from tests.support.daemon_process import running_daemon
from tests.support.disks import dead
from tests.support.jobs import write_config
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

_RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
_TESTS = Path(__file__).with_name("rules.test.yml")
_TABLES = ["members", 'a"b\\c\nd', "회원", "\x1b[31m", "tab\there", "{}", "e\u0301"]


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    """Give a configuration with a good backup of a database with odd names, and a textfile."""
    with closing(sqlite3.connect(tmp_path / "gym.db")) as connection:
        for table in _TABLES:
            quoted = table.replace('"', '""')
            connection.execute(f'CREATE TABLE "{quoted}" AS SELECT datetime() AS at')
    (tmp_path / "archive").mkdir(mode=0o700)
    (tmp_path / "textfile").mkdir()
    places = {"database": str(tmp_path / "gym.db"), "archive": str(tmp_path / "archive")}
    newest = {"newest": {"table": "members", "column": "at", "max_age": "24h"}}
    path = write_config(
        tmp_path,
        {
            "nightly": {"schedule": "0 3 * * *", **places, **newest},
            "new": {"every": "1h", **places},
        },
        metrics={"textfile": "textfile/gymdbd.prom"},
    )
    done = gymdbd("-c", path, "backup", "nightly")
    assert done.returncode == 0, done.stderr
    return path


def _promtool(*arguments: object, text: str = "") -> str:
    """Run Prometheus's own tool; return what it has found wrong."""
    done = subprocess.run(
        [require("promtool"), *map(str, arguments)],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stderr + done.stdout if done.returncode else done.stderr


@contextlib.contextmanager
def _node_exporter(folder: Path) -> Iterator[str]:
    """Yield the address of a node_exporter that reads the files in a folder."""
    log = folder.with_name("exporter.log")
    words = [require("prometheus-node-exporter"), "--web.listen-address=127.0.0.1:0"]
    words += ["--collector.disable-defaults", "--collector.textfile"]
    words += [f"--collector.textfile.directory={folder}"]
    with log.open("wb") as output, subprocess.Popen(words, stderr=output) as process:
        try:
            listening = re.compile(r'msg="Listening on" address=(\S+)')
            found = until(lambda: listening.search(log.read_text()), "it listens")
            yield f"http://{found[1]}/metrics"
        finally:
            process.terminate()


def _samples(text: str) -> dict[str, float]:
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith(("gymdbd_", "node_textfile_scrape_error"))
    }


def test_promtool_finds_nothing_to_say_of_what_is_printed(configured: Path) -> None:
    """Names, units, help and form are as Prometheus wants them, whatever the tables are called."""
    done = gymdbd("-c", configured, "metrics")
    assert (done.returncode, done.stderr) == (0, "")
    assert _promtool("check", "metrics", text=done.stdout) == ""
    assert sum(key.startswith("gymdbd_backup_rows") for key in _samples(done.stdout)) == 7


def test_node_exporter_serves_the_file_as_it_was_written(configured: Path) -> None:
    """Its textfile collector takes every value, and none of a file that is still being written."""
    settings = config.load(configured)
    file = configured.parent / "textfile" / "gymdbd.prom"
    metrics.write(settings, overview.take(settings, Clock()))
    file.with_name(".gymdbd.prom.0011aabb.partial").write_text("half a li")
    with (
        _node_exporter(file.parent) as address,
        urllib.request.urlopen(address, timeout=20) as answer,  # noqa: S310 - our own server
    ):
        served = _samples(answer.read().decode())
    assert served.pop("node_textfile_scrape_error[]") == 0
    assert served == _samples(file.read_text())


def test_the_daemon_writes_the_file(configured: Path) -> None:
    """As soon as it has started, in the look of a child."""
    file = configured.parent / "textfile" / "gymdbd.prom"
    with running_daemon(configured):
        until(file.exists, "the metrics are written")
    told = _samples(file.read_text())
    assert told["gymdbd_daemon_running[]"] == 1
    assert told["gymdbd_job_health[('job_name', 'nightly')]"] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_two_looks_do_not_write_at_the_same_time(configured: Path) -> None:
    """Each removes what others have left unfinished; so the first holds the lock until the end."""
    text = configured.read_text().replace("textfile/gymdbd.prom", "dead/gymdbd.prom")
    configured.write_text(text)
    settings = config.load(configured)
    public, notices = published.place(settings), store.place(settings.status_file)
    with ThreadPoolExecutor(1) as pool:
        with dead(configured.parent):
            done = pool.submit(look.look, settings, Clock())
            until(public.exists, "the first file is written, and the second is begun")
            assert lock.is_held(lock.file_lock(notices))
        done.result()
    assert not lock.is_held(lock.file_lock(notices))


def test_check_says_whether_the_file_can_be_written(configured: Path) -> None:
    """Otherwise only the log of the daemon would say so."""
    _, answer = gymdbd_json("-c", configured, "check")
    file = configured.parent / "textfile" / "gymdbd.prom"
    assert {"name": "metrics", "state": "ok", "message": str(file), "hint": ""} in answer["checks"]
    file.parent.rmdir()
    code, answer = gymdbd_json("-c", configured, "check")
    states = {one["name"]: one["state"] for one in answer["checks"]}
    assert (code, states["metrics"]) == (1, "error")


def test_the_alerts_are_valid_and_say_what_their_tests_expect() -> None:
    """Of a machine that is well they say nothing."""
    assert _promtool("check", "rules", _RULES) == ""
    assert _promtool("test", "rules", _TESTS) == ""


def test_the_alerts_use_metrics_that_exist_and_each_is_tested() -> None:
    """A metric that is renamed would silence its alert."""
    rules, tests = _RULES.read_text(), _TESTS.read_text()
    used = set(re.findall(r"gymdbd_\w+", rules))
    assert used - set(metrics.HELP) == set()
    for alert in re.findall(r"- alert: (\w+)", rules):
        assert re.search(rf"alertname: {alert}\n.*\n +exp_alerts:", tests), alert
