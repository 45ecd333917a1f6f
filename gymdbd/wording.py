"""Words for messages that several places need."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Name the nearest of the `known` words, as the end of a message."""
    nearest = difflib.get_close_matches(name, list(known), n=1)
    return f'; did you mean "{nearest[0]}"?' if nearest else ""
