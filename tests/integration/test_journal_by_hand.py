"""Runs by hand in the journal of the machine: a socket of ours stands where journald's would."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.command import gymdbd
from tests.support.databases import backups, make_database
from tests.support.jobs import write_config

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

# Nothing of this machine's own journal is seen, whether it has one or not.
_IN_FRONT = (
    "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && "
    'mount --bind "$1" /run/systemd/journal && shift && exec "$@"'
)


@dataclass
class Journal:
    """What stands in for journald."""

    folder: Path
    socket: socket.socket

    def gymdbd(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Run a verb on a machine with this journal."""
        prefix = ["unshare", "--mount", "sh", "-c", _IN_FRONT, "sh", str(self.folder)]
        return gymdbd(*words, prefix=prefix)

    def entries(self) -> list[dict[str, str]]:
        """Return the fields of each entry that has come since the last look."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(_fields(self.socket.recv(1 << 20)))
        return found


def _fields(data: bytes) -> dict[str, str]:
    """Read one entry in journald's own protocol."""
    fields = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack("<Q", data[:8])
            value, data = data[8 : 8 + size], data[8 + size + 1 :]
        fields[name.decode()] = value.decode()
    return fields


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Give a journal with room for what one verb sends."""
    folder = tmp_path / "journal"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(folder / "socket"))
        listener.setblocking(False)
        yield Journal(folder, listener)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Give a configuration with a backup that never failed, and one that always does."""
    archive = tmp_path / "archive"
    archive.mkdir(mode=0o700)
    good = {"database": str(make_database(tmp_path / "gym.db")), "archive": str(archive)}
    bad = {**good, "database": str(tmp_path / "none.db")}
    jobs: dict[str, dict[str, Any]] = {"nightly": good, "broken": bad}
    return write_config(tmp_path, {name: {**job, "every": "1h"} for name, job in jobs.items()})


def test_a_backup_by_hand_is_in_the_journal_with_the_fields_of_the_daemon(
    journal: Journal, config: Path, tmp_path: Path
) -> None:
    """Each event with the job and the id by which the status file knows the run."""
    assert journal.gymdbd("-c", config, "backup", "nightly").returncode == 0
    entries = journal.entries()
    status = json.loads((tmp_path / "status.json").read_text())
    (run,) = status["jobs"]["nightly"]["runs"]
    assert {one["SYSLOG_IDENTIFIER"] for one in entries} == {"gymdbd"}
    assert {one["GYMDBD_JOB"] for one in entries} == {"nightly"}
    assert {one["GYMDBD_RUN_ID"] for one in entries} == {run["run_id"]}
    events = [one["GYMDBD_EVENT"] for one in entries]
    assert (events[0], events[-1]) == ("run started", "run finished")
    assert events.count("backup published") == 1
    assert entries[0]["GYMDBD_REASON"] == "by hand"
    assert entries[-1]["MESSAGE"].startswith("nightly: run finished (state ok")


def test_a_failure_by_hand_is_an_error_in_the_journal_and_told_once_on_the_terminal(
    journal: Journal, config: Path
) -> None:
    """PRIORITY 3 with its hint; standard error has the verb's own words and nothing else."""
    done = journal.gymdbd("-c", config, "backup", "broken")
    assert done.returncode == 1
    (failed,) = [one for one in journal.entries() if one["PRIORITY"] == "3"]
    assert failed["GYMDBD_EVENT"] == "run failed"
    assert failed["GYMDBD_CODE"] == "source-missing"
    assert failed["GYMDBD_ERROR"] in done.stderr
    assert failed["GYMDBD_HINT"] in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_every_verb_that_works_on_something_is_in_the_journal(
    journal: Journal, config: Path, tmp_path: Path
) -> None:
    """From its start to its end, under its own name, each with an id of its own."""
    assert gymdbd("-c", config, "backup", "nightly").returncode == 0
    (backup,) = backups(tmp_path / "archive")
    ids = set()
    for words in (
        f"restore latest --to {tmp_path}/copy.db",
        f"keep {backup}",
        f"unkeep {backup}",
        f"accept {backup}",
        "prune nightly --keep-count 3",
        f"rescue {backup} --table t --to {tmp_path}/rows.sql",
        f"verify {backup}",
        f"drill --archive {tmp_path}/archive",
        f"reject {backup}",
    ):
        done = journal.gymdbd("-c", config, *words.split())
        assert done.returncode == 0, (words, done.stderr)
        entries = journal.entries()
        events = [one["GYMDBD_EVENT"] for one in entries]
        assert (events[0], events[-1]) == ("run started", "run finished"), words
        assert {one["GYMDBD_JOB"] for one in entries} == {words.split()[0]}
        (run_id,) = {one["GYMDBD_RUN_ID"] for one in entries}
        ids.add(run_id)
    assert len(ids) == 9


def test_a_verb_that_is_refused_is_in_the_journal_as_well(
    journal: Journal, config: Path, tmp_path: Path
) -> None:
    """With why, and what to do."""
    done = journal.gymdbd("-c", config, "keep", "gym_backup_20200101_000000.db")
    assert done.returncode == 1
    started, failed = journal.entries()
    assert started["GYMDBD_EVENT"] == "run started"
    assert (failed["GYMDBD_EVENT"], failed["PRIORITY"]) == ("run failed", "3")
    assert str(tmp_path / "archive") in failed["GYMDBD_ERROR"]


def test_who_only_looks_leaves_nothing_in_the_journal(journal: Journal, config: Path) -> None:
    """Monitoring asks every minute; and a demonstration is no run of the job that it shows."""
    for verb in ("status", "list", "schedule", "check", "demo"):
        journal.gymdbd("-c", config, verb)
    assert journal.entries() == []


def test_a_run_by_hand_in_a_service_is_in_the_journal_once(journal: Journal, config: Path) -> None:
    """A timer's unit has the journal on its standard error: its events come one way only."""
    script = (
        f"cd {journal.folder} && ours=$(stat -L -c %d:%i /proc/self/fd/2) && "
        'JOURNAL_STREAM=$ours exec "$@"'
    )
    prefix = ["unshare", "--mount", "sh", "-c", _IN_FRONT, "sh", str(journal.folder)]
    words = ("-c", config, "backup", "nightly")
    assert gymdbd(*words, prefix=[*prefix, "sh", "-c", script, "sh"]).returncode == 0
    events = [one["GYMDBD_EVENT"] for one in journal.entries()]
    assert events.count("run started") == 1
    assert events.count("run finished") == 1


def test_without_a_journal_or_with_a_dead_one_a_run_by_hand_is_as_it_was(
    journal: Journal, config: Path
) -> None:
    """No socket, one that nobody listens at, and one that is full: no word, no failure."""
    journal.socket.close()
    words = ("-c", config, "backup", "nightly")
    dead = journal.gymdbd(*words)
    assert (dead.returncode, dead.stderr) == (0, "")
    (journal.folder / "socket").unlink()
    none = journal.gymdbd(*words)
    assert (none.returncode, none.stderr) == (0, "")


def test_a_journal_that_takes_no_more_costs_a_run_by_hand_nothing_but_a_moment(
    journal: Journal, config: Path
) -> None:
    """It ends well and without a word."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                sender.sendto(b"A=1\n", str(journal.folder / "socket"))
    done = journal.gymdbd("-c", config, "backup", "nightly")
    assert (done.returncode, done.stderr) == (0, "")
    assert [one for one in journal.entries() if "A" not in one] == []
