"""A serving side that serves an honest database, and lies about how the jobs of its machine are.

`python lying_status.py DATABASE ANSWER`, where ANSWER is a Python expression for the answer to the
request `status`, or `hang`, `drip` or `end`.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))
from gymdbd.source import public, server

_PAUSE_S = 0.2
# The head of a frame of a megabyte, whose content follows byte by byte.
_FRAME = b"\3\0\0\x10\0\0" + b" " * 10_000
# The server moves standard output elsewhere.
_WIRE = os.dup(1)


def lie(place: object) -> dict[str, Any]:
    """Answer as the command line says."""
    del place
    answer = sys.argv[2]
    if answer == "end":
        os._exit(0)
    for byte in _FRAME if answer == "drip" else b"":
        os.write(_WIRE, bytes([byte]))
        time.sleep(_PAUSE_S)
    begun_by = os.getppid()
    while answer in ("hang", "drip"):
        time.sleep(_PAUSE_S)
        if os.getppid() != begun_by:
            os._exit(0)
    found: dict[str, Any] = eval(answer, {"nan": float("nan")})  # noqa: S307 - ours
    return found


public.read = lie
sys.exit(server.main(Path(sys.argv[1])))
