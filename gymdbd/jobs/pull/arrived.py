"""A snapshot that a pull has fetched and not yet proven."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

    from gymdbd.jobs.pull.result import Fetched


@dataclass
class Arrived:
    """A snapshot that lies beside the replica as its partial, not yet proven.

    `expected` is what must be found in it, `changed` the pages in which it differs from the
    replica, None where that is not known, `copied` how the partial became a copy of it at first,
    `taken` the monotonic time when the snapshot began, `ownership` the mode, owner and group of
    the source if they are known, `journal_mode` that of the source, `fetched` how it was read, None
    if nothing was. The limit of the job made it wait `waited_s`.
    """

    strategy: str
    taken: float
    reason: str
    pages_total: int | None = None
    pages_changed: int | None = None
    fetched: Fetched | None = None
    bytes_sent: int = 0
    bytes_received: int = 0
    waited_s: float = 0.0
    expected: dict[str, Any] = field(default_factory=dict)
    fingerprint: dict[str, Any] | None = None
    journal_mode: str = ""
    changed: Collection[int] | None = None
    copied: str = ""
    ownership: dict[str, Any] | None = None
