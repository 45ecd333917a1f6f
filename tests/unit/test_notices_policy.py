"""What is told, to whom and when: by examples, and in any course of events by properties."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gymdbd.config.hours import Hours
from gymdbd.jobs.finding import Finding, Health
from gymdbd.notices import policy
from gymdbd.notices.memory import Failure, Memory, Moment
from gymdbd.notices.message import ENDED, REMINDER, TROUBLE, Event
from gymdbd.notices.policy import DAEMON, JOB, MACHINE, PEER, Look, Rules, Seen
from tests.support.samples import count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gymdbd.notices.memory import Subject

_START = datetime(2026, 12, 1, 12, tzinfo=UTC)
_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_LOOKS = timedelta(minutes=5)
_RULES = Rules(after=10 * _MINUTE, remind_every=_DAY, quiet=None, zone=UTC)
_NIGHT = Hours(time(22), time(7))
_NIGHTLY: Subject = (JOB, "nightly")
_OTHER: Subject = (JOB, "other")

_OK = Finding(Health.OK)
_FAILED = Finding(Health.FAILING, "it broke", "mend it", "failed")
_LATE = Finding(Health.LATE, "too old", "", "too-old")
_SUSPICIOUS = Finding(Health.FAILING, "less", "", "suspicious")
_UNKNOWN = Finding(Health.UNKNOWN, "who knows", "", "not-answering")
_NEW = Finding(Health.UNKNOWN, "it has not run yet", "", "not-run-yet")


@dataclass
class World:
    """A machine whose daemon has looks taken; `real` is the time that no clock shows.

    After each look the memory is written and read, as by a restart.
    """

    rules: Rules = _RULES
    channels: list[str] = field(default_factory=lambda: ["owner"])
    real: datetime = _START
    is_off_by: timedelta = timedelta()
    seen: dict[Subject, Finding] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)
    started: datetime | None = _START
    down: datetime | None = None
    boot: str = "first"
    memory: Memory = field(default_factory=Memory)
    told: list[tuple[datetime, str, list[Event]]] = field(default_factory=list)
    next: datetime | None = None

    def look(self) -> list[Event]:
        """Take a look; return what the first channel is told."""
        now = self.real + self.is_off_by
        look = Look(
            moment=Moment(now, self.boot, (self.real - _START).total_seconds()),
            seen={subject: Seen(finding) for subject, finding in self.seen.items()},
            subjects=set(self.seen),
            started=self.started,
            down=self.down,
        )
        self.memory = policy.observe(self.memory, look, self.rules, self.channels)
        found = {}
        for channel in self.channels:
            found[channel] = events = policy.due(self.memory, channel, look, self.rules)
            if events and channel not in self.away:
                self.memory = policy.told(self.memory, channel, events, now)
                self.told.append((self.real, channel, events))
        reached = set(self.channels) - self.away
        wish = policy.next_look(self.memory, reached, look, self.rules)
        self.next = max(wish - self.is_off_by, self.real) if wish else None
        self.memory = Memory.from_json(json.loads(json.dumps(self.memory.to_json())))
        return found[self.channels[0]] if self.channels[0] not in self.away else []

    def live(self, time: timedelta) -> None:
        """Let time pass, with a look when one is needed, and every five minutes."""
        until = self.real + time
        while self.real < until:
            steps = [self.real + _LOOKS, until, *([self.next] if self.next else [])]
            self.real = max(min(steps), self.real + timedelta(seconds=1))
            self.look()

    def become(self, finding: Finding, subject: Subject = _NIGHTLY) -> None:
        """Let something be found from now on."""
        self.seen[subject] = finding
        self.look()

    def changes(self, channel: str = "owner", subject: Subject = _NIGHTLY) -> list[tuple[str, str]]:
        """Return all that a channel was told of a subject: what, and the state."""
        return [
            (event.change, event.state)
            for _, to, events in self.told
            for event in events
            if to == channel and (event.about, event.name) == subject
        ]


def _world(**changes: object) -> World:
    world = World(rules=replace(_RULES, **changes))  # type: ignore[arg-type]
    world.become(_OK)
    return world


def test_trouble_is_told_after_a_while_and_its_end_once() -> None:
    """With the time at which it began and ended, the error's own line and its hint."""
    world = _world()
    world.become(_FAILED)
    began = world.real
    world.live(9 * _MINUTE)
    assert world.told == []
    world.live(_MINUTE)
    ((at, channel, (event,)),) = world.told
    assert (at, channel) == (began + 10 * _MINUTE, "owner")
    assert (event.change, event.state, event.since) == (TROUBLE, "failing", began)
    assert (event.code, event.reason, event.hint) == ("failed", "it broke", "mend it")
    world.live(2 * _HOUR)
    world.become(_OK)
    world.live(2 * _DAY)
    assert world.changes() == [(TROUBLE, "failing"), (ENDED, "ok")]
    ended = world.told[-1][2][0]
    assert (ended.was, ended.since, ended.until) == ("failing", began, began + 130 * _MINUTE)
    assert (ended.state, ended.health) == ("ok", Health.OK)
    assert world.memory.troubles == {}


