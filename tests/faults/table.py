"""The fault table: what is injected, how, what is expected, and what was seen how often.

Every test of this folder counts its tries in a row. The rows are printed at the end of a run, and
`tests/run --write` puts them into tests/README.md.
"""

from __future__ import annotations

import collections
import os
import random
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

Item = TypeVar("Item")

README = Path(__file__).resolve().parent.parent / "README.md"
_BEGIN, _END = "<!-- fault table -->", "<!-- end of the fault table -->"
_HEAD = "| fault | injected by | expected | observed | tries |\n| --- | --- | --- | --- | ---: |\n"
_MOST_TOLD = 5

# Everything is tried, and not a sample of it.
ALL = os.environ.get("GYMDBD_FAULTS") == "all"
# tests/conftest.py sets the seed, so that all processes of one test run take the same sample.
SEED = int(os.environ["GYMDBD_FAULTS_SEED"])
WHAT = "everything" if ALL else f"a sample, tests/run --seed {SEED}"


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


def sample(stratum: Iterable[Item], what: str) -> list[Item]:
    """Return all of a stratum where everything is tried, otherwise one of it by the seed."""
    every = list(stratum)
    if ALL or not every:
        return every
    return [random.Random(f"{SEED} {what}").choice(every)]


def expect_none(problems: dict[str, list[str]]) -> None:
    """Fail where there are problems, with all of them in full."""
    lines = [f"{what}\n    " + "\n    ".join(found) for what, found in problems.items() if found]
    if lines:
        pytest.fail(f"seed {SEED}\n" + "\n".join(lines), pytrace=False)


def render() -> str:
    """Return the table of the rows that have been tried."""
    return _HEAD + "".join(f"{one}\n" for one in ROWS if one.tries)


def write() -> None:
    """Put the rows that were tried into tests/README.md; the others stay as they are there."""
    before, _, rest = README.read_text().partition(_BEGIN)
    table, _, after = rest.partition(_END)
    lines = {line.split("|")[1].strip(): line for line in table.splitlines()[3:] if "|" in line}
    lines |= {one.fault: str(one) for one in ROWS if one.tries}
    body = "\n".join(lines.values())
    README.write_text(f"{before}{_BEGIN}\n{_HEAD}{body}\n{_END}{after}")
