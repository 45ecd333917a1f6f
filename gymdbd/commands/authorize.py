"""print the authorized_keys line for a key that can only pull

Add the line to ~/.ssh/authorized_keys of the account on this machine that the
other machine logs in to. With this key, gymdbd pull can read this one database
and nothing else: no shell, no other file, no forwarding, no writing.

On the machine that pulls, create a key for this purpose only. It has no
passphrase, because nobody is there to type one at night:

  ssh-keygen -t ed25519 -N '' -f ~/.ssh/gymdbd

Copy only the public key, ~/.ssh/gymdbd.pub, to this machine. Run this command
as the account that will serve the database; it must be able to read it.

examples:
  gymdbd authorize --key gymdbd.pub >> ~/.ssh/authorized_keys
      for the database that the configuration backs up
  gymdbd authorize --database instance/gym_system.db < gymdbd.pub
      for a database of your choice, with the key from standard input
  gymdbd authorize --status /run/gymdbd/status.public.json --peer mac-office
      the two machines watch each other, too (deploy/docs/watch.md)

files:
  ~/.ssh/authorized_keys   the file for the line; it must have mode 0600
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import files
from gymdbd.config.kinds import BackupConfig
from gymdbd.config.unit import PEERS
from gymdbd.errors import UsageError
from gymdbd.remote.ssh import authorized
from gymdbd.source import database
from gymdbd.terminal import configuration, options

if TYPE_CHECKING:
    import argparse

    from gymdbd.terminal.output import Output

# A public key has some hundred bytes; anything longer is refused without reading it all.
_LONGEST_KEY = 65536


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "--database",
        type=Path,
        metavar="PATH",
        help="the database to serve (default: the only one that the configuration backs up)",
    )
    parser.add_argument(
        "--key", type=Path, metavar="FILE", help="the public key file (default: standard input)"
    )
    parser.add_argument(
        "--gymdbd",
        type=Path,
        metavar="PATH",
        help="the gymdbd program in the line (default: this one)",
    )
    parser.add_argument(
        "--status",
        type=Path,
        metavar="FILE",
        help="also let the key see the public status of this machine: how its jobs are",
    )
    parser.add_argument(
        "--peer",
        type=options.name,
        metavar="NAME",
        help="who gets the key: note when that machine comes, for a job of kind: watch",
    )
    parser.add_argument(
        "--peers", type=Path, metavar="DIR", help=f"the folder of these notes (default: {PEERS})"
    )
    options.add_json(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the line."""
    path = _database(arguments)
    database.locate(path)
    program = _program(arguments.gymdbd)
    command = authorized.command_for(
        program,
        path,
        _interpreter(program),
        status=files.absolute(arguments.status) if arguments.status else None,
        peer=arguments.peer or "",
        peers=files.absolute(arguments.peers) if arguments.peers else None,
    )
    key = authorized.read_key(_key_text(arguments.key))
    line = authorized.line_for(command, key)
    payload = {
        "line": line,
        "command": command,
        "database": str(path),
        "fingerprint": key.fingerprint,
    }
    output.result(payload, lambda: output.verbatim(line))
    return 0


def _database(arguments: argparse.Namespace) -> Path:
    if arguments.database:
        return files.absolute(arguments.database)
    settings = configuration.load(arguments)
    jobs = settings.jobs.values()
    databases = sorted({str(job.database) for job in jobs if isinstance(job, BackupConfig)})
    if len(databases) != 1:
        raise UsageError(
            f"{settings.source} backs up {len(databases)} databases; name one of them",
            hint=f"add --database PATH; in the configuration: {', '.join(databases) or 'none'}",
        )
    return Path(databases[0])


def _program(given: Path | None) -> Path:
    """Return the gymdbd program for the line: the given one, or else the running one."""
    if given:
        candidates = [files.absolute(given)]
    else:
        candidates = [Path(sys.argv[0]).resolve(), Path(sys.executable).with_name("gymdbd")]
        candidates = [path for path in candidates if path.name == "gymdbd"]
    for path in candidates:
        if path.is_file() and os.access(path, os.X_OK):
            return path
    raise UsageError(
        f"{candidates[0]} is not an executable program",
        hint="install gymdbd, or name its executable: --gymdbd /opt/gymdbd/bin/gymdbd",
    )


def _interpreter(program: Path) -> Path | None:
    """Return the Python of a program: the one beside it, as in a virtual environment, or this one.

    None if that is not certain: then the program starts as it does by itself.
    """
    beside = program.with_name("python")
    if beside.is_file() and os.access(beside, os.X_OK):
        return beside
    return Path(sys.executable) if program == Path(sys.argv[0]).resolve() else None


def _key_text(path: Path | None) -> str:
    """Read the key file, or standard input if it is not a terminal."""
    hint = "gymdbd authorize --key gymdbd.pub, or gymdbd authorize < gymdbd.pub"
    if path is None and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError("the public key is missing", hint=hint)
    try:
        with path.open("rb") if path else sys.stdin.buffer as file:
            content = file.read(_LONGEST_KEY + 1)
    except OSError as error:
        raise UsageError(f"the key cannot be read: {error}", hint=hint) from error
    if len(content) > _LONGEST_KEY:
        raise UsageError("the input is too long for a public key", hint=hint)
    return os.fsdecode(content)
