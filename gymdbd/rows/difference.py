"""The result of comparing two states of a database, and its summary in one line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

ADDED, REMOVED, CHANGED = "added", "removed", "changed"
NEW, DROPPED, ALTERED, SAME = "new", "dropped", "altered", "same"

_DIGEST_TABLES = 8


@dataclass(frozen=True)
class TableDifference:
    """How one table differs; `definition` is `same`, `altered`, `new` or `dropped`.

    `before` and `after` count its rows, None if there is no such table or they cannot be counted.
    Rows are matched by `key`, and are equal if all columns that both sides have are equal. If
    rows cannot be matched, `problem` says why, and of the counts only `before` and `after` are set.
    """

    name: str
    definition: str
    before: int | None
    after: int | None
    added: int = 0
    removed: int = 0
    changed: int = 0
    columns_added: tuple[str, ...] = ()
    columns_dropped: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    problem: str = ""

    @property
    def rows(self) -> int:
        """Return how many rows differ."""
        return self.added + self.removed + self.changed

    @property
    def differs(self) -> bool:
        """Return whether there is anything to report."""
        uncounted = self.before is None and self.after is None
        return bool(self.rows or self.definition != SAME or self.before != self.after or uncounted)


@dataclass(frozen=True)
class RowDifference:
    """One row that was added, removed or changed; if changed, with the changed columns only."""

    change: str
    key: dict[str, Any]
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)


def digest(differences: Iterable[TableDifference]) -> str:
    """Summarise the differences in one line, the largest first: `rentals +14, members +1 ~2 -0`.

    If rows were only added, the other two numbers are omitted.
    """
    differing = sorted(
        (table for table in differences if table.differs),
        key=lambda table: (-table.rows, table.name),
    )
    parts = [_in_short(table) for table in differing[:_DIGEST_TABLES]]
    if len(differing) > _DIGEST_TABLES:
        parts.append(f"and {len(differing) - _DIGEST_TABLES} more tables")
    return ", ".join(parts) or "nothing"


def _in_short(table: TableDifference) -> str:
    words = [table.name]
    words += [table.definition] if table.definition != SAME else []
    if table.problem and table.before is None and table.after is None:
        words.append("not compared")
    elif table.problem:
        words.append(f"{table.before} to {table.after} rows")
    elif table.removed or table.changed:
        words.append(f"+{table.added} ~{table.changed} -{table.removed}")
    elif table.added:
        words.append(f"+{table.added}")
    return " ".join(words)
