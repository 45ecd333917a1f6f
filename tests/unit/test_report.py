"""The file of the page: when it is written again, who may read it, and what it never replaces."""

from __future__ import annotations

import json
import os
import re
import stat
from collections import Counter
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.config import config
from gymdbd.errors import ConfigError, FolderMissingError, NotOursError
from gymdbd.jobs.finding import Finding, Health
from gymdbd.notices import report
from gymdbd.notices.page import gather
from gymdbd.runs import ledger, overview
from gymdbd.runs.entry import Entry, Status
from gymdbd.runs.health import Daemon, Judged
from gymdbd.runs.line import Line
from gymdbd.runs.outcome import Recorded
from gymdbd.runs.overview import Overview
from gymdbd.runs.status import StatusFile
from tests.support.clocks import NIGHT, HandClock
from tests.support.jobs import gym_config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gymdbd.config.config import Config

_HOUR, _MINUTE = timedelta(hours=1), timedelta(minutes=1)


def _settings(folder: Path, **keys: str) -> Config:
    """Load one with a page."""
    return config.load(gym_config(folder, report={"file": str(folder / "page.html"), **keys}))


def _seen(settings: Config, after: timedelta = timedelta()) -> Overview:
    return overview.take(settings, HandClock(shows=[NIGHT + after]))


def _written(path: Path) -> tuple[str, int]:
    """Return when a page says that it was written, and its file's number, new at each writing."""
    found = re.search(r'<p class="written">.*?<time datetime="(.*?)">', path.read_text())
    assert found
    return found[1], path.stat().st_ino


def _hold(path: Path) -> None:
    """Keep the number of a file in use, so that the next file does not get it."""
    os.link(path, path.with_name(f"held-{path.stat().st_ino}"))


def test_a_page_is_written_at_once_and_then_every_hour(tmp_path: Path) -> None:
    """As long as nothing gets better or worse, looks within the hour leave it as it is."""
    settings, path = _settings(tmp_path), tmp_path / "page.html"
    assert report.write(settings, _seen(settings)) == NIGHT + _HOUR
    first = _written(path)
    _hold(path)
    for minutes in (1, 59):
        later = _seen(settings, minutes * _MINUTE)
        assert report.write(settings, later) == NIGHT + _HOUR
        assert _written(path) == first
    assert report.write(settings, _seen(settings, _HOUR)) == NIGHT + 2 * _HOUR
    assert _written(path)[0] == "2027-01-10T04:00+00:00"
    assert "later than Sun 10 Jan 2027, 06:00" in path.read_text()


def test_what_gets_worse_is_written_at_once(tmp_path: Path) -> None:
    """The machine's trouble as well as a job's."""
    settings, path = _settings(tmp_path), tmp_path / "page.html"
    report.write(settings, _seen(settings))
    seen = _seen(settings, _MINUTE)
    seen.machine["power"] = Finding(Health.LATE, "the power is weak", "use another", "weak-power")
    assert report.write(settings, seen) == NIGHT + _MINUTE + _HOUR
    assert "the power is weak" in path.read_text()
    (tmp_path / "archive").rmdir()
    report.write(settings, _seen(settings, 2 * _MINUTE))
    assert 'class="card hero failing"' in path.read_text()
    assert "there is no archive at" in path.read_text()


def test_the_newest_backups_of_an_archive_are_shown_once(tmp_path: Path) -> None:
    """Two jobs may use it; of seven backups five are shown, by the times in their names."""
    config_file, archive = gym_config(tmp_path), tmp_path / "archive"
    content = json.loads(config_file.read_text())
    content["jobs"]["proof"] = {"kind": "verify", "every": "1d", "archive": str(archive)}
    settings = config.parse(json.dumps(content), config_file)
    for day in range(1, 8):
        name = f"gym_backup_2026110{day}_030000{'-2' if day == 4 else ''}.db"
        (archive / name).write_bytes(b"x" * day)
    page = gather.page(settings, _seen(settings), "en", until=NIGHT)
    shown = [(found.folder, found.more, found.problem) for found in page.archives]
    assert shown == [(str(archive), 2, "")]
    assert [kept.size for kept in page.archives[0].backups] == [7, 6, 5, 4, 3]
    assert {kept.verdict for kept in page.archives[0].backups} == {"unverified"}


