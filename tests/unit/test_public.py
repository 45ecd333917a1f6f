"""The public status: bounded, without texts and paths, and typed when another machine reads it."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.config import config
from gymdbd.jobs.finding import Finding, Health
from gymdbd.notices import published
from gymdbd.runs.entry import Entry, Status
from gymdbd.runs.health import Daemon, Judged
from gymdbd.runs.overview import Overview
from gymdbd.runs.public import PublicStatus
from tests.support.jobs import write_config

if TYPE_CHECKING:
    from pathlib import Path

_AT = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
_TOLD = "/srv/secret/gym.db is damaged"
_GOOD = {"job": "nightly", "kind": "backup", "health": "ok", "code": ""}
_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")


def _judged(health: Health, code: str = "") -> Judged:
    entry = Entry(
        kind="backup", state="failed", error=_TOLD, last_success="2026-11-27T03:00:00+09:00"
    )
    return Judged(entry, Finding(health, _TOLD, _TOLD, code))


def _overview(jobs: dict[str, Judged], machine: dict[str, Finding] | None = None) -> Overview:
    return Overview(
        at=_AT,
        zone=UTC,
        host="raspberry-pi",
        status=Status(),
        daemon=Daemon(alive=True, started=_AT, status_file="status.json"),
        jobs=jobs,
        machine=machine or {},
    )


def _read(**changes: Any) -> PublicStatus:
    content = {"schema": 1, "machine": "pi", "now": "2026-11-28T12:00:00Z", "jobs": [_GOOD]}
    return PublicStatus.from_json({**content, **changes})


def test_it_tells_names_healths_codes_and_times_and_no_texts() -> None:
    """An error names paths, tables and hosts, which are not for everybody who may pull."""
    machine = {"/mnt/disk": Finding(Health.LATE, _TOLD, _TOLD, "disk-fills")}
    jobs = {"nightly": _judged(Health.OK), "drill": _judged(Health.FAILING, "disk-full")}
    data = published.of(_overview(jobs, machine)).to_json()
    assert b"secret" not in data
    assert b"/" not in data
    found = PublicStatus.from_json(json.loads(data))
    assert (found.machine, found.now) == ("raspberry-pi", _AT)
    told = [(job.job, job.kind, job.health, job.code) for job in found.jobs]
    assert told == [
        ("drill", "backup", "failing", "disk-full"),
        ("machine", "machine", "late", "disk-fills"),
        ("nightly", "backup", "ok", ""),
    ]
    assert found.jobs[0].last_success == "2026-11-27T03:00:00+09:00"


def test_of_many_jobs_the_worst_are_told_and_the_rest_are_counted() -> None:
    """The file has 8 KB at most, and a failing job is never among those left out."""
    jobs = {f"job-{number:03}-{'x' * 50}": _judged(Health.OK) for number in range(300)}
    jobs["last"] = _judged(Health.FAILING, "disk-full")
    data = published.of(_overview(jobs)).to_json()
    assert len(data) <= 8192
    found = PublicStatus.from_json(json.loads(data))
    assert found.jobs[0].job == "last"
    assert len(found.jobs) + found.left_out == 301


@pytest.mark.parametrize(
    "job",
    [
        "nightly",
        None,
        {**_GOOD, "job": "\x1b[2J"},
        {**_GOOD, "job": "x" * 65},
        {**_GOOD, "job": ["nightly"]},
        {**_GOOD, "health": "splendid"},
        {**_GOOD, "health": ["ok"]},
        {**_GOOD, "job": "good"},
    ],
)
def test_an_item_that_is_not_of_our_types_hides_no_other(job: Any) -> None:
    """The other machine may be anybody's."""
    found = _read(jobs=[{**_GOOD, "job": "good"}, job, {**_GOOD, "job": "after"}])
    assert [told.job for told in found.jobs] == ["good", "after"]


def test_what_is_not_of_our_types_within_an_item_is_left_out() -> None:
    """A code may steer no terminal, and a time must be in the calendar."""
    odd = {"kind": 3, "code": "\x07bell", "last_run": "9999-12-31T23:59:59Z", "last_success": 7}
    (job,) = _read(jobs=[{**_GOOD, **odd}], left_out=-4, machine={"a": 1}).jobs
    assert (job.kind, job.code, job.last_run, job.last_success) == ("", "", None, None)


