"""Metrics for Prometheus: what they tell, how names of others are written, and the file."""

from __future__ import annotations

import dataclasses
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import gymdbd
from gymdbd.config import config
from gymdbd.errors import ConfigError
from gymdbd.jobs.finding import Finding, Health
from gymdbd.notices import metrics
from gymdbd.runs.entry import Entry, Status
from gymdbd.runs.health import Daemon, Judged
from gymdbd.runs.outcome import Recorded
from gymdbd.runs.overview import Overview
from gymdbd.source.errors import GymdbdError
from tests.support.disks import dead
from tests.support.jobs import write_config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gymdbd.config.config import Config

_AT = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
_JOB = {"every": "1h", "max_age": "2h", "database": "/srv/gym.db", "archive": "/srv/archive"}
_NEWEST = {"newest": {"table": "rentals", "column": "at", "max_age": "24h"}}
_RESULT = {
    "size": 8192,
    "tables": {"members": 310, "rentals": 14},
    "newest": {"table": "rentals", "column": "at", "at": "2026-11-28T11:00:00+09:00"},
}
_ENTRY = Entry(
    kind="backup",
    state="ok",
    last_run="2026-11-28T11:00:00+00:00",
    last_success="2026-11-28T11:00:09+00:00",
    next_run="2026-11-28T13:00:00+00:00",
    duration_s=9.5,
    result=Recorded(_RESULT),
)


def _settings(folder: Path, job: dict[str, Any] | None = None, **top: Any) -> Config:
    return config.load(write_config(folder, {"hourly": {**_JOB, **_NEWEST, **(job or {})}}, **top))


def _overview(entry: Entry, health: Health = Health.OK, **changes: Any) -> Overview:
    facts: dict[str, Any] = {
        "at": _AT,
        "zone": UTC,
        "host": "pi",
        "status": Status(),
        "daemon": Daemon(alive=True, started=_AT - timedelta(days=1), status_file="status.json"),
        "jobs": {"hourly": Judged(entry, Finding(health))},
        **changes,
    }
    return Overview(**facts)


def _text(settings: Config, seen: Overview) -> str:
    """Return the metrics of a machine whose devices are unknown."""
    return metrics.text(settings, seen, Path("/nonexistent"))


