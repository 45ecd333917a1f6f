"""Find the database or backup that an argument names, and open it for reading."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymdbd import clock, files, names, origin, words
from gymdbd.archive import belonging
from gymdbd.archive.catalog import LATEST, Catalog
from gymdbd.archive.inspection import readable
from gymdbd.clock import Clock
from gymdbd.errors import BackupAmbiguousError, BackupMissingError, ConfigError, UsageError
from gymdbd.origin import Origin
from gymdbd.runs import as_owner
from gymdbd.source import database
from gymdbd.source.errors import GymdbdError, SourceMissingError
from gymdbd.sqlite.sides import Side
from gymdbd.terminal import configuration
from gymdbd.terminal.distance import Distance

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from datetime import datetime, tzinfo

    from gymdbd.archive.backup import Backup


@dataclass(frozen=True)
class Database:
    """A database file: a backup, or if `backup` is None a file that may be in use.

    `asked` is the time for which it was chosen, if it was chosen by one.
    """

    path: Path
    backup: Backup | None = None
    asked: datetime | None = None

    @contextlib.contextmanager
    def opened(self) -> Iterator[Side]:
        """Yield the file for SQLite to read; for a raw backup, a copy with its WAL applied."""
        if self.backup is None:
            with live_side(self.path) as side:
                yield side
        else:
            with readable(self.backup) as path:
                yield Side(path)

    def describe(self, zone: tzinfo) -> dict[str, Any]:
        """Return it as JSON values."""
        created = clock.to_text(self.backup.created, zone) if self.backup else None
        return {
            "path": str(self.path),
            "live": self.backup is None,
            "created_at": created,
            "verdict": self.backup.verdict if self.backup else None,
            **(self.distance.describe(zone) if self.distance else {}),
        }

    @property
    def distance(self) -> Distance | None:
        """Return how far it is from the time that was asked for; None if none was."""
        if self.backup is None or self.asked is None:
            return None
        return Distance(self.backup.created, self.asked)

    def shown(self, now: datetime, zone: tzinfo) -> str:
        """Return it as text."""
        if self.backup is None:
            return f"{self.path} (live, now)"
        age = words.age((now - self.backup.created).total_seconds())
        created = clock.to_text(self.backup.created, zone)
        far = f", {self.distance.shown(zone)}" if self.distance else ""
        return f"{self.path} ({self.backup.verdict}, {created}, {age} old{far})"


@contextlib.contextmanager
def live_side(path: Path, check: Callable[[], None] = lambda: None) -> Iterator[Side]:
    """Yield a live database to read; a copy of it if another user's process reads it."""
    there = as_owner.handle(path)
    if there is None:
        yield Side(path, live=True)
        return
    with there.copied(check) as copy:
        yield Side(copy)


def find(word: str, arguments: argparse.Namespace) -> Database:
    """Find a database by its path, or a backup by what `Catalog.find` takes for a name."""
    zone = Clock().zone
    if not is_path(word):
        found = _find_in_archives(
            word, lambda catalog, of: catalog.find(word, of), arguments, newest=word == LATEST
        )
        return Database(found.path, found)
    path = files.absolute(word)
    configuration.act(arguments, [path])
    try:
        database.locate(path)
    except SourceMissingError as error:
        raise BackupMissingError(
            f"there is no file {path}",
            hint="check the path, or mount its disk; gymdbd list prints all backups",
        ) from error
    with contextlib.suppress(BackupMissingError):
        return Database(path, Catalog(path.parent, zone).read(path.name))
    return Database(path)


def is_path(word: str) -> bool:
    """Return whether `word` is a path, and not the name of something in an archive."""
    return os.sep in word or files.is_file(Path(word))


def require_backup(found: Database) -> Backup:
    """Return the backup that was found; BackupMissingError if the file is not a backup."""
    if found.backup is None:
        raise BackupMissingError(
            f"{found.path} does not have the name of a backup",
            hint="gymdbd list prints all backups",
        )
    return found.backup


def of_the_same(backup: Backup) -> list[Backup]:
    """List the backups of the same database in the archive of this one."""
    places = (backup.place,) if backup.place else ()
    return Catalog(backup.path.parent, Clock().zone).backups(Origin(backup.stem, places))


def find_at(moment: datetime, arguments: argparse.Namespace) -> Database:
    """Find the newest good backup made at or before `moment`."""
    word = f"a backup as old as {clock.to_minute(moment, Clock().zone)}"
    found = _find_in_archives(
        word, lambda catalog, of: catalog.at(moment, of), arguments, newest=True
    )
    return Database(found.path, found, moment)


