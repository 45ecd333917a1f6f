"""The local copy that a pull maintains: what it holds, who uses it, how it is replaced.

Beside the replica `NAME` lies `.NAME.pull.json`, what the last pull knew of it. A replica whose
inode, size or time differs from that was changed by somebody here. There may be `.NAME.spare`
(gymdbd.jobs.pull.spare).
"""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gymdbd import bounded, clock, files, partials, words
from gymdbd.errors import ReplicaInUseError
from gymdbd.jobs.pull import spare
from gymdbd.jobs.pull.spare import Spare
from gymdbd.origin import Place
from gymdbd.source import database, processes
from gymdbd.source.format import WAL, side_files
from gymdbd.sqlite import locks, opening

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import timedelta
    from pathlib import Path

    from gymdbd.source.processes import Process

SCHEMA = 1
SPARE = "spare"

_POLL_S = 0.5
# The unit of st_blocks, whatever the file system's own blocks are.
_BLOCK_BYTES = 512


@dataclass(frozen=True, kw_only=True)
class State:
    """What the last pull left: where it came from, which snapshot, and the proof of the file.

    `fingerprint` is the serving side's (gymdbd.source.fingerprint); `compared_at` is when every
    page was last compared with the other side and every page and index was checked here, RFC 3339.
    `checked_at` is when every page was last checked here, "" if nobody knows, `check_s` how long
    the last quick check took, and `is_checked` says whether that was this very state
    (gymdbd.jobs.pull.checking); before there were these three every state was checked. The hashes
    are "" if neither an archive nor the proof itself needed them. `journal_mode` is that of the
    source, "" if an older release left the state; `ownership` is the mode, owner and group of the
    source (gymdbd.source.ownership); `uncounted`, `remarks` and `unchecked` are those of a
    manifest. `suspicious` says why the content is doubted, one sentence for each reason, `rejected`
    that somebody has said that it is wrong, and `waiting` that a suspicious backup in the archive
    has no answer. `identity` and `spare` are of the files beside it
    (gymdbd.jobs.pull.spare), and are filled in by `publish`.
    """

    host: str
    remote_database: str
    fingerprint: dict[str, Any] | None
    pulled_at: str
    compared_at: str
    md5: str
    sha256: str
    tables: dict[str, int]
    journal_mode: str = ""
    uncounted: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    ownership: dict[str, Any] | None = None
    suspicious: list[str] = field(default_factory=list)
    rejected: bool = False
    waiting: bool = False
    checked_at: str = ""
    check_s: float | None = None
    is_checked: bool = True
    identity: list[int] = field(default_factory=list)
    spare: dict[str, Any] | None = None
    schema: int = SCHEMA

    @property
    def mode(self) -> str:
        """Return the journal mode of the source, which the replica has not; empty if unknown."""
        return self.journal_mode or str((self.fingerprint or {}).get("journal_mode", ""))

    @property
    def place(self) -> Place:
        """Return where the database lay that was pulled."""
        return Place(self.host, self.remote_database)


