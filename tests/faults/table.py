"""The fault table: what is injected, how, what is expected, and what was seen how often.

Every test of this folder counts its tries in a row. The rows are printed at the end of a run, and
`tests/faults/run --write` puts them into tests/README.md.
"""

from __future__ import annotations

import collections
import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

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
SEED = int(os.environ.get("GYMDBD_FAULTS_SEED") or random.SystemRandom().randrange(10**6))
WHAT = "everything" if ALL else f"a sample, tests/faults/run --seed {SEED}"


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
