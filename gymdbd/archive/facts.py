"""The facts of a manifest that lists and rules need: little enough to be kept in an index."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gymdbd.archive import manifest as manifests

if TYPE_CHECKING:
    from datetime import datetime

    from gymdbd.archive.manifest import Manifest
    from gymdbd.origin import Place


class Facts(NamedTuple):
    """A manifest in short: `size` is that of the `.db`, `rows` are those of all tables."""

    created_at: str
    created: datetime
    place: Place
    former_places: tuple[Place, ...]
    size: int
    rows: int
    is_checked: bool = True
    is_overwritten: bool = False
    is_suspicious: bool = False
    has_remarks: bool = False
    has_unchecked: bool = False


def of(manifest: Manifest) -> Facts:
    """Return the facts of a manifest."""
    return Facts(
        created_at=manifest.created_at,
        created=manifest.created,
        place=manifest.place,
        former_places=tuple(manifest.former_places),
        size=manifest.size,
        rows=sum(manifest.tables.values()),
        is_checked=manifest.is_checked,
        is_overwritten=manifest.method == manifests.OVERWRITTEN,
        is_suspicious=bool(manifest.suspicious),
        has_remarks=bool(manifest.remarks),
        has_unchecked=bool(manifest.unchecked),
    )
