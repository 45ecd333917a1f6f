"""The progress of a pull, also for the log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gymdbd.jobs.context import Context

_REPORT_S = 30.0


class LoggedProgress:
    """Passes progress on, and logs it now and then during a long transfer.

    `expect` is called with how many bytes a transfer brings.
    """

    def __init__(self, context: Context, expect: Callable[[int], None]) -> None:
        self.context = context
        self.expect = expect
        self.logged = time.monotonic()

    def __call__(self, step: str, done: int, total: int) -> None:
        """Report that `done` of `total` bytes of a step are done."""
        self.context.progress(step, done, total)
        if step in ("transfer", "copy"):
            self.expect(total)
        if time.monotonic() - self.logged > _REPORT_S:
            self.logged = time.monotonic()
            self.context.log.info("pull under way", step=step, done=done, total=total)
