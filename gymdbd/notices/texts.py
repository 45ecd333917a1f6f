"""The words of a message, in the language of the configuration.

`english` and `korean` have the same keys. The error's own line is added as it is, in English.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gymdbd.jobs.finding import Health
from gymdbd.notices import english, korean
from gymdbd.notices.message import DEFAULT, ENDED, HIGH, REMINDER, TEST, TROUBLE, Message
from gymdbd.notices.policy import DAEMON, DOWN, JOB, MACHINE, PEER
from gymdbd.runs import verdict
from gymdbd.words import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta, tzinfo

    from gymdbd.notices.message import Event

_REASONS = {"en": english.REASONS, "ko": korean.REASONS}
_WORDS = {"en": english.WORDS, "ko": korean.WORDS}
_UNKNOWN = "failed"
_PARTS = ("disk", "card", "power")
_ORDER = ("failing", "suspicious", "late", "unknown", "ok")
# Receivers cut, or make a file of, what is much longer; the program gets all of it as facts.
_LONG = 2500
_LONG_LINE = 400
_DAYS_FROM_H = 48


@dataclass(frozen=True)
class Tongue:
    """A language, and the machine, moment and time zone of what is said in it."""

    language: str
    machine: str
    now: datetime
    zone: tzinfo

    def word(self, name: str) -> str:
        """Return a word or a pattern."""
        return _WORDS[self.language][name]

    def happened(self, code: str) -> str:
        """Return what a code means happened."""
        return self._reason(code)[0]

    def to_do(self, code: str, job: str, hint: str) -> str:
        """Return what to do about it; `hint` is the error's own, in English."""
        if hint and (self.language == "en" or code not in korean.REASONS):
            return hint
        return self._reason(code)[1].replace("{job}", job)

    def _reason(self, code: str) -> tuple[str, str]:
        reasons = _REASONS[self.language]
        return reasons.get(code, reasons[_UNKNOWN])

    def time(self, moment: datetime) -> str:
        """Return a time as the machine's clock shows it, with its day unless that is today."""
        local = moment.astimezone(self.zone)
        is_today = local.date() == self.now.astimezone(self.zone).date()
        return f"{local:%H:%M}" if is_today else f"{local:%Y-%m-%d %H:%M}"

    def lasted(self, time: timedelta) -> str:
        """Return how long something lasted, in its two largest units."""
        seconds = max(0, int(time.total_seconds()))
        minutes, hours = seconds // 60, seconds // 3600
        if hours >= _DAYS_FROM_H:
            return self.word("days").format(hours // 24, hours % 24)
        if hours:
            return self.word("hours").format(hours, minutes % 60)
        if minutes:
            return self.word("minutes").format(minutes)
        return self.word("seconds").format(seconds)


def message(events: Sequence[Event], tongue: Tongue, *, simulated: bool = False) -> Message:
    """Return the message that tells these events, the worst first."""
    ordered = sorted(events, key=lambda event: _ORDER.index(event.state))
    health = verdict.worst([event.health for event in ordered])
    told = _title(ordered, tongue)
    title = tongue.word("title").format(machine=tongue.machine, told=told)
    first = ordered[0]
    is_of_job = len(ordered) == 1 and first.about in (JOB, PEER)
    return Message(
        title=tongue.word("simulated").format(title) if simulated else title,
        text=_text(ordered, tongue, tongue.word("nothing") if simulated else ""),
        priority=HIGH if health == Health.FAILING else DEFAULT,
        health=health,
        machine=tongue.machine,
        job=first.name if is_of_job else None,
        events=tuple(ordered),
        test=simulated,
    )


def _title(events: Sequence[Event], tongue: Tongue) -> str:
    if len(events) == 1:
        event = events[0]
        named = {ENDED: "title-ended", TEST: "title-test", REMINDER: "title-still"}
        pattern = named.get(event.change, "title-one")
        if event.code == DOWN:
            pattern = "title-down"
        what = _name(event, tongue)
        return tongue.word(pattern).format(what=what, state=tongue.word(event.state))
    counts = dict.fromkeys(_ORDER, 0)
    for event in events:
        counts[event.state] += 1
    patterns = {state: "title-again" if state == "ok" else "title-many" for state in _ORDER}
    return ", ".join(
        tongue.word(patterns[state]).format(number, tongue.word(state))
        for state, number in counts.items()
        if number
    )


def _name(event: Event, tongue: Tongue) -> str:
    if event.about == DAEMON:
        return tongue.word("status" if event.name else "daemon")
    part, gap, which = event.name.partition(" ")
    if event.about == MACHINE and part in _PARTS:
        return tongue.word(part) + gap + printable(which)
    return printable(event.name)


def _text(events: Sequence[Event], tongue: Tongue, first: str) -> str:
    """Return a block for each event; if that gets too long, a line for each of the rest."""
    blocks = [first] if first else []
    for event in events:
        block = _block(event, tongue)
        is_long = sum(map(len, blocks)) + len(block) > _LONG
        blocks.append(block.partition("\n")[0] if is_long else block)
    return "\n\n".join(blocks)


def _block(event: Event, tongue: Tongue) -> str:
    lines = [_sentence(event, tongue)]
    if event.change in (TROUBLE, REMINDER) or event.code == DOWN:
        lines.append(tongue.word("happened").format(tongue.happened(event.code)))
        if event.reason:
            lines.append(tongue.word("reason").format(_line(event.reason)))
        to_do = tongue.to_do(event.code, event.name.rpartition("/")[2], _line(event.hint))
        lines.append(tongue.word("do").format(to_do.rstrip(".")))
    return "\n".join(lines)


def _line(text: str) -> str:
    """Return an error's text as one line of a bounded length."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= _LONG_LINE else f"{line[: _LONG_LINE - 3]}..."


def _sentence(event: Event, tongue: Tongue) -> str:
    patterns = {TEST: "test", ENDED: "ended", REMINDER: "reminder"}
    is_change = event.change == TROUBLE and event.was != "ok"
    pattern = patterns.get(event.change, "changed" if is_change else "trouble")
    if event.code == DOWN:
        pattern = "down"
    until = event.until or tongue.now
    sentence = tongue.word(pattern).format(
        what=_name(event, tongue),
        was=tongue.word(event.was),
        state=tongue.word(event.state),
        lasted=tongue.lasted(until - event.since),
        since=tongue.time(event.since),
        until=tongue.time(until),
    )
    return sentence[0].upper() + sentence[1:] if event.about == DAEMON else sentence
