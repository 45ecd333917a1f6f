"""Archives made by hand: manifests and backups of whatever age and worth a test needs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from gymdbd.archive import index
from gymdbd.archive import manifest as manifests
from gymdbd.archive.catalog import Catalog
from gymdbd.archive.manifest import Manifest
from gymdbd.origin import Origin, Place
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

CREATED = datetime(2026, 11, 23, 3, 0, 0, tzinfo=UTC)
# The database that the manifests below are of.
GYM = Origin("gym", (Place("raspberry-pi", "/srv/gym.db"),))


def manifest(**changes: Any) -> Manifest:
    """Return a manifest of a small backup made at `CREATED`."""
    facts: dict[str, Any] = {
        "source": "/srv/gym.db",
        "host": "raspberry-pi",
        "created_at": CREATED.isoformat(timespec="seconds"),
        "method": "online-backup",
        "sqlite_version": "3.40.1",
        "page_size": 4096,
        "page_count": 2,
        "encoding": "UTF-8",
        "journal_mode": "wal",
        "user_version": 7,
        "application_id": 0,
        "size": 8192,
        "md5": "0" * 32,
        "sha256": "0" * 64,
        "integrity": "ok",
        "tables": {"members": 344},
        "duration_s": 0.25,
        "gymdbd_version": "1.0.0",
    }
    return Manifest(**{**facts, **changes})


def add_backup(path: Path, *, verified: bool = True, **changes: Any) -> Path:
    """Put a file of 8192 bytes at `path`, with a manifest if it is to count as verified."""
    path.write_bytes(b"\0" * 8192)
    if verified:
        manifests.write(manifest(**changes), path)
    return path


def fill(folder: Path, number: int) -> list[Path]:
    """Put so many backups into a folder, one an hour from `CREATED` on, and return their paths."""
    made = []
    for hour in range(number):
        created = CREATED + timedelta(hours=hour)
        path = folder / f"gym_backup_{created:%Y%m%d_%H%M%S}.db"
        made.append(add_backup(path, created_at=created.isoformat()))
    return made


def index_all(folder: Path) -> None:
    """Make an index of an archive that knows every manifest and all marks."""

    def knows_all() -> bool:
        (folder / index.NAME).unlink(missing_ok=True)
        Catalog(folder, UTC).backups()
        known = index.load(folder)
        return all(
            (known.marks if path.name.endswith(".marks.json") else known.row)(
                path.name, path.lstat()
            )
            for path in folder.glob("*_backup_*.json")
        )

    # It does not count for what was written in the same moment.
    until(knows_all, "the index knows every manifest and all marks")
