"""A snapshot that a pull has brought and nobody has proven yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

    from gymdbd.remote.ssh.ssh import Connection


@dataclass
class Arrived:
    """A snapshot that lies beside the replica as its partial, not yet proven.

    `expected` is what must be found in it, `changed` the pages in which it differs from the
    replica, None where that is not known, `copied` how the partial became a copy of it at first,
    `taken` the monotonic time when the snapshot began, `ownership` the mode, owner and group of
    the source if they are known.
    """

    strategy: str
    taken: float
    facts: dict[str, Any]
    expected: dict[str, Any] = field(default_factory=dict)
    fingerprint: dict[str, Any] | None = None
    changed: Collection[int] | None = None
    copied: str = ""
    ownership: dict[str, Any] | None = None


def traffic(connection: Connection) -> dict[str, int]:
    """Return what the result of a pull says of the bytes that travelled."""
    return {"bytes_sent": connection.bytes_sent, "bytes_received": connection.bytes_received}
