"""Whether another process has locked bytes of an open file, without taking a lock to find out."""

from __future__ import annotations

import fcntl
import os
import struct
import sys

# struct flock of fcntl(2), with 64-bit offsets: Python has them on 32-bit machines as well.
_LINUX, _BSD = "hhqqi4x", "qqihhi4x"


def is_locked(descriptor: int, span: range) -> bool:
    """Return whether a POSIX lock of another process would prevent writing any of these bytes."""
    kind, whence, start, size = fcntl.F_WRLCK, os.SEEK_SET, span.start, len(span)
    if sys.platform == "linux":
        asked = struct.pack(_LINUX, kind, whence, start, size, 0)
        found = struct.unpack(_LINUX, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))[0]
    else:
        asked = struct.pack(_BSD, start, size, 0, kind, whence, 0)
        found = struct.unpack(_BSD, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))[3]
    return bool(found != fcntl.F_UNLCK)
