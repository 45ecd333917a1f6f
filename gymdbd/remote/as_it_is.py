"""Copying a damaged database as it is, whatever is in it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from gymdbd import files
from gymdbd.remote.scp import ATTEMPTS, empty, missing, remove
from gymdbd.source.format import (
    JOURNAL,
    WAL,
    beside,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gymdbd.remote.client import Progress
    from gymdbd.remote.ssh.sftp import RemoteFiles


def copy_as_it_is(
    remote: RemoteFiles,
    source: str,
    partial: Path,
    *,
    progress: Progress,
    check: Callable[[], None],
    allow: Callable[[int], None],
) -> None:
    """Copy a damaged database with its WAL and journal, unchecked.

    It needs space for twice its size, which `allow` may refuse by raising. If the files change
    meanwhile, they are copied again a few times. Raises SourceMissingError, or SourceEmptyError if
    all files are empty.
    """
    for _ in range(ATTEMPTS):
        check()
        before = {suffix: remote.find(source + suffix) for suffix in ("", WAL, JOURNAL)}
        if before[""] is None:
            raise missing(source)
        sizes = {suffix: file.size for suffix, file in before.items() if file}
        total = sum(sizes.values())
        if total == 0:
            raise empty(source)
        allow(total)
        files.require_space(partial.parent, 2 * total)
        remove(partial)
        for suffix, size in sizes.items():
            target = beside(partial, suffix)
            with files.writing(target):
                files.create(target)
                with target.open("wb") as file:
                    remote.copy(
                        source + suffix, size, file, functools.partial(_count, progress, size)
                    )
        if before == {suffix: remote.find(source + suffix) for suffix in before}:
            return


def _count(progress: Progress, total: int, done: int) -> None:
    progress("copy", done, total)
