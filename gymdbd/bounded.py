"""Reading files that others may have written: never more bytes than they can need, never a wait.

A pipe or a device in the place of a file would keep the reader for ever, and a file of gigabytes
would take the memory of the machine.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

MOST_BYTES = 32 * 1024 * 1024

# What `parse` raises for bytes that are not ours.
FAULTS = (ValueError, RecursionError, MemoryError)


def read(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return the content; ValueError if it is larger than `most`, or not of an ordinary file.

    Raises OSError if it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if stat.S_ISDIR(facts.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError("it is not an ordinary file")
        # Python allocates as many bytes as are requested, even if the file is smaller.
        data = file.read(min(facts.st_size, most) + 1)
    if len(data) > most:
        raise ValueError(f"it has more than {most} bytes")
    return data


def parse(data: bytes) -> Any:
    """Return the JSON in `data`, None for its NaN and Infinity; one of FAULTS if there is none."""
    return json.loads(data.decode("utf-8", "surrogatepass"), parse_constant=lambda _: None)
