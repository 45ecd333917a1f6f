"""Numbers over time as a line of text, as high as a letter."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"
_PLAIN = "_.-=+*%#"


def drawn(values: Sequence[float], width: int = 60) -> str:
    """Return a letter for each number, or for the last of several if there are more than `width`.

    The lowest is as low as a letter, the highest as high, unless they are nearly the same.
    """
    count = min(len(values), width)
    chosen = [values[(at + 1) * len(values) // count - 1] for at in range(count)]
    least, most = min(chosen), max(chosen)
    # A hundredth more is no mountain.
    span = max(most - least, abs(most) / 20)
    letters = _letters()
    top = len(letters) - 1
    return "".join(letters[round((value - least) / span * top) if span else 0] for value in chosen)


def _letters() -> str:
    try:
        _BLOCKS.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return _PLAIN
    return _BLOCKS
