"""What a comparison of two states of a database comes to, and how it is told in one line."""

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

    `before` and `after` count its rows, None if there is no such table, or nobody can count
    them. Rows are told apart by `key`, and are equal if all columns that both sides have are.
    If no key can tell them apart, `problem` says why, and only `before` and `after` are known of
    its rows.
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
        """Say whether there is anything to tell."""
        uncounted = self.before is None and self.after is None
        return bool(self.rows or self.definition != SAME or self.before != self.after or uncounted)


@dataclass(frozen=True)
class RowDifference:
    """One row that was added, removed or changed; of a changed one only what changed."""

    change: str
    key: dict[str, Any]
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)


def digest(differences: Iterable[TableDifference]) -> str:
    """Tell the differences in one line, the largest first: `rentals +14, members +1 ~2 -0`.

    Where rows were only added the other two numbers are left out.
    """
    told = sorted(
        (one for one in differences if one.differs), key=lambda one: (-one.rows, one.name)
    )
    parts = [_in_short(one) for one in told[:_DIGEST_TABLES]]
    if len(told) > _DIGEST_TABLES:
        parts.append(f"and {len(told) - _DIGEST_TABLES} more tables")
    return ", ".join(parts) or "nothing"


def _in_short(one: TableDifference) -> str:
    words = [one.name]
    words += [one.definition] if one.definition != SAME else []
    if one.problem and one.before is None and one.after is None:
        words.append("not compared")
    elif one.problem:
        words.append(f"{one.before} to {one.after} rows")
    elif one.removed or one.changed:
        words.append(f"+{one.added} ~{one.changed} -{one.removed}")
    elif one.added:
        words.append(f"+{one.added}")
    return " ".join(words)
