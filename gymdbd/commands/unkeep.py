"""remove the pin from a backup, so that it can be pruned again

examples:
  gymdbd unkeep gym_system_backup_20261123_030000.db
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd import lock
from gymdbd.archive import marks
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
    options.add_search(parser)
    options.add_json(parser)


@by_hand.logged
def run(arguments: argparse.Namespace, output: Output) -> int:
    """Remove the pin."""
    backup = naming.find_backup(arguments, output)
    catalog = Catalog(backup.path.parent, Clock().zone)
    with lock.hold([lock.archive_lock(catalog.archive)]):
        backup = catalog.find(backup.path.name)
        was_kept = backup.marks.kept_at is not None
        if was_kept:
            marks.change(backup.path, kept_at=None, note="")
    words = "no longer pinned" if was_kept else "was not pinned"
    payload = {"state": "ok" if was_kept else "unchanged", "path": str(backup.path), "kept": False}
    output.result(payload, lambda: output.print_line(f"{words}  {backup.path}"))
    return 0
