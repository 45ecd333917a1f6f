"""The fault table: what is injected, how, what is expected, and what was seen how often.

Every test of this folder counts its tries in a row. The rows are printed at the end of a run and
left in tests/results/faults.md.
"""

from __future__ import annotations

import collections
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import samples

if TYPE_CHECKING:
    from pathlib import Path

_HEAD = "| fault | injected by | expected | observed | tries |\n| --- | --- | --- | --- | ---: |\n"
_MOST_TOLD = 5


@dataclass
class Row:
    """One fault, and what has come of it so far."""

    fault: str
    how: str
    expected: str
    seen: collections.Counter[str] = field(default_factory=collections.Counter)
    broken: int = 0

    def tried(self, outcome: str, problems: list[str] | None = None, times: int = 1) -> list[str]:
        """Count a try that ended in `outcome` and return its problems."""
        if problems:
            self.broken += times
        else:
            self.seen[outcome] += times
        return problems or []

    @property
    def tries(self) -> int:
        """Return how often it was tried."""
        return self.seen.total() + self.broken

    @property
    def observed(self) -> str:
        """Write what was seen, the most frequent first."""
        told = [f"{outcome} {times:,}" for outcome, times in self.seen.most_common(_MOST_TOLD)]
        rest = self.seen.total() - sum(times for _, times in self.seen.most_common(_MOST_TOLD))
        told += [f"other named errors {rest:,}"] if rest else []
        told += [f"**promises broken {self.broken:,}**"] if self.broken else []
        return ", ".join(told)

    def __str__(self) -> str:
        """Write it as a line of a Markdown table."""
        cells = (self.fault, self.how, self.expected, self.observed, f"{self.tries:,}")
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


ROWS: list[Row] = []


def row(fault: str, how: str, expected: str) -> Row:
    """Add a row."""
    ROWS.append(Row(fault, how, expected))
    return ROWS[-1]


def to_report() -> list[dict[str, object]]:
    """Return what this process has tried, for the process that prints the table."""
    return [{**asdict(row), "seen": dict(row.seen)} for row in ROWS]


def add_report(report: list[dict[str, Any]]) -> None:
    """Add what another process has tried to the rows of this one."""
    known = {row.fault: row for row in ROWS}
    for other in report:
        row_here = known.get(other["fault"])
        if row_here is None:
            row_here = row(other["fault"], other["how"], other["expected"])
        row_here.seen.update(other["seen"])
        row_here.broken += other["broken"]


def expect_none(problems: dict[str, list[str]]) -> None:
    """Fail where there are problems, with all of them in full."""
    lines = [f"{what}\n    " + "\n    ".join(found) for what, found in problems.items() if found]
    if lines:
        pytest.fail(f"seed {samples.SEED}\n" + "\n".join(lines), pytrace=False)


def render() -> str:
    """Return the table of the rows that have been tried."""
    return _HEAD + "".join(f"{one}\n" for one in ROWS if one.tries)


def write(folder: Path) -> None:
    """Leave the table in a file of the folder, in place of the one of the run before."""
    folder.mkdir(exist_ok=True)
    (folder / "faults.md").write_text(f"Tried: {samples.DESCRIPTION}\n\n{render()}")
