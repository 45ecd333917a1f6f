"""Asks the other machine, by code that is shipped to it, which files it has and has open."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gymdbd import bounded
from gymdbd.remote import bootstrap
from gymdbd.source.errors import GymdbdError, UnreachableError, to_error

if TYPE_CHECKING:
    from gymdbd.remote.ssh.ssh import Connection

_MOST_BYTES = 64 * 1024
_PIECE_BYTES = 16 * 1024


@dataclass(frozen=True)
class Survey:
    """What is on the other machine: its databases, and gymdbd with its Python; "" if it has none.

    Each database has the keys of `gymdbd.source.nearby.Found`.
    """

    home: str
    databases: list[dict[str, Any]]
    program: str
    python: str


def require_same_file(connection: Connection, python: str, database: str) -> str:
    """Raise AnotherFileError if the remote application has another file open.

    Returns why that could not be checked, "" if it could: the account may have no shell or Python.
    """
    answer, why = _answer(connection, python, bootstrap.look(database))
    if answer is None:
        return why
    if "code" in answer:
        raise to_error(answer)
    return ""


def survey(connection: Connection, python: str) -> Survey | None:
    """Return what is to be found on the other machine; None if this key may not look around."""
    answer, _ = _answer(connection, python, bootstrap.survey())
    try:
        found = bounded.typed(Survey, answer or {})
    except TypeError:
        return None
    # They become parts of paths and of a command that a person is to type.
    is_plain = (found.home + found.program + found.python).isprintable()
    return found if is_plain else None


def _answer(connection: Connection, python: str, code: bytes) -> tuple[dict[str, Any] | None, str]:
    """Run shipped code; return the object that it prints last, or None and why there is none."""
    try:
        channel = connection.run(bootstrap.arguments(python))
        channel.writer.write(code)
        channel.writer.flush()
        channel.close_stdin()
        output = bytearray()
        while len(output) < _MOST_BYTES and (piece := channel.reader.read(_PIECE_BYTES)):
            output += piece
    except (OSError, GymdbdError) as error:
        if isinstance(error, UnreachableError) and connection.lost() is not None:
            raise
        return None, str(error)
    try:
        answer = json.loads(bytes(output).rstrip().rpartition(b"\n")[2])
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict):
        return answer, ""
    return None, channel.stderr_tail() or "no answer"