def test_of_what_another_machine_tells_no_more_than_we_would_tell_is_taken() -> None:
    """A hundred jobs, and a number of those left out that is one."""
    assert len(_read(jobs=[{**_GOOD, "job": f"job-{number}"} for number in range(150)]).jobs) == 100
    odd = (True, "3", None, 1.5, -1, 10**9)
    assert [_read(left_out=number).left_out for number in (*odd, 12)] == [0] * len(odd) + [12]


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2},
        {"now": "9999-12-31T23:59:59Z"},
        {"now": "yesterday"},
        {"now": 5},
        {"jobs": {"a": 1}},
    ],
)
def test_what_is_no_public_status_is_refused(changes: dict[str, Any]) -> None:
    """By a ValueError, and by nothing else."""
    with pytest.raises(ValueError, match="it"):
        _read(**changes)
    with pytest.raises(ValueError, match="it"):
        PublicStatus.from_json(["status"])


@_ROOT
def test_the_group_of_the_owner_of_the_database_may_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account that serves the database; it lies in the folder for what is public, if any."""
    file = tmp_path / "gym.db"
    file.touch()
    os.chown(file, 65534, 65534)
    settings = config.load(write_config(tmp_path, {"nightly": _job(tmp_path)}))
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    assert published.place(settings) == settings.status_file.with_name("status.public.json")
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path / 'run'}:/run/other")
    (tmp_path / "run").mkdir()
    victim = tmp_path / "victim"
    victim.write_text("mine")
    place = published.place(settings)
    place.symlink_to(victim)

    again = published.write(settings, _overview({"nightly": _judged(Health.OK)}))

    assert again is not None
    assert timedelta() < again - _AT <= timedelta(hours=1)
    facts = place.lstat()
    assert (stat.S_IFMT(facts.st_mode), stat.S_IMODE(facts.st_mode)) == (stat.S_IFREG, 0o640)
    assert (facts.st_uid, facts.st_gid) == (os.geteuid(), 65534)
    assert victim.read_text() == "mine"
    assert place.parent == tmp_path / "run"


@_ROOT
@pytest.mark.parametrize(
    ("owner", "group", "expected"), [(65534, 12345, 65534), (12999, 12345, 12345)]
)
@pytest.mark.parametrize("what", ["gym.db", "."])
def test_the_group_is_that_of_the_account_and_of_the_file_only_if_there_is_none(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    owner: int,
    group: int,
    expected: int,
) -> None:
    """A database that is gone is served by the owner of its folder."""
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    if what != ".":
        (tmp_path / what).touch()
    settings = config.load(write_config(tmp_path, {"nightly": _job(tmp_path)}))
    os.chown(tmp_path / what, owner, group)
    published.write(settings, _overview({"nightly": _judged(Health.OK)}))
    assert published.place(settings).stat().st_gid == expected


def test_the_machine_is_as_its_worst_part_unless_a_job_has_that_name() -> None:
    """A name counts once, and a job is what people look for."""
    healths = (Health.OK, Health.FAILING, Health.LATE)
    machine = {health.name: Finding(health, _TOLD, _TOLD, health.name) for health in healths}
    (told,) = published.of(_overview({}, machine)).jobs
    assert (told.job, told.health, told.code) == ("machine", "failing", "FAILING")
    (told,) = published.of(_overview({"machine": _judged(Health.OK)}, machine)).jobs
    assert (told.kind, told.health) == ("backup", "ok")


def test_where_no_database_is_backed_up_nothing_is_published(tmp_path: Path) -> None:
    """Nobody pulls from there."""
    pull = {"kind": "pull", "every": "1d", "host": "pi", "remote_database": "/gym.db"}
    jobs = {"pull": {**pull, "replica": str(tmp_path / "replica.db")}}
    settings = config.load(write_config(tmp_path, jobs))
    assert published.write(settings, _overview({"pull": _judged(Health.OK)})) is None
    assert not published.place(settings).exists()


def _job(folder: Path) -> dict[str, Any]:
    return {"kind": "backup", "every": "1h", "database": str(folder / "gym.db"), "archive": "a"}
