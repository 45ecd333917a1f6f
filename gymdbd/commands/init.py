"""set this machine up: find the database, write a configuration, back it up

It looks for SQLite databases in the current folder, and for those that running
programs have open. If there are several, it asks; without a terminal you name
one. It writes a commented configuration with a backup every night, runs what
gymdbd check runs, makes the first backup, and prints what to do next.

With --host it sets up a copy of another machine's database: it tries the SSH
connection, makes a key, prints the line that lets this key read that database
and nothing else, waits until the line is in place, and pulls once.

You can type it again at any time: it goes on where it was stopped, and changes
nothing that exists. Root writes the configuration of the machine,
/etc/gymdbd/config.yaml, and works as the owner of the database.

examples:
  gymdbd init
      in the folder of the application
  gymdbd init --database instance/gym_system.db --archive /mnt/usb/backups
      without questions
  gymdbd init --host pi@raspberry-pi
      on another machine: keep a copy of the Pi's database there
  gymdbd init --dry-run
      print what would be written, and change nothing

files:
  ~/.config/gymdbd/config.yaml   the configuration (-c FILE for another place)
  data/backups/database/         the backups, in the folder of the application
  ~/.ssh/gymdbd                  the key for pulls (--host)
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd.errors import UsageError
from gymdbd.terminal import options

if TYPE_CHECKING:
    import argparse

    from gymdbd.terminal.output import Output

# The flags that belong to one of the two ways only.
_LOCAL = ("database", "archive")
_REMOTE = ("remote_database", "replica", "port", "wait")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "--database", type=Path, metavar="PATH", help="the database (default: look for it)"
    )
    parser.add_argument(
        "--archive",
        type=Path,
        metavar="DIR",
        help="the folder for the backups (default: data/backups/database in the folder of the "
        "application)",
    )
    parser.add_argument(
        "--host",
        metavar="HOST",
        help="copy the database of this machine, named as for ssh: HOST or USER@HOST",
    )
    parser.add_argument(
        "--remote-database",
        metavar="PATH",
        help="the database on that machine (default: look for it, if you can log in there)",
    )
    parser.add_argument(
        "--replica",
        type=Path,
        metavar="PATH",
        help="the copy on this machine (default: in ~/gymdbd/HOST)",
    )
    parser.add_argument(
        "--port", type=options.number, metavar="N", help="the port of SSH on that machine"
    )
    parser.add_argument(
        "--wait",
        type=_patience,
        metavar="TIME",
        help="how long to wait for the key to be let in (default: 10m, with --json 0s)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be done, and change nothing"
    )
    options.add_json(parser)


def _patience(text: str) -> timedelta:
    return timedelta(0) if text == "0s" else options.duration(text)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Take the first steps with a database here, or on another machine."""
    strange = _LOCAL if arguments.host else _REMOTE
    for name in strange:
        if getattr(arguments, name) is not None:
            flag = "--" + name.replace("_", "-")
            either = "does not go with" if arguments.host else "needs"
            raise UsageError(f"{flag} {either} --host HOST", hint="see gymdbd init --help")
    from gymdbd.terminal.first import Steps  # noqa: PLC0415 - the help does not need it

    steps = Steps(output)
    if arguments.host:
        from gymdbd.terminal import first_pull  # noqa: PLC0415 - a backup needs nothing of it

        if arguments.wait is None:
            arguments.wait = timedelta(0) if output.json else timedelta(minutes=10)
        return first_pull.run(arguments, steps)
    from gymdbd.terminal import first_backup  # noqa: PLC0415 - nor a pull of this

    return first_backup.run(arguments, steps)