def _find_in_archives(
    word: str,
    choose: Callable[[Catalog, Origin | None], Backup],
    arguments: argparse.Namespace,
    *,
    newest: bool,
) -> Backup:
    """Let `choose` take a backup from each archive, and return the only one, or the `newest`.

    UsageError if they are of several databases.
    """
    found = []
    unread: list[GymdbdError] = []
    missing: list[BackupMissingError] = []
    known = _origins(arguments)
    for archive in configuration.archives(arguments):
        catalog = Catalog(archive.absolute(), Clock().zone)
        try:
            found.append(choose(catalog, _only(known, archive)))
        except BackupAmbiguousError:
            # With --database, diff compares with this database; prefer its backups.
            if not getattr(arguments, "database", None):
                raise
            found.append(choose(catalog, origin.here(files.absolute(arguments.database))))
        except BackupMissingError as error:
            missing.append(error)
        except GymdbdError as error:
            unread.append(error)
    if not found:
        raise unread[0] if unread else _none(missing, word)
    configuration.report_unread(unread)
    if len({backup.path for backup in found}) > 1 and not (newest and _are_of_one(found, known)):
        raise UsageError(
            f"{word} could be {' or '.join(str(backup.path) for backup in found)}",
            hint="name its path, or its archive with --archive DIR",
        )
    return max(found, key=lambda backup: backup.order)


def _none(missing: list[BackupMissingError], word: str) -> BackupMissingError:
    """Return the error of a search that found nothing, with what was told of each archive."""
    told = "; ".join(error.message for error in missing)
    return BackupMissingError(
        told or f"there is no archive to search for {word}",
        hint=missing[0].hint if len(missing) == 1 else "gymdbd list prints what is there",
    )


def _origins(arguments: argparse.Namespace) -> list[tuple[Path | None, Origin]]:
    """Return the candidate databases, each with the archive of its backups.

    With --database, that is only this database, in any archive (None); otherwise those of the jobs.
    """
    settings = configuration.loaded(arguments)
    if of := configuration.meant(arguments, settings):
        return [(None, of)]
    return [(of.archive.resolve(), of.origin) for of in configuration.made_by(settings)]


def _only(known: list[tuple[Path | None, Origin]], archive: Path) -> Origin | None:
    """Return the only database with backups in an archive, None if there may be several."""
    here = {of for folder, of in known if folder in (None, archive.resolve())}
    return here.pop() if len(here) == 1 else None


def _are_of_one(found: list[Backup], known: list[tuple[Path | None, Origin]]) -> bool:
    """Return whether backups from several archives are of the same database."""
    return len(belonging.origins(found)) == 1 or any(
        len(belonging.of(found, of)) == len(found) for _, of in known
    )


def live_database(of: Database, arguments: argparse.Namespace) -> Database:
    """Find the live database to compare a backup with, as `made_of` does; UsageError if unknown."""
    found = made_of(of, arguments)
    if found is None:
        what = "nothing says which database it is of" if of.backup else "it is not a backup"
        raise UsageError(
            f"{of.path} cannot be compared with its database: {what}",
            hint="name it with --database PATH, or name a second backup",
        )
    return Database(found)


def made_of(of: Database, arguments: argparse.Namespace) -> Path | None:
    """Find the live database: --database, that of the job, or of the manifest; None if unknown.

    A manifest counts only on the machine that wrote it.
    """
    if named := configuration.database(arguments):
        return named
    if of.backup is None:
        return None
    try:
        found = _made_of(of.backup, arguments)
    except ConfigError:
        if arguments.config is not None:
            raise
        found = None
    manifest = of.backup.manifest
    if found is None and manifest is not None and manifest.host == socket.gethostname():
        return Path(manifest.source)
    return found


def _made_of(backup: Backup, arguments: argparse.Namespace) -> Path | None:
    """Return the database or replica whose job makes backups like this; UsageError if two do."""
    found = dict.fromkeys(made.file for made in configuration.makers_of(backup, arguments))
    if len(found) > 1:
        raise UsageError(
            f"{backup.path} may be a backup of {' or '.join(map(str, found))}",
            hint="name the database to restore into with --to PATH",
        )
    return next(iter(found), None)


def restore_target(backup: Backup, arguments: argparse.Namespace) -> Path:
    """Find the file to restore into: --to, --database, or the database of the backup's job."""
    if arguments.to:
        return files.absolute(arguments.to)
    if named := configuration.database(arguments):
        _require_of(backup, named)
        return named
    try:
        target = _made_of(backup, arguments)
    except ConfigError as error:
        if arguments.config is not None:
            raise
        raise error.but(hint="name the database to restore into with --to PATH") from error
    if target is None:
        manifest = backup.manifest
        known = f" (it was made of {manifest.host}:{manifest.source})" if manifest else ""
        raise UsageError(
            f"no job of a configuration makes backups like {backup.path}{known}",
            hint="name the database to restore into with --to PATH",
        )
    return target


def _require_of(backup: Backup, named: Path) -> None:
    """Raise UsageError if a backup is certainly of another database than the one that is named."""
    every = Catalog(backup.path.parent, Clock().zone).backups()
    mine = belonging.likely(every, origin.here(named))
    if not any(other.place for other in mine):
        mine = [other for other in every if other.stem == names.plain(named.stem)]
    if backup.path not in [other.path for other in mine]:
        raise UsageError(
            f"{backup.path} is a backup of {backup.place or backup.stem}, not of {named}",
            hint="name the database to restore into with --to PATH",
        )


def origin_of(backup: Backup, target: Path, arguments: argparse.Namespace) -> Origin | None:
    """Return the origin of the job that makes backups of `target` like this one; None if none."""
    with contextlib.suppress(ConfigError):
        for made in configuration.makers_of(backup, arguments):
            if os.path.realpath(made.file) == os.path.realpath(target):
                return made.origin
    return None
