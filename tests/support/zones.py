"""Time zones of a machine: an /etc of its own for a test."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.command import require


def own_etc(folder: Path, zone: str | None = None) -> tuple[Path, list[str]]:
    """Return an /etc for one process, and the prefix of a command that sees it so.

    /etc/localtime is a link to `zone`, as timedatectl makes it; without one it is not there.
    """
    etc = folder / "etc"
    etc.mkdir()
    for name in ("passwd", "group", "nsswitch.conf", "ld.so.cache"):
        if Path("/etc", name).exists():
            shutil.copy(Path("/etc", name), etc)
    if zone is not None:
        set_zone(etc, zone)
    script = 'mount --bind "$0" /etc && exec "$@"'
    return etc, [require("unshare"), "--mount", "sh", "-c", script, str(etc)]


def set_zone(etc: Path, zone: str) -> None:
    """Set the time zone as timedatectl does: a new link in the place of the old one."""
    link = etc / "new"
    link.symlink_to(f"/usr/share/zoneinfo/{zone}")
    link.replace(etc / "localtime")
