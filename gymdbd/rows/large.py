"""A value that does not fit the memory twice: what it is, and its bytes piece by piece."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gymdbd.source import statements

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

LARGE = 4 * 1024 * 1024

# A value is loaded anew for each of its pieces, so that there are not many of them.
_PIECE = 4 * 1024 * 1024
_MOST_PIECES = 32


@dataclass(frozen=True)
class Large:
    """A value of more than LARGE bytes: `kind` is `text` or `blob`, `size` counts its bytes.

    A text is in `encoding`, that of its database. It can be read as long as the database is open.
    """

    connection: sqlite3.Connection
    column: str
    where: str
    kind: str
    size: int
    encoding: str

    def pieces(self) -> Iterator[bytes]:
        """Yield its bytes, one piece after the other."""
        step = max(_PIECE, self.size // _MOST_PIECES)
        for start in range(1, self.size + 1, step):
            yield self.read(start, step)

    def read(self, start: int, size: int) -> bytes:
        """Return some of its bytes; the first one is number 1."""
        query = f"SELECT substr(CAST({self.column} AS BLOB), {start}, {size}) FROM {self.where}"  # noqa: S608 - quoted
        (piece,) = statements.execute(self.connection, query).fetchone()
        return bytes(piece)

    def texts(self) -> Iterator[str]:
        """Yield a text piece by piece, bytes that are none of its encoding as surrogates."""
        wrong = "surrogateescape" if self.encoding == "UTF-8" else "surrogatepass"
        decoder = codecs.getincrementaldecoder(self.encoding)(wrong)
        for piece in self.pieces():
            yield decoder.decode(piece)
        yield decoder.decode(b"", final=True)

    def differs(self, other: Large) -> bool:
        """Say whether another value of the same connection is another one."""
        query = (
            f"SELECT (SELECT +{self.column} FROM {self.where}) COLLATE BINARY IS NOT "  # noqa: S608 - quoted
            f"(SELECT +{other.column} FROM {other.where})"
        )
        return bool(statements.execute(self.connection, query).fetchone()[0])


def differ(old: Any, new: Any) -> bool:
    """Say whether two values of a column differ, in type or content, large ones included."""
    if isinstance(old, Large) and isinstance(new, Large):
        return old.differs(new)
    return type(old) is not type(new) or bool(old != new)
