"""list the backups of an archive, newest first

Verified means that the file was proven good when it was made; unverified that nothing says so,
as for the backups of older scripts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymdbd.commands import common

if TYPE_CHECKING:
    import argparse

    from gymdbd.archive.catalog import Backup
    from gymdbd.output import Output

NAME = "list"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "--archive", type=Path, metavar="DIR", help="default: every archive of the configuration"
    )
    common.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """List them."""
    from gymdbd.archive.catalog import Catalog
    from gymdbd.clock import Clock

    now = Clock()
    backups = [
        backup
        for archive in common.archives(arguments)
        for backup in Catalog(archive, now.zone).backups()
    ]
    payload = {"backups": [_describe(backup, now.zone) for backup in backups]}

    def tell() -> None:
        if not backups:
            output.say("there are no backups yet; gymdbd backup makes one")
            return
        output.table(
            ["backup", "age", "size", "verdict", "note"],
            [_row(backup, now.now()) for backup in backups],
        )

    output.result(payload, tell)
    return 0


def _describe(backup: Backup, zone: Any) -> dict[str, Any]:
    from gymdbd import clock

    created_at = clock.to_text(backup.created, zone)
    return {
        "path": str(backup.path),
        "created_at": created_at,
        "size": backup.size,
        "verdict": backup.verdict,
        "verified_at": created_at if backup.manifest else None,
        "kept": False,
        "note": backup.note,
    }


def _row(backup: Backup, now: Any) -> list[str]:
    from gymdbd.files import to_size

    return [
        str(backup.path),
        common.age((now - backup.created).total_seconds()),
        to_size(backup.size),
        backup.verdict,
        backup.note,
    ]
