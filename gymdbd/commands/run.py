"""run the daemon: every job of the configuration on its schedule

SIGTERM or SIGINT ends it: what is at work gets to a safe point within stop_timeout, a second
signal ends it at once. SIGHUP reads the configuration again; a faulty one is refused and the old
one stays.
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
    from gymdbd.clock import Clock
    from gymdbd.daemon import Daemon

    del output
    settings = common.load_config(arguments)
    log.configure(settings.log)
    return Daemon(settings, Clock()).run()