def _parsed(text: str) -> dict[tuple[str, ...], float]:
    """Return every value by its metric and its labels, as another program reads them."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _rows(folder: Path, tables: Any) -> dict[str, float]:
    """Return the rows of each table as they are read from the metrics of a backup of them."""
    entry = dataclasses.replace(_ENTRY, result=Recorded({"tables": tables}))
    text = _text(_settings(folder), _overview(entry))
    told = _parsed(text)
    return {key[-1]: value for key, value in told.items() if key[0] == "gymdbd_backup_rows"}


def test_everything_that_status_knows_is_a_metric(tmp_path: Path) -> None:
    """Of the daemon, each job, the machine and the jobs of other machines."""
    seen = _overview(
        _ENTRY,
        Health.FAILING,
        peers={"mac/pull": Judged(Entry(kind="pull", state="ok"), Finding(Health.LATE))},
        machine={"disk": Finding(Health.LATE, "full in 3 days")},
    )
    success = datetime(2026, 11, 28, 11, 0, 9, tzinfo=UTC).timestamp()
    assert _parsed(_text(_settings(tmp_path), seen)) == {
        ("gymdbd_build_info", gymdbd.__version__): 1,
        ("gymdbd_metrics_timestamp_seconds",): _AT.timestamp(),
        ("gymdbd_daemon_running",): 1,
        ("gymdbd_job_health", "hourly"): 2,
        ("gymdbd_job_health", "mac/pull"): 1,
        ("gymdbd_job_last_success_timestamp_seconds", "hourly"): success,
        ("gymdbd_job_max_age_seconds", "hourly"): 7200,
        ("gymdbd_job_last_run_timestamp_seconds", "hourly"): success - 9,
        ("gymdbd_job_next_run_timestamp_seconds", "hourly"): success - 9 + 7200,
        ("gymdbd_job_duration_seconds", "hourly"): 9.5,
        ("gymdbd_job_consecutive_failures", "hourly"): 0,
        ("gymdbd_job_consecutive_failures", "mac/pull"): 0,
        ("gymdbd_backup_size_bytes", "hourly"): 8192,
        ("gymdbd_backup_rows", "hourly", "members"): 310,
        ("gymdbd_backup_rows", "hourly", "rentals"): 14,
        ("gymdbd_newest_row_timestamp_seconds", "hourly"): success - 9 - 9 * 3600,
        ("gymdbd_newest_row_max_age_seconds", "hourly"): 86400,
        ("gymdbd_machine_health", "disk"): 1,
    }


def test_what_was_written_to_a_device_is_told_once(tmp_path: Path) -> None:
    """The archive and the status file lie on one; Linux counts sectors of 512 bytes."""
    root, number = tmp_path / "root", tmp_path.stat().st_dev
    block = root / "sys/devices/mmcblk0"
    block.mkdir(parents=True)
    (block / "stat").write_text("1 2 3 4 5 6 100 8 9 10 11\n")
    links = root / "sys/dev/block"
    links.mkdir(parents=True)
    (links / f"{os.major(number)}:{os.minor(number)}").symlink_to(block)
    (tmp_path / "archive").mkdir()
    settings = _settings(tmp_path, {"archive": "archive"})
    told = metrics.text(settings, _overview(_ENTRY), root)
    assert 'gymdbd_device_written_bytes_total{device="mmcblk0"} 51200\n' in told
    assert told.count("gymdbd_device_written_bytes_total{") == 1
    assert "# TYPE gymdbd_device_written_bytes_total counter\n" in told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_dead_mount_keeps_no_metrics_back(tmp_path: Path) -> None:
    """What is on other disks is told."""
    with dead(tmp_path) as place:
        settings = _settings(tmp_path, {"archive": str(place)})
        assert "gymdbd_job_health" in metrics.text(settings, _overview(_ENTRY))


def test_what_is_unknown_is_left_out_and_never_0(tmp_path: Path) -> None:
    """Neither a job that has not run, nor a daemon that this user cannot see, nor none at all."""
    text = _text(
        _settings(tmp_path, {"newest": {"table": "rentals", "column": "at"}}),
        _overview(Entry(kind="backup"), Health.UNKNOWN, daemon=Daemon(None, _AT, "status.json")),
    )
    assert set(_parsed(text)) == {
        ("gymdbd_build_info", gymdbd.__version__),
        ("gymdbd_metrics_timestamp_seconds",),
        ("gymdbd_job_health", "hourly"),
        ("gymdbd_job_max_age_seconds", "hourly"),
    }
    by_cron = _overview(Entry(), daemon=Daemon(alive=False, started=None, status_file=""))
    assert "gymdbd_daemon_running" not in _text(_settings(tmp_path), by_cron)


@pytest.mark.parametrize(
    "result",
    [
        {"size": "8192", "tables": ["members"], "newest": {"at": 7}},
        {"size": True, "tables": {"members": None, "rentals": [1]}, "newest": "now"},
        {"size": float("nan"), "tables": {"members": float("inf")}, "newest": {"at": "noon"}},
        {"size": 10**400, "tables": {"members": -(10**400)}, "newest": {}},
        {},
    ],
)
def test_what_is_no_number_in_the_status_file_is_unknown(
    tmp_path: Path, result: dict[str, Any]
) -> None:
    """Another program may have written the file; the rest of the metrics stays."""
    entry = dataclasses.replace(_ENTRY, result=Recorded(result))
    told = {key[0] for key in _parsed(_text(_settings(tmp_path), _overview(entry)))}
    backup = {name for name in told if name.startswith(("gymdbd_backup", "gymdbd_newest_row_t"))}
    assert backup == set()
    assert "gymdbd_job_health" in told


@pytest.mark.parametrize(
    ("table", "read"),
    [
        ('a"b', 'a"b'),
        ("a\\b", "a\\b"),
        ("a\nb", "a\nb"),
        ("a\\nb", "a\\nb"),
        ('"} 1\ngymdbd_job_health 0 #', '"} 1\ngymdbd_job_health 0 #'),
        ("회원", "회원"),
        ("", ""),
        # What would be no UTF-8, or move a terminal's cursor.
        ("caf\udce9", "caf\\udce9"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\u202eb\r", "a\\u202eb\\r"),
    ],
)
def test_any_name_of_a_table_is_one_label(tmp_path: Path, table: str, read: str) -> None:
    """A quote or a line break ends no label, and begins no line."""
    assert _rows(tmp_path, {table: 3}) == {read: 3}


def test_two_names_that_look_alike_are_one_line(tmp_path: Path) -> None:
    """The collector refuses the whole file if a line comes twice."""
    assert _rows(tmp_path, {"\udcff": 1, "\\udcff": 2}) == {"\\udcff": 2}


def test_a_database_with_many_tables_has_the_fifty_largest(tmp_path: Path) -> None:
    """Each label is a series that Prometheus keeps for weeks."""
    rows = _rows(tmp_path, {f"log_{number}": number for number in range(1000)})
    assert rows == {f"log_{number}": number for number in range(950, 1000)}


def test_every_metric_has_its_help_and_type_once(tmp_path: Path) -> None:
    """Before its values, however many jobs there are."""
    judged = Judged(_ENTRY, Finding(Health.OK))
    seen = _overview(_ENTRY, jobs={"hourly": judged, "other": judged})
    lines = _text(_settings(tmp_path), seen).splitlines()
    heads = [line.split(" ")[:3] for line in lines if line.startswith("#")]
    assert len(heads) == len({tuple(head) for head in heads})
    at = lines.index("# TYPE gymdbd_job_health gauge")
    assert lines[at - 1].startswith("# HELP gymdbd_job_health ")
    assert lines[at + 1 : at + 3] == [
        'gymdbd_job_health{job_name="hourly"} 0',
        'gymdbd_job_health{job_name="other"} 0',
    ]


@pytest.fixture
def strict_umask() -> Iterator[None]:
    """Let files come out readable by their owner only, as under systemd."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("strict_umask")
