"""accept a suspicious backup or replica, so that pruning and status go on

A backup is suspicious when it holds much less than the newest good one: a table
is gone, or fell by more than gates: in the configuration says. What a pull
brings is looked at likewise. Look at it first (gymdbd diff). Accepting a backup
accepts every older suspicious one of the same database as well; the next is
compared with it. With the name of a job all of it that waits is accepted, the
replica of a pull too. gymdbd reject says the contrary.

examples:
  gymdbd accept gym_system_backup_20261123_030000.db
      a backup, and the suspicious ones before it
  gymdbd accept pull-from-pi
      the replica of a job, and its suspicious backups
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd.commands import answering, common

if TYPE_CHECKING:
    import argparse

    from gymdbd.output import Output

NAME = "accept"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    answering.add_arguments(parser)


@common.logged
def run(arguments: argparse.Namespace, output: Output) -> int:
    """Accept what is meant."""
    return answering.answer(arguments, output, right=True)