def test_trouble_that_ends_soon_is_not_told_and_neither_is_its_end() -> None:
    """A pull that fails once is no message."""
    world = _world()
    world.become(_FAILED)
    world.live(9 * _MINUTE)
    world.become(_OK)
    world.live(_DAY)
    assert world.told == []


def test_trouble_that_lasts_is_told_again_each_day() -> None:
    """At the same time of day, and no sooner."""
    world = _world()
    world.become(_FAILED)
    world.live(3 * _DAY)
    assert world.changes() == [(TROUBLE, "failing"), *[(REMINDER, "failing")] * 2]
    times = [at for at, _, _ in world.told]
    assert times == [_START + 10 * _MINUTE + n * _DAY for n in range(3)]


@pytest.mark.parametrize("then", [_LATE, _UNKNOWN, _SUSPICIOUS])
def test_a_change_of_trouble_is_told_with_what_it_was(then: Finding) -> None:
    """If it lasts; what goes to and fro is not."""
    world = _world()
    world.become(_FAILED)
    world.live(_HOUR)
    for _ in range(5):
        world.become(then)
        world.live(5 * _MINUTE)
        world.become(_FAILED)
        world.live(5 * _MINUTE)
    assert world.changes() == [(TROUBLE, "failing")]
    world.become(then)
    world.live(_HOUR)
    event = world.told[-1][2][0]
    assert (event.change, event.was, event.since) == (TROUBLE, "failing", _START)
    assert len(world.told) == 2


def test_trouble_that_changes_all_the_time_is_told_all_the_same() -> None:
    """It is trouble from its beginning, whatever it is called."""
    world = _world()
    for finding in [_LATE, _FAILED] * 4:
        world.become(finding)
        world.live(3 * _MINUTE)
    assert len(world.told) == 1


def test_a_job_that_has_not_run_yet_is_no_trouble() -> None:
    """On the first day of a configuration nothing is told."""
    world = _world()
    world.become(_NEW)
    world.live(3 * _DAY)
    assert world.told == []
    world.become(_FAILED)
    world.live(_HOUR)
    world.become(_NEW)
    world.live(_HOUR)
    world.become(_OK)
    world.live(_HOUR)
    assert world.changes()[-1] == (ENDED, "ok")


def test_what_happens_within_a_minute_is_in_one_message() -> None:
    """Troubles and ends, of jobs, other machines and this one."""
    world = _world()
    subjects = [_NIGHTLY, _OTHER, (PEER, "pi/nightly"), (MACHINE, "/")]
    for finding in (_FAILED, _OK):
        for subject in subjects:
            world.become(finding, subject)
            world.live(timedelta(seconds=19))
        world.live(_HOUR)
    assert [len(events) for _, _, events in world.told] == [4, 4]


def test_in_quiet_hours_only_failing_is_told_and_the_rest_when_they_end() -> None:
    """Also what was over by then."""
    world = _world(quiet=_NIGHT)
    world.real = datetime(2026, 12, 1, 23, tzinfo=UTC)
    world.become(_LATE, _OTHER)
    world.become(_LATE, (MACHINE, "/"))
    world.become(_FAILED)
    world.live(_HOUR)
    world.become(_OK)
    world.become(_OK, (MACHINE, "/"))
    world.live(_DAY)
    night, morning = world.told
    assert night[0] == datetime(2026, 12, 1, 23, 10, tzinfo=UTC)
    assert [event.name for event in night[2]] == ["nightly"]
    assert morning[0] == datetime(2026, 12, 2, 7, tzinfo=UTC)
    told = {event.name: (event.change, event.was) for event in morning[2]}
    assert told == {
        "nightly": (ENDED, "failing"),
        "other": (TROUBLE, "ok"),
        "/": (ENDED, "late"),
    }


