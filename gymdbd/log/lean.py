"""structlog, loaded without rich: that costs as much time as all the rest of it, and 5 MiB.

structlog would load it for tracebacks in boxes, which are never printed here.
"""

from __future__ import annotations

import sys
import threading
from typing import Any


class _Hidden:
    """Hides rich from the thread that loads structlog; others may be drawing tables."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()

    def find_spec(self, name: str, *_: Any) -> None:
        """Report that there is no rich."""
        if name == "rich" and threading.get_ident() == self.thread:
            raise ModuleNotFoundError(name)


_hidden: Any = _Hidden()
sys.meta_path.insert(0, _hidden)
try:
    import structlog
finally:
    sys.meta_path.remove(_hidden)

__all__ = ["structlog"]
