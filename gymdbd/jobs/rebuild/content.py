"""What a rebuild puts there: the replica of a pull, or a backup; proven before it is sent."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gymdbd import bounded, clock
from gymdbd.archive import inspection, proof
from gymdbd.archive.catalog import Catalog
from gymdbd.errors import BackupMissingError, SuspiciousError, UsageError, VerificationError
from gymdbd.jobs.pull.replica import Replica
from gymdbd.jobs.restore.restore import require_sound
from gymdbd.source import ownership
from gymdbd.source.format import VERSIONS, WITH_WAL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from gymdbd.config.kinds import PullConfig, RebuildConfig
    from gymdbd.jobs.context import Context
    from gymdbd.jobs.pull.replica import State

_PIECE_BYTES = 256 * 1024
_OTHERWISE = (
    "gymdbd rebuild --backup latest puts the newest good backup there, gymdbd list prints all"
)


@dataclass(frozen=True)
class Proven:
    """A file whose bytes were found good; `has_wal` if its database works with a WAL.

    A copy of a database has none: the header says so, and is as it was again in what is sent.
    """

    path: Path
    sha256: str
    has_wal: bool

    @property
    def size(self) -> int:
        """Return how many bytes there are to send."""
        return self.path.stat().st_size

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes to send; VerificationError in the end if they were not the good ones."""
        digest, is_first = hashlib.sha256(), True
        with os.fdopen(bounded.opened(self.path), "rb", buffering=0) as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
                yield self._in_its_mode(piece) if is_first else piece
                is_first = False
        if digest.hexdigest() != self.sha256:
            raise VerificationError(
                f"{self.path} has changed since it was checked",
                hint="nothing was put there; stop whoever writes to it, check the disk, and run "
                "this again",
            )

    def _in_its_mode(self, head: bytes) -> bytes:
        if not self.has_wal:
            return head
        return head[: VERSIONS.start] + WITH_WAL + head[VERSIONS.stop :]


class Content(Protocol):
    """What is to be put there, as far as it is known before all of it is read."""

    shown: Path
    size: int
    made_at: str
    tables: dict[str, int]
    ownership: dict[str, Any]

    def proven(self) -> AbstractContextManager[Proven]:
        """Read all of it and yield it; raises if it is damaged."""


def choose(job: RebuildConfig, context: Context) -> Content:
    """Return what a rebuild puts there; raises if it may not be, before all of it is read."""
    return (
        _FromReplica(job.pull, context) if job.backup is None else _FromBackup(job.backup, context)
    )


class _FromReplica:
    """The replica, as the last pull left it."""

    def __init__(self, job: PullConfig, context: Context) -> None:
        self._context = context
        self._replica = Replica(job.replica)
        self._state = _usable(job, self._replica)
        self.shown = job.replica
        self.size = self._replica.path.stat().st_size
        self.made_at = self._state.pulled_at
        self.tables = self._state.tables
        self.ownership = ownership.parse(self._state.ownership)

    @contextlib.contextmanager
    def proven(self) -> Iterator[Proven]:
        """Check every page and index, and that it holds what the pull brought."""
        state = self._state
        expected = {"rows": state.tables, "uncounted": state.uncounted}
        if state.sha256:
            expected["sha256"] = state.sha256
        try:
            found = proof.prove(
                self._replica.path, expected, self._context.check, hashes=("sha256",)
            )
        except VerificationError as error:
            raise error.but(hint=f"the replica is damaged: {_OTHERWISE}") from error
        yield Proven(self._replica.path, found.sums.sha256, state.mode == "wal")


def _usable(job: PullConfig, replica: Replica) -> State:
    """Return what the last pull left; raises unless it is there, unchanged and not doubted."""
    state = replica.state()
    if not replica.exists:
        raise BackupMissingError(f"there is no replica at {job.replica}", hint=_OTHERWISE)
    change = replica.change(state)
    if state is None or change:
        raise UsageError(
            f"{job.replica} is not what the last pull left: {change or 'its state is lost'}",
            hint=_OTHERWISE,
        )
    if state.remote_database != job.remote_database:
        raise UsageError(
            f"{job.replica} was pulled from {state.remote_database}, not {job.remote_database}",
            hint=f"name the backup to put there; {_OTHERWISE}",
        )
    if state.suspicious:
        name = shlex.quote(job.name)
        raise SuspiciousError(
            f"the replica {job.replica} is suspicious: {'; '.join(state.suspicious)}",
            hint=f"if it is right, run gymdbd accept {name} and this again; otherwise put the good "
            f"state before it there: {_OTHERWISE}",
        )
    return state


class _FromBackup:
    """A backup, which a person has named."""

    def __init__(self, path: Path, context: Context) -> None:
        self._context = context
        self._backup = Catalog(path.parent, context.clock.zone).find(path.name)
        manifest = self._backup.manifest
        self.shown = path
        self.size = self._backup.size
        self.made_at = clock.to_text(self._backup.created, context.clock.zone)
        self.tables = manifest.tables if manifest else {}
        self.ownership = ownership.parse(vars(manifest)) if manifest else {}

    @contextlib.contextmanager
    def proven(self) -> Iterator[Proven]:
        """Compare all of it with its manifest; the -wal of a raw backup is applied to a copy."""
        require_sound(self._backup, self._context)
        manifest = self._backup.manifest
        with inspection.readable(self._backup) as path:
            sums = proof.checksums(path, self._context.check, hashes=("sha256",))
            yield Proven(path, sums.sha256, manifest is not None and manifest.journal_mode == "wal")
