"""pin a backup, so that it is never pruned

A pinned backup stays until gymdbd unkeep, whatever keep: in the configuration
says. It still counts as one of the newest backups that the rule retains.

examples:
  gymdbd keep gym_system_backup_20261123_030000.db --note "before the move"
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd import clock, lock
from gymdbd.archive import marks
from gymdbd.archive.backup import DAMAGED
from gymdbd.archive.catalog import Catalog
from gymdbd.clock import Clock
from gymdbd.terminal import by_hand, naming, options

if TYPE_CHECKING:
    import argparse

    from gymdbd.terminal.output import Output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    naming.add_words(parser)
    naming.add_at(parser)
    parser.add_argument(
        "--note", default="", metavar="TEXT", help="the reason, shown by gymdbd list"
    )
    options.add_search(parser)
    options.add_json(parser)


@by_hand.logged
def run(arguments: argparse.Namespace, output: Output) -> int:
    """Pin the backup."""
    now = Clock()
    backup = naming.find_backup(arguments, output)
    catalog = Catalog(backup.path.parent, now.zone)
    with lock.hold([lock.archive_lock(catalog.archive)]):
        backup = catalog.find(backup.path.name)
        kept_at = clock.to_text(now.now(), now.zone)
        marks.change(backup.path, kept_at=kept_at, note=arguments.note)

    def show() -> None:
        output.print_line(f"pinned  {backup.path}")
        if backup.verdict == DAMAGED:
            output.print_line(f"But it is damaged: {'; '.join(backup.marks.problems)}")

    payload = {"path": str(backup.path), "kept": True, "note": arguments.note}
    output.result({**payload, "verdict": backup.verdict}, show)
    return 0
