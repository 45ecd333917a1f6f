"""The manifest beside each backup: what it is, where it came from, and what proves it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from gymdbd import clock, files
from gymdbd.errors import FormatError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

SCHEMA = 1
_MAX_SIZE = 64 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What is known of one backup; times are RFC 3339 with an offset, sizes in bytes.

    `size`, `md5` and `sha256` are those of the `.db` file; `side_files` holds the same of the
    `-wal` that a raw backup keeps, by suffix. `tables` counts the rows of the snapshot.
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
    schema: int = SCHEMA

    @property
    def created(self) -> datetime:
        """Return the instant of the snapshot."""
        return clock.from_text(self.created_at)


def manifest_path(backup: Path) -> Path:
    """Return where the manifest of a backup lies: `<backup>.json`."""
    return backup.with_name(backup.name + ".json")


def write(manifest: Manifest, backup: Path) -> None:
    """Write the manifest of `backup`, whole or not at all, with a checksum of its own."""
    content = asdict(manifest)
    content["checksum"] = _checksum(content)
    text = json.dumps(content, indent=1, ensure_ascii=False)
    # A table's name may hold bytes that are no text; they survive as lone surrogates.
    files.write_atomically(manifest_path(backup), (text + "\n").encode("utf-8", "surrogatepass"))


def read(backup: Path) -> Manifest | None:
    """Return the manifest of `backup`, None where there is none; FormatError if it is damaged."""
    path = manifest_path(backup)
    try:
        with path.open("rb") as file:
            return _parse(file.read(_MAX_SIZE))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(
            f"the manifest {path} cannot be used ({error})",
            hint="the backup beside it counts as unverified; look at it with sqlite3 -readonly",
        ) from error


def _parse(data: bytes) -> Manifest:
    content = json.loads(data.decode("utf-8", "surrogatepass"))
    if content.pop("checksum") != _checksum(content):
        raise ValueError("its checksum is wrong")
    if content["schema"] != SCHEMA:
        raise ValueError(f"its schema is {content['schema']}, this release knows {SCHEMA}")
    known = {one.name for one in fields(Manifest)}
    manifest = Manifest(**{name: content[name] for name in known & content.keys()})
    clock.from_text(manifest.created_at)
    return manifest


def _checksum(content: dict[str, Any]) -> str:
    """Return the SHA-256 of the content in its one canonical form."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
