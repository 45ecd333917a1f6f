"""Saving a damaged database as it is, before anything else is advised.

Its files go into the folder `NAME.damaged` of the archive. They are no backups: nothing lists,
offers, sweeps or prunes them. The first and the newest copy of each database stay.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import gymdbd
from gymdbd import bounded, clock, files, names, partials
from gymdbd.archive import proof, sealed
from gymdbd.errors import ReadFailedError, WriteFailedError
from gymdbd.jobs.result import Saved
from gymdbd.source import database, live
from gymdbd.source.answers import FAULTS
from gymdbd.source.errors import GymdbdError, SourceUnreadError
from gymdbd.source.format import JOURNAL, WAL, beside, side_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gymdbd.jobs.context import Context

Failure = TypeVar("Failure", bound=GymdbdError)

_ROOM = 2
_POLL_S = 0.05
_ATTEMPTS = 3
_EIO = "Input/output error"
_SUFFIXES = (WAL, JOURNAL, "")


@dataclass(frozen=True)
class Database:
    """Which database is damaged: the `name` of its backups, and the host and path of its file."""

    name: str
    host: str
    path: str


@dataclass(frozen=True)
class Copy:
    """A copy as it was saved, and what its manifest says."""

    path: Path
    record: dict[str, Any]


def here(path: Path) -> Database:
    """Return the Database at a path of this machine."""
    return Database(path.stem, socket.gethostname(), str(path))


def preserve(
    path: Path, archive: Path, reason: str, context: Context, *, room: int = _ROOM
) -> Path:
    """Copy the files of a database of this machine as they are; return where the `.db` lies.

    It may be in use: whatever SQLite can still hold still is held, and other processes do the
    copying, because closing a file drops all locks that a process has on it. Raises DiskFullError
    unless `room` times its size is free, and a GymdbdError if the files cannot be copied.
    """
    sources = {suffix: beside(path, suffix) for suffix in _SUFFIXES}
    seen = _identities(sources)
    known = newest(archive, here(path))
    if known and known.record.get("seen") == seen:
        return known.path
    size = sum(file.stat().st_size for file in sources.values() if files.is_there(file))

    def fill(partial: Path) -> None:
        for _ in range(_ATTEMPTS):
            with held_still(path):
                before = _identities(sources)
                for suffix, source in sources.items():
                    target = beside(partial, suffix)
                    target.unlink(missing_ok=True)
                    if files.is_there(source):
                        _copy(source, target, context)
                        files.hand_over(target, source)
                if _identities(sources) == before:
                    return

    return keep(here(path), archive, reason, context, fill, size=room * size, seen=seen)


def keep(
    damaged: Database,
    archive: Path,
    reason: str,
    context: Context,
    fill: Callable[[Path], None],
    *,
    size: int,
    seen: Any = None,
) -> Path:
    """Publish what `fill` puts at a path and beside it, with a manifest; return the `.db`.

    The caller holds the archive's lock. `size` bytes must be free. The copy that was the newest
    goes once this one is on the disk, unless it is the first as well; if it has the same bytes it
    stays and is returned. `seen` is stored: what will tell the same state without a copy of it.
    """
    folder = archive / f"{damaged.name}.damaged"
    files.own_folder(folder)
    for leftover in partials.left(folder):
        files.remove(leftover)
    files.require_space(folder, size)
    final = _free_name(folder, damaged.name, context)
    partial = partials.begin(final)
    try:
        fill(partial)
        held = _sums(partial, context)
        known = newest(archive, damaged)
        if known and known.record.get("files") == held:
            return known.path
        _publish(damaged, reason, partial, final, context, {"files": held, "seen": seen})
    finally:
        for leftover in partials.left(folder):
            files.remove(leftover)
    context.log.warning("damaged database saved as it is", path=str(final), reason=reason)
    for old in _copies(folder, damaged)[1:-1]:
        _remove(old.path)
    return final


def newest(archive: Path, damaged: Database) -> Copy | None:
    """Return the newest copy of a database that lies in an archive as it was saved, if any."""
    found = _copies(archive / f"{damaged.name}.damaged", damaged)
    return found[-1] if found else None


def told(error: Failure, path: Path) -> Failure:
    """Return an error that also says where the damaged database was saved, and what to do next."""
    quoted = shlex.quote(str(path))
    return error.but(
        result=Saved(damaged_copy=str(path)),
        hint=f"{error.hint}; it was saved as it is, as {path}: sqlite3 {quoted} .recover | sqlite3 "
        "recovered.db writes what can still be read into a new database (Debian's sqlite3 has no "
        ".recover and says SQL logic error: use the program of sqlite.org)",
    )


def copy_of(error: GymdbdError) -> str | None:
    """Return where an error says that its damaged database was saved, None if nowhere."""
    return error.result.damaged_copy if isinstance(error.result, Saved) else None


def save_source(error: GymdbdError, save: Callable[[], Path], context: Context) -> GymdbdError:
    """Save a damaged source by `save`; return the error that names the copy, or says why not."""
    try:
        return told(error, save())
    except SourceUnreadError as problem:
        # SQLite calls a page that its disk does not give back malformed.
        return told_unsaved(problem, problem, context)
    except (GymdbdError, OSError) as problem:
        return told_unsaved(error, problem, context)


def told_unsaved(error: Failure, problem: Exception, context: Context) -> Failure:
    """Return an error that also says why the damaged database could not be saved."""
    reason = problem.message if isinstance(problem, GymdbdError) else str(problem)
    context.log.warning("damaged database not saved", reason=reason)
    return error.but(hint=f"{error.hint}; it could not be saved as it is: {reason}")


def _free_name(folder: Path, name: str, context: Context) -> Path:
    stamp = context.clock.now().astimezone(context.clock.zone).strftime("%Y%m%d_%H%M%S")
    again, final = 1, folder / f"{name}_damaged_{stamp}.db"
    while files.is_there(final):
        again += 1
        final = folder / f"{name}_damaged_{stamp}-{again}.db"
    return final


def _sums(partial: Path, context: Context) -> dict[str, dict[str, Any]]:
    parts = {suffix: beside(partial, suffix) for suffix in _SUFFIXES}
    return {
        suffix: vars(proof.checksums(part, context.check))
        for suffix, part in parts.items()
        if files.is_there(part)
    }


def _publish(
    damaged: Database,
    reason: str,
    partial: Path,
    final: Path,
    context: Context,
    held: dict[str, Any],
) -> None:
    """Make the copy visible: what lies beside it and its manifest first, the `.db` last."""
    record: dict[str, Any] = {
        "schema": sealed.SCHEMA,
        "source": damaged.path,
        "host": damaged.host,
        "created_at": clock.to_text(context.clock.now(), context.clock.zone),
        "reason": reason,
        "gymdbd_version": gymdbd.__version__,
        **held,
    }
    for suffix in filter(None, held["files"]):
        files.publish(beside(partial, suffix), final.with_name(final.name + suffix))
    sealed.write(_manifest(final), record)
    files.publish(partial, final)


def _manifest(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _copies(folder: Path, damaged: Database) -> list[Copy]:
    """List the whole copies of one database, oldest first."""
    found, records = [], {}
    for path in folder.glob("*_damaged_*.db") if files.is_own_folder(folder) else ():
        with contextlib.suppress(GymdbdError, *sealed.FAULTS):
            bounded.require_ordinary(path.lstat())
            record = sealed.read(_manifest(path)) or {}
            source = names.plain(str(record.get("source")))
            mine = (record.get("host"), source) == (damaged.host, names.plain(damaged.path))
            if mine and isinstance(record["reason"], str):
                found.append((clock.from_text(record["created_at"]), path.stat().st_mtime, path))
                records[path] = record
    return [Copy(path, records[path]) for _, _, path in sorted(found)]


def _remove(path: Path) -> None:
    for file in (path, *side_files(path), _manifest(path)):
        files.remove(file)
    with files.writing(path.parent):
        files.sync_folder(path.parent)


@contextlib.contextmanager
def held_still(path: Path) -> Iterator[None]:
    """Hold a read transaction, if SQLite can still begin one.

    Then no checkpoint goes beyond it and no needed WAL is restarted: the main file and its WAL
    fit together in whatever order they are copied.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(GymdbdError, *FAULTS):
            # Never a file without content: SQLite would remove its WAL.
            reader = live.LiveConnection(database.locate(path), busy_timeout_s=1.0)
            stack.enter_context(contextlib.closing(reader))
            connection = reader.connection
            # An invalid schema must not prevent holding the pages.
            connection.execute("PRAGMA writable_schema=ON")
            connection.execute("BEGIN")
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        yield


def _identities(sources: dict[str, Path]) -> list[list[int]]:
    return [files.identity(file) for file in sources.values() if files.is_there(file)]


def _copy(source: Path, target: Path, context: Context) -> None:
    """Copy a file in a process of its own; the copy is only this user's to read."""
    with files.writing(target):
        files.create(target)
    command = ["cp", "--", str(source), str(target)]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C"},
    ) as process:
        try:
            said = _await(process, context)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        if _EIO in said and not _can_be_read(source):
            raise database.unread(source, _EIO)
        kind = WriteFailedError if "writ" in said or "space" in said else ReadFailedError
        raise kind(
            f"{source} could not be copied to {target.parent} ({said})",
            hint="check both disks and the kernel's log (dmesg); nothing has changed",
        )


def _can_be_read(source: Path) -> bool:
    command = ["cp", "--", str(source), os.devnull]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _await(process: subprocess.Popen[bytes], context: Context) -> str:
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=_POLL_S)[1].decode(errors="replace").strip()
        context.check()
