"""The record of the last restore into a database, beside it: what it overwrote, and where that is.

It is written right before the database is, and again when that is done: a restore that was killed
in between is known as well. The holder of the database's lock writes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymdbd import bounded, clock, disk, files, names
from gymdbd.archive import manifest as manifests
from gymdbd.archive import sealed
from gymdbd.archive.catalog import Catalog
from gymdbd.errors import BackupMissingError, FolderMissingError, FormatError
from gymdbd.jobs.restore.result import Overwrote, Undo
from gymdbd.source.errors import GymdbdError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import tzinfo

    from gymdbd.archive.backup import Backup
    from gymdbd.config.kinds import RestoreConfig
    from gymdbd.jobs.context import Context

# With more bytes, no name beside the database might have room for what stands around it.
_LONGEST = 200
_LIST = "gymdbd list shows what restores have overwritten, and gymdbd restore NAME puts that back"


@dataclass(frozen=True, kw_only=True)
class Record:
    """A restore of `backup` that began at `begun_at` (RFC 3339).

    `saved` is the backup of what it overwrote, None if there was nothing, or only files that SQLite
    could not read; then `put_back` is the command that copies those back. `file` is the inode of
    the restored file, None as long as it is unknown whether the restore was done.
    """

    backup: str
    begun_at: str
    saved: str | None
    put_back: str | None = None
    is_undo: bool = False
    file: str | None = None
    schema: int = sealed.SCHEMA

    def shown(self, zone: tzinfo) -> str:
        """Return it as text."""
        what = "undo that restored" if self.is_undo else "restore of"
        moment = clock.to_minute(clock.from_text(self.begun_at), zone)
        interrupted = ", which was interrupted" if self.file is None else ""
        return f"the {what} {Path(self.backup).name} at {moment}{interrupted}"


def record_path(target: Path) -> Path:
    """Return the path of the record: `.<target>.restored.json`, of a long name its digest."""
    name = os.fsencode(target.name)
    short = target.name if len(name) <= _LONGEST else hashlib.sha256(name).hexdigest()
    return target.with_name(f".{short}.restored.json")


def read(target: Path) -> Record | None:
    """Return the last restore into a database; None if none is known, FormatError if damaged."""
    path = record_path(target)
    try:
        content = sealed.read(path, owners=_owners(target))
        if content is None:
            return None
        record = bounded.typed(Record, content)
        clock.from_text(record.begun_at)
    except sealed.FAULTS as error:
        raise FormatError(f"the record {path} cannot be used ({error})", hint=_LIST) from error
    return record


def _owners(target: Path) -> set[int]:
    """Return who may have restored: in a shared folder anybody else can make such a file as well.

    What it names is restored, and what it says is typed by people.
    """
    owners = {os.geteuid(), 0}
    for place in (target, target.parent):
        with contextlib.suppress(OSError):
            owners.add(place.stat().st_uid)
    return owners


def standing(target: Path) -> Record | None:
    """Return the restore whose result the file at `target` is; None if that is not known."""
    with contextlib.suppress(GymdbdError):
        record = read(target)
        if record is not None and not _is_replaced(target, record):
            return record
    return None


def _is_replaced(target: Path, record: Record) -> bool:
    """Return whether the restored file is another one by now; a missing one hides nothing."""
    return record.file is not None and files.is_there(target) and record.file != _file(target)


def _file(target: Path) -> str:
    return str(target.stat().st_ino)


@contextlib.contextmanager
def kept(job: RestoreConfig, undo: Undo | None, context: Context) -> Iterator[Callable[[], None]]:
    """Keep that the target is about to be overwritten; yields what keeps that this is done.

    If the block fails before that, the target is as it was, and so is the record.
    """
    path, before = record_path(job.target), None
    with contextlib.suppress(OSError, ValueError):
        before = bounded.read(path, sealed.MAX_SIZE, owners=_owners(job.target))
    whole = undo is not None and undo.backup is not None
    record = Record(
        backup=str(job.backup),
        begun_at=clock.to_text(context.clock.now(), context.clock.zone),
        saved=str(undo.path) if undo and whole else None,
        put_back=undo.command if undo and not whole else None,
        is_undo=job.is_undo,
    )
    is_done = False

    def done() -> None:
        nonlocal is_done
        is_done = True
        try:
            sealed.write(path, asdict(dataclasses.replace(record, file=_file(job.target))))
        except (GymdbdError, OSError) as error:
            # It counts as interrupted, which can be taken back as well.
            context.log.warning("restore not recorded as done", path=str(path), reason=str(error))

    if before is None:
        with files.writing(path):
            if files.is_own_folder(path):
                raise disk.NotOrdinaryError("it is a folder")
        # In place of another user's file, root's would be that user's as well.
        files.remove(path)
    sealed.write(path, asdict(record))
    try:
        yield done
    except BaseException:
        with contextlib.suppress(GymdbdError, OSError):
            if not is_done and before is not None:
                files.write_atomically(path, before)
            elif not is_done:
                files.remove(path)
        raise


def point_to(saved: Path, target: Path) -> None:
    """Let the record of the last restore name another backup of what that overwrote."""
    record = read(target)
    if record is not None:
        sealed.write(record_path(target), asdict(dataclasses.replace(record, saved=str(saved))))


def overwrote(record: Record | None, now: Mapping[str, int], zone: tzinfo) -> Overwrote | None:
    """Describe the restore that is overwritten, and the rows that came or went since, by table."""
    if record is None:
        return None
    since: dict[str, int] | None = None
    with contextlib.suppress(GymdbdError, OSError):
        restored = Catalog(Path(record.backup).parent, zone).read(Path(record.backup).name)
        if record.file is not None and restored.manifest is not None:
            then = restored.manifest.tables
            counts = {name: now.get(name, 0) - then.get(name, 0) for name in {**then, **now}}
            since = {name: count for name, count in sorted(counts.items()) if count}
    return Overwrote(
        backup=record.backup,
        restored_at=record.begun_at,
        restore=record.shown(zone),
        rows_since=since,
    )


def to_undo(target: Path, zone: tzinfo) -> Backup:
    """Return the backup that takes the last restore into `target` back; raises if there is none.

    An undo that was interrupted is finished, a restore that was interrupted is taken back.
    """
    record = read(target)
    if record is None:
        raise BackupMissingError(f"no restore into {target} is known", hint=_LIST)
    told = record.shown(zone)
    if _is_replaced(target, record):
        raise BackupMissingError(
            f"{target} is not the file of {told}: it was replaced since, by a pull or by hand",
            hint=_LIST,
        )
    wanted = record.backup if record.is_undo and record.file is None else record.saved
    if wanted is None and record.put_back:
        raise BackupMissingError(
            f"SQLite could not read what {told} has overwritten, so it was saved as files",
            hint=f"stop the application; this puts them back: {record.put_back}",
        )
    if wanted is None:
        raise BackupMissingError(
            f"{told} has overwritten nothing: there was no {target}",
            hint=f"if it is not wanted, stop the application and remove it; {_LIST}",
        )
    return _saved(Path(wanted), target, told, zone)


def _saved(path: Path, target: Path, told: str, zone: tzinfo) -> Backup:
    if not files.is_folder(path.parent):
        raise FolderMissingError(
            f"what {told} has overwritten is in {path.parent}, which does not exist",
            hint="mount the disk that holds it",
        )
    try:
        backup = Catalog(path.parent, zone).read(path.name)
    except BackupMissingError as error:
        raise error.but(
            message=f"what {told} has overwritten was saved as {path}, which is gone: it was "
            "pruned or removed",
            hint=f"gymdbd list --archive {path.parent} shows what is left",
        ) from error
    manifest: Any = backup.manifest
    if (
        manifest is None
        or manifest.method != manifests.OVERWRITTEN
        or names.plain(manifest.source) != names.plain(str(target))
    ):
        raise BackupMissingError(
            f"{path} does not say that it is what a restore into {target} has overwritten",
            hint=f"if it is, name it: gymdbd restore {path} --to {target}",
        )
    return backup