class Replica:
    """The file at `path`; the holder of its lock may change it."""

    def __init__(self, path: Path) -> None:
        """Follow a symbolic link, so that the file is replaced and not the link."""
        self.path = path.resolve()
        self.partial = partials.resume(self.path)
        self.unknown = ""
        self._state_path = self.path.with_name(f".{self.path.name}.pull.json")

    @property
    def exists(self) -> bool:
        """Return whether there is one."""
        return bounded.is_ordinary(self.path)

    def state(self) -> State | None:
        """Return the state that the last pull left; None if there is no usable one."""
        try:
            content = bounded.parse(bounded.read(self._state_path))
            state = bounded.typed(State, content)
            clock.from_text(state.pulled_at)
        except (OSError, *bounded.FAULTS, TypeError, AttributeError):
            return None
        # One of a later release may mean what this one does not know.
        known = state.schema == SCHEMA and content.keys() <= vars(state).keys()
        return state if known else None

    def change(self, state: State | None) -> str:
        """Return how the replica was changed here since the last pull, or ""."""
        if not self.exists:
            return ""
        if state is None:
            return "no pull of ours made it"
        if files.identity(self.path) != state.identity:
            return "its size or time is not that of the last pull"
        if files.is_there(self.side(WAL)) and self.side(WAL).stat().st_size:
            return "a -wal with changes lies beside it"
        return ""

    def identity(self) -> list[int]:
        """Return what tells whether somebody has written to it; nothing if there is none."""
        log = self.side(WAL)
        size = log.stat().st_size if files.is_there(log) else 0
        return [*files.identity(self.path), size] if self.exists else []

    def changed_meanwhile(self) -> ReplicaInUseError:
        """Build the error for a replica that somebody has written to while a pull was at it."""
        return ReplicaInUseError(
            f"{self.path} was changed here during the pull",
            hint="the next pull saves the change and overwrites it; stop whoever writes there",
        )

    def await_free(self, wait: timedelta, check: Callable[[], None]) -> None:
        """Wait until nobody has the replica open for writing; ReplicaInUseError after `wait`.

        A reader may keep the old file open and goes on seeing the old state. A user of its WAL
        counts as a writer: the WAL would be removed. If the system did not tell who has it open,
        it is not asked again: `unknown` says so, and `publish` takes SQLite's lock.
        """
        deadline = time.monotonic() + wait.total_seconds()
        while (writers := self._writers()) or locks.holds_wal(self.path):
            if time.monotonic() >= deadline:
                raise ReplicaInUseError(
                    f"{self.path} is open for writing in {processes.describe(writers)}",
                    hint="stop it, or let it open the replica read-only "
                    "(file:...?mode=ro); the replica has not changed",
                )
            check()
            time.sleep(_POLL_S)

    def _writers(self) -> list[Process]:
        if self.unknown:
            return []
        found, self.unknown = processes.look_for_writers(self.path)
        return found

    def roll_back(self) -> None:
        """Undo the unfinished transaction of an application that crashed.

        Only for a replica that nobody has open. A -wal needs no rollback and stays: in a damaged
        replica it may be all that can be rescued.
        """
        if not opening.has_hot_journal(self.path):
            return
        with database.translated(self.path), opening.writing(self.path):
            pass

    def save_as(self, target: Path) -> None:
        """Hard-link the unchanged replica into the archive, or copy it if that fails."""
        with files.writing(target):
            try:
                os.link(self.path, target)
            except OSError:
                files.clone(self.path, target)
            files.sync_file(target)
            files.sync_folder(target.parent)

    def begin_partial(self, state: State | None) -> str:
        """Let the partial begin as a copy of the replica; return how: spare, or as files.clone."""
        with files.writing(self.partial):
            left = self._spare(state)
            if left and spare.bring_forward(left, self.path, self.partial):
                return SPARE
            spare.drop(self.path)
            return files.clone(self.path, self.partial)

    def reusable_bytes(self, state: State | None) -> int:
        """Return how much of the next partial's room is allocated already."""
        if files.is_there(self.partial):
            return self.partial.stat().st_blocks * _BLOCK_BYTES
        if self._spare(state):
            return spare.spare_path(self.path).stat().st_blocks * _BLOCK_BYTES
        return 0

    def drop_useless_spare(self, state: State | None) -> None:
        """Free the room of a spare that the next pull cannot begin with."""
        if not self._spare(state):
            spare.drop(self.path)

    def publish(self, state: State, changed: Collection[int] | None = None) -> None:
        """Replace the replica with its proven partial.

        The old one becomes the spare if `changed` names the pages in which the new one differs.
        Unless it is known who has the old one open, SQLite's lock on it keeps unseen writers away.
        The side files of the old one are gone before the new one has its name; the state is
        written last, so that a crash in between costs a comparison and nothing else.
        """
        alone = locks.exclusive(self.path) if self.unknown and self.exists else nullcontext()
        with files.writing(self.path), alone:
            for side in side_files(self.path):
                side.unlink(missing_ok=True)
            spare.drop(self.path)
            left = None
            # To keep the old file it has to be opened, which would end the lock.
            if changed is not None and state.fingerprint and not self.unknown:
                size = state.fingerprint["page_size"]
                left = spare.keep(self.path, self.partial, changed, size)
            if self.exists:
                # Whoever could read the old one can read the new one.
                self.partial.chmod(self.path.stat().st_mode & 0o777)
            files.publish(self.partial, self.path)
            partials.begin(self.path)
            identity = files.identity(self.path)
        self.note(replace(state, identity=identity, spare=left.note() if left else None))

    def note(self, state: State) -> None:
        """Write the state of the unchanged replica."""
        files.write_atomically(self._state_path, words.json_text(asdict(state)).encode())

    def _spare(self, state: State | None) -> Spare | None:
        """Return the spare that the last pull left, if it can be used."""
        left = Spare.parse(state.spare) if state and self.exists else None
        return left if spare.is_there(left, self.path) else None

    def side(self, suffix: str) -> Path:
        """Return where a side file of the replica would be: "-wal", "-shm" or "-journal"."""
        return self.path.with_name(self.path.name + suffix)
