"""paramiko, imported without what it needs for `Match exec` alone.

Its parser of `~/.ssh/config` runs the command of such a line by the package invoke, which takes
nearly as long to import as the rest of it: a fifth of the time of a pull that finds nothing new.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any


def _import_paramiko() -> None:
    """Import paramiko as on a machine without invoke, where invoke is not there already."""
    modules: dict[str, Any] = sys.modules
    if "invoke" in modules:
        return
    modules["invoke"] = None
    try:
        importlib.import_module("paramiko")
    except ImportError:
        # A release that cannot do without: it says so itself if it is not that.
        for name in [one for one in modules if one.partition(".")[0] == "paramiko"]:
            del modules[name]
    finally:
        del modules["invoke"]


_import_paramiko()

import paramiko  # noqa: E402 - only now
import paramiko.config  # noqa: E402

__all__ = ["allow_match_exec", "paramiko"]


def allow_match_exec() -> None:
    """Give paramiko's parser what a `Match exec` line needs."""
    module: Any = paramiko.config
    module.invoke = importlib.import_module("invoke")
