"""Checks which file the other machine's processes have open, for a pull by scp."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gymdbd.remote import bootstrap
from gymdbd.source import protocol
from gymdbd.source.errors import GymdbdError, UnreachableError

if TYPE_CHECKING:
    from gymdbd.remote.ssh.ssh import Connection

_MOST_BYTES = 64 * 1024
_PIECE_BYTES = 16 * 1024


def require_same_file(connection: Connection, python: str, database: str) -> str:
    """Raise AnotherFileError if the remote application has another file open.

    Returns why that could not be checked, "" if it could: the account may have no shell or Python.
    """
    try:
        channel = connection.run(bootstrap.arguments(python))
        channel.writer.write(bootstrap.look(database))
        channel.writer.flush()
        channel.close_stdin()
        output = bytearray()
        while len(output) < _MOST_BYTES and (piece := channel.reader.read(_PIECE_BYTES)):
            output += piece
    except (OSError, GymdbdError) as error:
        if isinstance(error, UnreachableError) and connection.lost() is not None:
            raise
        return str(error)
    try:
        answer = json.loads(bytes(output).rstrip().rpartition(b"\n")[2])
        code = answer.get("code")
    except (ValueError, AttributeError, RecursionError):
        return channel.stderr_tail() or "no answer"
    if code is not None:
        raise protocol.to_error(answer)
    return ""
