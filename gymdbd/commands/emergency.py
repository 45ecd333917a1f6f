r"""bring the other machine's database to safety now: three copies

1  backup there: the gymdbd installed on the other machine runs the job of its
   own configuration that backs up the database
2  pull: the database is pulled, as gymdbd pull does it
3  backup here: a verified copy of the replica is stored in the pull's archive

Step 1 is skipped, with a message, if the other machine has no gymdbd or no job
for the database, or if the SSH key can only pull. If a step fails, the other
steps are still tried, and the command fails at the end. A damaged database is
preserved as it is in the folder NAME.damaged/ of the archive. If the archive on
this machine cannot be written, the folder `emergency` beside the replica is
used instead. You can run the command again safely: an existing identical copy
is not made a second time. The copy on this machine is pinned; gymdbd unkeep
lets a later pull prune it.

Each step is reported on standard error when it ends, and the last line lists
the safe copies.

examples:
  gymdbd emergency
      the pull job of the configuration
  gymdbd emergency --host raspberry-pi --replica rescued/gym_system.db \
      --remote-database /home/pi/gym-controller/instance/gym_system.db
      without a configuration, on any machine that can log in there

files:
  ~/.ssh/config, ~/.ssh/known_hosts   how to reach the host, and its key
  backups/, beside the replica        the copy, unless archive: is given
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd.commands import pull
from gymdbd.config.kinds import EmergencyConfig
from gymdbd.config.rate import NO_LIMIT
from gymdbd.jobs.emergency.result import EmergencyResult
from gymdbd.terminal import by_hand, options

if TYPE_CHECKING:
    import argparse

    from gymdbd.jobs.emergency.result import Copy
    from gymdbd.terminal.output import Output

_STEPS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    pull.add_source(parser)
    # No limit is worth the data.
    parser.set_defaults(method=None, info_only=False, limit=NO_LIMIT)
    options.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the three steps, and print where the safe copies are."""
    job, settings = pull.find_job(arguments)
    emergency = EmergencyConfig(
        name="emergency", kind="emergency", pull=job, timeout=_STEPS * job.timeout
    )
    outcome = by_hand.run_job(emergency, settings, output).outcome
    return by_hand.report(outcome, EmergencyResult, _print, output)


def _print(result: EmergencyResult, output: Output) -> None:
    places = _places(result.safe_copies)
    output.print_line(f"safe copies   {', '.join(places) or 'none'}")
    if kept := _places(result.damaged_copies):
        output.print_line(
            f"damaged copy  {', '.join(kept)}; sqlite3 PATH .recover reads what is left "
            "(not Debian's sqlite3)"
        )


def _places(copies: list[Copy]) -> list[str]:
    return [f"{copy.host}:{copy.path}" if copy.host else copy.path for copy in copies]
