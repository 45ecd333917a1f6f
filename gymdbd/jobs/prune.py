"""Removing the backups past retention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd.archive import retention

if TYPE_CHECKING:
    from gymdbd.archive.catalog import Catalog
    from gymdbd.archive.look import Look
    from gymdbd.archive.retention import Decision
    from gymdbd.config.parts import Keep
    from gymdbd.jobs.context import Context
    from gymdbd.origin import Origin


def decide(
    catalog: Catalog, origin: Origin, keep: Keep, context: Context, look: Look | None = None
) -> list[Decision]:
    """Decide for every backup of one database whether it stays, and why.

    `look` is how the archive is now, if the caller knows.
    """
    look = look or catalog.look()
    backups = look.backups(origin)
    decisions = retention.plan(backups, vars(keep), context.clock.now(), context.clock.zone)
    frozen = catalog.frozen(origin, look)
    if not frozen:
        return decisions
    return [
        retention.Decision(decision.backup, True, f"pruning is frozen: {frozen}")
        for decision in decisions
    ]


def prune(
    catalog: Catalog, origin: Origin, keep: Keep, context: Context, look: Look | None = None
) -> list[Decision]:
    """Remove the backups past retention; return every decision.

    The caller holds the lock, and has held it since before the `look`.
    """
    decisions = decide(catalog, origin, keep, context, look)
    for decision in decisions:
        if not decision.stays:
            context.check()
            catalog.remove(decision.backup)
            context.log.info(
                "backup pruned", path=str(decision.backup.path), reason=decision.reason
            )
    return decisions
