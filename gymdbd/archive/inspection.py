"""Inspect a backup: read all of it, and find out what is wrong with it now."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymdbd import disk, files
from gymdbd.archive import proof
from gymdbd.errors import BackupMissingError, VerificationError
from gymdbd.source import answers, database
from gymdbd.source.errors import SourceError, SourceUnreadableError
from gymdbd.source.format import JOURNAL, WAL, beside
from gymdbd.source.schema import load_schema
from gymdbd.sqlite import opening, soundness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gymdbd.archive.backup import Backup
    from gymdbd.archive.manifest import Manifest

_FACTS = ("page_size", "page_count", "encoding", "user_version", "application_id")
# The errors for an invalid name or number in the schema: Python's sqlite3 and its callers expect
# those that SQLite has written.
_NONSENSE = (ValueError, TypeError, AttributeError)

# SQLite's I/O errors of what the file itself holds: SHORT_READ, DATA, CORRUPTFS (which is EIO).
_LOST = (522, 8202, 8458)


@dataclass(frozen=True)
class Findings:
    """The result of an inspection: `problems` are damage, `remarks` are not."""

    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def inspect(
    backup: Backup,
    check: Callable[[], None] = lambda: None,
    advance: Callable[[int], None] = lambda _: None,
) -> Findings:
    """Read every byte of a backup and compare it with its manifest.

    Neither the backup nor its folder is changed. Violated foreign keys and constraints are only
    remarks: if an application does not enforce them, a true copy has them too. Content that this
    SQLite cannot check is a remark as well. `check` is called often and may raise to stop;
    `advance` gets the number of bytes of the `.db` read since its last call. Raises
    BackupMissingError if the backup was removed meanwhile, SourceUnreadableError if it could not be
    read, which is no damage, and a DestinationError if the copy of a raw backup cannot be written.
    """
    found = Findings()
    if backup.note:
        found.problems.append(backup.note)
    elif backup.manifest is None:
        found.remarks.append("it has no manifest, so only its integrity could be checked")
    if backup.marks_fault:
        found.remarks.append(backup.marks_fault)
    _require_access(backup)
    try:
        found.problems.extend(_compare_side_files(backup, check))
        sums = _look_inside(backup, found, check, advance)
    except OSError as error:
        if not _is_there(backup.path):
            raise _gone(backup) from error
        if not disk.is_damage(error):
            raise disk.not_checked(error, backup.path) from error
        found.problems.append(f"it cannot be read ({error.strerror or error})")
        return found
    if backup.manifest is not None:
        found.problems.extend(_compare_sums(vars(sums), vars(backup.manifest)))
    return found


def _look_inside(
    backup: Backup, found: Findings, check: Callable[[], None], advance: Callable[[int], None]
) -> proof.Checksums:
    """Check it with SQLite, add the results to `found`, and return the checksums of the `.db`."""
    # SQLite reads a copy of a raw backup. The file itself is read first, so that a read error is
    # not reported as an error of writing the copy.
    sums = proof.checksums(backup.path, check, advance) if _has_wal(backup) else None
    try:
        with readable(backup) as path:
            proven = _prove(path, backup.manifest, check, (lambda _: None) if sums else advance)
            found.remarks.extend(proven.soundness.remarks)
            found.remarks.extend(_foreign_keys(path, check))
            return sums or proven.sums
    except (SourceError, VerificationError) as error:
        if _is_of_system(error.__cause__):
            raise
        if _is_unknown(error.__cause__):
            found.remarks.append(f"not checked: {error.message}")
        else:
            found.problems.append(error.message)
    except _NONSENSE as error:
        found.problems.append(f"its schema is invalid ({error})")
    return sums or proof.checksums(backup.path, check)


def _is_of_system(error: BaseException | None) -> bool:
    """Return whether SQLite failed to read at all; if the bytes are lost, hashing says so."""
    if not isinstance(error, sqlite3.Error) or getattr(error, "sqlite_errorcode", 0) in _LOST:
        return False
    return answers.meaning(error) in (answers.FAILED, answers.UNREAD)


def _is_unknown(error: BaseException | None) -> bool:
    """Return whether SQLite lacks what only the application or a newer SQLite has."""
    return isinstance(error, answers.FAULTS) and answers.meaning(error) == answers.UNKNOWN


def _require_access(backup: Backup) -> None:
    """Raise if this user may not read the backup, because that is not damage."""
    if backup.unread:
        raise backup.unread
    for path in backup.files:
        if not os.access(path, os.R_OK) and _is_there(path):
            raise SourceUnreadableError(
                f"{path} cannot be read: permission denied for uid {os.geteuid()}",
                hint="run as the user that made the backups, or give the file to this one (chown)",
            )
    if not _is_there(backup.path):
        raise _gone(backup)


def _is_there(path: Path) -> bool:
    try:
        return files.is_there(path)
    except OSError as error:
        raise disk.not_checked(error, path) from error


def _gone(backup: Backup) -> BackupMissingError:
    return BackupMissingError(
        f"{backup.path} was removed before it was read",
        hint="if it was not pruned, find out who removed it",
    )


@contextlib.contextmanager
def readable(backup: Backup) -> Iterator[Path]:
    """Yield a path from which `database.open_immutable` reads the complete backup.

    That is the backup itself; for a raw backup, whose -wal SQLite would otherwise ignore or write,
    it is a copy in the temporary folder with the WAL applied.
    """
    if not _has_wal(backup):
        yield backup.path
        return
    wal = _wal(backup)
    with tempfile.TemporaryDirectory(prefix="gymdbd-") as folder:
        copy = Path(folder, backup.path.name)
        files.require_space(copy.parent, backup.size + wal.stat().st_size)
        with files.writing(copy):
            files.clone(backup.path, copy)
            files.clone(wal, beside(copy, WAL))
        # Closing the last connection applies the WAL and removes it.
        with (
            contextlib.closing(database.open_copy(copy, write=True)) as connection,
            database.translated(copy),
        ):
            load_schema(connection)
        yield copy


def _wal(backup: Backup) -> Path:
    return beside(backup.path, WAL)


def _has_wal(backup: Backup) -> bool:
    """Return whether SQLite needs a -wal to read all of it."""
    return files.is_there(_wal(backup)) and _wal(backup).stat().st_size > 0


def _prove(
    path: Path,
    manifest: Manifest | None,
    check: Callable[[], None],
    advance: Callable[[int], None],
) -> proof.Proof:
    expected: dict[str, Any] = {}
    if manifest is not None:
        expected = {name: getattr(manifest, name) for name in _FACTS} | {
            "rows": manifest.tables,
            "uncounted": manifest.uncounted,
        }
    return proof.prove(path, expected, check, advance=advance)


def _compare_side_files(backup: Backup, check: Callable[[], None]) -> list[str]:
    """Find files beside a backup that do not belong to it, because SQLite would apply them."""
    if backup.manifest is None:
        # Older scripts copied the -wal as well, and there is nothing to compare it with.
        journals = [path for path in backup.side_files if path.name.endswith(JOURNAL)]
        return [f"{path.name} lies beside it" for path in journals]
    problems = []
    promised = dict(backup.manifest.side_files)
    for path in backup.side_files:
        suffix = path.name.removeprefix(backup.path.name)
        promise = promised.pop(suffix, None)
        if promise is None:
            problems.append(f"{path.name} lies beside it, and SQLite would apply it")
        elif "sha256" in promise:
            sums = proof.checksums(path, check)
            found = _compare_sums(vars(sums), promise)
            problems.extend(f"{path.name}: {problem}" for problem in found)
    problems.extend(f"its {suffix} is missing" for suffix in promised if suffix == WAL)
    return problems


def _compare_sums(sums: dict[str, Any], promise: dict[str, Any]) -> list[str]:
    """Return what differs, in one sentence, without the hashes themselves."""
    names = ("size", "md5", "sha256")
    differing = [name for name in names if sums[name] != promise[name]]
    return [f"its manifest has another {' and '.join(differing)}"] if differing else []


def _foreign_keys(path: Path, check: Callable[[], None]) -> list[str]:
    with opening.reading(path, check=check) as copy:
        found = soundness.foreign_keys(copy)
    remarks = [f"not checked: {what}" for what in found.unchecked]
    if found.violations:
        remarks.append(f"foreign keys are violated in {', '.join(found.violations)}")
    return remarks
