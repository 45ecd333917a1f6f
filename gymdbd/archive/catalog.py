"""The content of an archive: backups by name and age, and the leftovers of crashed runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from gymdbd import bounded, clock, disk, files, names, partials, words
from gymdbd.archive import beginning, belonging
from gymdbd.archive.listed import NAME, Reader
from gymdbd.archive.look import Look, listed
from gymdbd.errors import BackupAmbiguousError, BackupMissingError
from gymdbd.source.format import SIDE_SUFFIXES

if TYPE_CHECKING:
    from datetime import tzinfo
    from pathlib import Path
    from re import Match

    from gymdbd.archive.backup import Backup
    from gymdbd.origin import Origin

# The longest name that a backup needs.
_LONGEST = ".{}.json.partial"
# What lies beside a backup.
_BESIDE = (".marks.json", ".json", *SIDE_SUFFIXES)
_STAMP = "%Y%m%d_%H%M%S"

LATEST = "latest"
# The newest of many backups that a message names.
_SHOWN = 5


def is_named_after(path: Path, created_at: str) -> bool:
    """Return whether a backup has the name of one made at this time, RFC 3339.

    The name has the time where the backup was made, and so has the text.
    """
    match = NAME.fullmatch(path.name)
    return (
        match is not None and datetime.fromisoformat(created_at).strftime(_STAMP) == match["stamp"]
    )


def _candidates(every: list[Backup], origin: Origin | None) -> list[Backup]:
    """Return the backups that `latest` or a time may mean, in the given order.

    If the archive has no backup of the database, for example after a move to another machine, they
    are those of the same name.
    """
    if origin is None:
        return every
    found = belonging.likely(every, origin)
    if any(backup.place for backup in found):
        return found
    return [backup for backup in every if backup.stem == origin.stem]


class Catalog:
    """The backups in one folder; callers that change it hold the archive's lock."""

    def __init__(self, archive: Path, zone: tzinfo) -> None:
        self.archive = archive
        self.zone = zone

    def look(self) -> Look:
        """Look at the backups, for several questions about the archive as it is now."""
        return Look(self.archive, self.zone)

    def backups(self, origin: Origin | None = None) -> list[Backup]:
        """List the backups, newest first; with `origin` only those of that database."""
        return self.look().backups(origin)

    def newest(self, most: int) -> tuple[list[Backup], int]:
        """Return the newest backups by the times in their names, and how many there are in all.

        So the other manifests are not read.
        """
        named = [match for name in listed(self.archive) if (match := NAME.fullmatch(name))]
        named.sort(key=lambda match: (match["stamp"], int(match["again"] or 1)), reverse=True)
        found = []
        for match in named[:most]:
            with contextlib.suppress(BackupMissingError):
                found.append(self.read(names.listed(self.archive / match[0]).name))
        return sorted(found, key=lambda backup: backup.order, reverse=True), len(named)

    def read(self, name: str) -> Backup:
        """Read the backup with this file name; BackupMissingError if there is none.

        Raises SourceUnreadableError if that cannot be seen.
        """
        path, match = self.archive / name, NAME.fullmatch(name)
        with contextlib.suppress(FileNotFoundError), disk.checking(path):
            if match and bounded.is_ordinary(path):
                return Reader(self.archive, self.zone).backup(name, match)
        raise self._missing(name, [])

    def _missing(self, name: str, names: list[str]) -> BackupMissingError:
        return BackupMissingError(
            f"{self.archive} holds no backup called {name}{words.did_you_mean(name, names)}",
            hint=f"gymdbd list --archive {self.archive} prints what it holds",
        )

    def find(self, wanted: str, origin: Origin | None = None) -> Backup:
        """Return the backup called `wanted`.

        That is a file name; or `latest`, the newest good one; or a beginning of the time in its
        name that no other has. With `origin`, the last two mean a backup of that database. Raises
        BackupMissingError, or BackupAmbiguousError.
        """
        if wanted == LATEST:
            return self._newest(origin, None)
        present = listed(self.archive)
        for name in present:
            if names.plain(name) == names.plain(wanted):
                return self.read(names.listed(self.archive / name).name)
        named = [match for name in present if (match := NAME.fullmatch(name))]
        if not beginning.is_one(wanted):
            raise self._missing(wanted, [LATEST, *(match[0] for match in named)])
        if origin is not None:
            mine = {backup.path.name for backup in _candidates(self.backups(), origin)}
            named = [match for match in named if names.listed(self.archive / match[0]).name in mine]
        begun = beginning.meant(wanted, named)
        if not begun:
            raise self._none_begins(wanted, named)
        if len(begun) > 1:
            raise self._several(wanted, sorted(begun), origin)
        return self.read(names.listed(self.archive / begun[0]).name)

    def _none_begins(self, wanted: str, named: list[Match[str]]) -> BackupMissingError:
        stamps = beginning.nearest(wanted, [match["stamp"] for match in named])
        near = sorted((match["stamp"], match[0]) for match in named if match["stamp"] in stamps)
        told = f"; the nearest: {', '.join(name for _, name in near)}" if near else ""
        return BackupMissingError(
            f"{self.archive} holds no backup with a time that begins with {wanted}{told}",
            hint=f"gymdbd list --archive {self.archive} prints what it holds",
        )

    def _several(
        self, wanted: str, begun: list[str], origin: Origin | None
    ) -> BackupAmbiguousError:
        several = ", or add --database PATH if they are of several databases" if not origin else ""
        before = f"{len(begun) - _SHOWN} more, and " if len(begun) > _SHOWN else ""
        return BackupAmbiguousError(
            f"{wanted} is the beginning of the times of {len(begun)} backups in {self.archive}: "
            f"{before}{', '.join(begun[-_SHOWN:])}",
            hint=f"type more of the time or the whole name{several}; gymdbd list prints all",
        )

    def at(self, moment: datetime, origin: Origin | None = None) -> Backup:
        """Return the newest good backup made at or before `moment`; BackupMissingError."""
        return self._newest(origin, moment)

    def good_before(self, origin: Origin, backup: Backup | None = None) -> Backup | None:
        """Return the newest good backup of a database, as `Look.good_before` does."""
        return self.look().good_before(origin, backup)

    def _newest(self, origin: Origin | None, moment: datetime | None) -> Backup:
        """Return the newest good backup that is old enough; all must be of one database."""
        every = self.backups()
        mine = belonging.of(every, origin) if origin else []
        candidates = _candidates(every, origin)
        old_enough = [backup for backup in candidates if moment is None or backup.created <= moment]
        newest = next((backup for backup in old_enough if backup.good), None)
        if newest is None:
            younger = [backup for backup in candidates if backup.good]
            raise self._none_good(origin, moment, younger)
        if newest in mine:
            return newest
        good = [backup for backup in old_enough if backup.good]
        sources = belonging.origins(good)
        if len(sources) > 1:
            # If this machine was renamed, it has backups under both names.
            here = [of for of in sources if of.places and of.places[0].is_here]
            if len(here) == 1 and len(belonging.of_same_path(good, here[0])) == len(good):
                return belonging.of(good, here[0])[0]
            stems = {source.stem for source in sources}
            names = sorted(stems) if len(stems) == len(sources) else map(str, sources)
            raise BackupAmbiguousError(
                f"{self.archive} holds backups of several databases: {', '.join(names)}",
                hint="add --database PATH, or name the file of the backup",
            )
        return newest

    def _none_good(
        self, origin: Origin | None, moment: datetime | None, younger: list[Backup]
    ) -> BackupMissingError:
        of = f" of {origin}" if origin else ""
        limit = ""
        if moment is not None:
            limit = f" made at or before {clock.to_minute(moment, self.zone)}"
            if younger:
                after = words.age((younger[-1].created - moment).total_seconds())
                limit += f"; the oldest, {younger[-1].path.name}, was made {after} after that"
        return BackupMissingError(
            f"{self.archive} holds no good backup{of}{limit}",
            hint=f"gymdbd list --archive {self.archive} prints what it holds; a backup that is "
            "not good can be given by its name",
        )

    def name(self, stem: str, created: datetime) -> Path:
        """Return the path for a backup made at `created`, after all others of the same second.

        A number that pruning has freed is not used again, because the new backup would look older
        than the previous one. A name that differs in case only may be that of the same file.
        """
        stem = names.plain(stem)
        stamp = created.astimezone(self.zone).strftime(_STAMP)
        present = (name.removesuffix(".json") for name in listed(self.archive) if stamp in name)
        taken = [
            int(match["again"] or 1)
            for match in map(NAME.fullmatch, present)
            if match and match["stamp"] == stamp
            if names.without_case(match["stem"]) == names.without_case(stem)
        ]
        again = f"-{max(taken) + 1}" if taken else ""
        return self.archive / f"{stem}_backup_{stamp}{again}.db"

    def require_name(self, stem: str) -> None:
        """Raise NameTooLongError if the name of a backup or its manifest would be too long."""
        disk.require_name(self.archive / f"{stem}_backup_00000000_000000.db", _LONGEST)

    def sweep(self) -> list[Path]:
        """Remove the leftovers of a crashed run: partial files, and side files without a backup.

        The `.db` is published last, so they were never part of a visible backup.
        """
        present = listed(self.archive)
        orphans = []
        for name in present:
            # As nearly all are.
            if name.endswith(".db"):
                continue
            if name.endswith(".json") and name[: -len(".json")] in present:
                continue
            for suffix in (suffix for suffix in _BESIDE if name.endswith(suffix)):
                owner = name.removesuffix(suffix)
                if owner not in present and NAME.fullmatch(owner):
                    path = names.listed(self.archive / name)
                    if not files.is_there(path.with_name(path.name.removesuffix(suffix))):
                        orphans.append(path)
        return self._remove_all([*partials.left(self.archive), *orphans])

    def remove(self, backup: Backup) -> None:
        """Remove all files of a backup, the `.db` first.

        If this is interrupted, the next sweep removes the remaining files.
        """
        self._remove_all(backup.files)
        with files.writing(self.archive):
            files.sync_folder(self.archive)

    def freeze(self, origin: Origin, reason: str, since: datetime) -> None:
        """Stop pruning backups of this database until `thaw`, because its source is damaged."""
        self._note(self._freezers(origin)[0], reason, since)

    def thaw(self, origin: Origin) -> None:
        """Resume pruning."""
        self._remove_all(self._freezers(origin))

    def frozen(self, origin: Origin, look: Look | None = None) -> str:
        """Return why pruning is stopped, or an empty text; `look` is how the archive is now."""
        if waiting := (look or self.look()).waiting(origin):
            return f"{waiting.path.name} is suspicious and nobody has accepted it"
        for path in (self._awaited(origin), *self._freezers(origin)):
            try:
                content: Any = bounded.parse(bounded.read(path))
                return f"{content['reason']} (since {content['since']})"
            except FileNotFoundError:
                continue
            except (OSError, *bounded.FAULTS, KeyError, TypeError) as error:
                return f"{path} cannot be read ({error})"
        return ""

    def await_answer(self, origin: Origin, reason: str, since: datetime) -> None:
        """Stop pruning until `end_wait`, because the replica of this archive is suspicious."""
        self._note(self._awaited(origin), reason, since)

    def end_wait(self, origin: Origin) -> None:
        """Resume pruning: the replica was accepted or rejected, or is good again."""
        self._remove_all([self._awaited(origin)])

    @staticmethod
    def _remove_all(paths: list[Path]) -> list[Path]:
        """Remove files, and return them; a folder of such a name is not ours, and stays."""
        ours = [path for path in paths if not files.is_own_folder(path)]
        for path in ours:
            files.remove(path)
        return ours

    def _note(self, path: Path, reason: str, since: datetime) -> None:
        content = {"schema": 1, "reason": reason, "since": since.isoformat(timespec="seconds")}
        files.write_atomically(path, json.dumps(content).encode())

    def _freezers(self, origin: Origin) -> list[Path]:
        """Return the file that stops pruning, and that of release 0.1, which used only the name."""
        return [self._note_path(origin, "frozen"), self.archive / f".{origin.stem}.frozen.json"]

    def _awaited(self, origin: Origin) -> Path:
        return self._note_path(origin, "waiting")

    def _note_path(self, origin: Origin, word: str) -> Path:
        of = names.plain(str(origin)).encode("utf-8", "surrogateescape")
        place = hashlib.sha256(of).hexdigest()[:8]
        return self.archive / f".{origin.stem}.{place}.{word}.json"
