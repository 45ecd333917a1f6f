"""Metrics for Prometheus: an overview in its text format, printed or left for node_exporter.

What is unknown is left out: a 0 would be taken for a fact.
"""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import gymdbd
from gymdbd import acting, files, words
from gymdbd.machine import disks, hardware
from gymdbd.runs import health, line, verdict
from gymdbd.runs.entry import instant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gymdbd.config.config import Config
    from gymdbd.config.kinds import JobConfig
    from gymdbd.runs.outcome import Recorded
    from gymdbd.runs.overview import Overview

_MOST = 1e18
_PATIENCE_S = 1.0
_FRESH = timedelta(minutes=10)
_MAKERS = ("backup", "pull")
_HEALTHS = "0 ok, 1 late, 2 failing, 3 unknown"

# Every metric with its help, in the order of the text. A counter is what ends in _total.
HELP = {
    "gymdbd_build_info": "The release of gymdbd that has written this.",
    "gymdbd_metrics_timestamp_seconds": "When this was written.",
    "gymdbd_daemon_running": "Whether the daemon is running: 1 if it is, 0 if not.",
    "gymdbd_job_health": f"How the job is: {_HEALTHS}.",
    "gymdbd_job_last_success_timestamp_seconds": "When the job was last done well.",
    "gymdbd_job_max_age_seconds": "How old the last success may be.",
    "gymdbd_job_last_run_timestamp_seconds": "When the last run of the job began.",
    "gymdbd_job_next_run_timestamp_seconds": "When the daemon is going to run the job.",
    "gymdbd_job_duration_seconds": "How long the last run of the job took.",
    "gymdbd_job_consecutive_failures": "How many runs have failed since the last success.",
    "gymdbd_backup_size_bytes": "The size of the newest backup or replica.",
    "gymdbd_backup_rows": "The rows of a table in the newest backup or replica.",
    "gymdbd_newest_row_timestamp_seconds": "The time of the newest row in the newest backup.",
    "gymdbd_newest_row_max_age_seconds": "How old the newest row may be.",
    "gymdbd_machine_health": f"How this part of the machine is: {_HEALTHS}.",
    "gymdbd_device_written_bytes_total": "Bytes written to the device since the machine started.",
}


class Sample(NamedTuple):
    """A value of a metric; what is no number is unknown."""

    metric: str
    value: Any
    labels: dict[str, str]


def write(settings: Config, seen: Overview) -> datetime | None:
    """Write the file of `metrics:`; return when it is to be written again.

    None if the configuration asks for no file. Raises GymdbdError if it cannot be written.
    """
    if settings.metrics is None:
        return None
    file, data = settings.metrics.textfile, text(settings, seen).encode()
    acting.done_by_decider(file, lambda: files.write_atomically(file, data, public=True))
    return seen.at + _FRESH


def text(settings: Config, seen: Overview, root: Path = hardware.ROOT) -> str:
    """Return an overview in Prometheus's text format, which is valid UTF-8; /sys is in `root`."""
    found: dict[str, dict[str, float]] = {metric: {} for metric in HELP}
    for metric, value, labels in (*_samples(settings, seen), *_devices(settings, root)):
        number = _number(value)
        if number is not None:
            # Two names may look alike once they are escaped; the collector takes no line twice.
            found[metric].setdefault(_written(labels), number)
    lines = []
    for metric, values in found.items():
        kind = "counter" if metric.endswith("_total") else "gauge"
        head = [f"# HELP {metric} {HELP[metric]}", f"# TYPE {metric} {kind}"]
        lines += head if values else []
        lines += [f"{metric}{labels} {number}" for labels, number in values.items()]
    return "".join(f"{line}\n" for line in lines)


def _samples(settings: Config, seen: Overview) -> Iterator[Sample]:
    yield Sample("gymdbd_build_info", 1, {"version": gymdbd.__version__})
    yield Sample("gymdbd_metrics_timestamp_seconds", seen.at, {})
    if seen.daemon.started is not None and seen.daemon.alive is not None:
        yield Sample("gymdbd_daemon_running", int(seen.daemon.alive), {})
    for name in (*seen.jobs, *seen.peers):
        yield from _of_job(name, settings.jobs.get(name), seen)
    for part, finding in seen.machine.items():
        yield Sample("gymdbd_machine_health", int(finding.health), {"part": part})


def _devices(settings: Config, root: Path) -> Iterator[Sample]:
    """Yield what was written to the devices below the folders that the configuration names."""
    folders = [place.folder for place in disks.places(settings)]
    found = [health.meanwhile(partial(hardware.device, folder, root)) for folder in folders]
    for device in found:
        # A folder on a dead mount does not answer.
        with contextlib.suppress(TimeoutError):
            if (block := device(_PATIENCE_S)) is not None:
                written = hardware.bytes_written(block)
                labels = {"device": block.name}
                yield Sample("gymdbd_device_written_bytes_total", written, labels)


def _of_job(name: str, job: JobConfig | None, seen: Overview) -> Iterator[Sample]:
    """Yield what is known of a job of this machine, or of another one, which has no `job` here."""
    judged, label = seen.jobs.get(name) or seen.peers[name], {"job_name": name}
    entry = judged.entry
    yield Sample("gymdbd_job_health", int(judged.found.health), label)
    yield Sample("gymdbd_job_last_success_timestamp_seconds", instant(entry.last_success), label)
    if job is not None:
        limit = verdict.max_age(job, seen.at, seen.zone)
        yield Sample("gymdbd_job_max_age_seconds", limit.total_seconds(), label)
    yield Sample("gymdbd_job_last_run_timestamp_seconds", instant(entry.last_run), label)
    yield Sample("gymdbd_job_next_run_timestamp_seconds", instant(entry.next_run), label)
    yield Sample("gymdbd_job_duration_seconds", entry.duration_s, label)
    if entry.state is not None:
        yield Sample("gymdbd_job_consecutive_failures", entry.consecutive_failures, label)
    if entry.kind in _MAKERS and entry.result is not None:
        yield from _of_backup(entry.result, label)
    if job is not None and job.newest is not None and job.newest.max_age is not None:
        limit = job.newest.max_age
        yield Sample("gymdbd_newest_row_max_age_seconds", limit.total_seconds(), label)


def _of_backup(result: Recorded, label: dict[str, str]) -> Iterator[Sample]:
    """Yield what is known of the newest backup; it was read from a file, so it may be anything."""
    yield Sample("gymdbd_backup_size_bytes", result.content.get("size"), label)
    rows = line.largest(result.content.get("tables")) or {}
    for table, number in rows.items():
        yield Sample("gymdbd_backup_rows", number, {**label, "table": table})
    newest = instant((result.newest or {}).get("at"))
    yield Sample("gymdbd_newest_row_timestamp_seconds", newest, label)


def _number(value: Any) -> float | None:
    if isinstance(value, datetime):
        return value.timestamp()
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    # Neither NaN nor a number that no float holds is below it.
    return value if plain and abs(value) < _MOST else None


def _written(labels: dict[str, str]) -> str:
    """Return labels as the format has them; a terminal that shows them stays as it is."""
    pairs = []
    for name, value in labels.items():
        shown = words.printable(value, kept="\n")
        escaped = shown.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
        pairs.append(f'{name}="{escaped}"')
    return f"{{{','.join(pairs)}}}" if pairs else ""
