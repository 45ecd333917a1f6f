"""Which backups stay: the promises that hold for every archive, rule and clock."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from hypothesis import given
from hypothesis import strategies as st

from gymdbd.archive import retention
from gymdbd.archive.backup import Backup
from gymdbd.archive.catalog import Catalog
from gymdbd.archive.manifest import OVERWRITTEN
from gymdbd.clock import Clock
from gymdbd.config.parts import Keep
from gymdbd.jobs import prune
from gymdbd.origin import Origin
from tests.support.archives import CREATED, GYM, add_backup, manifest
from tests.support.jobs import context

if TYPE_CHECKING:
    from gymdbd.archive.retention import Decision

_SEALED = manifest()


class _FixedClock(Clock):
    """A clock that stands still at the day after `CREATED`."""

    def now(self) -> datetime:
        """Return that instant."""
        return CREATED + timedelta(days=1)


def _backup(age: timedelta, again: int, *, verified: bool) -> Backup:
    """Return a backup that is `age` old at `CREATED`."""
    return Backup(
        path=Path(f"gym_backup_{age}-{again}.db"),
        stem="gym",
        created=CREATED - age,
        size=8192,
        manifest=_SEALED if verified else None,
        again=again,
    )


_AGES = st.integers(0, 40 * 24 * 60).map(lambda minutes: timedelta(minutes=minutes))
_BACKUPS = st.lists(
    st.builds(_backup, _AGES, st.integers(1, 4), verified=st.booleans()),
    max_size=25,
    unique_by=lambda one: one.order,
)
_DAYS = st.integers(0, 45)
_COUNT = st.integers(0, 30)


def _plan(backups: list[Backup], days: int, count: int) -> list[Decision]:
    return retention.plan(backups, {"days": days, "count": count}, CREATED, UTC)


def _stay(decisions: list[Decision]) -> list[Backup]:
    return [one.backup for one in decisions if one.stays]


def _verified(backups: list[Backup]) -> list[Backup]:
    return [one for one in backups if one.manifest is not None]


def _newest_first(backups: list[Backup]) -> list[Backup]:
    return sorted(backups, key=lambda one: one.order, reverse=True)


@given(backups=_BACKUPS, days=_DAYS, count=_COUNT)
def test_every_backup_is_decided_once_with_a_reason(
    backups: list[Backup], days: int, count: int
) -> None:
    """The list is newest first, whatever order they came in, and what each reason says is so."""
    decisions = _plan(backups, days, count)
    assert [one.backup for one in decisions] == _newest_first(backups)
    assert [
        one.reason for one in decisions if one.reason not in _true_of(one, backups, days, count)
    ] == []


def _true_of(decision: Decision, backups: list[Backup], days: int, count: int) -> list[str]:
    """Return what may be said of a decision, the reasons to stay or the one to go."""
    backup = decision.backup
    rivals = _verified(backups) if backup in _verified(backups) else backups
    young = CREATED - backup.created < timedelta(days=days)
    among = backup in _newest_first(rivals)[:count]
    if decision.stays:
        newest = backup in _newest_first(_verified(backups))[:1]
        return [
            *(["the newest verified backup always stays"] if newest else []),
            *([f"younger than {days} days"] if young else []),
            *([f"among the newest {count}"] if among else []),
        ]
    old = [f"older than {days} days"] if days and not young else []
    many = [f"not among the newest {count}"] if count and not among else []
    return [" and ".join(old + many)]


@given(backups=_BACKUPS, days=_DAYS, count=_COUNT)
def test_the_newest_verified_backup_always_stays(
    backups: list[Backup], days: int, count: int
) -> None:
    """However old it is, and whatever the rule says."""
    newest = _newest_first(_verified(backups))[:1]
    assert [one for one in newest if one not in _stay(_plan(backups, days, count))] == []


@given(backups=_BACKUPS, days=_DAYS, count=_COUNT)
def test_a_backup_younger_than_the_days_stays(backups: list[Backup], days: int, count: int) -> None:
    """Verified or not."""
    young = [one for one in backups if CREATED - one.created < timedelta(days=days)]
    stay = _stay(_plan(backups, days, count))
    assert [one for one in young if one not in stay] == []


@given(backups=_BACKUPS, days=_DAYS, count=_COUNT)
def test_the_newest_count_stay(backups: list[Backup], days: int, count: int) -> None:
    """The newest of all, and the newest of the verified."""
    stay = _stay(_plan(backups, days, count))
    newest = _newest_first(backups)[:count] + _newest_first(_verified(backups))[:count]
    assert [one for one in newest if one not in stay] == []


@given(backups=_BACKUPS, days=_DAYS, count=_COUNT)
def test_nothing_stays_without_one_of_the_rules(
    backups: list[Backup], days: int, count: int
) -> None:
    """An archive does not grow for ever."""
    ordered, proven = _newest_first(backups), _newest_first(_verified(backups))
    for one in _stay(_plan(backups, days, count)):
        assert (
            one in proven[: max(count, 1)]
            or one in ordered[:count]
            or CREATED - one.created < timedelta(days=days)
        )


@given(backups=_BACKUPS, days=_DAYS, count=_COUNT)
def test_an_unverified_backup_never_pushes_out_a_verified_one(
    backups: list[Backup], days: int, count: int
) -> None:
    """The verified ones stay or go as if the others were not there."""
    alone = _stay(_plan(_verified(backups), days, count))
    assert _verified(_stay(_plan(backups, days, count))) == alone


@given(backups=_BACKUPS, days=_DAYS, count=_COUNT)
def test_pruning_again_removes_nothing_more(backups: list[Backup], days: int, count: int) -> None:
    """What stays, stays as long as neither the rule nor the time is another."""
    stay = _verified(_stay(_plan(backups, days, count)))
    assert _stay(_plan(stay, days, count)) == stay


@given(
    backups=_BACKUPS.filter(bool),
    days=_DAYS,
    count=_COUNT,
    behind=st.integers(3, 30 * 365 * 86400),
)
def test_nothing_is_removed_when_the_clock_is_before_the_newest_backup(
    backups: list[Backup], days: int, count: int, behind: int
) -> None:
    """A Pi that starts without a network believes in the past; the reason says so."""
    now = _newest_first(backups)[0].created - timedelta(seconds=behind)
    decisions = retention.plan(backups, {"days": days, "count": count}, now, UTC)
    assert _stay(decisions) == _newest_first(backups)
    assert {"clock is not to be trusted" in one.reason for one in decisions} == {True}


def test_a_backup_made_in_this_very_moment_does_not_discredit_the_clock() -> None:
    """A second's difference between two readings of the clock is not a jump."""
    backups = [_backup(timedelta(days=age), 1, verified=True) for age in (0, 1, 2)]
    now = CREATED - timedelta(seconds=1)
    decisions = retention.plan(backups, {"count": 1}, now, UTC)
    assert [one.stays for one in decisions] == [True, False, False]


