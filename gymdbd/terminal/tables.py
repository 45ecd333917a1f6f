"""Tables as lines of text: a row is one line, however wide the terminal is.

What is folded can be neither found by `grep` nor copied, and what is cut is lost; so texts that may
be long belong into the last column.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

_GAP = "  "


def drawn(
    columns: list[str], rows: list[list[str]], *, right: Container[str], rule: str
) -> list[str]:
    """Return the lines of a table; the columns named in `right` are aligned there."""
    lines = [columns, *rows]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    sides = [column in right for column in columns]
    text = [
        _GAP.join(_filled(*cell) for cell in zip(line, widths, sides, strict=True)).rstrip()
        for line in lines
    ]
    return [text[0], rule * _width(text[0]), *text[1:]]


def _filled(cell: str, width: int, right: bool) -> str:
    space = " " * (width - _width(cell))
    return space + cell if right else cell + space


def _width(text: str) -> int:
    """Return how many columns of a terminal a printable text takes."""
    if text.isascii():
        return len(text)
    # A Mac takes Hangul apart, and a terminal shows it whole.
    letters = unicodedata.normalize("NFC", text)
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in letters)
    upon = sum(unicodedata.category(letter) in ("Mn", "Me") for letter in letters)
    return len(letters) + wide - upon
