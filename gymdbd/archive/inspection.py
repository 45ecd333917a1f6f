"""Reading a backup as a whole: what is wrong with it now, whatever was true when it was made."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymdbd import files
from gymdbd.archive import proof
from gymdbd.errors import SourceError, VerificationError
from gymdbd.sqlite import database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gymdbd.archive.catalog import Backup
    from gymdbd.archive.manifest import Manifest

_FACTS = ("page_size", "page_count", "encoding", "user_version", "application_id")
_FOREIGN_KEYS_TOLD = 20


@dataclass(frozen=True)
class Findings:
    """What reading a backup has shown: `problems` make it damaged, `remarks` do not."""

    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def inspect(backup: Backup, check: Callable[[], None] = lambda: None) -> Findings:
    """Read every byte of a backup and compare it with what its manifest promises.

    Neither the backup nor its folder is changed. Violated foreign keys are only remarked upon:
    an application may leave them unenforced, and a true copy then has them too. `check` is called
    often and may raise to end it.
    """
    found = Findings()
    if backup.note:
        found.problems.append(backup.note)
    elif backup.manifest is None:
        found.remarks.append("it has no manifest, so only its integrity could be checked")
    if backup.doubt:
        found.remarks.append(backup.doubt)
    found.problems.extend(_compare_side_files(backup, check))
    with contextlib.ExitStack() as stack:
        try:
            path = stack.enter_context(readable(backup))
            sums = _prove(path, backup.manifest, check)
            if path != backup.path:
                sums = proof.checksums(backup.path, check)
            found.remarks.extend(_foreign_keys(path, check))
        except (SourceError, VerificationError) as error:
            found.problems.append(error.message)
            sums = proof.checksums(backup.path, check)
    if backup.manifest is not None:
        found.problems.extend(_compare_sums(vars(sums), vars(backup.manifest)))
    return found


@contextlib.contextmanager
def readable(backup: Backup) -> Iterator[Path]:
    """Give a path that `database.open_immutable` reads the whole backup from.

    That is the backup itself, or for a raw one, whose -wal SQLite would otherwise leave out or
    write to, a copy in the temporary folder with its WAL brought in.
    """
    wal = backup.path.with_name(backup.path.name + "-wal")
    if not wal.exists() or wal.stat().st_size == 0:
        yield backup.path
        return
    with tempfile.TemporaryDirectory(prefix="gymdbd-") as folder:
        copy = Path(folder, backup.path.name)
        files.require_space(copy.parent, backup.size + wal.stat().st_size)
        with files.writing(copy):
            files.clone(backup.path, copy)
            files.clone(wal, copy.with_name(copy.name + "-wal"))
        # The last connection to close brings the WAL in and removes it.
        with (
            contextlib.closing(database.open_writer(copy)) as connection,
            database.translated(copy),
        ):
            connection.execute("PRAGMA schema_version").fetchone()
        yield copy


def _prove(path: Path, manifest: Manifest | None, check: Callable[[], None]) -> proof.Checksums:
    expected: dict[str, Any] = {}
    if manifest is not None:
        expected = {name: getattr(manifest, name) for name in _FACTS} | {"rows": manifest.tables}
    return proof.prove(lambda: database.open_immutable(path), path, expected, check)


def _compare_side_files(backup: Backup, check: Callable[[], None]) -> list[str]:
    """Find what lies beside a backup and does not belong to it: SQLite would roll it in."""
    if backup.manifest is None:
        # The older scripts kept the -wal beside the file, and nothing says what it should be.
        journals = [path for path in backup.side_files if path.name.endswith("-journal")]
        return [f"{path.name} lies beside it" for path in journals]
    problems = []
    promised = dict(backup.manifest.side_files)
    for path in backup.side_files:
        suffix = path.name.removeprefix(backup.path.name)
        promise = promised.pop(suffix, None)
        if promise is None:
            problems.append(f"{path.name} lies beside it, and SQLite would take it for its own")
        elif "sha256" in promise:
            sums = proof.checksums(path, check)
            problems.extend(f"{path.name}: {one}" for one in _compare_sums(vars(sums), promise))
    problems.extend(f"its {suffix} is missing" for suffix in promised if suffix == "-wal")
    return problems


def _compare_sums(sums: dict[str, Any], promise: dict[str, Any]) -> list[str]:
    return [
        f"{name} is {sums[name]}, its manifest says {promise[name]}"
        for name in ("size", "md5", "sha256")
        if sums[name] != promise[name]
    ]


def _foreign_keys(path: Path, check: Callable[[], None]) -> list[str]:
    with (
        contextlib.closing(database.open_immutable(path)) as copy,
        database.translated(path),
        database.interruptible(copy, check),
    ):
        rows = copy.execute("PRAGMA foreign_key_check").fetchmany(_FOREIGN_KEYS_TOLD)
    tables = sorted({str(row[0]) for row in rows})
    return [f"foreign keys are violated in {', '.join(tables)}"] if tables else []
