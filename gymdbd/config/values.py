"""Parse values from text, for the configuration and the command line.

Each function raises a ValueError that names what was expected.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from gymdbd.schedule import Cron, Interval

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_TIMES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SIZES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_DURATION = re.compile(r"([0-9]{1,9})(s|m|h|d|w)")
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?) ?(B|KiB|MiB|GiB|TiB)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LONGEST = timedelta(days=3650)
_LARGEST_NUMBER = 1_000_000
_BOUND = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,6})?")
_WHOLE = re.compile(r"[0-9]{1,3}")
_ALL = 100


def text(value: str) -> str:
    """Parse a text that is not empty."""
    if not value.strip() or "\0" in value:
        raise ValueError("expected a text")
    return value


def number(value: str) -> int:
    """Parse a whole number from 0 to a million."""
    if not value.isascii() or not value.isdigit() or int(value) > _LARGEST_NUMBER:
        raise ValueError(f"expected a whole number from 0 to {_LARGEST_NUMBER} (got {value})")
    return int(value)


def bound(value: str) -> float:
    """Parse a number, with or without a fraction."""
    if not _BOUND.fullmatch(value):
        raise ValueError(f"expected a number (got {value})")
    return float(value)


def percent(value: str) -> int:
    """Parse a percentage from 1% to 100%."""
    digits = value.removesuffix("%")
    if digits == value or not _WHOLE.fullmatch(digits) or not 0 < int(digits) <= _ALL:
        raise ValueError(f"expected a share from 1% to 100% (got {value})")
    return int(digits)


def flag(value: str) -> bool:
    """Parse true or false."""
    if value not in ("true", "false"):
        raise ValueError(f"expected true or false (got {value})")
    return value == "true"


def duration(value: str) -> timedelta:
    """Parse a duration above zero with its unit: `90s`, `15m`, `36h`, `7d`, `2w`."""
    match = _DURATION.fullmatch(value)
    if not match:
        raise ValueError(f"expected a duration with its unit, such as 15m or 36h (got {value})")
    seconds = int(match[1]) * _TIMES[match[2]]
    if not 0 < seconds <= _LONGEST.total_seconds():
        raise ValueError(f"expected a duration above zero and up to ten years (got {value})")
    return timedelta(seconds=seconds)


def size(value: str) -> int:
    """Parse a size in bytes with its unit: `64MiB`."""
    match = _SIZE.fullmatch(value)
    if not match:
        raise ValueError(f"expected a size with its unit, such as 64MiB (got {value})")
    return int(float(match[1]) * _SIZES[match[2]])


def interval(value: str) -> Interval:
    """Parse the interval of a job, which is a duration."""
    return Interval(duration(value))


def job_name(value: str) -> str:
    """Parse a job's name, which becomes part of file names and journald fields."""
    if not _NAME.fullmatch(value):
        raise ValueError("expected a name of up to 64 letters, digits, '.', '_' and '-'")
    return value


def one_of(*words: str) -> Callable[[str], str]:
    """Return a function that accepts one of these words."""

    def read(value: str) -> str:
        if value not in words:
            raise ValueError(f"expected one of {', '.join(words)} (got {value})")
        return value

    return read


def describe(read: Callable[[str], Any]) -> str:
    """Return what a function of this module expects."""
    words = {
        text: "a text (put quotes around it)",
        number: "a whole number",
        bound: "a number",
        percent: "a share such as 10%",
        flag: "true or false",
        duration: "a duration with its unit, such as 15m or 36h",
        interval: "a duration with its unit, such as 15m or 36h",
        size: "a size with its unit, such as 64MiB",
        Cron: 'cron text in quotes, such as "0 3 * * *"',
    }
    return words.get(read, "one word")
