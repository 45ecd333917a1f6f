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


def doubts(before: Manifest, now: Manifest, limits: Limits) -> list[str]:
    """Say why the content of a new backup is doubted: one sentence for each reason, or none.

    `now` describes it, `before` the newest good one. Their sizes are those of the databases: the
    `.db` of a raw backup may be small, and the rest in its WAL.
    """
    found = []
    for name, rows in before.tables.items():
        if name in now.uncounted:
            continue
        if name not in now.tables:
            found.append(f"table {name} is gone, it had {rows} rows")
            continue
        left, limit = now.tables[name], limits.tables.get(name, limits.max_row_drop)
        if rows - left >= limits.ignore_rows and _fell(rows, left, limit):
            found.append(f"table {name} fell from {rows} to {left} rows, more than {limit} %")
    old, new = (one.page_count * one.page_size for one in (before, now))
    if _fell(old, new, limits.max_size_drop):
        found.append(
            f"the database shrank from {old} to {new} bytes, more than {limits.max_size_drop} %"
        )
    return found


def _fell(before: int, now: int, percent: int) -> bool:
    return (before - now) * _ALL > before * percent
