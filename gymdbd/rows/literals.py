"""Values as SQL literals or CSV fields that read back exactly the same."""

from __future__ import annotations

import itertools
import math
import sqlite3
from typing import TYPE_CHECKING, Any

from gymdbd.rows.large import Large
from gymdbd.source import statements

if TYPE_CHECKING:
    from typing import BinaryIO

# SQLite limits the depth of an expression to 1000, and a function to 100 arguments.
_MOST_PIECES = 200
_MOST_ARGUMENTS = 100
_MANTISSA_BITS = 53
# The largest power of two that SQLite's integers hold.
_LARGEST_SHIFT = 62


# How a cell begins that a spreadsheet takes for a formula; the wide ones in East Asian settings.
_RUN = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - these are meant


class Literals:
    """Writes the values of one database; `encoding` is that of its texts.

    With `for_spreadsheet`, a CSV field that a spreadsheet would run begins with an apostrophe.
    """

    for_spreadsheet = False

    def __init__(self, encoding: str = "UTF-8") -> None:
        """Open a database in memory to read literals back."""
        self._encoding = encoding
        self._reader = sqlite3.connect(":memory:", isolation_level=None)

    def close(self) -> None:
        """Close the database in memory."""
        self._reader.close()

    def sql(self, value: Any) -> str:
        """Write a value as an SQL expression on one line, of printable characters only."""
        if value is None:
            return "NULL"
        if isinstance(value, bytes):
            return f"X'{value.hex().upper()}'"
        if isinstance(value, str):
            return self._text(value)
        return self._real(value) if isinstance(value, float) else str(value)

    def csv(self, value: Any) -> str:
        """Write a value as a field of RFC 4180: only text is quoted, and NULL is empty.

        So '' and NULL, '1' and 1 remain distinct; a blob is its SQL literal, X'00FF'.
        """
        if value is None:
            return ""
        if isinstance(value, str):
            return '"' + self._guard(value) + value.replace('"', '""') + '"'
        return _decimal(value) if isinstance(value, float) else self.sql(value)

    def write_sql(self, file: BinaryIO, value: Any) -> None:
        """Write a value of any size as `sql` does."""
        if not isinstance(value, Large):
            file.write(_bytes(self.sql(value)))
            return
        file.write(b"CAST(X'" if value.kind == "text" else b"X'")
        file.writelines(piece.hex().upper().encode() for piece in value.pieces())
        file.write(b"' AS TEXT)" if value.kind == "text" else b"'")

    def write_csv(self, file: BinaryIO, value: Any) -> None:
        """Write a value of any size as `csv` does."""
        if not isinstance(value, Large):
            file.write(_bytes(self.csv(value)))
        elif value.kind == "blob":
            self.write_sql(file, value)
        else:
            file.write(b'"')
            for at, text in enumerate(value.texts()):
                guard = "" if at else self._guard(text)
                file.write(_bytes(guard + text.replace('"', '""')))
            file.write(b'"')

    def _guard(self, text: str) -> str:
        """Return what makes a spreadsheet show a text that it would run as a formula."""
        return "'" if self.for_spreadsheet and text.startswith(_RUN) else ""

    def _real(self, value: float) -> str:
        """Write a real number that reads back to its last bit.

        SQLite reads some decimals one bit off, others in each release. If this release does, the
        number is computed in steps that are exact in all releases.
        """
        text = _decimal(value)
        (back,) = self._reader.execute(f"SELECT {text}").fetchone()
        return text if back == value else _exact(value)

    def _text(self, text: str) -> str:
        pieces: list[str] = []
        for printable, letters in itertools.groupby(text, str.isprintable):
            run = "".join(letters)
            pieces += [f"'{run.replace(chr(39), chr(39) * 2)}'"] if printable else _codes(run)
        if len(pieces) > _MOST_PIECES or any("\udc80" <= letter <= "\udcff" for letter in text):
            data = statements.encode(text, self._encoding)
            return f"CAST(X'{data.hex().upper()}' AS TEXT)"
        return "||".join(pieces) or "''"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _codes(text: str) -> list[str]:
    """Write characters by their codes.

    A NUL would end the statement, sqlite3's shell drops the CR of a CRLF, and an escape sequence
    could move the cursor of a reviewer.
    """
    return [
        f"char({','.join(str(ord(letter)) for letter in text[at : at + _MOST_ARGUMENTS])})"
        for at in range(0, len(text), _MOST_ARGUMENTS)
    ]


def _decimal(value: float) -> str:
    if math.isinf(value):
        return "9e999" if value > 0 else "-9e999"
    return repr(value)


def _exact(value: float) -> str:
    fraction, exponent = math.frexp(value)
    parts = [f"{int(math.ldexp(fraction, _MANTISSA_BITS))}*1.0"]
    rest = exponent - _MANTISSA_BITS
    operator = "*" if rest > 0 else "/"
    parts += [
        str(1 << min(abs(rest) - done, _LARGEST_SHIFT))
        for done in range(0, abs(rest), _LARGEST_SHIFT)
    ]
    return f"({operator.join(parts)})"
