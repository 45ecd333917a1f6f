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

With --status, whoever pulls is also told how the jobs of this machine are. With
--peer, the time of a file in --peers says when the holder of this key last
came; a job of kind: watch looks at it. Nothing else is ever written.

examples:
  gymdbd serve --database /home/pi/gym-controller/instance/gym_system.db
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import acting, bounded, files, terms
from gymdbd.config.unit import PEERS
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
    parser.add_argument(
        "--status",
        type=Path,
        metavar="FILE",
        help="also tell the public status of this machine: how its jobs are, without any texts",
    )
    parser.add_argument(
        "--peer",
        type=options.name,
        metavar="NAME",
        help="who has the key: note when that machine came, for a job of kind: watch",
    )
    parser.add_argument(
        "--peers",
        type=Path,
        metavar="DIR",
        default=Path(PEERS),
        help="the folder of these notes (default: %(default)s)",
    )
    parser.set_defaults(json=False)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Serve until the client closes the connection."""
    path = arguments.database
    if (user := acting.decider(files.absolute(path))) is not None:
        acting.become(user)
    if arguments.peer:
        _note(arguments.peers / arguments.peer, output)
    limits: dict[str, timedelta | None] = {
        "stall_timeout_s": arguments.stall_timeout,
        "max_snapshot_s": arguments.max_snapshot,
    }
    return server.main(
        path,
        terms=terms.Terms(
            path,
            sessions=arguments.max_sessions,
            readings=arguments.full_reads,
            status=arguments.status,
        ),
        **{name: limit.total_seconds() for name, limit in limits.items() if limit is not None},
    )


def _note(mark: Path, output: Output) -> None:
    """Note in the time of a file that a peer has come; without a place for it, nothing is noted."""
    try:
        descriptor = bounded.opened(mark, os.O_WRONLY | os.O_CREAT, files.PUBLIC_MODE)
        try:
            os.utime(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # The pull goes on; whoever watches sees that nobody comes.
        reason = error.strerror or error
        output.remark(f"gymdbd: nobody notes over here that {mark.name} came: {reason}")
