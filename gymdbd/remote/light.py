"""paramiko, imported without what it needs for `Match exec` alone.

Its parser of `~/.ssh/config` runs the command of such a line by the package invoke, which takes
nearly as long to import as the rest of it: a fifth of the time of a pull that finds nothing new.
"""

from __future__ import annotations

import importlib
from typing import Any

from gymdbd.light import without

with without("invoke", "paramiko"):
    import paramiko
    import paramiko.config

__all__ = ["allow_match_exec", "paramiko"]


def allow_match_exec() -> None:
    """Give paramiko's parser what a `Match exec` line needs."""
    module: Any = paramiko.config
    module.invoke = importlib.import_module("invoke")
