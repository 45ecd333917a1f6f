"""list the backups of an archive, newest first

verified    verified when it was made, or later by gymdbd verify (the column
            "proven" shows how long ago)
unverified  not verified, like the backups of older scripts and an old replica
            of a large database between two checks (check_every)
suspicious  intact, but with much less content than the newest good backup;
            decide with gymdbd accept or gymdbd reject
rejected    somebody has marked its content as wrong; latest never chooses it
damaged     gymdbd verify found damage; it does not count as a backup

examples:
  gymdbd list
      every archive of the configuration
  gymdbd list --archive data/backups/database --json
      one archive, for a program
  gymdbd list --database instance/gym_system.db
      the backups of one database, with or without a configuration
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gymdbd import clock, words
from gymdbd.archive import belonging
from gymdbd.archive import manifest as manifests
from gymdbd.archive.catalog import Catalog
from gymdbd.clock import Clock
from gymdbd.config.kinds import BackupConfig
from gymdbd.files import to_size
from gymdbd.source.errors import GymdbdError
from gymdbd.terminal import configuration, options

if TYPE_CHECKING:
    import argparse
    from datetime import datetime
    from pathlib import Path

    from gymdbd.archive.backup import Backup
    from gymdbd.terminal.output import Output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    options.add_search(parser)
    options.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the backups."""
    now = Clock()
    backups, unread = _read(configuration.archives(arguments), now)
    backups = configuration.of_named(backups, arguments)
    configuration.report_unread(unread)
    payload = {
        "backups": [_describe(backup, now.zone) for backup in backups],
        "unread": [{"error": error.message, "hint": error.hint} for error in unread],
    }

    def show() -> None:
        if not backups:
            output.print_line(_none(arguments))
            return
        named = len({backup.stem for backup in backups}) < len(belonging.origins(backups))
        output.table(
            ["backup", "age", "size", "verdict", "proven", "note"],
            [_row(backup, now.now(), sources=named) for backup in backups],
        )

    output.result(payload, show)
    return 0


def _read(archives: list[Path], now: Clock) -> tuple[list[Backup], list[GymdbdError]]:
    """Return the backups of all archives, and why others could not be read, if not all failed."""
    backups: list[Backup] = []
    unread: list[GymdbdError] = []
    for archive in archives:
        try:
            backups += Catalog(archive, now.zone).backups()
        except GymdbdError as error:
            unread.append(error)
    if unread and len(unread) == len(archives):
        raise unread[0]
    return backups, unread


def _none(arguments: argparse.Namespace) -> str:
    """Return the message if there are no backups, and what creates one."""
    of = f" of {arguments.source}" if arguments.source else ""
    if arguments.archive:
        return f"there are no backups{of} in {arguments.archive}"
    if of:
        return f"there are no backups{of} yet; gymdbd backup makes one"
    jobs = configuration.load(arguments).jobs.values()
    if any(isinstance(job, BackupConfig) for job in jobs):
        return "there are no backups yet; gymdbd backup makes one"
    return "there are no backups yet; gymdbd pull saves each replica that it replaces"


def _describe(backup: Backup, zone: Any) -> dict[str, Any]:
    return {
        "path": str(backup.path),
        "created_at": clock.to_text(backup.created, zone),
        "size": backup.size,
        "source": str(backup.place) if backup.place else None,
        "verdict": backup.verdict,
        "verified_at": backup.verified_at,
        "kept": backup.marks.kept_at is not None,
        "remarks": backup.manifest.remarks if backup.manifest else [],
        "unchecked": backup.manifest.unchecked if backup.manifest else [],
        "note": _note(backup),
    }


def _row(backup: Backup, now: Any, *, sources: bool) -> list[str]:
    return [
        str(backup.path),
        words.age((now - backup.created).total_seconds()),
        to_size(backup.size),
        backup.verdict,
        words.age((now - moment).total_seconds()) if (moment := _proven(backup)) else "-",
        "; ".join(filter(None, [f"of {backup.place}" if sources else "", _note(backup)])),
    ]


def _proven(backup: Backup) -> datetime | None:
    return clock.from_text(backup.verified_at) if backup.verified_at else None


def _note(backup: Backup) -> str:
    """Return the remaining facts about a backup in one line."""
    suspicious = backup.manifest.suspicious if backup.manifest else []
    kept = ["pinned"] if backup.marks.kept_at else []
    if backup.manifest and backup.manifest.method == manifests.OVERWRITTEN:
        kept = ["content overwritten by a restore", *kept]
    accepted = ["accepted"] if backup.marks.accepted_at else []
    if backup.manifest and backup.manifest.unchecked:
        kept = [*kept, "could not be checked completely"]
    if backup.manifest and backup.manifest.remarks:
        kept = [*kept, "violates constraints"]
    said = [*kept, backup.marks.note, *accepted, backup.note, backup.unknown]
    return "; ".join(part for part in [*said, *backup.marks.problems, *suspicious] if part)
