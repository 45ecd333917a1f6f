"""serve one database, read-only, over standard input and output

For an authorized_keys line that lets a key do nothing else:

  restrict,command="gymdbd serve --database /home/pi/app/instance/gym_system.db" ssh-ed25519 ...

`gymdbd pull` with such a key gets that database, whatever it asks for.
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
