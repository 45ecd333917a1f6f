"""The outcome for rescued rows, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gymdbd.rows.missing import Conflict, Rescued


_SHOWN = 20


def report(name: str, done: Rescued) -> list[str]:
    """Return lines about the outcome for the rows of a table."""
    if done.skipped:
        return [f"{name}: left out: {done.problem}"]
    counts = [rows_text(done.added)]
    counts += [f"{done.updated:,} updated"] if done.updated else []
    lines = [f"{name}: {', '.join(counts)}"]
    if done.problem:
        lines.append(f"{name}: not compared with the live table: {done.problem}")
    lines += [
        f"{name}: unknown whether the value of {columns} belongs to another row: only the "
        "application knows its order"
        for columns in done.unsure
    ]
    if done.changed:
        lines.append(f"{name}: left out, rows that exist with other values: {done.changed:,}")
    if done.taken:
        lines.append(f"{name}: left out, a unique value belongs to another row: {done.taken:,}")
    lines += [f"  {name}: {conflict_text(conflict)}" for conflict in done.conflicts[:_SHOWN]]
    more = done.changed + done.taken - min(len(done.conflicts), _SHOWN)
    return [*lines, *([f"  {name}: and {more:,} more"] if more > 0 else [])]


def conflict_text(conflict: Conflict) -> str:
    """Describe a row that is not written."""
    row = _pairs(conflict.key)
    if conflict.why == "unique":
        names = ", ".join(conflict.columns)
        return f"{row}: the value of {names} belongs to {_pairs(conflict.holder)}"
    return f"{row}: exists with other values"


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def rows_text(count: int) -> str:
    """Return `1 row`, `1,000 rows`."""
    return f"{count:,} row{'' if count == 1 else 's'}"