def test_what_comes_and_goes_in_quiet_hours_repeats_nothing() -> None:
    """It was told that the job fails: until the morning it does, as far as anybody knows."""
    world = _world(quiet=_NIGHT)
    world.real = datetime(2026, 12, 1, 23, tzinfo=UTC)
    for _ in range(3):
        world.become(_FAILED)
        world.live(_HOUR)
        world.become(_OK)
        world.live(_HOUR)
    world.live(_DAY)
    assert world.changes() == [(TROUBLE, "failing"), (ENDED, "ok")]
    assert world.told[-1][2][0].since == world.told[0][2][0].since


@pytest.mark.parametrize(
    ("day", "hours"),
    [
        (datetime(2027, 3, 27, tzinfo=UTC), 8.0),
        (datetime(2026, 10, 24, tzinfo=UTC), 10.0),
        (_START, 9.0),
    ],
)
def test_quiet_hours_are_those_of_the_clock_on_the_wall(day: datetime, hours: float) -> None:
    """In the night in which clocks change, they are an hour shorter or longer."""
    zone = ZoneInfo("Europe/Berlin")
    world = _world(quiet=_NIGHT, zone=zone)
    begin = day.replace(hour=22, tzinfo=zone).astimezone(UTC)
    world.real = begin + _MINUTE
    world.become(_LATE)
    world.live(_DAY)
    assert world.told[0][0] - begin == timedelta(hours=hours)


def test_a_channel_that_cannot_be_reached_is_told_later_what_holds_then() -> None:
    """The other one is told in time; what is over by then is told as over, once."""
    world = _world()
    world.channels = ["owner", "office"]
    world.away = {"office"}
    world.become(_FAILED)
    world.become(_FAILED, _OTHER)
    world.live(_HOUR)
    world.become(_OK, _OTHER)
    world.live(_HOUR)
    assert world.changes("owner", _OTHER) == [(TROUBLE, "failing"), (ENDED, "ok")]
    world.away = set()
    world.live(_HOUR)
    assert world.changes("office") == [(TROUBLE, "failing")]
    assert world.changes("office", _OTHER) == [(ENDED, "ok")]
    assert world.changes("owner") == [(TROUBLE, "failing")]


def test_a_new_channel_is_told_of_present_trouble() -> None:
    """Whoever was told before is not told again."""
    world = _world()
    world.become(_FAILED)
    world.live(_HOUR)
    world.channels = ["owner", "office"]
    world.live(_HOUR)
    assert (world.changes(), world.changes("office")) == ([(TROUBLE, "failing")],) * 2


def test_a_channel_that_was_removed_is_forgotten() -> None:
    """It is told nothing more, and nothing is kept for it."""
    world = _world()
    world.channels = ["owner", "office"]
    world.become(_FAILED)
    world.live(_HOUR)
    world.channels, world.away = ["owner"], {"office"}
    world.become(_OK)
    world.live(_HOUR)
    assert (world.changes("office"), world.memory.troubles) == ([(TROUBLE, "failing")], {})


def test_trouble_is_as_old_as_its_first_failed_run() -> None:
    """If that was seen late; one that ended in the future began now."""
    rules, channels = _RULES, ["owner"]
    for ended, expected in ((-_HOUR, [TROUBLE]), (_HOUR, [])):
        look = Look(Moment(_START), {_NIGHTLY: Seen(_FAILED, _START + ended)}, {_NIGHTLY})
        memory = policy.observe(Memory(), look, rules, channels)
        assert memory.troubles[_NIGHTLY].since == _START + min(ended, timedelta())
        changes = [event.change for event in policy.due(memory, "owner", look, rules)]
        assert changes == expected


def test_a_job_that_was_removed_is_forgotten() -> None:
    """Nobody is told that it ended, because it did not."""
    world = _world()
    world.become(_FAILED)
    world.live(_HOUR)
    del world.seen[_NIGHTLY]
    world.live(_DAY)
    assert (len(world.told), world.memory.troubles) == (1, {})


def test_what_cannot_be_seen_for_a_while_stays_as_it_was() -> None:
    """The other machine is asleep: neither has its trouble ended nor is anybody reminded."""
    world, there = _world(), (PEER, "pi/nightly")
    world.become(_FAILED, there)
    world.live(_HOUR)
    del world.seen[there]
    world.live(3 * _DAY)
    assert world.changes(subject=there) == [(TROUBLE, "failing")]
    world.become(_OK, there)
    world.live(_HOUR)
    assert world.changes(subject=there) == [(TROUBLE, "failing"), (ENDED, "ok")]


def test_a_machine_that_slept_has_time_to_make_up_what_it_missed() -> None:
    """A laptop that is opened does not tell of the pull that failed when it was closed."""
    world = _world()
    world.become(_LATE)
    world.live(_MINUTE)
    world.real += 8 * _HOUR
    world.look()
    world.live(_MINUTE)
    world.become(_OK)
    world.live(_DAY)
    assert world.told == []


