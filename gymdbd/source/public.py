"""The public status of this machine, which its daemon writes for those who pull from it.

It is passed on as it is: whoever asked for it reads it. Another file, which somebody has named or
put there by mistake or on purpose, is none of their business.
"""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path
from typing import Any

_MOST_BYTES = 8 * 1024


def read(place: object) -> dict[str, Any]:
    """Return the text of the file, or why there is none, and what time it is here.

    Only an ordinary file is read, no link is followed at its name, and nothing waits for a pipe.
    """
    said: dict[str, Any] = {"now": time.time()}  # noqa: TID251 - there is no Clock here
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(Path(str(place)).expanduser(), flags)
        try:
            is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
            data = os.read(descriptor, _MOST_BYTES + 1) if is_file else b""
            text = data.decode("utf-8", "replace")
            if len(data) <= _MOST_BYTES and _is_status(text):
                return {**said, "text": text}
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return {**said, "refused": "missing"}
    except PermissionError:
        return {**said, "refused": "denied"}
    except (OSError, ValueError, RuntimeError):
        # A link, a pipe that nobody writes to, a name that is none, a text that is no status.
        pass
    return {**said, "refused": "odd"}


def _is_status(text: str) -> bool:
    """Return whether a text is a public status: that of `gymdbd status` has no list of jobs."""
    content = json.loads(text)
    return isinstance(content, dict) and isinstance(content.get("jobs"), list)
