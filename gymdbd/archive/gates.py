"""Does a new state hold as much as the one before it? Pure functions of two descriptions.

A database can be whole and wrong: an application that deleted too much leaves one that passes
every integrity check.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Protocol

_ALL = 100
# An emptied table of fewer rows is no reason to stop: queues and sessions come and go.
_FEW_ROWS = 10


class Described(Protocol):
    """What is compared; a manifest has it."""

    @property
    def tables(self) -> dict[str, int]:
        """Return the rows of every table."""

    @property
    def uncounted(self) -> list[str]:
        """Return the tables whose rows could not be counted."""

    @property
    def page_count(self) -> int:
        """Return the number of pages of the database."""

    @property
    def page_size(self) -> int:
        """Return their size in bytes."""


@dataclass(frozen=True)
class Content:
    """The rows of every table and the size of a database of which there is no manifest."""

    tables: dict[str, int]
    page_count: int
    page_size: int = 1
    uncounted: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much less than before a new state may hold, in percent.

    `tables` is for single tables, by name or by a pattern such as `log_*`; the name itself goes
    before any pattern, and of the patterns the first counts. A table with 100 % there may be gone.
    One that loses fewer than `ignore_rows` rows is never doubted, whatever share that is.
    """

    max_row_drop: int
    max_size_drop: int
    ignore_rows: int
    tables: dict[str, int] = field(default_factory=dict)

    def of(self, table: str) -> int | None:
        """Return the limit that `tables` has for one, None if it has none."""
        if table in self.tables:
            return self.tables[table]
        return next(
            (limit for name, limit in self.tables.items() if fnmatchcase(table, name)), None
        )


def doubts(before: Described, now: Described, limits: Limits) -> list[str]:
    """Say why the content of a new state is doubted: one sentence for each reason, or none.

    `now` describes it, `before` the newest good one. Their sizes are those of the databases: the
    `.db` of a raw backup may be small, and the rest in its WAL.
    """
    found = []
    for name, rows in before.tables.items():
        if name in now.uncounted:
            continue
        own = limits.of(name)
        if name not in now.tables:
            found += [_gone(name, rows)] if own != _ALL else []
            continue
        left, limit = now.tables[name], limits.max_row_drop if own is None else own
        if rows - left >= limits.ignore_rows and _fell(rows, left, limit):
            found.append(f"table {name} fell from {rows} to {left} rows, more than {limit} %")
    old, new = (one.page_count * one.page_size for one in (before, now))
    if _fell(old, new, limits.max_size_drop):
        found.append(
            f"the database shrank from {old} to {new} bytes, more than {limits.max_size_drop} %"
        )
    return found


def emptied(before: Described, now: Described) -> list[str]:
    """Say which tables are gone or have lost all of their rows: what is doubted without limits."""
    found = [
        _gone(name, rows)
        for name, rows in before.tables.items()
        if name not in now.tables and name not in now.uncounted
    ]
    found += [
        f"table {name} is empty, it had {rows} rows"
        for name, rows in before.tables.items()
        if rows >= _FEW_ROWS and now.tables.get(name) == 0
    ]
    if not (found or now.uncounted or any(now.tables.values())) and any(before.tables.values()):
        found.append(f"no table holds a row, there were {sum(before.tables.values())}")
    return found


def _gone(name: str, rows: int) -> str:
    return f"table {name} is gone, it had {rows} rows"


def _fell(before: int, now: int, percent: int) -> bool:
    return (before - now) * _ALL > before * percent
