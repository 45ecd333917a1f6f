"""Does a new backup hold what the one before made one expect? A pure function of two manifests.

A database can be whole and wrong: an application that deleted too much leaves one that passes
every integrity check.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gymdbd.archive.manifest import Manifest

_ALL = 100


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much less than before is still believed, in percent; `tables` is for single tables.

    A table that loses fewer than `ignore_rows` rows is never doubted, whatever share that is.
    """

    max_row_drop: int
    max_size_drop: int
    ignore_rows: int
    tables: dict[str, int] = field(default_factory=dict)


def doubts(before: Manifest, tables: dict[str, int], size: int, limits: Limits) -> list[str]:
    """Say why the content of a new backup is doubted: one sentence for each reason, or none.

    `tables` are its rows and `size` its bytes, `before` describes the newest good one.
    """
    found = []
    for name, rows in before.tables.items():
        if name not in tables:
            found.append(f"table {name} is gone, it had {rows} rows")
            continue
        lost, limit = rows - tables[name], limits.tables.get(name, limits.max_row_drop)
        if lost >= limits.ignore_rows and _fell(rows, tables[name], limit):
            found.append(
                f"table {name} fell from {rows} to {tables[name]} rows, more than {limit} %"
            )
    if _fell(before.size, size, limits.max_size_drop):
        found.append(
            f"the database shrank from {before.size} to {size} bytes, "
            f"more than {limits.max_size_drop} %"
        )
    return found


def _fell(before: int, now: int, percent: int) -> bool:
    return (before - now) * _ALL > before * percent
