"""The manifest beside each backup: what it is, where it came from, and what proves it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from gymdbd import clock
from gymdbd.archive import sealed
from gymdbd.errors import FormatError
from gymdbd.origin import Place

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

# The method of a backup of what a restore was about to overwrite.
OVERWRITTEN = "before-restore"

# What SQLite's check has said of a backup: that it is sound, or nothing, as there was none.
SOUND = "ok"
UNCHECKED = "not checked"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What is known of one backup; times are RFC 3339 with an offset, sizes in bytes.

    `size`, `md5` and `sha256` are those of the `.db` file; `side_files` holds the same of the
    `-wal` that a raw backup keeps, by suffix. `tables` counts the rows of the snapshot.
    `integrity` is SOUND or UNCHECKED. `remarks` says what was found that is no damage, `unchecked`
    what the SQLite that made it could not check, and `uncounted` which tables it could not count.
    `suspicious` says why its content was doubted when it was made: one sentence for each reason.
    `mode` (octal, "0640"), `owner` and `group` are those of the source file: names, or the numbers
    as text; `uid` and `gid` are for machines without these names. None if they are not known.
    `newest` holds `table`, `column`, the greatest `value` there and the instant `at` that it means.
    `moved_from` lists the paths that the database had on `host` before it was moved to `source`.
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
    mode: str | None = None
    owner: str | None = None
    group: str | None = None
    uid: int | None = None
    gid: int | None = None
    schema: int = sealed.SCHEMA

    @property
    def is_checked(self) -> bool:
        """Say whether it was proven sound when it was made."""
        return self.integrity != UNCHECKED

    @property
    def created(self) -> datetime:
        """Return the instant of the snapshot."""
        return clock.from_text(self.created_at)

    @property
    def place(self) -> Place:
        """Return where the database lay when this was made of it."""
        return Place(self.host, self.source)

    @property
    def former_places(self) -> list[Place]:
        """Return where it lay before that."""
        return [Place(self.host, path) for path in self.moved_from]


def manifest_path(backup: Path) -> Path:
    """Return where the manifest of a backup lies: `<backup>.json`."""
    return backup.with_name(backup.name + ".json")


def write(manifest: Manifest, backup: Path) -> None:
    """Write the manifest of `backup`, whole or not at all, with a checksum of its own."""
    sealed.write(manifest_path(backup), asdict(manifest))


def read(backup: Path) -> Manifest | None:
    """Return the manifest of `backup`, None where there is none; FormatError if it is damaged."""
    path = manifest_path(backup)
    try:
        content = sealed.read(path)
        return None if content is None else _from_content(content)
    except sealed.FAULTS as error:
        raise FormatError(
            f"the manifest {path} cannot be used ({error})",
            hint="the backup beside it counts as unverified; look at it with sqlite3 -readonly",
        ) from error


def parse(data: bytes) -> Manifest | None:
    """Return the manifest in the bytes of such a file from elsewhere, None if it is none."""
    try:
        found = _from_content(sealed.parse(data))
        # Nothing of ours has written it, so that even its types are not to be relied upon.
        sound = all(isinstance(one.get("sha256", ""), str) for one in found.side_files.values())
    except sealed.FAULTS:
        return None
    return found if sound else None


def _from_content(content: dict[str, Any]) -> Manifest:
    known = {one.name for one in fields(Manifest)}
    manifest = Manifest(**{name: content[name] for name in known & content.keys()})
    clock.from_text(manifest.created_at)
    return manifest
