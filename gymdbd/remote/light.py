"""paramiko, imported without what it needs for `Match exec` alone.

Its parser of `~/.ssh/config` runs the command of such a line by the package invoke, which takes
nearly as long to import as the rest of it: a fifth of the time of a pull that finds nothing new.
"""

from __future__ import annotations

import contextlib
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from gymdbd.light import without

with without("invoke", "paramiko"):
    import paramiko
    import paramiko.config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["answering_match_exec", "paramiko"]

_ONE_AT_A_TIME = threading.Lock()


@contextlib.contextmanager
def answering_match_exec(is_met: Callable[[str], bool]) -> Iterator[None]:
    """Let paramiko's parser ask `is_met` about the command of a `Match exec` line, in the block."""
    module: Any = paramiko.config
    with _ONE_AT_A_TIME:
        answers = SimpleNamespace(run=lambda command, **_: SimpleNamespace(ok=is_met(command)))
        module.invoke = answers
        yield
