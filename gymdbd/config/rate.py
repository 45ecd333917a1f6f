"""How fast a transfer may be: bytes a second, always or in some hours of the day."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from gymdbd import files
from gymdbd.config import hours
from gymdbd.config.document import join, scalar

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    import yaml

    from gymdbd.config.document import Document
    from gymdbd.config.hours import Hours

_UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_RATE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?) ?(B|KiB|MiB|GiB)/s")
# At a slower one, the 256 KiB that the other side sends at once would take it for gone.
LEAST = 1024
_MOST = 1024**4

# What people write who mean something else: bits, decimal units, or no unit.
_OTHER = re.compile(
    r"([0-9]{1,12}(?:\.[0-9]{1,3})?) ?([kmg]?)(i?)(b(?:its?|ps|ytes?)?)?(?:/s|ps)?", re.IGNORECASE
)
_PREFIXES = " kmg"
_BITS = ("b", "bit", "bits", "bps")
_STEP = timedelta(minutes=1)
_LONGEST = timedelta(days=7)


@dataclass(frozen=True)
class Limit:
    """The most bytes a second that may travel, in hours of the local day; None is always."""

    rates: tuple[tuple[Hours | None, int], ...]

    def __bool__(self) -> bool:
        """Return whether it ever limits anything."""
        return bool(self.rates)

    def at(self, moment: datetime, zone: tzinfo) -> int | None:
        """Return the limit at a moment, None if there is none then."""
        local = moment.astimezone(zone).time()
        return next((rate for when, rate in self.rates if when is None or when.has(local)), None)

    def seconds(self, size: int, moment: datetime, zone: tzinfo) -> float:
        """Return how long the limit makes `size` bytes take from a moment on, at least."""
        left, passed = float(size), timedelta()
        while (rate := self.at(moment + passed, zone)) is not None:
            step = _STEP - timedelta(seconds=(moment + passed).second)
            is_settled = self.rates[0][0] is None or passed > _LONGEST
            if is_settled or left <= rate * step.total_seconds():
                return passed.total_seconds() + left / rate
            left -= rate * step.total_seconds()
            passed += step
        return passed.total_seconds()

    def __str__(self) -> str:
        """Return it for people: `500.0 KiB/s from 08:00 to 22:00`."""
        return ", ".join(
            f"{files.to_size(rate)}/s"
            + (f" from {when.begin:%H:%M} to {when.end:%H:%M}" if when else "")
            for when, rate in self.rates
        )


# The limit of a run that has none, whatever the configuration says.
NO_LIMIT = Limit(())


def rate(value: str) -> int:
    """Parse bytes a second with their unit: `500KiB/s`."""
    match = _RATE.fullmatch(value)
    if not match:
        raise ValueError(
            "expected bytes a second with their unit, such as 500KiB/s "
            f"(got {value or 'nothing'}){_advice(value)}"
        )
    found = int(float(match[1]) * _UNITS[match[2]])
    if not LEAST <= found <= _MOST:
        raise ValueError(
            f"expected from 1KiB/s to 1024GiB/s (got {value}); for no limit, leave it out"
        )
    return found


def _advice(value: str) -> str:
    """Return what to write instead, to append to a message; "" if that is anybody's guess."""
    match = _OTHER.fullmatch(value)
    if not match:
        return ""
    number, prefix, binary, unit = match.groups(default="")
    step = 1024 if binary else 1000
    size = float(number) * step ** _PREFIXES.index(prefix.lower() or " ")
    if not unit:
        return f": a limit is in bytes, not in bits; a line of 4 Mbit/s brings {_written(5e5)}"
    if unit != "B" and unit.lower() in _BITS:
        doubt = f", and if you mean bytes, {_written(size)}" if unit == "b" else ""
        return f": in bytes, not in bits, it is {_written(size / 8)}{doubt}"
    return f": write {_written(size)}"


def _written(size: float) -> str:
    """Return a rate as `rate` accepts it."""
    unit = "MiB" if size >= 10 * _UNITS["MiB"] else "KiB"
    return f"{max(1.0, size / _UNITS[unit]):.0f}{unit}/s"


def limit(document: Document, node: yaml.Node, keypath: str) -> Limit:
    """Read a rate, or rates for hours of the day: `{"08:00-22:00": 500KiB/s}`."""
    if isinstance(node.value, str):
        return Limit(((None, _rate(document, node, keypath)),))
    return _in_hours(document, node, keypath)


def _rate(document: Document, node: yaml.Node, keypath: str) -> int:
    # To YAML, a rate without its unit is a number; the error then asks for the unit.
    return rate(scalar(str, "str", "int", "float", "null")(document, node, keypath))


def _in_hours(document: Document, node: yaml.Node, keypath: str) -> Limit:
    found: list[tuple[Hours, int]] = []
    for name, (name_node, rate_node) in document.entries(node, keypath).items():
        try:
            when, most = hours.parse(name), _rate(document, rate_node, join(keypath, name))
        except ValueError as error:
            document.fault(name_node, join(keypath, name), str(error))
            continue
        if any(when.has(other.begin) or other.has(when.begin) for other, _ in found):
            fault = "these hours overlap others, so that two limits would hold"
            document.fault(name_node, join(keypath, name), fault)
        found.append((when, most))
    if not node.value:
        raise ValueError('expected a limit, such as {"08:00-22:00": 500KiB/s}')
    return Limit(tuple(found))
