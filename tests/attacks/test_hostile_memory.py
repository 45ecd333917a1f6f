"""What was told may be kept as anything: it is told on, and at worst once more."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.jobs.finding import Finding, Health
from gymdbd.notices import policy, store, texts
from gymdbd.notices.memory import Failure, Memory, Moment
from gymdbd.notices.policy import DAEMON, JOB, Look, Rules, Seen
from gymdbd.notices.texts import Tongue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
_RULES = Rules(after=timedelta(minutes=10), remind_every=timedelta(days=1), quiet=None, zone=UTC)
_ODD = [
    "9999-12-31T23:59:59.999999+00:00",
    "0001-01-01T00:00:00+23:59",
    "\x1b[2J\ud800",
    float("nan"),
    -1e308,
    1e308,
    10**400,
    True,
    None,
    [],
    {},
]


def _look(memory: Memory, health: Health, after: timedelta) -> tuple[Memory, list[str]]:
    """Take a look; return what is kept, and the texts of what is told."""
    finding = Finding(health, "it broke", "mend it", "failed")
    seen = {(JOB, "nightly"): Seen(finding), (DAEMON, "status"): Seen(Finding(Health.OK))}
    moment = Moment(_NOW + after, "boot", 1000 + after.total_seconds())
    look = Look(moment, seen, set(seen), started=_NOW)
    memory = policy.observe(memory, look, _RULES, ["owner"])
    events = policy.due(memory, "owner", look, _RULES)
    tongue = Tongue("en", "pi", moment.now, UTC)
    told = [texts.message(events, tongue).text] if events else []
    memory = policy.told(memory, "owner", events, moment.now) if events else memory
    policy.next_look(memory, {"owner"}, look, _RULES)
    return memory, told


def _places(content: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    names = content if isinstance(content, dict) else range(len(content))
    for name, value in ((name, content[name]) for name in names):
        yield (*way, name)
        if isinstance(value, (dict, list)):
            yield from _places(value, (*way, name))


@pytest.mark.parametrize("odd", _ODD, ids=lambda value: ascii(value)[:20])
def test_an_odd_value_in_what_was_told_keeps_nobody_from_being_told(
    tmp_path: Path, odd: object
) -> None:
    """At each place of the file: the looks go on, and the next change is told."""
    memory, _ = _look(Memory(), Health.FAILING, timedelta())
    memory, told = _look(memory, Health.FAILING, timedelta(minutes=11))
    assert len(told) == 1
    failures = {"owner": Failure(_NOW, "away", "wait")}
    good = Memory(**{**vars(memory), "failures": failures}).to_json()
    for way in _places(good):
        content = within = copy.deepcopy(good)
        for name in way[:-1]:
            within = within[name]
        within[way[-1]] = odd
        (tmp_path / "notices.json").write_text(json.dumps(content))
        kept = store.read(tmp_path / "status.json")
        told = []
        for minutes in range(12, 60, 4):
            health = Health.FAILING if minutes < 30 else Health.LATE
            kept, now = _look(kept, health, timedelta(minutes=minutes))
            told += now
        assert [text for text in told if "is late" in text or "now late" in text] != [], way
