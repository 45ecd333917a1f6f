"""run the daemon: every job of the configuration on its schedule

A run that was missed because the machine was off or asleep is made up once. If
a run fails, the failure is logged and recorded, and the daemon continues.

SIGTERM or SIGINT stops the daemon: running jobs have stop_timeout to reach a
safe point; a second signal stops it at once. SIGHUP reloads the configuration;
if it is invalid, the old configuration stays in effect.

systemd and launchd run this command as a service; see the folder deploy/.

examples:
  gymdbd -c /etc/gymdbd/config.yaml run
      like the service; on a terminal, the log is printed there

files:
  status_file:   the outcome of every run, and whether the daemon is alive
  log: file:     the events as JSON lines, if the configuration names a file

exit status:
  0  stopped on request
  1  failure
  2  invalid configuration, every error is logged with its line; or TZ is not a
     time zone
  3  busy: another daemon is using the same status_file
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd import log
from gymdbd.clock import Clock, local_zone
from gymdbd.config import state
from gymdbd.daemon.loop import Daemon
from gymdbd.runs import as_owner
from gymdbd.terminal import configuration

if TYPE_CHECKING:
    import argparse

    from gymdbd.terminal.output import Output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no flags: everything is in the configuration."""
    parser.set_defaults(json=False)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the daemon until it is stopped."""
    del output
    settings = configuration.load(arguments)
    acted = as_owner.act_as_home(settings)
    log.configure(settings.log)
    if acted:
        log.logger().warning("acting as the owner", user=acted)
    if elsewhere := state.standing_elsewhere(settings.source, settings.status_file):
        log.logger().warning(
            "status file not where other commands look",
            status_file=str(settings.status_file),
            elsewhere=str(elsewhere),
            remedy=f"write status_file: {settings.status_file} into {settings.source}",
        )
    return Daemon(settings, Clock(zone=local_zone())).run()
