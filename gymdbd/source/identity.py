"""Whether the file at a database's path is the one that the application has open.

After a bind mount of the file, a hard link, a replacement or a removal, the application may have
another file or WAL open than those at the path. SQLite then reads a sound database without the
application's commits, and writing to it damages the application's database.

Only a loss of commits is an error: a process connected to the main file through another WAL, or
one that has written to a file that was replaced. A process that only reads the file, an unused hard
link, and a reader that still has the former file are no errors.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, List, Tuple

from gymdbd.source import processes
from gymdbd.source.descriptors import PROC
from gymdbd.source.errors import AnotherFileError
from gymdbd.source.format import WAL
from gymdbd.source.uses import FORMER, OTHER_LOG, Use, View, look

if TYPE_CHECKING:
    from pathlib import Path


def require(path: Path, *, proc: Path = PROC) -> None:
    """Raise AnotherFileError if the application has another file open than that at `path`.

    Also if there is no file at `path` any more and a process has the deleted file open. A process
    with a connection to the database must not call this.
    """
    refuse(path, look(path, proc=proc))


def refuse(path: Path, view: View) -> None:
    """Raise AnotherFileError if the result of `look` is an error."""
    found = [use for use in view.uses if use.lost] or removed(path, view)
    if found:
        raise _error(path, found)


def removed(path: Path, view: View) -> List[Use]:
    """List who has the file open that was deleted from `path`, if there is none any more."""
    return [] if os.path.exists(path) else former(view)  # noqa: PTH110 - as links lead


def former(view: View) -> List[Use]:
    """List who has a deleted file or WAL open; the most valuable first."""
    found = [use for use in view.uses if use.main and use.main.path and _is_gone(use)]
    return sorted(found, key=_worth, reverse=True)


def remarks(path: Path, view: View) -> List[Tuple[str, str]]:
    """List what is unusual but no error, each with what to do about it, "" for nothing."""
    found = []
    for use in view.uses:
        what = "-wal that was removed" if use.kind == OTHER_LOG else f"file that was {path} before"
        if not use.lost:
            found.append((f"{users([use])[0]} has a {what} open, and has left it alone", ""))
    if view.names > 1:
        text = f"{path} has {view.names} names (hard links)"
        hint = "let application and gymdbd use the same one: by another name it has another WAL"
        found.append((text, hint))
    if not view.by_proc:
        text = "whether an application has a removed or replaced file open cannot be seen here"
        found.append((text, ""))
    elif view.unseen and not view.connected:
        text = f"{view.unseen} of the processes could not be looked into (other users')"
        found.append((text, ""))
    return found


def _worth(use: Use) -> tuple[bool, bool, int]:
    return use.lost, bool(use.main and use.main.writable), use.written_ns


def _is_gone(use: Use) -> bool:
    return use.kind == FORMER or bool(use.log and use.log.deleted)


def users(found: List[Use]) -> List[str]:
    """Name the processes."""
    return [str(process) for process in sorted({processes.named(use.pid) for use in found})]


def _error(path: Path, found: List[Use]) -> AnotherFileError:
    use, who = found[0], ", ".join(users(found))
    if use.kind == OTHER_LOG:
        return _other_log(path, use, who)
    return _former(path, use, who)


def _other_log(path: Path, use: Use, who: str) -> AnotherFileError:
    if use.main is None or use.log is None:
        return AnotherFileError(
            f"{who} has {path} open by another name or with another WAL: what it commits is not in "
            f"{path.name}{WAL}",
            hint=f"look under which name it opens the database (ls -l /proc/{use.pid}/fd, as its "
            "user or as root) and use that name here. A container needs the database's folder "
            "mounted, not the one file. Nothing has been changed",
        )
    if use.log.deleted:
        return AnotherFileError(
            f"{who} has {path} open as {use.main.name}, and its WAL was removed: what it commits "
            "is in no file that has a name",
            hint=f"{_offer(path)}; then stop the application, which brings its commits into the "
            "database as it closes it, and start it again. Nothing has been changed",
        )
    return AnotherFileError(
        f"{who} has {path} open as {use.main.name}, with another WAL ({use.log.name}): what it "
        f"commits is not in the {path.name}-wal that is here",
        hint=f"use the name that the application uses ({use.main.name}), or let it open {path}. A "
        "container needs the database's folder mounted, not the one file. Nothing has been changed",
    )


def _former(path: Path, use: Use, who: str) -> AnotherFileError:
    moved = use.main.name if use.main and not use.main.deleted else ""
    if not os.path.exists(path):  # noqa: PTH110 - as links lead
        was = f"was moved to {moved}" if moved else "was removed"
        return AnotherFileError(
            f"{path} {was}, and {who} has it open still: what is committed now is lost when that "
            "ends",
            hint=f"do not stop the application yet: {_offer(path)}. Then restore that backup and "
            "restart the application",
        )
    return AnotherFileError(
        f"{who} goes on in the file that was {path} before"
        + (f" and is {moved} now" if moved else " and has no name any more")
        + ": the one that is there now holds none of what it commits",
        hint=f"do not stop the application yet: {_offer(path)}. Then restart it, so that it opens "
        "the file that is there now; until then nothing is backed up or restored",
    )


def _offer(path: Path) -> str:
    words = shlex.join(["gymdbd", "backup", "--deleted", "--for", str(path)])
    return f"save what it has ({words}; without a job for it --database, and --archive DIR)"
