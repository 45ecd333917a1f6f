"""The newest backups of the last hours, days, weeks, months and years: which stay, and why."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gymdbd.archive import retention
from gymdbd.archive.backup import Backup
from gymdbd.archive.marks import Marks
from gymdbd.config.parts import Keep
from tests.support import samples
from tests.support.archives import CREATED, manifest

if TYPE_CHECKING:
    from datetime import tzinfo

_SEOUL = ZoneInfo("Asia/Seoul")
_BERLIN = ZoneInfo("Europe/Berlin")
_SEALED = manifest()


def _backup(
    created: datetime, *, verified: bool = True, pinned: bool = False, again: int = 1
) -> Backup:
    return Backup(
        path=Path(f"gym_backup_{created:%Y%m%d_%H%M%S}-{again}.db"),
        stem="gym",
        created=created,
        size=8192,
        manifest=_SEALED if verified else None,
        marks=Marks(kept_at="2026-11-01T00:00:00+00:00" if pinned else None),
        again=again,
    )


_MOMENTS = st.one_of(
    # Dense and sparse, so that every period is met with several backups and with none.
    st.integers(0, 60 * 60).map(lambda minutes: CREATED - timedelta(minutes=minutes)),
    st.integers(0, 3 * 365 * 24).map(lambda hours: CREATED - timedelta(hours=hours)),
)
_BACKUPS = st.lists(
    st.builds(_backup, _MOMENTS, verified=st.booleans(), pinned=st.booleans()),
    max_size=40,
    unique_by=lambda backup: backup.order,
)
_NUMBERS = st.integers(0, 6)
_PERIODS = ("hourly", "daily", "weekly", "monthly", "yearly")
_RULES = st.builds(Keep, days=_NUMBERS, count=_NUMBERS, **dict.fromkeys(_PERIODS, _NUMBERS)).filter(
    lambda rule: not rule.faults()
)
_ZONES = st.sampled_from([UTC, _SEOUL, _BERLIN, ZoneInfo("America/St_Johns")])


def _stay(
    backups: list[Backup], rule: Keep, zone: tzinfo = UTC, now: datetime = CREATED
) -> list[Backup]:
    decisions = retention.plan(backups, vars(rule), now, zone)
    return [decision.backup for decision in decisions if decision.stays]


def _more(rule: Keep, name: str, by: int) -> Keep:
    return Keep(**{**vars(rule), name: getattr(rule, name) + by})


@given(_BACKUPS, _RULES, _ZONES)
def test_the_newest_backup_of_each_of_the_last_days_stays(
    backups: list[Backup], rule: Keep, zone: tzinfo
) -> None:
    """Of the days with verified backups the last so many, each by its newest."""
    newest: dict[object, Backup] = {}
    for backup in sorted(backups, key=lambda backup: backup.order):
        if backup.good:
            newest[backup.created.astimezone(zone).date()] = backup
    days = sorted(newest, reverse=True)[: rule.daily]  # type: ignore[type-var]
    stay = _stay(backups, rule, zone)
    assert [day for day in days if newest[day] not in stay] == []


@given(_BACKUPS, _RULES, st.sampled_from(["days", "count", *_PERIODS]), st.integers(1, 4), _ZONES)
def test_a_rule_with_more_never_removes_more(
    backups: list[Backup], rule: Keep, name: str, by: int, zone: tzinfo
) -> None:
    """Whichever number is raised."""
    more = _stay(backups, _more(rule, name, by), zone)
    assert [backup for backup in _stay(backups, rule, zone) if backup not in more] == []


@given(_BACKUPS, _RULES, _ZONES)
def test_pruning_twice_is_pruning_once(backups: list[Backup], rule: Keep, zone: tzinfo) -> None:
    """What stays, stays, for the same reasons."""
    stay = _stay(backups, rule, zone)
    assert _stay(stay, rule, zone) == stay


@given(_BACKUPS, _RULES, _ZONES)
def test_no_rule_removes_what_must_stay(backups: list[Backup], rule: Keep, zone: tzinfo) -> None:
    """The newest verified backup and the pinned ones, verified or not."""
    stay = _stay(backups, rule, zone)
    good = sorted((b for b in backups if b.good), key=lambda backup: backup.order)
    must = [*good[-1:], *(backup for backup in backups if backup.marks.kept_at)]
    assert [backup for backup in must if backup not in stay] == []


@given(_BACKUPS, _RULES, _ZONES)
def test_unverified_backups_displace_no_verified_one(
    backups: list[Backup], rule: Keep, zone: tzinfo
) -> None:
    """The verified ones stay or go as if the others were not there."""
    good = [backup for backup in backups if backup.good]
    assert [b for b in _stay(backups, rule, zone) if b.good] == _stay(good, rule, zone)


@given(
    st.lists(st.integers(1, 40 * 60), min_size=1, max_size=120),
    st.builds(Keep, count=st.integers(1, 3), **dict.fromkeys(_PERIODS, _NUMBERS)),
    _ZONES,
)
def test_pruning_after_each_backup_leaves_what_pruning_at_the_end_does(
    pauses: list[int], rule: Keep, zone: tzinfo
) -> None:
    """The newest of a period that is over was never removed before."""
    made: list[Backup] = []
    left: list[Backup] = []
    at = datetime(2026, 1, 1, tzinfo=UTC)
    for minutes in pauses:
        at += timedelta(minutes=minutes)
        made.append(_backup(at))
        left = _stay([*left, made[-1]], rule, zone, at)
    assert left == _stay(made, rule, zone, at)


def _reasons(backups: list[Backup], rule: Keep, zone: tzinfo) -> list[str]:
    return [one.reason for one in retention.plan(backups, vars(rule), CREATED, zone)]


def test_the_reasons_name_the_periods_in_local_time() -> None:
    """Each backup says all periods it stands for, and one that goes says which ones it does not."""
    hours = (0, 5, 24, 7 * 24, 60 * 24)
    backups = [_backup(datetime(2026, 11, 20, 18, tzinfo=UTC) - timedelta(hours=h)) for h in hours]
    assert _reasons(backups, Keep(count=2, daily=2, weekly=2, monthly=1), _SEOUL) == [
        (
            "the newest verified backup always stays, "
            "daily 2026-11-21, weekly 2026-W47, monthly 2026-11"
        ),
        "among the newest 2, daily 2026-11-20",
        (
            "not among the newest 2 and "
            "not the newest of the last 2 days or 2 weeks or 1 month with backups"
        ),
        "weekly 2026-W46",
        (
            "not among the newest 2 and "
            "not the newest of the last 2 days or 2 weeks or 1 month with backups"
        ),
    ]


def test_a_week_belongs_to_the_year_of_its_thursday() -> None:
    """The first of January 2027 is in the last week of 2026, and both days are one week."""
    days = (datetime(2027, 1, 1, 12, tzinfo=UTC), datetime(2026, 12, 31, 12, tzinfo=UTC))
    decisions = retention.plan([_backup(day) for day in days], {"weekly": 2}, days[0], UTC)
    assert [one.stays for one in decisions] == [True, False]
    assert "weekly 2026-W53" in decisions[0].reason


def test_of_several_in_an_hour_the_newest_verified_one_stands_for_it() -> None:
    """One that is not verified, and newer, stands for it among all, and in nobody's stead."""
    minutes = {0: True, 10: True, 70: False, 75: True, 140: True}
    backups = [
        _backup(CREATED.replace(minute=50) - timedelta(minutes=minute), verified=verified)
        for minute, verified in minutes.items()
    ]
    decisions = retention.plan(backups, {"hourly": 2}, CREATED.replace(minute=50), UTC)
    assert [one.stays for one in decisions] == [True, False, True, True, False]


