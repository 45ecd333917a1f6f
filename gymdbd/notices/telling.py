"""Telling every channel what it does not know yet: all of them at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from gymdbd.log import logger
from gymdbd.notices import policy, sending, texts
from gymdbd.notices.memory import Failure

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime

    from gymdbd.config.config import Config
    from gymdbd.notices.memory import Memory
    from gymdbd.notices.message import Message
    from gymdbd.notices.policy import Look, Rules
    from gymdbd.notices.texts import Tongue
    from gymdbd.source.errors import GymdbdError


@dataclass
class Report:
    """Whom a look has told, and whom it could not tell."""

    told: dict[str, Message] = field(default_factory=dict)
    failed: dict[str, GymdbdError] = field(default_factory=dict)


def send_all(
    settings: Config, messages: dict[str, Message], failing: Collection[str] = ()
) -> Iterator[tuple[str, GymdbdError | None]]:
    """Send each channel its message; yield its name, and the error if it could not be told.

    Those that were `failing` before are tried once, so that the next look need not wait for them.
    """
    with ThreadPoolExecutor(max(1, len(messages))) as pool:
        work = {
            pool.submit(
                sending.tell,
                settings,
                name,
                message,
                attempts=1 if name in failing else sending.ATTEMPTS,
            ): name
            for name, message in messages.items()
        }
        for done in as_completed(work):
            yield work[done], done.result()


def tell(
    settings: Config, memory: Memory, look: Look, rules: Rules, tongue: Tongue
) -> Iterator[tuple[Memory, Report]]:
    """Tell every channel what is due, and yield the memory after each; the last one is the whole.

    A channel that could not be told is told at the next look what is due then.
    """
    if settings.notify is None:
        return
    report, now, wanted = Report(), look.moment.now, settings.notify
    events = {name: policy.due(memory, name, look, rules) for name in wanted.to}
    messages = {name: texts.message(found, tongue) for name, found in events.items() if found}
    for name, error in send_all(settings, messages, memory.failures):
        if error is None:
            report.told[name] = messages[name]
            memory = policy.told(memory, name, events[name], now)
            logger().info("notice sent", channel=name, title=messages[name].title)
        else:
            report.failed[name] = error
        memory = _noted(memory, name, error, now)
        yield memory, report


def _noted(memory: Memory, name: str, error: GymdbdError | None, now: datetime) -> Memory:
    """Return the memory with why a channel could not be told; the log has it when it begins."""
    failures = {channel: known for channel, known in memory.failures.items() if channel != name}
    if error is None:
        return replace(memory, failures=failures)
    before = memory.failures.get(name)
    report = logger().debug if before and before.error == error.message else logger().error
    report("notice not sent", channel=name, error=error.message, hint=error.hint, code=error.code)
    since = before.since if before else now
    return replace(memory, failures={**failures, name: Failure(since, error.message, error.hint)})