def test_what_was_made_up_before_the_first_look_after_a_sleep_was_nothing() -> None:
    """Nobody could have been told of it while it lasted."""
    world = _world()
    world.become(_LATE)
    world.live(_MINUTE)
    world.real += 8 * _HOUR
    world.become(_OK)
    world.live(_DAY)
    assert world.told == []


@pytest.mark.parametrize(("minutes", "count"), [(14, 1), (16, 0)])
def test_a_look_that_is_late_is_not_taken_for_a_sleep(minutes: int, count: int) -> None:
    """A machine that is busy would else put off what is to be told again and again."""
    world = _world()
    world.become(_LATE)
    world.real += minutes * _MINUTE
    world.look()
    assert len(world.told) == count


def test_a_machine_that_was_off_reminds_when_it_is_back() -> None:
    """Its clock shows how long it was off, and is believed."""
    world = _world()
    world.become(_FAILED)
    world.live(_HOUR)
    world.real += 2 * _DAY
    world.boot = "second"
    world.live(_HOUR)
    assert world.changes() == [(TROUBLE, "failing"), (REMINDER, "failing")]


def test_what_is_told_at_once_is_told_at_once_when_it_is_over() -> None:
    """Whoever sets `after` to a second does not want to wait a minute for company."""
    second = timedelta(seconds=1)
    world = _world(after=second)
    for finding in (_FAILED, _OK):
        world.become(finding)
        world.live(second)
    assert world.changes() == [(TROUBLE, "failing"), (ENDED, "ok")]


@pytest.mark.parametrize(("minutes", "count"), [(5, 0), (7, 1)])
def test_a_daemon_that_is_restarted_was_not_down(minutes: int, count: int) -> None:
    """Its last sign of life is as old as its last look."""
    world = _world(after=timedelta())
    world.live(_HOUR)
    world.started, world.down = world.real, world.real - minutes * _MINUTE
    world.live(_HOUR)
    assert len(world.told) == count


def test_a_channel_that_was_away_is_told_after_the_quiet_hours_that_began_since() -> None:
    """What is told late must not wake anybody either."""
    world = _world(quiet=_NIGHT)
    world.real = datetime(2026, 12, 1, 21, tzinfo=UTC)
    world.look()
    world.become(_LATE)
    world.away = {"owner"}
    world.live(2 * _HOUR)
    world.away = set()
    world.live(_DAY)
    assert [at for at, _, _ in world.told] == [datetime(2026, 12, 2, 7, tzinfo=UTC)]


def test_a_machine_that_is_no_longer_there_is_forgotten_after_a_month() -> None:
    """Until then it may be away: its trouble is the same one if it comes back."""
    world = _world()
    world.become(_LATE, (PEER, "pi/nightly"))
    del world.seen[(PEER, "pi/nightly")]
    kept = []
    for days in (29, 2):
        world.real += days * _DAY
        world.look()
        kept.append(len(world.memory.troubles))
    assert kept == [1, 0]


def test_all_instants_follow_a_clock_that_is_set() -> None:
    """And what failed to be sent to a channel that is no more is forgotten."""
    failures = {name: Failure(_START, "away", "") for name in ("owner", "former")}
    memory = Memory(seen=Moment(_START, "first"), alive=_START, resumed=_START, failures=failures)
    then = _START - 3 * _DAY
    look = Look(moment=Moment(then + _HOUR, "first", 3600), seen={}, subjects=())
    found = policy.observe(memory, look, _RULES, ["owner"])
    assert (found.alive, found.resumed) == (then, then)
    assert found.failures == {"owner": Failure(then, "away", "")}


def test_that_the_daemon_was_down_is_told_once_after_its_start() -> None:
    """With the time; a short absence is not told."""
    world = _world()
    world.live(_HOUR)
    stopped = world.real
    world.real += 3 * _MINUTE
    world.started, world.down = world.real, stopped
    world.live(_HOUR)
    assert world.told == []
    stopped = world.real
    world.real += 3 * _HOUR
    world.started, world.down, world.boot = world.real, stopped, "second"
    world.live(_DAY)
    ((_, _, (event,)),) = world.told
    assert (event.about, event.change, event.code) == (DAEMON, ENDED, policy.DOWN)
    assert (event.since, event.until) == (stopped, stopped + 3 * _HOUR)


