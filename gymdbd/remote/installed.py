"""Running the gymdbd that is installed on the other machine."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from gymdbd.remote.errors import ChannelRefusedError, CommandMissingError, RemoteCommandError
from gymdbd.source import protocol
from gymdbd.source.errors import StalledError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gymdbd.remote.ssh.ssh import Connection
    from gymdbd.remote.ssh.stream import Command

USUAL = "gymdbd"
# The PATH of a shell without a login may lack the folder of the installer.
_PLACES = (USUAL, "/opt/gymdbd/bin/gymdbd")
_MOST_BYTES = 1024 * 1024
_PIECE_BYTES = 64 * 1024
_MOST_STDERR = 500
# Exit codes of a shell for a program that the account may not run, or that does not exist.
_NOT_ALLOWED, _NOT_THERE = 126, 127


def ask(connection: Connection, program: str, words: Sequence[str]) -> dict[str, Any]:
    """Run a verb of gymdbd on the other machine and return the object that it prints with --json.

    `program` is its remote name or path; the usual name is also tried where the installer puts it.
    It may be silent for as long as its machine answers. Raises CommandMissingError if there is no
    such program, ChannelRefusedError if the key allows pulls only, and RemoteCommandError if the
    output is not that of gymdbd.
    """
    refusal = ""
    for place in _PLACES if program == USUAL else (program,):
        status, output, stderr = _run(connection, [place, *words, "--json"])
        if protocol.MAGIC in output:
            raise ChannelRefusedError(
                f"the key for {connection.target.place} may only serve a pull there",
                hint="gymdbd authorize restricts it so; with a key that may run gymdbd there, a "
                "backup would be made there too",
            )
        answer = _parse(output)
        if answer is not None:
            return answer
        if status == _NOT_ALLOWED:
            refusal = f" ({stderr[-_MOST_STDERR:]})"
        elif status != _NOT_THERE:
            raise RemoteCommandError(
                f"{place} on {connection.target.place} exited with status {status} and no result: "
                f"{(stderr or output.decode('utf-8', 'replace').strip())[-_MOST_STDERR:]}",
                hint=f"run {place} over ssh by hand to see what it prints",
            )
    raise CommandMissingError(
        f"{connection.target.place} has no {program} that this account can run{refusal}",
        hint="install gymdbd there, or set its path (ssh: gymdbd: in the configuration)",
    )


def _run(connection: Connection, argv: Sequence[str]) -> tuple[int | None, bytes, str]:
    """Run a command without input; return its exit status, its output and the end of its stderr."""
    channel = connection.run(argv)
    channel.close_stdin()
    output = bytearray()
    while data := _read(connection, channel):
        output += data
        if len(output) > _MOST_BYTES:
            raise RemoteCommandError(
                f"{argv[0]} on {connection.target.place} printed more than a megabyte",
                hint="check that it is gymdbd, and what the shell's start-up files print",
            )
    return channel.exit_status(), bytes(output), channel.stderr_tail()


def _read(connection: Connection, channel: Command) -> bytes:
    """Return the next output, b"" at the end; a silent command's machine must answer."""
    while True:
        try:
            return channel.reader.read(_PIECE_BYTES)
        except StalledError:
            connection.confirm()


def _parse(output: bytes) -> dict[str, Any] | None:
    """Find the object after the output of the shell's start-up files; None if there is none."""
    match = re.search(r"^\{$.*\Z", output.decode("utf-8", "replace"), re.MULTILINE | re.DOTALL)
    try:
        found = json.loads(match.group()) if match else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("state"), str) else None
