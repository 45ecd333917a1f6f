"""What the pull benchmark prints: who took how long, and whether the bounds hold."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.benchmarks.transfers import Taken

    Round = dict[str, Taken]
    # The rounds of each scenario, by its name.
    Results = dict[str, list[Round]]

SCP = "`scp`"
RSYNC = "`rsync`"
SQLITE3_RSYNC = "`sqlite3_rsync`"
LITESTREAM = "`litestream`"
_OTHERS = (SQLITE3_RSYNC, RSYNC, SCP, LITESTREAM)

_STEPS = ("connect", "rows", "clone", "fetch", "verify", "save", "publish")
# At 500 MB, of the seconds and of the bytes of sqlite3_rsync.
BOUNDS = {"first": (1.0, 0.6), "unchanged": (0.25, 0.5), "100 rows": (0.25, 0.5)}


def times(size_mb: int, results: Results) -> str:
    """Tell everybody's seconds and bytes, and how they compare with the others' of each round."""
    others = " | ".join(f"x {name}" for name in _OTHERS)
    lines = [f"| {size_mb} MB | | s | {others} | bytes | x {SQLITE3_RSYNC} |"]
    lines.append("|---|---|--:|--:|--:|--:|--:|--:|--:|")
    for scenario, rounds in results.items():
        for name, some in rounds[0].items():
            who = f"{name} ({some.strategy})" if some.strategy else name
            ratios = " | ".join(_text(_ratio(rounds, name, base, _seconds)) for base in _OTHERS)
            share = _text(_ratio(rounds, name, SQLITE3_RSYNC, _bytes))
            lines.append(
                f"| {scenario} | {who} | {_median(rounds, name, _seconds):.2f} | {ratios} "
                f"| {_median(rounds, name, _bytes):,.0f} | {share} |"
            )
    return "\n".join(lines) + "\n"


def steps(size_mb: int, results: Results) -> str:
    """Tell where gymdbd's time goes, in ms; some pulls do not take every step."""
    lines = [f"| {size_mb} MB, ms | {' | '.join(_STEPS)} |", f"|---|{'--:|' * len(_STEPS)}"]
    for scenario, rounds in results.items():
        for name in (name for name, taken in rounds[0].items() if taken.steps):
            cells = " | ".join(f"{_step(rounds, name, step) * 1e3:.0f}" for step in _STEPS)
            lines.append(f"| {scenario}, {name} | {cells} |")
    return "\n".join(lines) + "\n"


def bounds(results: Results, names: list[str]) -> str:
    """Say of each bound whether these contestants of ours are within it."""
    lines = [f"| bound, x {SQLITE3_RSYNC} | | s | at most | bytes | at most | |"]
    lines.append("|---|---|--:|--:|--:|--:|---|")
    for scenario, (most_s, most_bytes) in BOUNDS.items():
        for name in names:
            rounds = results.get(scenario, [])
            seconds = _ratio(rounds, name, SQLITE3_RSYNC, _seconds)
            size = _ratio(rounds, name, SQLITE3_RSYNC, _bytes)
            if seconds is None or size is None:
                continue
            verdict = "held" if seconds <= most_s and size <= most_bytes else "MISSED"
            figures = f"{seconds:.2f} | {most_s} | {size:.2f} | {most_bytes}"
            lines.append(f"| {scenario} | {name} | {figures} | {verdict} |")
    return "\n".join(lines) + "\n"


def median_seconds(rounds: list[Round], name: str) -> float:
    """Return the seconds of a contestant."""
    return _median(rounds, name, _seconds)


def _seconds(taken: Taken) -> float:
    return taken.seconds


def _bytes(taken: Taken) -> float:
    return taken.wire_bytes


def _step(rounds: list[Round], name: str, step: str) -> float:
    return _median(rounds, name, lambda taken: taken.steps.get(step, 0.0))


def _median(rounds: list[Round], name: str, figure: Callable[[Taken], float]) -> float:
    return statistics.median(figure(one[name]) for one in rounds)


def _ratio(
    rounds: list[Round], name: str, base: str, figure: Callable[[Taken], float]
) -> float | None:
    """Return the median of the ratios within the rounds; None where one did not take part."""
    if not rounds or name not in rounds[0] or base not in rounds[0]:
        return None
    return statistics.median(figure(one[name]) / figure(one[base]) for one in rounds)


def _text(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"
