"""What is to be told, to whom and when: a pure function of what is seen, and was seen and told.

`observe` brings the memory up to date, `due` returns what a channel is to be told now, and `told`
notes that it was. So each channel is told what it does not know yet, whenever it can be reached.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, NamedTuple

from gymdbd.jobs.finding import Finding, Health
from gymdbd.notices import quiet
from gymdbd.notices.memory import OK, SUSPICIOUS, Memory, Moment, Subject, Told, Trouble
from gymdbd.notices.message import ENDED, REMINDER, TROUBLE, Event
from gymdbd.runs.verdict import NOT_RUN_YET

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from gymdbd.config.hours import Hours

JOB, PEER, MACHINE, DAEMON = "job", "peer", "machine", "daemon"
_DAEMON: Subject = (DAEMON, "")
DOWN = "daemon-was-down"

# What is new is no trouble, as long as nothing else was told of it.
_NEW = (NOT_RUN_YET, "never-came")
# Everything of one minute is told in one message.
_TOGETHER = timedelta(minutes=1)
# The daemon has a look taken every five minutes. If none was for so long, the machine slept.
GAP = timedelta(minutes=15)
# The last sign of life of a daemon may be as old as its last look.
_SIGNS = timedelta(minutes=6)
# What is no longer seen, and of no job of the configuration, is forgotten after so long.
_FORGOTTEN = timedelta(days=30)
# A clock that is corrected in small steps is not set.
_SET = timedelta(seconds=5)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """When to tell: as the configuration has it, in the zone of the machine."""

    after: timedelta
    remind_every: timedelta
    quiet: Hours | None
    zone: tzinfo

    @property
    def together(self) -> timedelta:
        """Return how far apart what is told in one message may be."""
        return min(self.after, _TOGETHER)


class Seen(NamedTuple):
    """What was found about a subject; if it is trouble, `since` is when that began, if known."""

    finding: Finding
    since: datetime | None = None

    @property
    def state(self) -> str:
        """Return the state: the health, or that it is suspicious."""
        return _state(self.finding.health, self.finding.code)


def _state(health: Health, code: str) -> str:
    return SUSPICIOUS if code == SUSPICIOUS else health.name.lower()


class Look(NamedTuple):
    """One look: all that was seen, at `moment`.

    `subjects` are all that there are, whether they could be seen or not. If the daemon asked for
    the look, `started` is when it was started, and `down` since when it had not run before.
    """

    moment: Moment
    seen: Mapping[Subject, Seen]
    subjects: Collection[Subject]
    started: datetime | None = None
    down: datetime | None = None


def observe(memory: Memory, look: Look, rules: Rules, channels: Collection[str]) -> Memory:
    """Return the memory after a look; what is no longer of interest is forgotten."""
    before = _known_to(channels, _after_setting_the_clock(memory, look.moment))
    memory, now = replace(before, seen=look.moment), look.moment.now
    if look.started is not None:
        has_gap = before.alive is not None and now - before.alive > GAP
        memory = replace(memory, alive=now, resumed=now if has_gap else before.resumed)
    for subject, seen in look.seen.items():
        known = before.troubles.get(subject)
        if seen.state != OK and (seen.finding.code not in _NEW or _is_open(known)):
            memory = memory.but(subject, _in_trouble(known, seen, now))
        elif known is not None:
            memory = memory.but(subject, _ended(known, now, before, rules, channels))
    memory = _down(memory, look, rules, channels)
    kept = {
        subject: trouble
        for subject, trouble in memory.troubles.items()
        if _is_kept(subject, trouble, look)
    }
    return replace(memory, troubles=kept)


def _known_to(channels: Collection[str], memory: Memory) -> Memory:
    """Return the memory of these channels alone."""
    troubles = {}
    for subject, trouble in memory.troubles.items():
        told = {name: of for name, of in trouble.told.items() if name in channels}
        troubles[subject] = replace(trouble, told=told)
    failures = {name: failure for name, failure in memory.failures.items() if name in channels}
    return replace(memory, troubles=troubles, failures=failures)


def _is_open(known: Trouble | None) -> bool:
    return known is not None and any(told.is_open for told in known.told.values())


def _is_kept(subject: Subject, trouble: Trouble, look: Look) -> bool:
    if trouble.state == OK and not _is_open(trouble):
        return False
    if subject in look.subjects:
        return True
    return subject[0] != JOB and look.moment.now - trouble.changed < _FORGOTTEN


def _after_setting_the_clock(memory: Memory, moment: Moment) -> Memory:
    """Return the memory with all instants moved as the clock was, so that nothing gets older.

    If the machine was started since, it is unknown how long it was off: only a clock that shows
    less than before was set.
    """
    if memory.seen is None:
        return memory
    passed = moment.now - memory.seen.now
    if moment.boot == memory.seen.boot and moment.boot:
        jump = passed - timedelta(seconds=moment.up_s - memory.seen.up_s)
    else:
        jump = min(passed, timedelta())
    if abs(jump) < _SET:
        return memory

    def moved(instant: datetime) -> datetime:
        return instant + jump

    return replace(
        memory,
        seen=replace(memory.seen, now=moved(memory.seen.now)),
        alive=moved(memory.alive) if memory.alive else None,
        resumed=moved(memory.resumed) if memory.resumed else None,
        troubles={subject: known.moved(moved) for subject, known in memory.troubles.items()},
        failures={
            name: replace(known, since=moved(known.since))
            for name, known in memory.failures.items()
        },
    )


def _in_trouble(known: Trouble | None, seen: Seen, now: datetime) -> Trouble:
    finding = seen.finding
    state = Trouble(
        state=seen.state,
        changed=now,
        since=min(seen.since or now, now),
        health=finding.health,
        code=finding.code,
        reason=finding.reason,
        hint=finding.hint,
    )
    if known is None:
        return state
    # Trouble that came back before anybody was told of its end is the same one.
    is_same = known.state != OK or all(of.state != OK for of in known.told.values())
    return replace(
        state,
        since=known.since if is_same else state.since,
        changed=known.changed if known.state == state.state else now,
        told=known.told,
    )


def _ended(
    known: Trouble, now: datetime, before: Memory, rules: Rules, channels: Iterable[str]
) -> Trouble:
    """Return trouble that is over; who should have been told of it before is owed the end."""
    if known.state == OK:
        return known
    told = {}
    for channel in channels:
        of = known.of(channel)
        plan = _plan(known, of, before, rules)
        is_owed = before.seen is not None and plan is not None and plan.at <= before.seen.now
        told[channel] = replace(of, owed=is_owed)
    return replace(known, state=OK, changed=now, told=told)


def _down(memory: Memory, look: Look, rules: Rules, channels: Iterable[str]) -> Memory:
    """Note that the daemon was down before it was started: trouble that is over."""
    if look.started is None or look.started == memory.started:
        return memory
    memory = replace(memory, started=look.started)
    if look.down is None or look.started - look.down <= max(rules.after, _SIGNS):
        return memory
    down = Trouble(
        state=OK,
        changed=look.started,
        since=look.down,
        health=Health.LATE,
        code=DOWN,
        reason="",
        hint="",
        told={channel: Told(owed=True) for channel in channels},
    )
    return memory.but(_DAEMON, down)


class _Plan(NamedTuple):
    """What is to be told of a subject: at `at`, or from `early` on with something else."""

    change: str
    early: datetime
    at: datetime


def due(memory: Memory, channel: str, look: Look, rules: Rules) -> list[Event]:
    """Return what a channel is to be told now."""
    now = look.moment.now
    plans = _plans(memory, channel, look, rules)
    if not any(plan.at <= now for plan in plans.values()):
        return []
    return [
        _event(subject, memory.troubles[subject], channel, plan.change)
        for subject, plan in plans.items()
        if plan.early <= now
    ]


def next_look(memory: Memory, channels: Iterable[str], look: Look, rules: Rules) -> datetime | None:
    """Return when something is to be told next, if all stays as it is; None if nothing is."""
    plans = [_plans(memory, channel, look, rules).values() for channel in channels]
    return min((plan.at for found in plans for plan in found), default=None)


def _plans(memory: Memory, channel: str, look: Look, rules: Rules) -> dict[Subject, _Plan]:
    plans = {}
    for subject, trouble in memory.troubles.items():
        can_be_told = trouble.state == OK or subject in look.seen
        plan = _plan(trouble, trouble.of(channel), memory, rules)
        if plan is not None and can_be_told:
            plans[subject] = _not_in_quiet_hours(plan, trouble, look, rules)
    return plans


def _plan(trouble: Trouble, told: Told, memory: Memory, rules: Rules) -> _Plan | None:
    """Return what a channel is to be told of some trouble, and when, if there were no nights."""
    if trouble.state == OK:
        ended = trouble.changed
        return _Plan(ENDED, ended, ended + rules.together) if told.is_open else None
    if told.state == trouble.state and told.at is not None:
        change, at = REMINDER, told.at + rules.remind_every
    else:
        change, at = TROUBLE, (trouble.since if told.state == OK else trouble.changed) + rules.after
    if memory.resumed is not None:
        # After a sleep, a run that was missed is made up first.
        at = max(at, memory.resumed + rules.after)
    return _Plan(change, at - rules.together if change == TROUBLE else at, at)


def _not_in_quiet_hours(plan: _Plan, trouble: Trouble, look: Look, rules: Rules) -> _Plan:
    """Return the plan, after the end of the quiet hours if it would be in them."""
    is_loud = trouble.state != OK and trouble.health == Health.FAILING
    at = max(plan.at, look.moment.now)
    if is_loud or rules.quiet is None or not quiet.is_quiet(rules.quiet, at, rules.zone):
        return plan
    end = quiet.end(rules.quiet, at, rules.zone)
    return _Plan(plan.change, end, end)


def _event(subject: Subject, trouble: Trouble, channel: str, change: str) -> Event:
    is_over = change == ENDED
    return Event(
        change=change,
        about=subject[0],
        name=subject[1],
        was=_state(trouble.health, trouble.code) if is_over else trouble.of(channel).state,
        state=trouble.state,
        health=Health.OK if is_over else trouble.health,
        code=trouble.code,
        reason=trouble.reason,
        hint=trouble.hint,
        since=trouble.since,
        until=trouble.changed if is_over else None,
    )


def told(memory: Memory, channel: str, events: Iterable[Event], now: datetime) -> Memory:
    """Return the memory after a channel was told these events."""
    for event in events:
        subject = event.about, event.name
        trouble = memory.troubles[subject]
        known = Told(event.state, now)
        memory = memory.but(subject, replace(trouble, told={**trouble.told, channel: known}))
    return memory
