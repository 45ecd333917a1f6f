"""Whether others could have written a file that we obey: a configuration, or a command to run.

Whoever can write it, or a folder or link on the way to it, acts with our rights. That may be this
user and root, nobody else.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gymdbd import files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MOST_LINKS = 40
_ROOT = 0
# An access control list (acl(5)) lets further users write, and shows only as the group's bits.
_LIST = "system.posix_acl_access"
# Programs that run another file, which is named among their arguments.
_RUNNERS = re.compile(r"(env|nice|sh|bash|dash|zsh|ksh|perl|ruby|node|(python|pypy)[\d.]*)")


class Doubt(NamedTuple):
    """Why others could have written a file, and what to do about it."""

    reason: str
    remedy: str


def doubt(path: Path) -> Doubt | None:
    """Return why others could have written the file at a path, None if they could not.

    Raises OSError if it cannot be looked at.
    """
    return next(filter(None, (_doubt(step.lstat(), step, step) for step in _way(path))), None)


def doubt_of(descriptor: int, path: Path) -> Doubt | None:
    """Return the same of a file that is open: it need not be the one that has the name now."""
    facts = os.fstat(descriptor)
    own = _doubt(facts, path, descriptor)
    # A pipe has no name that others could give to another file.
    return own or (doubt(path) if stat.S_ISREG(facts.st_mode) else None)


def doubt_of_command(command: Sequence[str]) -> Doubt | None:
    """Return why others could have written what a command runs, None if they could not."""
    for path in _obeyed(command):
        try:
            found = doubt(path)
        except OSError as error:
            found = Doubt(f"{path} cannot be looked at ({error.strerror})", "check the path")
        if found:
            return found
    return None


def _obeyed(command: Sequence[str]) -> Iterator[Path]:
    """Yield the files that a command runs: its program, and what that is given to run."""
    import shutil  # noqa: PLC0415 - each verb imports this module, and few run a command

    for word in command:
        path = shutil.which(word) or word
        if files.is_file(Path(path)):
            yield Path(path)
            if not _RUNNERS.fullmatch(Path(path).name):
                return


def _way(path: Path) -> Iterator[Path]:
    """Yield every folder and link on the way to a file, and the file."""
    here, links = Path("/"), 0
    yield here
    rest = list(reversed(Path(os.path.abspath(path)).parts[1:]))  # noqa: PTH100 - links count
    while rest:
        name = rest.pop()
        step = here.parent if name == os.pardir else here / name
        yield step
        if not step.is_symlink():
            here = step
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = step.readlink()
        here = Path("/") if target.is_absolute() else here
        rest += [part for part in reversed(target.parts) if part != target.anchor]


def _doubt(facts: os.stat_result, path: Path, of: Path | int) -> Doubt | None:
    if facts.st_uid not in (_ROOT, os.geteuid()):
        owner, we = _name(facts.st_uid), _name(os.geteuid())
        return Doubt(
            f"{path} belongs to {owner}",
            f"run this as {owner} (sudo -u {owner}), or give {path} to {we} or root (chown)",
        )
    if stat.S_ISLNK(facts.st_mode):
        return None
    if stat.S_ISDIR(facts.st_mode) and facts.st_mode & stat.S_ISVTX:
        # There only the owner of a file may rename or remove it.
        return None
    if facts.st_mode & stat.S_IWOTH:
        return Doubt(f"every user may write to {path}", f"chmod o-w {path}")
    if facts.st_mode & stat.S_IWGRP and not _is_alone(facts, of):
        group = _group(facts)
        return Doubt(f"the group {group} may write to {path}", f"chmod g-w {path}")
    return None


def _is_alone(facts: os.stat_result, of: Path | int) -> bool:
    """Return whether the group is that of the owner alone, as systems with umask 002 make them."""
    if _has_list(of):
        return False
    if facts.st_uid == facts.st_gid == _ROOT:
        return True
    try:
        owner, group = pwd.getpwuid(facts.st_uid), grp.getgrgid(facts.st_gid)
    except KeyError:
        return False
    others = {user.pw_name for user in pwd.getpwall() if user.pw_gid == facts.st_gid}
    return owner.pw_gid == facts.st_gid and {*group.gr_mem, *others} <= {owner.pw_name}


def _has_list(of: Path | int) -> bool:
    """Return whether there is an access control list; many file systems, such as FAT, have none."""
    try:
        return hasattr(os, "listxattr") and _LIST in os.listxattr(of)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return False


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _group(facts: os.stat_result) -> str:
    try:
        return grp.getgrgid(facts.st_gid).gr_name
    except KeyError:
        return str(facts.st_gid)
