"""Standard input, output and error if they are closed, full, or no longer read.

The work does not depend on them: a backup is made even if its output is lost.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

_STANDARD = ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w"))


def open_closed() -> None:
    """Open /dev/null in place of each standard stream that is closed.

    Call it before any file is opened: if a database got the descriptor of a closed stream, every
    print would write into it.
    """
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= _STANDARD[-1][0]:
        os.set_inheritable(descriptor, True)
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    for number, name, mode in _STANDARD:
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - no path, and for as long as this process lives
            setattr(sys, name, stream)


def flush(stream: TextIO) -> OSError | None:
    """Flush a stream; if that fails, give it up and return the error."""
    try:
        stream.flush()
    except OSError as error:
        give_up(stream)
        return error
    return None


def give_up(stream: TextIO) -> None:
    """Redirect a stream that cannot be written to /dev/null, and flush its buffer there.

    Otherwise Python would flush it again at exit, print the error, and change the exit code.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    stream.flush()
