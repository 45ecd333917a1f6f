"""The verbs of the command line, one module each.

A verb's module has `NAME`, `add_arguments(parser)` and `run(arguments, output) -> exit code`; its
docstring is its help. It imports what it needs when it runs, so that `gymdbd --version` stays
quick and no verb pays for the imports of another.
"""

from __future__ import annotations

import importlib
from typing import Any

_VERBS = (
    "run",
    "backup",
    "pull",
    "emergency",
    "list",
    "verify",
    "restore",
    "drill",
    "accept",
    "reject",
    "keep",
    "unkeep",
    "prune",
    "diff",
    "rescue",
    "status",
    "schedule",
    "check",
    "serve",
    "authorize",
    "completion",
    "demo",
)


def all_verbs() -> list[Any]:
    """Return the module of every verb, in the order of the help."""
    return [importlib.import_module(f"gymdbd.commands.{name}") for name in _VERBS]