def test_what_is_not_known_of_a_backup_keeps_it() -> None:
    """It may be pinned, or be good: what cannot be read is no reason to remove it."""
    newest, old = (_backup(timedelta(days=age), 1, verified=True) for age in (0, 900))
    unknown = dataclasses.replace(old, marks_fault="its marks cannot be read")
    (_, decision) = _plan([newest, unknown], 7, 1)
    assert (decision.stays, decision.reason) == (True, "its marks cannot be read")


def test_the_reasons_tell_the_rule() -> None:
    """Each says which limit kept a backup, or which ones let it go."""
    backups = [_backup(timedelta(days=age), 1, verified=True) for age in (0, 1, 20, 30)]
    decisions = _plan(backups, 7, 3)
    assert [one.reason for one in decisions] == [
        "the newest verified backup always stays",
        "younger than 7 days",
        "among the newest 3",
        "older than 7 days and not among the newest 3",
    ]


def _archive(folder: Path) -> Catalog:
    """Make an archive: a verified backup of the first day, then two that are not verified."""
    for day, verified in ((1, True), (2, False), (3, False)):
        add_backup(
            folder / f"gym_backup_2026110{day}_030000.db",
            verified=verified,
            created_at=f"2026-11-0{day}T03:00:00+00:00",
        )
    return Catalog(folder, CREATED.tzinfo or UTC)


