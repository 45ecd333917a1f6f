"""One backup of an archive, and the verdict on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gymdbd.archive import manifest as manifests
from gymdbd.archive import marks as all_marks
from gymdbd.archive.marks import Marks

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from gymdbd.archive.manifest import Manifest
    from gymdbd.origin import Place

VERIFIED = "verified"
UNVERIFIED = "unverified"
SUSPICIOUS = "suspicious"
REJECTED = "rejected"
DAMAGED = "damaged"


@dataclass(frozen=True, kw_only=True)
class Backup:
    """One backup in an archive, and what is known of it.

    `created` comes from the manifest, or from the name as local time. `place` is where its
    database lay, None if no manifest says that, `former_places` where that had lain before.
    `note` says what of it could not be read or does not fit, `doubt` why its marks are not known.
    """

    path: Path
    stem: str
    created: datetime
    size: int
    manifest: Manifest | None
    place: Place | None = None
    former_places: tuple[Place, ...] = ()
    marks: Marks = field(default_factory=Marks)
    again: int = 1
    side_files: tuple[Path, ...] = ()
    note: str = ""
    doubt: str = ""

    @property
    def order(self) -> tuple[datetime, int]:
        """Return what sorts backups by age, also those of the same second."""
        return self.created, self.again

    @property
    def verdict(self) -> str:
        """Say what it is worth.

        `damaged` when the last verification found it so, `rejected` when somebody said that its
        content is wrong, `unverified` when nothing says that it was proven good, `suspicious`
        while nobody has accepted or rejected its content, else `verified`.
        """
        if self.marks.problems:
            return DAMAGED
        if self.marks.rejected_at is not None:
            return REJECTED
        if self.manifest is None or self.verified_at is None:
            return UNVERIFIED
        if self.manifest.suspicious and self.marks.accepted_at is None:
            return SUSPICIOUS
        return VERIFIED

    @property
    def good(self) -> bool:
        """Say whether it may be offered and relied upon.

        What a restore has overwritten was not wanted: it is offered by its name only.
        """
        return self.verdict == VERIFIED and not self.is_overwritten

    @property
    def is_overwritten(self) -> bool:
        """Say whether it is what a restore has overwritten."""
        return self.manifest is not None and self.manifest.method == manifests.OVERWRITTEN

    @property
    def verified_at(self) -> str | None:
        """Return when it was last proven: by a verification, or when it was made."""
        made = self.manifest.created_at if self.manifest and self.manifest.is_checked else None
        return self.marks.verified_at or made

    @property
    def files(self) -> list[Path]:
        """List everything that belongs to it, the `.db` first."""
        records = (manifests.manifest_path(self.path), all_marks.marks_path(self.path))
        return [self.path, *self.side_files, *records]
