"""Repairing damaged backups from the archive of another machine."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from gymdbd import clock, files, lock, names
from gymdbd.archive import inspection, proof, sealed
from gymdbd.archive import manifest as manifests
from gymdbd.archive import marks as all_marks
from gymdbd.archive.catalog import Catalog, is_named_after
from gymdbd.errors import (
    BackupMissingError,
    BusyError,
    CopyDamagedError,
    DestinationError,
    FormatError,
)
from gymdbd.jobs.peer import connect
from gymdbd.jobs.verify.verified import ARCHIVE_WAIT_S, WORKSHOP
from gymdbd.source.errors import RemoteError, SourceError
from gymdbd.source.format import WAL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gymdbd.archive.backup import Backup
    from gymdbd.archive.manifest import Manifest
    from gymdbd.config.parts import RepairConfig
    from gymdbd.jobs.context import Context
    from gymdbd.jobs.verify.verified import Verified
    from gymdbd.remote.ssh.sftp import RemoteFiles
    from gymdbd.source.errors import GymdbdError

# These end the repair of one backup, or of all, and leave them as they are.
_FAULTS = (
    RemoteError,
    SourceError,
    DestinationError,
    CopyDamagedError,
    BackupMissingError,
    BusyError,
)
_MANIFEST = ".db.json"


def repair(
    damaged: list[Verified], place: RepairConfig, catalog: Catalog, context: Context
) -> None:
    """Replace damaged backups with good copies from the archive of another machine.

    A copy is good if it has the SHA-256 with which the backup was made, and passes every check
    here. A backup that cannot be repaired is left as it is, with a remark saying why.
    """
    left = list(damaged)
    try:
        with reach(place, context) as there:
            while left:
                context.check()
                _try(left.pop(0), there, catalog, context)
    except _FAULTS as error:
        for verified in left:
            _remark(verified, error, context)


def clear(catalog: Catalog, context: Context) -> None:
    """Remove what a killed repair left, unless another repair is running or that fails."""
    with contextlib.suppress(BusyError, DestinationError), _workshop(catalog, context):
        context.log.info("leftover of a killed repair removed", archive=str(catalog.archive))


@contextlib.contextmanager
def _workshop(catalog: Catalog, context: Context) -> Iterator[Path]:
    """Yield an empty folder in the archive that nobody else uses, and remove it afterwards."""
    folder = catalog.archive / WORKSHOP
    with lock.hold([lock.file_lock(folder.with_name("repair"))], check=context.check):
        shutil.rmtree(folder, ignore_errors=True)
        files.own_folder(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def reach(place: RepairConfig, context: Context) -> Iterator[OtherArchive]:
    """Connect to the other machine and yield its archive; raises a RemoteError."""
    with connect(place, context) as connection, connection.sftp() as remote:
        yield OtherArchive(place, remote)


def _try(verified: Verified, there: OtherArchive, catalog: Catalog, context: Context) -> None:
    backup = verified.backup
    try:
        _Repair(backup, there, catalog, context).run()
        verified.verdict = catalog.read(backup.path.name).verdict
    except _FAULTS as error:
        _remark(verified, error, context)
    else:
        verified.repaired = there.name
        context.log.info("backup repaired", path=str(backup.path), source=there.name)


def _remark(verified: Verified, error: GymdbdError, context: Context) -> None:
    verified.remarks.append(f"not repaired: {error.message}")
    context.log.warning(
        "backup not repaired",
        path=str(verified.backup.path),
        reason=error.message,
        remedy=error.hint,
    )


class OtherArchive:
    """The archive of the other machine; each manifest is read when it is needed."""

    def __init__(self, place: RepairConfig, remote: RemoteFiles) -> None:
        self.remote = remote
        self.folder = place.archive.rstrip("/") or "/"
        self.name = f"{place.host}:{self.folder}"
        self._names: list[str] | None = None
        self._known: dict[str, tuple[object, ...] | None] = {}

    def path(self, name: str) -> str:
        """Return the remote path of a file in the archive."""
        return f"{self.folder}/{name}"

    def names(self) -> list[str]:
        """List the remote backups that have a manifest, newest name first."""
        if self._names is None:
            found = self.remote.names(self.folder)
            self._names = sorted(
                (name.removesuffix(".json") for name in found if name.endswith(_MANIFEST)),
                reverse=True,
            )
        return self._names

    def called(self, name: str) -> str:
        """Return how a name is written over there, where a local one may have been taken apart."""
        alike = (there for there in self.names() if names.plain(there) == names.plain(name))
        return next(alike, name)

    def find(self, name: str, promise: Manifest) -> str | None:
        """Return the name of a remote backup with the same bytes; `name` is tried first."""
        for candidate in sorted(self.names(), key=lambda candidate: candidate != name):
            if candidate not in self._known:
                there = self.manifest(candidate)
                self._known[candidate] = _bytes_of(there) if there else None
            if self._known[candidate] == _bytes_of(promise):
                return candidate
        return None

    def manifest(self, name: str) -> Manifest | None:
        """Return the manifest of a remote backup, None if it is missing or invalid."""
        return manifests.parse(self.remote.read_head(self.path(f"{name}.json"), sealed.MAX_SIZE))


def _bytes_of(manifest: Manifest) -> tuple[object, ...]:
    """Return what identifies the bytes of a backup and of its WAL."""
    return manifest.sha256, manifest.size, manifest.side_files.get(WAL, {}).get("sha256")


@dataclass(frozen=True)
class _Repair:
    """The repair of one backup: fetched into a separate folder, verified there, then published.

    No backup sweeps that folder for leftovers of a crash, so the archive's lock is held only to
    publish.
    """

    backup: Backup
    there: OtherArchive
    catalog: Catalog
    context: Context

    def run(self) -> None:
        """Repair the backup, or raise one of _FAULTS and leave it as it is."""
        name, manifest = self._find()
        with _workshop(self.catalog, self.context) as workshop:
            copy = workshop / self.backup.path.name
            files.require_space(workshop, manifest.size)
            self._get(name, "", copy, manifest.sha256, manifest.size)
            log = manifest.side_files.get(WAL)
            if log:
                self._get(name, WAL, copy, log["sha256"], log["size"])
            manifests.write(manifest, copy)
            proven = Catalog(workshop, self.catalog.zone).read(copy.name)
            problems = inspection.inspect(proven, self.context.check).problems
            if problems:
                raise CopyDamagedError(
                    f"the copy from {self.there.name} is damaged: {problems[0]}",
                    hint="verify that archive too",
                )
            self._publish(copy, manifest)

    def _find(self) -> tuple[str, Manifest]:
        """Return the name of a good remote copy, and the manifest that it must match.

        If the local manifest is damaged, the remote manifest of the same name replaces it if it
        describes the local bytes: then these are good, and only the manifest is repaired.
        """
        name = self.backup.path.name
        ours = self._own_manifest()
        if ours is None:
            theirs = self.there.manifest(self.there.called(name))
            if theirs and theirs.sha256 == proof.checksums(self.backup.path).sha256:
                self._require_fit(theirs)
                return name, theirs
        else:
            found = self.there.find(name, ours)
            if found is not None:
                return found, ours
        raise BackupMissingError(
            f"{self.there.name} holds no copy of {name}",
            hint="remove it once gymdbd list shows good backups",
        )

    def _require_fit(self, theirs: Manifest) -> None:
        """Raise CopyDamagedError if a manifest to adopt says another time or database than ours."""
        stem, others = self.backup.stem, self.catalog.backups()
        known = [other.place for other in others if other.place and other.stem == stem]
        is_ours = any(theirs.place.same(place) for place in known)
        if not known:
            is_ours = PurePath(theirs.source).stem == stem
        if not is_ours or not is_named_after(self.backup.path, theirs.created_at):
            raise CopyDamagedError(
                f"the manifest of {self.backup.path.name} on {self.there.name} is of "
                f"{theirs.place} at {theirs.created_at}, which that name is not",
                hint="verify that archive too",
            )

    def _own_manifest(self) -> Manifest | None:
        # The catalog omits it if the size differs, so it is read again.
        with contextlib.suppress(FormatError):
            return manifests.read(self.backup.path)
        return None

    def _get(self, name: str, suffix: str, copy: Path, sha256: str, size: int) -> None:
        """Copy one file into the workshop: the local file if it is sound, else the remote one."""
        here = self.backup.path.with_name(self.backup.path.name + suffix)
        target = copy.with_name(copy.name + suffix)
        with contextlib.suppress(OSError):
            if proof.checksums(here, self.context.check).sha256 == sha256:
                with files.writing(target):
                    files.clone(here, target)
                return
        with files.writing(target):
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, files.FILE_MODE)
        with files.writing(target), os.fdopen(descriptor, "wb") as file:
            whole = self.there.remote.copy(
                self.there.path(name + suffix),
                size,
                file,
                lambda done: self.context.progress(f"fetch {name}{suffix}", done, size),
            )
        if not whole:
            raise CopyDamagedError(
                f"{name}{suffix} on {self.there.name} is shorter than its manifest says",
                hint="verify that archive too",
            )

    def _publish(self, copy: Path, manifest: Manifest) -> None:
        """Publish the verified files, the marks last: until then the backup counts as damaged."""
        path = self.backup.path
        archive_lock = lock.archive_lock(self.catalog.archive)
        with lock.hold([archive_lock], wait_s=ARCHIVE_WAIT_S, check=self.context.check):
            now = self.catalog.read(path.name)
            for side in now.side_files:
                if side.name.removeprefix(path.name) not in manifest.side_files:
                    files.remove(side)
            for suffix in (WAL, ".json", ""):
                if files.is_there(part := copy.with_name(copy.name + suffix)):
                    files.publish(part, path.with_name(path.name + suffix))
            moment = clock.to_text(self.context.clock.now(), self.catalog.zone)
            all_marks.change(path, verified_at=moment, problems=[])