_BETTER_OR_WORSE: dict[str, Callable[[Overview], Any]] = {
    "a job": lambda seen: seen.jobs.update(nightly=_judged(Finding(Health.LATE, code="too-old"))),
    "another reason": lambda seen: seen.jobs.update(nightly=_judged(Finding(Health.OK, code="x"))),
    "another hint": lambda seen: seen.jobs.update(nightly=_judged(Finding(Health.OK, hint="x"))),
    "a success": lambda seen: seen.jobs.update(nightly=_judged(last_success=_at(60))),
    "a question": lambda seen: seen.jobs.update(
        nightly=_judged(result=Recorded({"waiting": "a.db"}))
    ),
    "another machine": lambda seen: seen.peers.update(mac=_judged()),
    "a remark": lambda seen: seen.remarks.update(mac=Finding(Health.UNKNOWN, code="no-status")),
    "the machine": lambda seen: seen.machine.update(power=Finding(Health.LATE, code="power")),
}


def _at(minute: int) -> str:
    return (NIGHT + minute * _MINUTE).isoformat()


def _judged(found: Finding | None = None, **entry: Any) -> Judged:
    return Judged(Entry(**{"state": "ok", "last_success": _at(0), **entry}), found or _WELL)


_WELL = Finding(Health.OK, code="ok")


def _of(change: Callable[[Overview], Any]) -> str:
    daemon = Daemon(alive=True, started=NIGHT, status_file="s")
    seen = Overview(
        at=NIGHT,
        zone=UTC,
        host="pi",
        status=Status(),
        daemon=daemon,
        jobs={"nightly": _judged()},
        machine={"disk /": Finding(Health.OK, "3 GiB free", code="ok")},
    )
    change(seen)
    return report.fingerprint(seen, "en")


@pytest.mark.parametrize("what", _BETTER_OR_WORSE)
def test_what_gets_better_or_worse_is_worth_a_new_page(what: str) -> None:
    """The fingerprint differs at once."""
    assert _of(_BETTER_OR_WORSE[what]) != _of(lambda _: None)


def test_a_reason_that_has_no_code_is_told_from_others_by_its_words() -> None:
    """Otherwise one trouble that follows another is not seen for an hour."""
    troubles = [_judged(Finding(Health.LATE, reason)) for reason in ("too old", "no folder")]
    marks = {_of(lambda seen, now=now: seen.jobs.update(nightly=now)) for now in troubles}  # type: ignore[misc]
    assert len(marks) == 2


def test_another_good_run_in_the_same_hour_is_not_worth_a_new_page() -> None:
    """Nor is a number in a reason: a job of every minute wears out no card."""

    def later(seen: Overview) -> None:
        seen.jobs["nightly"] = _judged(last_success=_at(59), state="unchanged", next_run=_at(61))
        seen.machine["disk /"] = Finding(Health.OK, "2.9 GiB free", code="ok")

    assert _of(later) == _of(lambda _: None)


def test_calendars_are_those_of_the_ledger(tmp_path: Path) -> None:
    """Of this machine's jobs since it is kept, and of others as far as their machines told."""
    config_file = gym_config(tmp_path)
    text = config_file.read_text().replace("0 3 * * *", "0 3 * * 0")
    settings = config.parse(text, config_file)
    runs = {"nightly": [200, 7, 0], "mac/pull": [2]}
    for name, ago in runs.items():
        moments = [(NIGHT - timedelta(days=days)).isoformat() for days in ago]
        lines = [Line(job=name, state="ok", first=at, last=at, size=len(ago)) for at in moments]
        ledger.append(StatusFile(settings.status_file).ledger, lines)
    seen = _seen(settings)
    seen.peers["mac/pull"] = _judged()
    page = gather.page(settings, seen, "en", until=NIGHT)
    counts = [Counter(day.state for day in job.days) for job in (*page.jobs, *page.peers)]
    assert counts == [{"idle": 78, "unknown": 11, "good": 2}, {"unknown": 89, "good": 1, "idle": 1}]
    assert [len(points) for points in page.jobs[0].curves.values()] == [2]


