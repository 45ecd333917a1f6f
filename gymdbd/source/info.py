"""Describing a served database and its machine, without reading a page."""

from __future__ import annotations

import os
import sqlite3
import sys
from typing import TYPE_CHECKING, Any

from gymdbd import __version__
from gymdbd.source import processes
from gymdbd.source.database import has_wal_reset_bug
from gymdbd.source.format import side_files

if TYPE_CHECKING:
    from gymdbd.source.pages import Pages

PYTHON = sys.version.split()[0]


def tell(pages: Pages) -> dict[str, Any]:
    """Return the answer to `info` (`gymdbd.source.protocol`)."""
    path, snapshot = pages.snapshot.path, pages.snapshot
    log, _, _ = side_files(path)
    disk = os.statvfs(path.parent)
    times = [file.stat().st_mtime for file in (path, log) if file.exists()]
    return {
        "host": os.uname().nodename,
        "database": str(path),
        "size_bytes": path.stat().st_size,
        "wal_size_bytes": log.stat().st_size if log.exists() else 0,
        "wal_frames": pages.mark.frames if pages.mark else 0,
        "wal_frames_backfilled": pages.mark.backfilled if pages.mark else 0,
        "journal_mode": snapshot.facts.journal_mode,
        "page_size": pages.page_size,
        "page_count": pages.count,
        "encoding": snapshot.facts.encoding,
        "user_version": snapshot.facts.user_version,
        "newest_change": max(times),
        "method": pages.method,
        "reason": pages.reason,
        "gymdbd": __version__,
        "python": PYTHON,
        "sqlite": sqlite3.sqlite_version,
        "wal_reset_bug": has_wal_reset_bug(),
        "unknown": snapshot.unknown,
        "disk_free_bytes": disk.f_bavail * disk.f_frsize,
        "held_by": [str(holder) for holder in processes.holders(path)],
    }
