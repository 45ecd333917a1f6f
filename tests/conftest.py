"""The parts of the tests: in which order they run, and one line of summary for each."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

# Before any process of the tests starts: all of them take the same sample of the faults.
os.environ.setdefault("GYMDBD_FAULTS_SEED", str(random.SystemRandom().randrange(10**6)))

_ROOT = Path(__file__).parent
# What is quick tells first that something is broken; machines are booted last.
_PARTS = ("unit", "integration", "faults", "e2e")
_OUTCOMES = ("passed", "failed", "error", "skipped", "xfailed")


def _part(path: Path) -> str:
    return path.relative_to(_ROOT).parts[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the parts into order, and say what only one process at a time may run.

    The booted machines share a network and a tree, and a database of 1 GiB is made once.
    """
    order = {name: place for place, name in enumerate(_PARTS)}
    items.sort(key=lambda item: order.get(_part(item.path), len(order)))
    for item in items:
        if _part(item.path) == "e2e":
            item.add_marker(pytest.mark.xdist_group("machines"))
        elif "large" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("large"))


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Tell for each part how its tests ended, and how long they took."""
    counts: dict[str, Counter[str]] = {}
    seconds: Counter[str] = Counter()
    root = terminalreporter.config.rootpath
    for outcome in _OUTCOMES:
        for report in terminalreporter.stats.get(outcome, []):
            part = _part(root / report.nodeid.partition("::")[0])
            counts.setdefault(part, Counter())[outcome] += 1
    for reports in terminalreporter.stats.values():
        for report in reports:
            if hasattr(report, "duration"):
                seconds[_part(root / report.nodeid.partition("::")[0])] += report.duration
    terminalreporter.section("parts")
    for part in sorted(counts, key=lambda one: (_PARTS.index(one) if one in _PARTS else 99, one)):
        told = ", ".join(f"{counts[part][one]} {one}" for one in _OUTCOMES if counts[part][one])
        terminalreporter.write_line(f"{part}: {told} in {seconds[part]:.0f} s")
