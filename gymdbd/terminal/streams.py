"""Standard input, output and error, which may be closed, full, or read by nobody any more.

Work does not depend on them: a backup is made though nobody hears of it.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

_STANDARD = ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w"))


def open_closed() -> None:
    """Put /dev/null in the place of each standard stream that is closed.

    To be called before any file is opened: a database that got the number of a closed stream
    would be written to by whatever prints.
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
    """Write out what a stream still holds; return why it cannot be, and is given up then."""
    try:
        stream.flush()
    except OSError as error:
        give_up(stream)
        return error
    return None


def give_up(stream: TextIO) -> None:
    """Let a stream that cannot be written lead to /dev/null, with what it still holds.

    Otherwise Python would try again at its end, complain, and exit with a code of its own.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    stream.flush()