def test_the_hour_that_comes_twice_is_one_hour() -> None:
    """As on the clock on the wall: the newest backup of both stands for it."""
    night = datetime(2026, 10, 24, 23, 30, tzinfo=UTC)
    backups = [_backup(night + timedelta(hours=hour)) for hour in range(4)]
    decisions = retention.plan(backups, {"hourly": 9}, night + timedelta(hours=4), _BERLIN)
    assert [one.stays for one in decisions] == [True, True, False, True]


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], list[datetime]]:
    """Return the environment of a repository of restic's, and the times of its snapshots."""
    if not shutil.which("restic"):
        pytest.skip("restic is not installed (apt-get install restic)")
    folder = tmp_path_factory.mktemp("restic")
    environment = {
        **os.environ,
        "RESTIC_REPOSITORY": str(folder / "repository"),
        "RESTIC_PASSWORD": "test",
        "RESTIC_CACHE_DIR": str(folder / "cache"),
        "TZ": "UTC",
    }
    (folder / "file").write_text("content")
    subprocess.run(["restic", "init", "--quiet"], env=environment, check=True)
    steps = [7, 20, 20, 50, 24 * 60, 24 * 60 + 1, 3 * 1440, 7 * 1440, 20 * 1440, 40 * 1440]
    moments, at = [], CREATED
    for step in (steps * 3)[: samples.count(12, of=30)]:
        moments.append(at)
        at -= timedelta(minutes=step)
    for moment in moments:
        when = f"{moment:%Y-%m-%d %H:%M:%S}"
        backup = ["restic", "backup", "--quiet", "--host", "pi", "--time", when, "file"]
        subprocess.run(backup, env=environment, cwd=folder, check=True)
    return environment, moments


@pytest.mark.parametrize(
    "rule",
    [
        Keep(count=2),
        Keep(hourly=4, daily=3),
        Keep(daily=7, weekly=4, monthly=12, yearly=2),
        Keep(count=1, weekly=3, yearly=1),
        Keep(monthly=2),
    ],
    ids=str,
)
def test_restic_keeps_the_same(
    snapshots: tuple[dict[str, str], list[datetime]], rule: Keep
) -> None:
    """The rules of `restic forget` mean the same, so that those who know them need not learn."""
    environment, moments = snapshots
    flags = [
        f"--keep-{'last' if name == 'count' else name}={number}"
        for name, number in vars(rule).items()
        if number
    ]
    done = subprocess.run(
        ["restic", "forget", "--dry-run", "--json", *flags],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    kept = {snapshot["time"] for group in json.loads(done.stdout) for snapshot in group["keep"]}
    ours = {backup.created for backup in _stay([_backup(at) for at in moments], rule)}
    assert ours == {datetime.fromisoformat(text) for text in kept}