def test_the_file_is_there_for_every_user_and_written_again_soon(tmp_path: Path) -> None:
    """The collector is another user; what a crashed writer left goes, and is none of its files."""
    file = tmp_path / "gymdbd.prom"
    left = tmp_path / ".gymdbd.prom.0011aabb.partial"
    left.touch()
    settings = _settings(tmp_path, metrics={"textfile": "gymdbd.prom"})
    again = metrics.write(settings, _overview(_ENTRY))
    assert again is not None
    assert timedelta(0) < again - _AT < timedelta(minutes=30)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert file.read_text().startswith(_text(settings, _overview(_ENTRY)))
    assert not left.exists()


def test_without_the_key_nothing_is_written(tmp_path: Path) -> None:
    """Then the look need not come for it either."""
    settings = _settings(tmp_path)
    before = list(tmp_path.iterdir())
    assert metrics.write(settings, _overview(_ENTRY)) is None
    assert list(tmp_path.iterdir()) == before


def test_a_link_in_the_folder_is_replaced_and_not_followed(tmp_path: Path) -> None:
    """Other users may write there; the file stays ours, whoever owns what the link leads to."""
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o1777)
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    os.chown(theirs, 65534, 65534)
    (folder / "gymdbd.prom").symlink_to(theirs)
    metrics.write(
        _settings(tmp_path, metrics={"textfile": "shared/gymdbd.prom"}), _overview(_ENTRY)
    )
    assert theirs.read_text() == "theirs"
    file = (folder / "gymdbd.prom").lstat()
    assert (stat.S_ISREG(file.st_mode), file.st_uid) == (True, os.geteuid())


def test_a_folder_that_is_gone_is_an_error_with_a_hint(tmp_path: Path) -> None:
    """The look logs it and goes on."""
    settings = _settings(tmp_path, metrics={"textfile": "gone/gymdbd.prom"})
    with pytest.raises(GymdbdError) as caught:
        metrics.write(settings, _overview(_ENTRY))
    assert str(tmp_path / "gone") in caught.value.message
    assert caught.value.hint


def test_a_name_that_the_collector_does_not_read_is_a_fault(tmp_path: Path) -> None:
    """It reads nothing but what ends in .prom, and says nothing about the rest."""
    with pytest.raises(ConfigError) as caught:
        _settings(tmp_path, metrics={"textfile": "/srv/gymdbd.txt"})
    (fault,) = caught.value.faults
    assert fault.endswith("metrics: textfile: expected a name that ends in .prom (got gymdbd.txt)")
