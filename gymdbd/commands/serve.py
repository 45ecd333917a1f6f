"""serve one database, read-only, over standard input and output

This is the command that a restricted SSH key runs, whatever the client asks
for: with such a key, gymdbd pull can read that database and nothing else.
gymdbd authorize prints the line for authorized_keys. There is no need to run
this command on a terminal.

Whoever has the key cannot harm the application. A snapshot, which lets the WAL
grow, ends after --max-snapshot, and the pull goes on with a new one. A database
without a WAL is read in turns of at most a second, with pauses as long. If no
data moves for --stall-timeout, the connection is closed. There are at most
--max-sessions at a time, and all pages are read at most --full-reads times an
hour, or as often as is no load: a small database every few seconds.

examples:
  gymdbd serve --database /home/pi/gym-controller/instance/gym_system.db
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import acting, files, terms
from gymdbd.source import server
from gymdbd.terminal import options

if TYPE_CHECKING:
    import argparse
    from datetime import timedelta

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
    parser.add_argument(
        "--max-snapshot",
        type=options.duration,
        metavar="TIME",
        help="end a snapshot in WAL mode after this long (default: 30m)",
    )
    parser.add_argument(
        "--max-sessions",
        type=options.number,
        metavar="N",
        default=terms.SESSIONS,
        help="how many sessions may be open at a time (default: %(default)s)",
    )
    parser.add_argument(
        "--full-reads",
        type=options.number,
        metavar="N",
        default=terms.READINGS,
        help="how often an hour all pages of a large database may be read (default: %(default)s)",
    )
    parser.set_defaults(json=False)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Serve until the client closes the connection."""
    del output
    path = arguments.database
    if (user := acting.decider(files.absolute(path))) is not None:
        acting.become(user)
    limits: dict[str, timedelta | None] = {
        "stall_timeout_s": arguments.stall_timeout,
        "max_snapshot_s": arguments.max_snapshot,
    }
    return server.main(
        path,
        terms=terms.Terms(path, sessions=arguments.max_sessions, readings=arguments.full_reads),
        **{name: limit.total_seconds() for name, limit in limits.items() if limit is not None},
    )
