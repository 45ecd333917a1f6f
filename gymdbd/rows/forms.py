"""The formats of rescued rows: an SQL script, CSV, a new database."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, BinaryIO

from gymdbd import words
from gymdbd.rows.copying import Copy
from gymdbd.rows.keys import EARLIER
from gymdbd.rows.script import Script
from gymdbd.rows.values import Fetch
from gymdbd.source.errors import GymdbdError
from gymdbd.source.schema import quote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gymdbd.rows.missing import Rescued
    from gymdbd.rows.rescue import Rescue


# How Python holds bytes that are no UTF-8.
_BYTES = "".join(map(chr, range(0xDC80, 0xDD00)))


def write_sql(rescue: Rescue, file: BinaryIO, origin: str) -> dict[str, Rescued]:
    """Write statements that put the rows back in one transaction; return the result by table.

    A comment names `origin`.
    """
    with rescue.reading():
        return Script(rescue, file).write(origin)


def write_csv(rescue: Rescue, file: BinaryIO, *, for_spreadsheet: bool = False) -> dict[str, int]:
    """Write a header and the rows of the only selected table; return their number."""
    rescue.literals.for_spreadsheet = for_spreadsheet
    (selection,) = rescue.selections
    header = map(rescue.literals.csv, map(_shown, selection.columns))
    file.write(_encoded(",".join(header) + "\r\n"))
    fetch = Fetch(rescue.connection, selection.table, EARLIER, selection.columns)
    count = 0
    with rescue.reading(selection), rescue.sorting(selection.table):
        for row in fetch.rows(selection.rest, quote(selection.table.name)):
            for at, value in enumerate(row):
                file.write(b"," if at else b"")
                rescue.literals.write_csv(file, value)
            file.write(b"\r\n")
            count += 1
    return {selection.table.name: count}


def write_database(rescue: Rescue, target: Path) -> dict[str, int]:
    """Fill the new, empty file `target` with the tables, their indexes, rowids and rows."""
    with rescue.reading(), _filling(target):
        return Copy(rescue, target).write()


@contextlib.contextmanager
def _filling(target: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise GymdbdError(
            f"the rows cannot be put into a database at {target.parent} ({error})",
            hint="check that the disk has room; if the table needs functions or collations of "
            "the application, use --as sql",
        ) from error


def _shown(name: str) -> str:
    """Escape the name of a column, but for bytes that are no UTF-8: a name in CP949 is one."""
    return words.printable(name, _BYTES)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
