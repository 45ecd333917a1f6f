"""The time: instants are aware UTC datetimes, intervals are monotonic seconds.

A Raspberry Pi has no clock that survives a power cut, so an instant may be wrong by decades; only
`is_plausible` decides whether to trust it. The time zone is that of the C library: $TZ if it is
set, otherwise /etc/localtime.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import struct
import time
import zoneinfo
from dataclasses import dataclass, field
from datetime import MAXYEAR, MINYEAR, UTC, datetime, tzinfo
from pathlib import Path

from gymdbd.errors import TimeZoneError
from gymdbd.words import did_you_mean

# If the clock of a machine that runs this release shows an earlier time, it is wrong.
RELEASED = datetime(2026, 11, 1, tzinfo=UTC)

_LOCALTIME = Path("/etc/localtime")
_IN_DATABASE = re.compile(r"/zoneinfo[^/]*/(.+)")
# More than any zone has; a file that is not a zone may be endless.
_MOST_BYTES = 1024 * 1024
# As in EST5EDT, CET-1CEST,M3.5.0,M10.5.0/3 and <+03>-3. A summer time without rules has those of
# the USA.
_POSIX = re.compile(r"([A-Za-z]{3,}|<[-+A-Za-z0-9]{3,}>)[-+0-9]")
_USUAL_RULES = ",M3.2.0,M11.1.0"


def local_zone() -> tzinfo:
    """Return the time zone of this machine as it is set now; TimeZoneError if $TZ is invalid.

    As long as the zone is the same, the same object is returned.
    """
    setting = os.environ.get("TZ")
    if setting is None:
        return _zone_of_machine()
    name = setting.removeprefix(":")
    if name in ("", "UTC"):
        return UTC
    for read in (_from_database, _from_rules):
        with contextlib.suppress(OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
            return read(name)
    raise TimeZoneError(
        f"the environment variable TZ is {setting}, and there is no such time zone"
        f"{did_you_mean(name, zoneinfo.available_timezones())}",
        hint="set TZ to a name such as Europe/Berlin, or unset it to use the zone of the machine "
        "(timedatectl); the names come with the package tzdata",
    )


def _zone_of_machine() -> tzinfo:
    """Return the zone of /etc/localtime; UTC if there is none, as in the C library."""
    try:
        return _from_file(_LOCALTIME)
    except (OSError, ValueError):
        return UTC


def fault_of_machine() -> str:
    """Return why the zone of the machine cannot be read, so that UTC is used; empty if it can."""
    try:
        _from_file(_LOCALTIME)
    except (OSError, ValueError) as error:
        if "TZ" not in os.environ and os.path.lexists(_LOCALTIME):
            return f"the time zone of the machine, {_LOCALTIME}, cannot be read ({error})"
    return ""


def _from_database(name: str) -> tzinfo:
    path = Path(name)
    return _from_file(path) if path.is_absolute() else zoneinfo.ZoneInfo(name)


def _from_file(path: Path) -> tzinfo:
    with path.open("rb") as file:
        return _zone(_name(path), file.read(_MOST_BYTES))


def _name(path: Path) -> str:
    """Return the name of the zone in a file, from a link into the database of zones."""
    link = str(path.readlink()) if path.is_symlink() else ""
    found = [_IN_DATABASE.search(place) for place in (link, str(path), os.path.realpath(path))]
    return next((match[1] for match in found if match), str(path))


def _from_rules(text: str) -> tzinfo:
    """Return the zone that a POSIX TZ string describes; ValueError if it is invalid."""
    if not _POSIX.match(text):
        raise ValueError(f"{text} is not a POSIX TZ string")
    # A file of version 2 without past changes: only its last line counts.
    empty = b"TZif2" + bytes(15) + struct.pack(">6l", *[0] * 6)
    for rules in (text, text.rstrip(",") + _USUAL_RULES):
        try:
            zone = _zone(text, empty + empty + b"\n" + rules.encode("ascii") + b"\n")
            # An offset of a day or more is refused when it is used.
            RELEASED.astimezone(zone).utcoffset()
        except ValueError:
            continue
        return zone
    raise ValueError(f"{text} is not a POSIX TZ string")


@functools.lru_cache(maxsize=4)
def _zone(name: str, data: bytes) -> tzinfo:
    return zoneinfo.ZoneInfo.from_file(io.BytesIO(data), key=name)


def _zone_to_show() -> tzinfo:
    """Return the zone for printed times; an invalid $TZ means UTC, as for every other program."""
    try:
        return local_zone()
    except TimeZoneError:
        return UTC


@dataclass(frozen=True)
class Clock:
    """The clock of this machine; tests pass a clock that they set."""

    zone: tzinfo = field(default_factory=_zone_to_show)

    def now(self) -> datetime:
        """Return this instant, aware and in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never go back, counted from an arbitrary start."""
        return time.monotonic()

    def since_boot(self) -> float:
        """Return the seconds since this machine was started, those that it was asleep included."""
        # On macOS, this clock of its system goes on while it sleeps, and `monotonic` does not.
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC_RAW))


def is_plausible(now: datetime) -> bool:
    """Return whether `now` can be right: it is not before this release."""
    return now >= RELEASED


def to_text(moment: datetime, zone: tzinfo) -> str:
    """Format an instant as RFC 3339 with the offset of `zone`, to the second."""
    return moment.astimezone(zone).isoformat(timespec="seconds")


def to_minute(moment: datetime, zone: tzinfo) -> str:
    """Format an instant for people: `2026-11-28 03:00+09:00`."""
    return moment.astimezone(zone).isoformat(" ", "minutes")


def timestamp() -> str:
    """Return this instant in the format of the log, in local time."""
    return datetime.now(UTC).astimezone().isoformat()


def from_text(text: str) -> datetime:
    """Parse RFC 3339 with an offset into an aware UTC instant; ValueError if it is invalid."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset")
    with contextlib.suppress(OverflowError):
        found = moment.astimezone(UTC)
        # In every zone, too.
        if MINYEAR < found.year < MAXYEAR:
            return found
    raise ValueError(f"{text!r} is outside the calendar")
