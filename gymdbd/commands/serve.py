"""serve one database, read-only, over standard input and output

This is the command that a restricted SSH key runs, whatever the client asks
for: with such a key, gymdbd pull can read that database and nothing else.
gymdbd authorize prints the line for authorized_keys. There is no need to run
this command on a terminal.

It holds one snapshot until the client closes the connection. If no data moves
for --stall-timeout, the connection is closed, so that a vanished client cannot
let the WAL grow.

examples:
  gymdbd serve --database /home/pi/gym-controller/instance/gym_system.db
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd.source import server
from gymdbd.terminal import options

if TYPE_CHECKING:
    import argparse

    from gymdbd.terminal.output import Output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "--database", type=Path, metavar="PATH", required=True, help="the database to serve"
    )
    parser.add_argument(
        "--stall-timeout",
        type=options.duration,
        metavar="TIME",
        help="close the connection if no data moves for this long (default: 15m)",
    )
    parser.set_defaults(json=False)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Serve until the client closes the connection."""
    del output
    if arguments.stall_timeout is None:
        return server.main(arguments.database)
    stall_timeout_s = arguments.stall_timeout.total_seconds()
    return server.main(arguments.database, stall_timeout_s=stall_timeout_s)
