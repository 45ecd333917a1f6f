"""Hours of the local day: from one time to another, also over midnight."""

from __future__ import annotations

import re
from datetime import time
from typing import NamedTuple

_HOURS = re.compile(r"((?:[01][0-9]|2[0-3]):[0-5][0-9])-((?:[01][0-9]|2[0-3]):[0-5][0-9])")


class Hours(NamedTuple):
    """Hours of the local day; they may span midnight."""

    begin: time
    end: time

    def has(self, local: time) -> bool:
        """Return whether a time of the local day is within them."""
        if self.begin <= self.end:
            return self.begin <= local < self.end
        return local >= self.begin or local < self.end


def parse(value: str) -> Hours:
    """Parse hours such as `22:00-07:00`; ValueError if they are invalid or empty."""
    match = _HOURS.fullmatch(value)
    begin, end = map(time.fromisoformat, match.groups()) if match else (None, None)
    if begin is None or end is None or begin == end:
        raise ValueError(f'expected two times of the day, such as "22:00-07:00" (got {value})')
    return Hours(begin, end)