def test_a_ledger_that_cannot_be_read_is_told_and_costs_no_page(tmp_path: Path) -> None:
    """It is a part of the machine of which nothing is known."""
    settings = _settings(tmp_path)
    StatusFile(settings.status_file).ledger.mkdir()
    report.write(settings, _seen(settings))
    text = (tmp_path / "page.html").read_text()
    assert "Record of the runs" in text
    assert "Not everything is known" in text
    assert "ledger.jsonl" in text


def test_a_page_of_the_future_is_written_again(tmp_path: Path) -> None:
    """The clock was set back: otherwise the page would tell a time that has yet to come."""
    settings, path = _settings(tmp_path), tmp_path / "page.html"
    report.write(settings, _seen(settings, 20 * _MINUTE))
    report.write(settings, _seen(settings))
    assert _written(path)[0] == "2027-01-10T03:00+00:00"


def test_a_page_that_nobody_wants_is_not_written(tmp_path: Path) -> None:
    """Without the key there is no page, and no next time."""
    settings = config.load(gym_config(tmp_path))
    assert report.write(settings, _seen(settings)) is None
    assert not (tmp_path / "page.html").exists()


def test_only_its_owner_reads_a_page_unless_its_file_says_otherwise(tmp_path: Path) -> None:
    """A new file is private; the mode of a page that is there stays, as for a web server."""
    settings, path = _settings(tmp_path), tmp_path / "page.html"
    report.write(settings, _seen(settings))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    report.write(settings, _seen(settings, _HOUR))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_an_empty_file_becomes_the_page(tmp_path: Path) -> None:
    """Whoever wants it for a group makes the file first."""
    settings, path = _settings(tmp_path), tmp_path / "page.html"
    path.touch(0o644)
    report.write(settings, _seen(settings))
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert _written(path)


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    """The user wrote the path, so that the page is where its link leads."""
    settings = _settings(tmp_path)
    (tmp_path / "www").mkdir()
    (tmp_path / "page.html").symlink_to(tmp_path / "www" / "index.html")
    report.write(settings, _seen(settings))
    assert (tmp_path / "page.html").is_symlink()
    assert _written(tmp_path / "www" / "index.html")


@pytest.mark.parametrize("what", ["database", "page of others", "folder", "pipe"])
def test_what_is_no_page_of_ours_is_never_replaced(what: str, tmp_path: Path) -> None:
    """A typing error must not cost the database."""
    settings, path = _settings(tmp_path), tmp_path / "page.html"
    if what == "database":
        path.write_bytes((tmp_path / "gym.db").read_bytes())
    elif what == "page of others":
        path.write_text("<!doctype html>\n<html><head><meta charset=utf-8>")
    elif what == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    before = path.lstat()
    with pytest.raises(NotOursError, match="is no page of gymdbd") as caught:
        report.write(settings, _seen(settings))
    assert "another file" in caught.value.hint
    assert "remove" not in caught.value.hint
    assert (path.lstat().st_ino, path.lstat().st_size) == (before.st_ino, before.st_size)


def test_a_page_whose_folder_is_gone_is_an_error_that_names_it(tmp_path: Path) -> None:
    """The folder is not created: it may be a disk that is not mounted."""
    settings = _settings(tmp_path)
    seen, missing = _seen(settings), tmp_path / "www" / "page.html"
    with pytest.raises(FolderMissingError, match="www"):
        report.write_once(settings, seen, missing, "en")


def test_a_page_by_hand_is_valid_until_after_the_next_run(tmp_path: Path) -> None:
    """Whoever writes one after each run of cron does not read every morning that it is stale."""
    settings, path = _settings(tmp_path), tmp_path / "other.html"
    until = report.write_once(settings, _seen(settings, _MINUTE), path, "ko")
    assert until == NIGHT + timedelta(days=1, hours=2)
    assert "2027년 1월 11일 (월) 05:00 이후라면" in path.read_text()


def test_a_configuration_names_a_file_and_a_language_that_there_is(tmp_path: Path) -> None:
    """Another language is a fault, with those that there are."""
    assert _settings(tmp_path, language="ko").report is not None
    with pytest.raises(ConfigError) as caught:
        _settings(tmp_path, language="de")
    assert "report.language: expected one of en, ko (got de)" in caught.value.faults[0]
