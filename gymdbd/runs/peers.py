"""How the jobs of other machines are, by what those machines told when they were last asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gymdbd.clock import Clock
    from gymdbd.config.config import Config
    from gymdbd.jobs.finding import Finding
    from gymdbd.runs.health import Judged


def judge_all(settings: Config, now: Clock) -> tuple[dict[str, Judged], dict[str, Finding]]:
    """Return the jobs of the hosts that are pulled from, and why nothing is known of a host."""
    del settings, now
    return {}, {}