def test_pruning_does_not_remove_the_newest_verified_backup(tmp_path: Path) -> None:
    """It is the oldest file of the archive, and all that is proven to be worth something."""
    catalog = _archive(tmp_path)
    prune.prune(catalog, GYM, Keep(days=1), context(clock=_FixedClock()))
    left = [(one.path.name, one.verdict) for one in catalog.backups()]
    assert left == [("gym_backup_20261101_030000.db", "verified")]


def test_every_removal_is_logged_with_its_reason(tmp_path: Path) -> None:
    """What is gone can be found in the log."""
    run = context(clock=_FixedClock())
    prune.prune(_archive(tmp_path), GYM, Keep(days=1, count=1), run)
    assert run.log.named("backup pruned") == [  # type: ignore[attr-defined] # an EventLog
        {
            "path": str(tmp_path / "gym_backup_20261102_030000.db"),
            "reason": "older than 1 days and not among the newest 1",
        }
    ]


def test_pruning_leaves_the_backups_of_other_databases_alone(tmp_path: Path) -> None:
    """One archive may hold several."""
    catalog = _archive(tmp_path)
    add_backup(tmp_path / "sensors_backup_20200101_030000.db", verified=False)
    prune.prune(catalog, GYM, Keep(count=1), context(clock=_FixedClock()))
    assert len(catalog.backups(Origin("sensors", ()))) == 1


def test_all_backups_stay_while_pruning_is_frozen(tmp_path: Path) -> None:
    """And each decision says why; after the thaw the rule holds again."""
    catalog = _archive(tmp_path)
    run = context(clock=_FixedClock())
    catalog.freeze(GYM, "gym.db is damaged", CREATED)
    decisions = prune.prune(catalog, GYM, Keep(count=1), run)
    reason = f"pruning is frozen: gym.db is damaged (since {CREATED.isoformat()})"
    assert [(one.stays, one.reason) for one in decisions] == [(True, reason)] * 3
    assert len(catalog.backups()) == 3
    catalog.thaw(GYM)
    prune.prune(catalog, GYM, Keep(count=1), run)
    assert len(catalog.backups()) == 2


def test_what_the_last_two_restores_overwrote_stays_for_two_weeks() -> None:
    """No rule takes away what an undo puts back, and what the undo of that does."""
    overwritten = manifest(method=OVERWRITTEN)
    found = [
        dataclasses.replace(_backup(timedelta(days=days), 1, verified=True), manifest=overwritten)
        for days in (1, 2, 3)
    ]
    newest = _backup(timedelta(), 1, verified=True)
    rule = {"count": 1}
    now = retention.plan([newest, *found], rule, CREATED, UTC)
    assert _stay(now) == [newest, *found[:2]]
    assert now[1].reason == "overwritten by a restore less than 14 days ago"
    later = retention.plan([newest, *found], rule, CREATED + timedelta(days=12, hours=1), UTC)
    assert _stay(later) == [newest, found[0]]


class _Costly(Backup):
    """A backup that counts how often it is asked whether it is good, which costs a look at it."""

    asked: ClassVar[list[str]] = []

    @property
    def good(self) -> bool:
        """Return whether it is good, and note the question."""
        self.asked.append(self.path.name)
        return super().good


def test_whether_a_backup_is_good_is_asked_only_while_it_matters() -> None:
    """By age alone the newest good one is enough, as in an archive of thousands that stay."""
    made = [_backup(timedelta(days=age), 1, verified=age > 1) for age in range(20)]
    backups: list[Backup] = [_Costly(**vars(backup)) for backup in made]
    for rule, asked in (({"days": 5}, 3), ({"days": 5, "count": 2}, 20), ({"daily": 2}, 20)):
        _Costly.asked.clear()
        decisions = retention.plan(backups, rule, CREATED, UTC)
        assert len(_Costly.asked) == asked
        plain = retention.plan(made, rule, CREATED, UTC)
        assert [(one.stays, one.reason) for one in decisions] == [
            (one.stays, one.reason) for one in plain
        ]
