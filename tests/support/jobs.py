"""Jobs and configurations as a test needs them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gymdbd.config.kinds import BackupConfig
from gymdbd.jobs.context import Context
from tests.support.command import EventLog
from tests.support.databases import make_database

if TYPE_CHECKING:
    from pathlib import Path


def context(**changes: Any) -> Context:
    """Return a context with a log that remembers."""
    return Context(**{"log": EventLog(), **changes})


def backup_job(database: Path, archive: Path, **changes: Any) -> BackupConfig:
    """Return a backup job, creating its archive."""
    archive.mkdir(mode=0o700, exist_ok=True)
    settings: dict[str, Any] = {"name": "backup", "kind": "backup", **changes}
    return BackupConfig(database=database, archive=archive, **settings)


def write_config(folder: Path, jobs: dict[str, dict[str, Any]], **top: Any) -> Path:
    """Write a configuration (YAML takes JSON) with these jobs and return its path."""
    content = {
        "status_file": str(folder / "status.json"),
        "log": {"format": "json"},
        **top,
        "jobs": {name: {"kind": "backup", **job} for name, job in jobs.items()},
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(content, indent=1))
    return path


def gym_config(folder: Path, **top: Any) -> Path:
    """Write the configuration of a gym with a nightly backup, which has not run yet."""
    (folder / "archive").mkdir(mode=0o700, exist_ok=True)
    if not (folder / "gym.db").exists():
        make_database(folder / "gym.db", rows=3)
    places = {"database": str(folder / "gym.db"), "archive": str(folder / "archive")}
    return write_config(folder, {"nightly": {"schedule": "0 3 * * *", **places}}, **top)
