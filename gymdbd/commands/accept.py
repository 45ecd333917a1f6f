"""believe a suspicious backup, so that pruning and status go on

A backup is suspicious when it holds much less than the one before: a table is
gone, or fell by more than gates: in the configuration says. Look at it first
(gymdbd diff). Accepting it accepts every older suspicious one of the same
database as well; the next backup is compared with it.

examples:
  gymdbd accept gym_system_backup_20261123_030000.db
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd.commands import common, looking

if TYPE_CHECKING:
    import argparse

    from gymdbd.archive.catalog import Backup
    from gymdbd.output import Output

NAME = "accept"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("backup", metavar="BACKUP", help="its name in an archive, or its path")
    common.add_archive(parser)
    common.add_json(parser)


@common.logged
def run(arguments: argparse.Namespace, output: Output) -> int:
    """Accept it and those before it."""
    from gymdbd import clock, lock
    from gymdbd.archive import marks
    from gymdbd.archive.catalog import DAMAGED, SUSPICIOUS, Catalog
    from gymdbd.clock import Clock
    from gymdbd.errors import UsageError

    now = Clock()
    backup = looking.find_backup(arguments.backup, arguments)
    catalog = Catalog(backup.path.parent, now.zone)
    if backup.verdict == DAMAGED:
        raise UsageError(
            f"{backup.path} is damaged: {'; '.join(backup.marks.problems)}",
            hint="a damaged backup cannot be accepted; gymdbd verify --repair may mend it",
        )
    with lock.hold([lock.archive_lock(catalog.archive)]):
        accepted = [
            one
            for one in looking.of_the_same(backup)
            if one.verdict == SUSPICIOUS and one.order <= backup.order
        ]
        for one in accepted:
            marks.change(one.path, accepted_at=clock.to_text(now.now(), now.zone))
        if not any(one.verdict == SUSPICIOUS for one in looking.of_the_same(backup)):
            _clear_status(arguments, backup)
    paths = [str(one.path) for one in accepted]

    def tell() -> None:
        for path in paths:
            output.say(f"accepted  {path}")
        if not paths:
            output.say(f"{backup.path} is {backup.verdict}: there was nothing to accept")

    output.result({"state": "ok" if paths else "unchanged", "accepted": paths}, tell)
    return 0


def _clear_status(arguments: argparse.Namespace, backup: Backup) -> None:
    """Let the jobs that make these backups be well again, where a configuration names them."""
    from gymdbd.errors import ConfigError
    from gymdbd.job_config import BackupConfig
    from gymdbd.status import StatusFile, trouble_logged

    try:
        settings = common.load_config(arguments)
    except ConfigError:
        if arguments.archive is None and arguments.config is not None:
            raise
        return
    for job in settings.jobs.values():
        if isinstance(job, BackupConfig) and common.makes(job, backup):
            with trouble_logged():
                StatusFile(settings.status_file).accepted(job)
