"""Rows as JSON, including blobs, infinity, and values too large to hold twice in memory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gymdbd.rows.large import Large

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gymdbd.rows.difference import RowDifference


def pieces(row: RowDifference) -> Iterator[str]:
    """Yield a row as one line of JSON, in pieces."""
    yield f'{{"change": {json.dumps(row.change)}'
    for name in ("key", "before", "after"):
        yield f', "{name}": {{'
        for at, (column, value) in enumerate(getattr(row, name).items()):
            yield f"{', ' if at else ''}{json.dumps(column)}: "
            if isinstance(value, Large):
                yield from _large(value)
            else:
                yield json.dumps(json_value(value))
        yield "}"
    yield "}"


def json_value(value: Any) -> Any:
    """Encode values that JSON has no type for: a blob and infinity."""
    if isinstance(value, bytes):
        return {"blob": value.hex().upper()}
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return {"real": str(value)}
    return value


def _large(value: Large) -> Iterator[str]:
    if value.kind == "blob":
        yield '{"blob": "'
        for piece in value.pieces():
            yield piece.hex().upper()
        yield '"}'
        return
    yield '"'
    for text in value.texts():
        yield json.dumps(text)[1:-1]
    yield '"'