@pytest.mark.parametrize("by", [-3650 * _DAY, -_DAY, -_HOUR, _HOUR, _DAY, 3650 * _DAY])
def test_setting_the_clock_neither_repeats_nor_delays(by: timedelta) -> None:
    """By an hour or ten years, before and after the trouble was told."""
    world = _world()
    world.become(_FAILED)
    world.live(5 * _MINUTE)
    world.is_off_by += by
    world.live(6 * _MINUTE)
    assert len(world.told) == 1
    world.is_off_by -= by
    world.live(23 * _HOUR)
    assert len(world.told) == 1
    world.is_off_by += by
    world.live(2 * _HOUR)
    assert world.changes() == [(TROUBLE, "failing"), (REMINDER, "failing")]


def test_a_machine_that_starts_with_an_old_clock_goes_on_where_it_was() -> None:
    """A Pi has no clock of its own; the network sets it a minute after the start."""
    world = _world()
    world.become(_FAILED)
    world.live(_HOUR)
    world.boot, world.is_off_by = "second", -20 * 365 * _DAY
    world.live(_MINUTE)
    world.is_off_by = timedelta()
    world.live(_HOUR)
    world.become(_OK)
    world.live(_HOUR)
    assert world.changes() == [(TROUBLE, "failing"), (ENDED, "ok")]
    ended = world.told[-1][2][0]
    assert abs(ended.since - _START) <= _MINUTE


_STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.2, 1, 4, 9, 11, 30, 100, 700]),
        st.sampled_from([_OK, _OK, _FAILED, _LATE, _SUSPICIOUS, _UNKNOWN, _NEW]),
        st.sampled_from([_NIGHTLY, _NIGHTLY, _OTHER]),
        st.sampled_from([0, 0, 0, -7, 7, -100000, 100000]),
        st.sampled_from([(), (), (), ("owner",), ("office",), ("owner", "office")]),
    ),
    max_size=30,
)


def _course(steps: list[tuple[float, Finding, Subject, int, tuple[str, ...]]]) -> World:
    """Let things happen: each step waits, finds something, sets the clock, loses channels."""
    world = World(channels=["owner", "office"], rules=replace(_RULES, remind_every=6 * _HOUR))
    world.seen = {_NIGHTLY: _OK, _OTHER: _OK}
    for minutes, finding, subject, hours, away in steps:
        world.away = set(away)
        world.is_off_by += timedelta(hours=hours)
        world.become(finding, subject)
        world.live(timedelta(minutes=minutes))
    return world


def _told(world: World) -> Iterator[list[tuple[datetime, Event]]]:
    """Yield what each channel was told of each subject."""
    for channel in world.channels:
        for subject in (_NIGHTLY, _OTHER):
            yield [
                (at, event)
                for at, to, events in world.told
                for event in events
                if to == channel and (event.about, event.name) == subject
            ]


@settings(max_examples=count(25, of=300), deadline=None)
@given(_STEPS)
def test_the_same_is_never_told_twice_without_the_time_of_a_reminder_between(
    steps: list[tuple[float, Finding, Subject, int, tuple[str, ...]]],
) -> None:
    """In any course of events, on two channels, and however the clock is set."""
    for told in _told(_course(steps)):
        for (before, event), (at, following) in itertools.pairwise(told):
            if following.state == event.state != "ok":
                assert at - before >= 6 * _HOUR - timedelta(seconds=1)


@settings(max_examples=count(25, of=300), deadline=None)
@given(_STEPS)
def test_every_trouble_that_was_told_gets_exactly_one_end(
    steps: list[tuple[float, Finding, Subject, int, tuple[str, ...]]],
) -> None:
    """At the latest when all has been well for a while, and every channel can be reached."""
    world = _course(steps)
    world.away = set()
    world.become(_OK)
    world.become(_OK, _OTHER)
    world.live(_HOUR)
    for told in _told(world):
        changes = [event.change for _, event in told]
        assert not changes or changes[-1] == ENDED
        for before, following in itertools.pairwise(changes):
            if following == REMINDER:
                assert before != ENDED
    assert world.memory.troubles == {}


@settings(max_examples=count(25, of=300), deadline=None)
@given(_STEPS, st.sampled_from([_FAILED, _SUSPICIOUS]))
def test_a_job_that_fails_is_never_kept_silent(
    steps: list[tuple[float, Finding, Subject, int, tuple[str, ...]]], finding: Finding
) -> None:
    """When `after` and the time to the next look have passed, every channel knows its state."""
    world = _course(steps)
    world.away = set()
    world.become(finding)
    world.live(_RULES.after + _LOOKS)
    for channel in world.channels:
        known = world.memory.troubles[_NIGHTLY].of(channel)
        assert known.state in {"failing", "suspicious"}
        assert world.changes(channel)[-1][1] == known.state
