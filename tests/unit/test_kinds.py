"""A kind of job is a folder, a class and a line in a table: whatever runs jobs needs no more."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gymdbd.config.kinds import KINDS, JobConfig
from gymdbd.jobs import kinds
from gymdbd.runs.outcome import Ended, Outcome
from tests.support.command import environment

if TYPE_CHECKING:
    from pathlib import Path

_KIND = """
from dataclasses import dataclass
from gymdbd.jobs.result import Result

@dataclass(frozen=True, kw_only=True)
class EchoResult(Result):
    said: str

def run(job, context):
    return EchoResult(said=job.words)
"""
_OUTLOOK = """
from gymdbd.jobs.finding import OK, Check, Finding, Health

def look(job, now, zone, *, was_good):
    if not was_good:
        yield Finding(Health.LATE, f"{job.words} is not said")

def examine(job, now):
    return [Check(f"{job.name} words", OK, job.words)]
"""
_USE = """
import json, sys
from dataclasses import dataclass
from pathlib import Path
import gymdbd.jobs
from gymdbd.clock import Clock
from gymdbd.config import config, kinds
from gymdbd.config.document import key
from gymdbd.config.scalars import TEXT
from gymdbd.runs import examine, health
from gymdbd.runs.runner import Run
from gymdbd.runs.status import StatusFile

@dataclass(frozen=True, kw_only=True)
class EchoConfig(kinds.JobConfig):
    words: str = key(TEXT)

kinds.KINDS["echo"] = EchoConfig
gymdbd.jobs.__path__.append(sys.argv[1])
settings = config.load(Path(sys.argv[2]))
job, file, now = settings.jobs["loud"], StatusFile(settings.status_file), Clock()

def judged():
    found, daemon = health.read(settings)
    entry = found.of("loud")
    return health.judge(job, entry, health.begin(job, entry, file, now), daemon, now).found

before = judged().reason
ended = Run(job=job, reason="by hand", status=file).execute()
told = {
    "before": before,
    "ended": ended.to_json(),
    "noted": file.read().of("loud").to_json(),
    "health": judged().health.name,
    "checks": [check.message for check in examine.examine(settings, now)],
}
print(json.dumps(told))
"""


def test_a_new_kind_of_job_needs_nothing_else(tmp_path: Path) -> None:
    """It is configured, runs, is recorded, judged and checked."""
    (tmp_path / "jobs/echo").mkdir(parents=True)
    (tmp_path / "jobs/echo/echo.py").write_text(_KIND)
    (tmp_path / "jobs/echo/outlook.py").write_text(_OUTLOOK)
    config = tmp_path / "config.yaml"
    job = {"kind": "echo", "every": "1h", "words": "회원"}
    config.write_text(json.dumps({"status_file": "status.json", "jobs": {"loud": job}}))
    arguments = [str(tmp_path / "jobs"), str(config)]
    done = subprocess.run(
        [sys.executable, "-c", _USE, *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["before"] == "회원 is not said"
    assert (told["ended"]["state"], told["ended"]["result"]) == ("ok", {"said": "회원"})
    assert (told["noted"]["kind"], told["noted"]["result"]) == ("echo", {"said": "회원"})
    assert (told["health"], "회원" in told["checks"]) == ("OK", True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_the_functions_that_are_called_by_its_name(kind: str) -> None:
    """Work, unless it never runs, and two ways to look at it."""
    job = JobConfig(name="any", kind=kind)
    outlook = kinds.outlook(job)
    assert kind == "watch" or list(inspect.signature(kinds.work(job)).parameters)[:2] == [
        "job",
        "context",
    ]
    assert list(inspect.signature(outlook.look).parameters) == ["job", "now", "zone", "was_good"]
    assert list(inspect.signature(outlook.examine).parameters) == ["job", "now"]


_OUTCOMES = [
    Outcome(),
    Outcome(state="unreachable", error="it is off", hint="", code="no-route", exit_code=1),
    Outcome(state="busy", error="it runs", hint="wait", code="busy", exit_code=3),
]


@pytest.mark.parametrize("outcome", _OUTCOMES, ids=lambda outcome: str(outcome.state))
def test_a_run_is_read_back_from_json_as_it_was(outcome: Outcome) -> None:
    """Whatever the outcome; so the daemon has what the child had."""
    ended = Ended(
        run_id="1",
        reason="scheduled",
        due=None,
        started_at="2026-11-23T03:00:00Z",
        ended_at="2026-11-23T03:00:09Z",
        duration_s=9.0,
        outcome=outcome,
    )
    assert Ended.from_json(json.loads(json.dumps(ended.to_json()))) == ended


@pytest.mark.parametrize("value", [None, 3, [], {"a": 1}, True])
def test_what_is_not_of_our_types_counts_as_missing(value: object) -> None:
    """A status file that was edited by hand, or written by a release that is yet to come."""
    names = ("state", "error", "hint", "code", "result", "duration_s", "started_at", "later")
    ended = Ended.from_json(dict.fromkeys(names, value))
    assert (ended.outcome.state, ended.outcome.error, ended.started_at) == ("failed", None, "")
    json.dumps(ended.to_json())
