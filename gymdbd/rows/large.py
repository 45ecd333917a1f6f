"""A value too large to be in memory twice: its type and size, and its bytes piece by piece."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gymdbd.source import statements

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

LARGE = 4 * 1024 * 1024

# SQLite loads the whole value again for each piece, so there must not be many.
_PIECE = 4 * 1024 * 1024
_MOST_PIECES = 32


@dataclass(frozen=True)
class Large:
    """A value of more than LARGE bytes: `kind` is `text` or `blob`, `size` counts its bytes.

    A text is in `encoding`, that of its database. It can be read while the database is open.
    """

    connection: sqlite3.Connection
    column: str
    where: str
    kind: str
    size: int
    encoding: str

    def pieces(self) -> Iterator[bytes]:
        """Yield its bytes in pieces."""
        step = max(_PIECE, self.size // _MOST_PIECES)
        for start in range(1, self.size + 1, step):
            yield self.read(start, step)

    def read(self, start: int, size: int) -> bytes:
        """Return some of its bytes; the first is number 1."""
        query = f"SELECT substr(CAST({self.column} AS BLOB), {start}, {size}) FROM {self.where}"  # noqa: S608 - quoted
        (piece,) = statements.execute(self.connection, query).fetchone()
        return bytes(piece)

    def texts(self) -> Iterator[str]:
        """Yield a text in pieces; bytes that are invalid in its encoding become surrogates."""
        wrong = "surrogateescape" if self.encoding == "UTF-8" else "surrogatepass"
        decoder = codecs.getincrementaldecoder(self.encoding)(wrong)
        for piece in self.pieces():
            yield decoder.decode(piece)
        yield decoder.decode(b"", final=True)

    def differs(self, other: Large) -> bool:
        """Return whether another value of the same connection differs."""
        query = (
            f"SELECT (SELECT +{self.column} FROM {self.where}) COLLATE BINARY IS NOT "  # noqa: S608 - quoted
            f"(SELECT +{other.column} FROM {other.where})"
        )
        return bool(statements.execute(self.connection, query).fetchone()[0])


def differ(old: Any, new: Any) -> bool:
    """Return whether two values of a column, of any size, differ in type or content."""
    if isinstance(old, Large) and isinstance(new, Large):
        return old.differs(new)
    return type(old) is not type(new) or bool(old != new)
