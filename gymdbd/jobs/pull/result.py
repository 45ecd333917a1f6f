"""The result of a pull."""

from __future__ import annotations

from dataclasses import dataclass

from gymdbd.jobs.result import Result, if_known, inner, part
from gymdbd.remote import delta


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """How the other side was read, and how the new replica began as a copy of the old one."""

    read: str
    copied: str | None


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """What the checks of a new replica found."""

    remarks: list[str]
    sha256: str | None


@dataclass(frozen=True, kw_only=True)
class Limited:
    """The limit of a pull, how long it made the pull wait, and what is to be said of it."""

    limit: str
    waited_s: float
    limit_warning: str | None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What waits for accept or reject, if anything does."""

    waiting: str | None


@dataclass(frozen=True, kw_only=True)
class Held:
    """What the replica holds after a pull, and where the old one was saved."""

    tables: dict[str, int]
    checked: str | None = None
    adopted: Adopted | None = None
    saved: str | None = None
    answer: Answer | None = None
    lag_s: float = 0.0
    is_unchanged: bool = False


@dataclass(frozen=True, kw_only=True)
class PullResult(Result):
    """What the replica holds now, and how it was fetched.

    `pages_total` and `pages_changed` are None if they are not known. `checked` says how much SQLite
    has checked, None if nothing arrived; `fetched` and `adopted` are None if there was no such
    step, `limited` if there was no limit, `answer` if nobody was to be asked. `size` is that of the
    replica.
    """

    strategy: str
    method: str
    replica: str
    reason: str
    pages_total: int | None
    pages_changed: int | None
    fetched: Fetched | None = part()
    bytes_sent: int
    bytes_received: int
    limited: Limited | None = part()
    size: int | None = if_known()
    tables: dict[str, int]
    checked: str | None = if_known()
    adopted: Adopted | None = part()
    saved: str | None
    answer: Answer | None = part()
    lag_s: float
    duration_s: float
    timings: dict[str, float]
    is_unchanged: bool = inner(default=False)

    @property
    def state(self) -> str:
        """Return `unchanged` if the replica was up to date before."""
        return delta.UNCHANGED if self.is_unchanged else "ok"

    @property
    def remarks(self) -> list[str]:
        """Return the remarks on a new replica, and on how it came."""
        slow = self.limited.limit_warning if self.limited else None
        return [*(self.adopted.remarks if self.adopted else []), *([slow] if slow else [])]

    @property
    def waiting(self) -> str | None:
        """Return what waits for accept or reject."""
        return self.answer.waiting if self.answer else None
