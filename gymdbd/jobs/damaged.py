"""Keeping the files of a database that is too damaged for a backup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd import files
from gymdbd.sqlite import database

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.jobs.context import Context


def keep_damaged(path: Path, archive: Path, reason: str, context: Context) -> Path:
    """Copy a database's files as they are into the archive; return where the `.db` lies.

    The name is none of a backup, so that nothing lists, offers or prunes it. The owner is that of
    the files, so that `cp -p` brings it back. No process has the database open.
    """
    stamp = context.clock.now().astimezone(context.clock.zone).strftime("%Y%m%d_%H%M%S")
    kept = archive / f"{path.stem}_damaged_{stamp}.db"
    again = 1
    while kept.exists():
        again += 1
        kept = archive / f"{path.stem}_damaged_{stamp}-{again}.db"
    for source in (*database.side_files(path), path):
        target = kept.with_name(kept.name + source.name.removeprefix(path.name))
        if source.exists() and not source.name.endswith("-shm"):
            with files.writing(target):
                files.clone(source, target)
                files.hand_over(target, source)
                files.sync_file(target)
    files.sync_folder(archive)
    context.log.warning("damaged database kept", path=str(kept), reason=reason)
    return kept
