"""SQLite's WAL-reset bug, as `gymdbd check` tells of it: once, for all machines that have it.

Each part of a check says what it met by `met`; `told_once` makes one warning of all of them.
"""

from __future__ import annotations

import sqlite3

from gymdbd.jobs.finding import OK, WARNING, Check
from gymdbd.source.database import has_wal_reset_bug

_NAME = "sqlite"
_MARK = "has the WAL-reset bug"
# The SQLite of Debian 11, 12 and 13, and of Raspberry Pi OS. Debian does not change this number
# when it repairs something, and no later release of it up to 13 is without the bug.
_DEBIANS = ("3.34.1", "3.40.1", "3.46.1")
_BUG = (
    "if several connections write, a checkpoint by one of them can lose commits (gymdbd's own "
    "checkpoints avoid it)"
)
_CURES = "it is repaired in 3.51.3, 3.50.7 and 3.44.6"
_ON_DEBIAN = (
    "Debian and Raspberry Pi OS have none of these up to 13, but may repair the one they have: "
    "apt-get changelog libsqlite3-0"
)
_UNTIL_THEN = (
    "until then let one connection alone write, or turn off the application's checkpoints (PRAGMA "
    "wal_autocheckpoint=0 on each connection) and leave them to a backup job with checkpoint: "
    "truncate"
)


def here() -> Check:
    """Check the SQLite of this process."""
    if has_wal_reset_bug():
        return met(sqlite3.sqlite_version, "this machine")
    return Check(_NAME, OK, f"SQLite {sqlite3.sqlite_version}")


def met(version: str, machine: str) -> Check:
    """Return that `machine` has a SQLite with the bug, for `told_once`."""
    return Check(_NAME, WARNING, f"SQLite {version} on {machine}", _MARK)


def told_once(checks: list[Check]) -> list[Check]:
    """Return `checks` with one warning, where the first was, in place of all that `met` made."""
    marked = [check for check in checks if check.hint == _MARK]
    if not marked:
        return checks
    found = list(dict.fromkeys(check.message for check in marked))
    verb = "has" if len(found) == 1 else "have"
    cures = [_CURES, _UNTIL_THEN]
    if any(message.split()[1] in _DEBIANS for message in found):
        cures.insert(1, _ON_DEBIAN)
    message = f"{' and '.join(found)} {verb} the WAL-reset bug: {_BUG}"
    warning = Check(_NAME, WARNING, message, "; ".join(cures))
    first = checks.index(marked[0])
    return [*_others(checks[:first]), warning, *_others(checks[first:])]


def _others(checks: list[Check]) -> list[Check]:
    """Leave out what the warning says; a good SQLite would be a second answer to one question."""
    return [
        check
        for check in checks
        if check.hint != _MARK and (check.name, check.state) != (_NAME, OK)
    ]
