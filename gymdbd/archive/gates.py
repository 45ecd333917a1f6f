"""Whether a new state holds much less than the previous one: pure functions of two descriptions.

A database can be intact and wrong: if an application has deleted too much, the database still
passes every integrity check.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Protocol

_ALL = 100
# A table of fewer rows may become empty, such as a queue or a table of sessions.
_FEW_ROWS = 10


class Described(Protocol):
    """The description of a state; a manifest is one."""

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
    """The rows of every table and the size of a database without a manifest."""

    tables: dict[str, int]
    page_count: int
    page_size: int = 1
    uncounted: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much less than before a new state may hold, in percent.

    `tables` has limits of single tables, by name or by a pattern such as `log_*`. An exact name
    takes precedence, then the first matching pattern. A table with 100 % may be missing. A loss of
    fewer than `ignore_rows` rows is never suspicious, whatever its share.
    """

    max_row_drop: int
    max_size_drop: int
    ignore_rows: int
    tables: dict[str, int] = field(default_factory=dict)

    def of(self, table: str) -> int | None:
        """Return the limit for a table in `tables`, None if it has none."""
        if table in self.tables:
            return self.tables[table]
        return next(
            (limit for name, limit in self.tables.items() if fnmatchcase(table, name)), None
        )


def suspicions(before: Described, now: Described, limits: Limits) -> list[str]:
    """Return why the content of the state `now` is suspicious, one sentence for each reason.

    `before` is the newest good state. The sizes are those of the databases, because the `.db` of a
    raw backup may be small while most pages are in its WAL.
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
    old, new = (state.page_count * state.page_size for state in (before, now))
    if _fell(old, new, limits.max_size_drop):
        found.append(
            f"the database shrank from {old} to {new} bytes, more than {limits.max_size_drop} %"
        )
    return found


def emptied(before: Described, now: Described) -> list[str]:
    """Return which tables are missing or have lost all rows; that is suspicious at any limits."""
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
