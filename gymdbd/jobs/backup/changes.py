"""Counting, after a backup, what has changed since the one before it."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from gymdbd.errors import DeadlineError
from gymdbd.jobs.backup.result import Changes, Counts
from gymdbd.jobs.result import plain
from gymdbd.rows.compare import Pair
from gymdbd.rows.difference import digest
from gymdbd.source.errors import GymdbdError
from gymdbd.sqlite.sides import Side

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gymdbd.archive.backup import Backup
    from gymdbd.archive.look import Look
    from gymdbd.jobs.context import Context
    from gymdbd.origin import Origin

# What every database has for it; a large one has half of the time that its backup took.
_LEAST_S = 30.0


def tell(
    look: Look, origin: Origin, path: Path, context: Context, taken_s: float
) -> Changes | None:
    """Log what has changed from the newest good backup before `path` to it, and return that.

    None if there is none before, or if the changes could not be counted: that never fails the
    backup, which is published already. It gives up after half of the `taken_s` seconds that the
    backup took, but at least thirty, or if the run is to end.
    """
    try:
        before, after = _two(look, origin, path)
        if before is None or after is None:
            return None
        return _tell(before, after, context, max(_LEAST_S, taken_s / 2))
    except (GymdbdError, sqlite3.Error, OSError, ValueError) as error:
        hint = error.hint if isinstance(error, GymdbdError) else ""
        context.log.warning("changes not counted", path=str(path), reason=str(error), hint=hint)
        return None


def _two(look: Look, origin: Origin, path: Path) -> tuple[Backup | None, Backup | None]:
    """Return the newest good backup of a database before the one at `path`, and that one."""
    after = next((backup for backup in look.backups(origin) if backup.path == path), None)
    return (look.good_before(origin, after) if after else None), after


def _tell(before: Backup, after: Backup, context: Context, limit_s: float) -> Changes | None:
    if before.side_files or after.side_files:
        # Reading a raw backup needs a copy of it: not worth it here.
        context.log.info("changes not counted", path=str(after.path), reason="a raw backup")
        return None
    check = _limited(context, limit_s)
    with Pair(Side(before.path), Side(after.path), check=check) as pair:
        differences = list(pair.tables())
    changes = Changes(
        previous=str(before.path),
        digest=digest(differences),
        tables={
            difference.name: Counts(
                added=difference.added, changed=difference.changed, removed=difference.removed
            )
            for difference in differences
            if difference.differs
        },
        not_compared={
            difference.name: difference.problem for difference in differences if difference.problem
        }
        or None,
    )
    context.log.info("changes since the backup before", path=str(after.path), **plain(changes))
    return changes


def _limited(context: Context, limit_s: float) -> Callable[[], None]:
    """Return a check that also raises DeadlineError after `limit_s` seconds."""
    end = context.clock.monotonic() + limit_s

    def check() -> None:
        context.check()
        if context.clock.monotonic() > end:
            raise DeadlineError(
                f"it takes longer than {limit_s:.0f} s",
                hint="count_changes: false in the configuration leaves it out",
            )

    return check
