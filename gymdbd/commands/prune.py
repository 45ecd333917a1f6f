"""remove the backups that the retention rule does not retain

The newest verified backup and pinned backups are never removed. Nothing is
removed while the source is damaged, a backup is suspicious or the clock looks
wrong. Files that are not backups are never touched. --dry-run removes nothing
and prints for every backup whether it would be removed, and why.

The rule retains backups younger than --keep-days, also the newest --keep-count,
and the newest one of each of the last --keep-daily days, --keep-weekly weeks,
... that have backups. Without any of these flags, the rule is the keep: section
of the job whose archive it is. In an archive that no job has, it is that of the
scripts which gymdbd replaces: 14 days and the newest 10. A rule that the
command line does not give is printed before anything is removed. Hours, days
and weeks are those of this machine's time zone.

examples:
  gymdbd prune nightly-backup --dry-run
      what the rule of the configuration would remove
  gymdbd prune --archive data/backups/database --keep-days 14 --keep-count 10
      every database with backups in a folder; that needs no configuration
  gymdbd prune --database instance/gym_system.db --dry-run
      the backups of one database
  gymdbd prune nightly-backup --keep-daily 7 --keep-weekly 4 --keep-monthly 12
      one a day for a week, one a week for a month, one a month for a year
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gymdbd import lock, log
from gymdbd.archive.catalog import Catalog
from gymdbd.jobs import prune
from gymdbd.jobs.context import Context
from gymdbd.terminal import by_hand, options, retention

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from gymdbd.archive.retention import Decision
    from gymdbd.terminal.output import Output
    from gymdbd.terminal.retention import Rule


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    options.add_job(parser, "backup")
    options.add_search(parser)
    options.add_retention(parser)
    parser.add_argument("--dry-run", action="store_true", help="remove nothing, print the plan")
    options.add_json(parser)


@by_hand.logged
def run(arguments: argparse.Namespace, output: Output) -> int:
    """Prune, or print what would be pruned."""
    found = retention.rules(arguments)
    for rule in found:
        if rule.told:
            output.remark(f"gymdbd: {rule}")
    context = Context(log=log.logger())
    decisions: list[Decision] = []
    for archive in dict.fromkeys(rule.archive for rule in found):
        catalog = Catalog(archive, context.clock.zone)
        of_archive = [rule for rule in found if rule.archive == archive]
        if arguments.dry_run:
            look = catalog.look()
            for rule in of_archive:
                decisions += prune.decide(catalog, rule.origin, rule.keep, context, look)
            continue
        with lock.hold([lock.archive_lock(archive)]):
            for path in catalog.sweep():
                context.log.warning("leftover of an interrupted run removed", path=str(path))
            for rule in of_archive:
                decisions += prune.prune(catalog, rule.origin, rule.keep, context)
    decisions = _once(decisions) if len(found) > 1 else decisions
    _print(found, decisions, output, dry_run=arguments.dry_run)
    return 0


def _once(decisions: list[Decision]) -> list[Decision]:
    """Drop duplicates: a file without a manifest is listed among the backups of every database."""
    found: dict[Path, Decision] = {}
    for decision in sorted(decisions, key=lambda decision: decision.stays):
        found.setdefault(decision.backup.path, decision)
    return [decision for decision in decisions if found[decision.backup.path] is decision]


def _print(rules: list[Rule], decisions: list[Decision], output: Output, *, dry_run: bool) -> None:
    # There may be thousands.
    described = [
        {"path": decision.backup.where, "stays": decision.stays, "reason": decision.reason}
        for decision in (decisions if output.json else ())
    ]
    gone = [decision.backup.where for decision in decisions if not decision.stays]
    verb = "would be removed" if dry_run else "removed"

    def text() -> None:
        folder = None
        for decision in decisions:
            word = "stays" if decision.stays else verb
            parent, _, name = decision.backup.where.rpartition(os.sep)
            if parent != folder:
                folder = parent
                output.print_line(folder)
            output.print_line(f"{word:<{len(verb)}}  {name}  ({decision.reason})")
        output.print_line(f"{len(gone)} of {len(decisions)} backups {verb}")

    told = [
        {
            "archive": str(rule.archive),
            "source": str(rule.origin),
            "from": rule.told,
            **vars(rule.keep),
        }
        for rule in rules
    ]
    payload = {"dry_run": dry_run, "rules": told, "pruned": gone, "backups": described}
    output.result(payload, text)
