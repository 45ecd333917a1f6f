"""A backup named by the beginning of the time in its file name: `20261128`, `2026-11-28 03`.

That is the local time of the machine that made it, as `gymdbd list` shows the name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from re import Match

# A year at least; separators are allowed where ISO 8601 or the names of backups have them. The
# number counts the backups of one second.
_TIME = re.compile(
    r"([0-9]{4}-?[0-9]{0,2}-?[0-9]{0,2}[T _-]?[0-9]{0,2}:?[0-9]{0,2}:?[0-9]{0,2})"
    r"(?:-([0-9]{1,4}))?",
    re.IGNORECASE,
)
_WHOLE = len("20261128030000")


def is_one(word: str) -> bool:
    """Return whether `word` is written like the beginning of a time."""
    return _TIME.fullmatch(word.strip()) is not None


def nearest(word: str, stamps: Iterable[str]) -> list[str]:
    """Return the last of the stamps before the time that `word` begins, and the first behind it."""
    match = _TIME.match(word.strip())
    wanted = re.sub("[^0-9]", "", match[1]) if match else ""
    times = {stamp.replace("_", ""): stamp for stamp in stamps}
    before = max((time for time in times if time < wanted), default=None)
    behind = min((time for time in times if time > wanted), default=None)
    return [times[time] for time in (before, behind) if time is not None]


def meant(word: str, backups: Iterable[Match[str]]) -> list[str]:
    """Return the names of the backups that `word` may mean, of these matches of `listed.NAME`.

    A whole time means the first backup of its second, as that one's name has no number.
    """
    begun = [match for match in backups if matches(word, match["stamp"], match["again"])]
    firsts = [match for match in begun if match["again"] is None]
    is_whole = len(re.sub("[^0-9]", "", word)) == _WHOLE
    return [match[0] for match in (firsts if is_whole and firsts else begun)]


def matches(word: str, stamp: str, again: str | None) -> bool:
    """Return whether `word` is the beginning of a time: `stamp`, as in `20261128_030000`.

    `again` is the number behind it in the name of the backup, if there is one.
    """
    match = _TIME.fullmatch(word.strip())
    if match is None:
        return False
    digits = re.sub("[^0-9]", "", match[1])
    if match[2] is not None and (len(digits) != _WHOLE or match[2] != again):
        return False
    return stamp.replace("_", "").startswith(digits)
