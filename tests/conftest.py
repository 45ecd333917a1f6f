"""The parts of the tests: in which order they run, and one line of summary for each."""

from __future__ import annotations

import re
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _pytest.terminal import TerminalReporter
    from xdist.scheduler import LoadScopeScheduling

_ROOT = Path(__file__).parent
# What is quick tells first that something is broken. In one process, machines are booted last.
_PARTS = ("unit", "integration", "attacks", "mac", "faults", "e2e", "arm")
_OUTCOMES = ("passed", "failed", "error", "skipped", "xfailed")


def _part(path: Path) -> str:
    return path.relative_to(_ROOT).parts[0]


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """Return a folder on a disk, for what memory does not count; `tmp_path` may be in memory."""
    with tempfile.TemporaryDirectory(prefix="gymdbd-tests-", dir="/var/tmp") as folder:
        yield Path(folder)


def pytest_report_header() -> str:
    """Report which sample is tried, for whoever has to try it again."""
    platform = ", in a double of macOS" if "tests.support.darwin.double" in sys.modules else ""
    return f"tests: {samples.DESCRIPTION}{platform}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the parts into order, leaving the order within each as it is."""
    order = {name: place for place, name in enumerate(_PARTS)}
    items.sort(key=lambda item: order.get(_part(item.path), len(order)))


# What is left of a test's parameters without the part of a sweep or the error that is injected.
_OPERATION = re.compile(r"\[(.+?)(-\d+|-E[A-Z]+)?\]$")


def _group(nodeid: str) -> str:
    """Return the name of the tests that one process runs, one after the other.

    Machines share a network and a tree, pages a browser, the tests of an emulated machine its
    installation, and the faults of an operation the scene that it begins in.
    """
    if nodeid.startswith("tests/e2e/"):
        return "e2e"
    if "test_page_in_browser.py" in nodeid:
        return "browser"
    if nodeid.startswith("tests/arm/"):
        return f"arm {nodeid.rpartition('[')[2]}"
    operation = _OPERATION.search(nodeid)
    return f"faults {operation[1]}" if operation and nodeid.startswith("tests/faults/") else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Begin with the largest groups, so that all processes end at about the same time.

    `--dist loadgroup` has no effect with pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 - not needed without xdist

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc] # it has no types
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    return Scheduling(config, log)


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
    for part in sorted(counts, key=lambda name: [*_PARTS, name].index(name)):
        told = ", ".join(f"{counts[part][name]} {name}" for name in _OUTCOMES if counts[part][name])
        terminalreporter.write_line(f"{part}: {told} in {seconds[part]:.0f} s")
