"""The manifest beside each backup: its content, its origin, and its proof."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from gymdbd import bounded, clock
from gymdbd.archive import sealed
from gymdbd.errors import FormatError
from gymdbd.origin import Place

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

# The method of a backup of the content that a restore was about to overwrite.
OVERWRITTEN = "before-restore"

# The result of SQLite's check of a backup: sound, or not checked.
SOUND = "ok"
UNCHECKED = "not checked"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The facts about a backup; times are RFC 3339 with an offset, sizes in bytes.

    `size`, `md5` and `sha256` are those of the `.db` file; `side_files` has the same for the `-wal`
    of a raw backup, by suffix. `tables` has the rows of the snapshot. `integrity` is SOUND or
    UNCHECKED. `remarks` are findings that are not damage, `unchecked` is what the SQLite that made
    the backup could not check, and `uncounted` the tables whose rows it could not count.
    `suspicious` has the reasons why the content was suspicious when the backup was made, one
    sentence each. `mode` (octal, "0640"), `owner` and `group` are those of the source file: names,
    or the numbers as text; `uid` and `gid` are for machines without these names; None if unknown.
    `newest` has `table`, `column`, the greatest `value` there and its time `at`. `moved_from` lists
    the paths that the database had on `host` before it was moved to `source`. `overwritten_by` is
    the name of the backup whose restore overwrote this content.
    """

    source: str
    host: str
    created_at: str
    method: str
    sqlite_version: str
    page_size: int
    page_count: int
    encoding: str
    journal_mode: str
    user_version: int
    application_id: int
    size: int
    md5: str
    sha256: str
    integrity: str
    tables: dict[str, int]
    duration_s: float
    gymdbd_version: str
    checkpoint: dict[str, Any] = field(default_factory=dict)
    side_files: dict[str, dict[str, Any]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    uncounted: list[str] = field(default_factory=list)
    suspicious: list[str] = field(default_factory=list)
    newest: dict[str, Any] | None = None
    moved_from: list[str] = field(default_factory=list)
    overwritten_by: str | None = None
    mode: str | None = None
    owner: str | None = None
    group: str | None = None
    uid: int | None = None
    gid: int | None = None
    schema: int = sealed.SCHEMA

    @property
    def is_checked(self) -> bool:
        """Return whether it was proven sound when it was made."""
        return self.integrity != UNCHECKED

    @property
    def created(self) -> datetime:
        """Return the time of the snapshot."""
        return clock.from_text(self.created_at)

    @property
    def place(self) -> Place:
        """Return the place of the database when this backup was made."""
        return Place(self.host, self.source)

    @property
    def former_places(self) -> list[Place]:
        """Return the earlier places of the database."""
        return [Place(self.host, path) for path in self.moved_from]


def manifest_path(backup: Path) -> Path:
    """Return the path of a backup's manifest: `<backup>.json`."""
    return backup.with_name(backup.name + ".json")


def write(manifest: Manifest, backup: Path) -> None:
    """Write the manifest of `backup` atomically, with its own checksum."""
    sealed.write(manifest_path(backup), asdict(manifest))


def read(backup: Path) -> Manifest | None:
    """Return the manifest of `backup`, None if there is none; FormatError if it is damaged.

    Raises SourceUnreadableError if it cannot be read.
    """
    path = manifest_path(backup)
    try:
        content = sealed.read(path)
        return None if content is None else _from_content(content)
    except sealed.FAULTS as error:
        raise FormatError(
            f"the manifest {path} cannot be used ({error})",
            hint="its backup counts as unverified; examine it with sqlite3 -readonly",
        ) from error


def parse(data: bytes) -> Manifest | None:
    """Return the manifest in the bytes of a file from elsewhere, None if they are invalid."""
    try:
        return _from_content(sealed.parse(data))
    except sealed.FAULTS:
        return None


def _from_content(content: dict[str, Any]) -> Manifest:
    """Make a manifest; one of sealed.FAULTS if a value of it could not be used."""
    manifest = bounded.typed(Manifest, content)
    clock.from_text(manifest.created_at)
    for path in (manifest.source, *manifest.moved_from):
        if "\0" in path:
            raise ValueError("a path in it has a NUL")
        os.fsencode(path)
    for side in manifest.side_files.values():
        # The hashes are those of a -wal; of a -shm there is only the size.
        bounded.typed(_Side, side)
    return manifest


@dataclass(frozen=True)
class _Side:
    """What a manifest says of a file beside the `.db`."""

    size: int
    md5: str = ""
    sha256: str = ""
