"""mark the content of a backup or replica as wrong

A rejected backup is retained as long as the rule says, but does not count as
good: latest and --at never choose it, and no backup is compared with it. You
can still restore it by name. Pruning resumes.

Rejecting a backup also rejects every older suspicious backup of the same
database; gymdbd accept undoes it. Restoring an older backup into the database
rejects its suspicious backups as well.

If you name a job, everything of that job that waits for an answer is rejected.
The replica of a pull keeps following the other machine: the next pull is
compared with the last good state again, and succeeds once it passes.

examples:
  gymdbd reject gym_system_backup_20261123_030000.db
      a backup, and the older suspicious backups of its database
  gymdbd reject nightly-backup
      all suspicious backups of a job
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd.terminal import answering, by_hand

if TYPE_CHECKING:
    import argparse

    from gymdbd.terminal.output import Output

add_arguments = answering.add_arguments


@by_hand.logged
def run(arguments: argparse.Namespace, output: Output) -> int:
    """Reject what is meant."""
    return answering.run(arguments, output, right=False)
