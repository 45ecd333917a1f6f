"""say that the content of a backup or replica is wrong

A rejected backup stays as long as the retention rule says, as one that is not
good. It is never offered by latest or --at, nor compared with; by its name it
can still be restored. Pruning and status go on. Rejecting a backup rejects
every older suspicious one of the same database as well; gymdbd accept takes it
back. A restore of an older backup into the database does the same by itself.

With the name of a job all of it that waits is rejected. The replica of a pull
goes on following the other machine: the next pull is compared with the good
state again, and all is well once it passes.

examples:
  gymdbd reject gym_system_backup_20261123_030000.db
      a backup, and the suspicious ones before it
  gymdbd reject nightly-backup
      all suspicious backups of a job
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd.commands import answering, common

if TYPE_CHECKING:
    import argparse

    from gymdbd.output import Output

NAME = "reject"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    answering.add_arguments(parser)


@common.logged
def run(arguments: argparse.Namespace, output: Output) -> int:
    """Reject what is meant."""
    return answering.answer(arguments, output, right=False)
