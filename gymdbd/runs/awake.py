"""Keeping a Mac awake while a run is at work."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOWHERE = subprocess.DEVNULL


@contextlib.contextmanager
def kept_awake() -> Iterator[None]:
    """Keep a Mac from going to sleep by itself while the block runs; elsewhere do nothing.

    A closed lid or a person still sends it to sleep. The run works without it.
    """
    with contextlib.ExitStack() as stack:
        if sys.platform == "darwin":
            # It ends with this process, too, however that ends.
            command = ["caffeinate", "-i", "-w", str(os.getpid())]
            with contextlib.suppress(OSError):
                keeper = stack.enter_context(
                    subprocess.Popen(command, stdin=_NOWHERE, stdout=_NOWHERE, stderr=_NOWHERE)
                )
                stack.callback(keeper.terminate)
        yield
