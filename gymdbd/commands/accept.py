"""accept a suspicious backup or replica, so that pruning resumes

A backup is suspicious if it holds much less than the newest good backup: a
table is missing, or has lost more rows than gates: in the configuration allows.
The data that a pull brings is compared in the same way. Look at the backup
first (gymdbd diff).

Accepting a backup also accepts every older suspicious backup of the same
database; the next backup is compared with it. If you name a job, everything of
that job that waits for an answer is accepted, including the replica of a pull.
The opposite of accept is gymdbd reject.

examples:
  gymdbd accept gym_system_backup_20261123_030000.db
      a backup, and the older suspicious backups of its database
  gymdbd accept pull-from-pi
      the replica of a job, and its suspicious backups
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
    """Accept what is meant."""
    return answering.run(arguments, output, right=True)
