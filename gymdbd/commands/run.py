"""run the daemon: every job of the configuration on its schedule

A run that was missed, because the machine was off or asleep, is made up once.
A run that fails is logged and recorded, and the daemon goes on.

SIGTERM or SIGINT ends it: what is at work gets to a safe point within
stop_timeout; a second signal ends it at once. SIGHUP reads the configuration
again; a faulty one is refused and the old one stays.

Under systemd and launchd this is what the service runs; deploy/ has both.

examples:
  gymdbd -c /etc/gymdbd/config.yaml run
      as the service does; on a terminal the log is shown there

files:
  status_file:   the outcome of every run, and that the daemon is at work
  log: file:     the events as JSON lines, where the configuration names it

exit status:
  0  it was told to stop and did
  1  it failed
  2  the configuration is faulty: every fault is logged with its line; or TZ
     names no time zone
  3  busy: another daemon runs with the same status_file
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd.commands import common

if TYPE_CHECKING:
    import argparse

    from gymdbd.output import Output

NAME = "run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: everything is in the configuration."""
    parser.set_defaults(json=False)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the daemon until it is told to stop."""
    from gymdbd import log
    from gymdbd.clock import Clock, local_zone
    from gymdbd.daemon import Daemon

    del output
    settings = common.load_config(arguments)
    log.configure(settings.log)
    return Daemon(settings, Clock(zone=local_zone())).run()
