"""serve one database, read-only, over standard input and output

What a restricted SSH key runs instead of whatever it asks for: gymdbd pull with
such a key gets that database, and can do nothing else. gymdbd authorize prints
the line of authorized_keys for it. People have no use for it at a terminal.

examples:
  gymdbd serve --database /home/pi/gym-controller/instance/gym_system.db
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from gymdbd.output import Output

NAME = "serve"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the one flag."""
    parser.add_argument(
        "--database", type=Path, metavar="PATH", required=True, help="the database to serve"
    )
    parser.set_defaults(json=False)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Serve until the client closes."""
    from gymdbd.remote import server

    del output
    return server.main(arguments.database)
