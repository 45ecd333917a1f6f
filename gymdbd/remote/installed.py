"""Asking the gymdbd that is installed on the other machine to do something there."""

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
# A shell that nobody logs in to may not have what the installer puts on the PATH.
_PLACES = (USUAL, "/opt/gymdbd/bin/gymdbd")
_MOST_BYTES = 1024 * 1024
_PIECE_BYTES = 64 * 1024
_MOST_SAID = 500
# What a shell answers for a program that the account may not run, or that is not there.
_NOT_ALLOWED, _NOT_THERE = 126, 127


def ask(connection: Connection, program: str, words: Sequence[str]) -> dict[str, Any]:
    """Run a verb of gymdbd over there and return the object that it prints with --json.

    `program` is its name or path there; the usual one is also looked for where the installer
    puts it. It may be silent for as long as its machine answers. Raises CommandMissingError
    where there is none, ChannelRefusedError where the key may do nothing but pull, and
    RemoteCommandError where what comes is no answer.
    """
    refusal = ""
    for place in _PLACES if program == USUAL else (program,):
        status, output, said = _run(connection, [place, *words, "--json"])
        if protocol.MAGIC in output:
            raise ChannelRefusedError(
                f"the key for {connection.target.place} may do nothing there but serve a pull",
                hint="that is as gymdbd authorize restricts it; a key that may run gymdbd there "
                "would make a backup there too",
            )
        answer = _parse(output)
        if answer is not None:
            return answer
        if status == _NOT_ALLOWED:
            refusal = f" ({said[-_MOST_SAID:]})"
        elif status != _NOT_THERE:
            raise RemoteCommandError(
                f"{place} on {connection.target.place} ended with status {status} and gave no "
                f"answer: {(said or output.decode('utf-8', 'replace').strip())[-_MOST_SAID:]}",
                hint=f"run {place} over ssh by hand to see what it says",
            )
    raise CommandMissingError(
        f"{connection.target.place} has no {program} that this account can run{refusal}",
        hint="install gymdbd there, or say where it is (ssh: gymdbd: in the configuration)",
    )


def _run(connection: Connection, argv: Sequence[str]) -> tuple[int | None, bytes, str]:
    """Run a command without input; return its exit status, what it printed, and its complaints."""
    channel = connection.run(argv)
    channel.close_stdin()
    output = bytearray()
    while data := _read(connection, channel):
        output += data
        if len(output) > _MOST_BYTES:
            raise RemoteCommandError(
                f"{argv[0]} on {connection.target.place} printed more than a megabyte",
                hint="see that it is gymdbd, and what the shell's start-up files print",
            )
    return channel.exit_status(), bytes(output), channel.stderr_tail()


def _read(connection: Connection, channel: Command) -> bytes:
    """Return what is printed next, b"" at the end; a silent command's machine must answer."""
    while True:
        try:
            return channel.reader.read(_PIECE_BYTES)
        except StalledError:
            connection.confirm()


def _parse(output: bytes) -> dict[str, Any] | None:
    """Find the object, after whatever the shell's start-up files have printed; None if none."""
    match = re.search(r"^\{$.*\Z", output.decode("utf-8", "replace"), re.MULTILINE | re.DOTALL)
    try:
        found = json.loads(match.group()) if match else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("state"), str) else None
