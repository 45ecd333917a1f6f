"""A backup in an archive, and the verdict on it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from gymdbd.archive import facts as short
from gymdbd.archive import index
from gymdbd.archive import manifest as manifests
from gymdbd.archive import marks as all_marks
from gymdbd.archive.marks import Marks

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from gymdbd.archive.facts import Facts
    from gymdbd.archive.manifest import Manifest
    from gymdbd.origin import Place
    from gymdbd.source.errors import SourceUnreadableError

VERIFIED = "verified"
UNVERIFIED = "unverified"
SUSPICIOUS = "suspicious"
REJECTED = "rejected"
DAMAGED = "damaged"


@dataclass(frozen=True, kw_only=True)
class Backup:
    """A backup in an archive, and the facts about it.

    `created` comes from the manifest, or from the name as local time. `place` is the place of its
    database, None without a manifest, `former_places` are earlier places of it. `note` is why the
    manifest cannot be used, `unread` why it could not be read, which is no damage, `marks_fault`
    why its marks cannot be read.
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
    unread: SourceUnreadableError | None = field(default=None, compare=False)
    marks_fault: str = ""

    @property
    def order(self) -> tuple[datetime, int]:
        """Return the sort key by age, also for backups of the same second."""
        return self.created, self.again

    @cached_property
    def instant(self) -> int:
        """Return when it was created in microseconds since 1970, by which thousands are sorted."""
        return index.instant(self.created)

    @property
    def where(self) -> str:
        """Return its path as text."""
        return str(self.path)

    @property
    def verdict(self) -> str:
        """Return the verdict on it.

        `damaged` if the last verification found damage, `rejected` if its content was marked as
        wrong, `unverified` if it was never verified, `suspicious` until its suspicious content is
        accepted or rejected, otherwise `verified`.
        """
        if self.marks.problems:
            return DAMAGED
        if self.marks.rejected_at is not None:
            return REJECTED
        if self.facts is None or self.verified_at is None:
            return UNVERIFIED
        if self.facts.is_suspicious and self.marks.accepted_at is None:
            return SUSPICIOUS
        return VERIFIED

    @property
    def facts(self) -> Facts | None:
        """Return its manifest in short; None if it has none that can be used."""
        return short.of(self.manifest) if self.manifest else None

    @property
    def is_damaged(self) -> bool:
        """Return whether its verdict is `damaged`."""
        return bool(self.marks.problems)

    @property
    def waits(self) -> bool:
        """Return whether its verdict is `suspicious`, so that it waits for an answer."""
        return self.verdict == SUSPICIOUS

    @property
    def good(self) -> bool:
        """Return whether `latest` may choose it and others may be compared with it.

        Content that a restore has overwritten was not wanted, so it must be named.
        """
        return self.verdict == VERIFIED and not self.is_overwritten

    @property
    def is_overwritten(self) -> bool:
        """Return whether it holds content that a restore has overwritten."""
        return self.facts is not None and self.facts.is_overwritten

    @property
    def unknown(self) -> str:
        """Return why its manifest or marks cannot be read, or an empty text."""
        return self.unread.message if self.unread else self.marks_fault

    @property
    def verified_at(self) -> str | None:
        """Return when it was last verified: by a verification, or when it was made."""
        made = self.facts.created_at if self.facts and self.facts.is_checked else None
        return self.marks.verified_at or made

    def with_marks(self, marks: Marks) -> Backup:
        """Return this backup as it is if it has these marks."""
        other = copy.copy(self)
        vars(other)["marks"] = marks
        return other

    @property
    def files(self) -> list[Path]:
        """List all of its files, the `.db` first."""
        records = (manifests.manifest_path(self.path), all_marks.marks_path(self.path))
        return [self.path, *self.side_files, *records]
