"""When was the newest row written? The greatest time in one column of one table."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from gymdbd.source.schema import quote

if TYPE_CHECKING:
    from datetime import tzinfo

# The formats of https://www.sqlite.org/lang_datefunc.html, and JavaScript's milliseconds. Numbers
# are distinguished by size: Julian days of the years 1 to 9999, seconds and milliseconds of the
# years 1973 to 5138.
_JULIAN = (1721425.5, 5373484.5)
_SECONDS = (1e8, 1e11)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_JULIAN_EPOCH = 2440587.5

Value = str | int | float | bytes | None


def newest(connection: sqlite3.Connection, table: str, column: str) -> Value:
    """Return the greatest value of a column, None if there is none.

    Raises sqlite3.Error if there is no such table or column; SQLite itself would treat an unknown
    name in double quotes as a text.
    """
    names = [
        row[0] for row in connection.execute("SELECT name FROM pragma_table_xinfo(?)", (table,))
    ]
    if column.casefold() not in (name.casefold() for name in names):
        raise sqlite3.OperationalError(f"no such column: {table}.{column}")
    sql = f"SELECT max({quote(column)}) FROM {quote(table)}"  # noqa: S608 - quoted
    value: Value = connection.execute(sql).fetchone()[0]
    return value


def to_moment(value: Value, zone: tzinfo) -> datetime | None:
    """Return the instant that an SQLite value stands for, aware and in UTC; None if it is no time.

    A text without an offset is local time of `zone`.
    """
    try:
        if isinstance(value, (int, float)):
            return _from_number(value)
        if isinstance(value, str):
            text = value.strip()
            # Python before 3.11 does not know the suffix Z.
            moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
            aware = moment if moment.tzinfo else moment.replace(tzinfo=zone)
            return aware.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return None


def _from_number(value: float) -> datetime | None:
    if _JULIAN[0] <= value <= _JULIAN[1]:
        return _EPOCH + timedelta(days=value - _JULIAN_EPOCH)
    if _SECONDS[0] <= value < _SECONDS[1]:
        return _EPOCH + timedelta(seconds=value)
    if _SECONDS[0] * 1000 <= value < _SECONDS[1] * 1000:
        return _EPOCH + timedelta(milliseconds=value)
    return None
