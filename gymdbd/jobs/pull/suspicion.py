"""Whether a replica is suspicious: each pull is compared with the newest good state.

The replica always follows the source. So while it is suspicious the good state is pinned in the
archive and nothing is pruned there. The next pulls are compared with that good state, not with
a suspicious one, until a person has answered or the source is good again.
"""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from gymdbd import clock, files, lock
from gymdbd.archive import answers, marks
from gymdbd.archive.catalog import Catalog
from gymdbd.archive.gates import Content
from gymdbd.errors import SuspiciousError
from gymdbd.jobs.backup import content
from gymdbd.jobs.pull.replica import Replica
from gymdbd.jobs.pull.result import Answer
from gymdbd.source.counting import uncounted
from gymdbd.source.errors import SourceError
from gymdbd.source.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gymdbd.config.kinds import PullConfig
    from gymdbd.jobs.context import Context
    from gymdbd.jobs.pull.replica import State
    from gymdbd.jobs.pull.result import PullResult

PIN = "the good state before a suspicious pull"
# Each pull may save another suspicious state and none is pruned: so many are enough.
_SAVED = 5
_ARCHIVE_WAIT_S = 60.0


@contextlib.contextmanager
def opened(job: PullConfig, context: Context) -> Iterator[Catalog]:
    """Open the archive of a pull with its lock held.

    It is created only if the configuration does not name it: a named folder that is absent is
    on a disk that is not mounted.
    """
    folder = job.archive_folder
    if job.archive is None:
        files.make_folder(folder)
    else:
        files.require_folder(folder)
    with lock.hold([lock.archive_lock(folder)], wait_s=_ARCHIVE_WAIT_S, check=context.check):
        yield Catalog(folder, context.clock.zone)


def last(job: PullConfig, replica: Replica) -> State | None:
    """Return what the last pull of this job left, also if the replica was changed here since."""
    state = replica.state()
    here = (job.host, job.remote_database)
    return state if state and (state.host, state.remote_database) == here else None


def suspicions(job: PullConfig, known: State | None, now: Content, context: Context) -> list[str]:
    """Compare what arrived with the newest good state: `known`, or one in the archive.

    If that is suspicious, and the archive has no good one, nothing proves the next better. If no
    pull of this job is known, as after a move to another host, it is compared with what is here.
    """
    before = None
    if known is not None and not known.suspicious:
        return content.compare(job.gates, Content(known.tables, known.identity[1]), now)
    if files.is_folder(job.archive_folder):
        before = Catalog(job.archive_folder, context.clock.zone).good_before(job.origin)
    if before is not None and before.manifest is not None:
        return content.compare(job.gates, before.manifest, now)
    if known is not None:
        return known.suspicious
    here = _held(job.replica)
    return content.compare(job.gates, here, now) if here else []


def _held(replica: Path) -> Content | None:
    """Describe a replica as it lies there, whoever made it; None if it cannot be read."""
    if not files.is_there(replica):
        return None
    try:
        with Snapshot(replica) as snapshot:
            rows, facts = snapshot.count_rows(), snapshot.facts
    except SourceError:
        return None
    return Content(rows, facts.size_bytes, uncounted=uncounted(facts, rows))


def is_enough(job: PullConfig, known: State | None, context: Context) -> bool:
    """Return whether the archive holds enough suspicious states without this one."""
    if known is None or not known.suspicious or not files.is_folder(job.archive_folder):
        return False
    backups = Catalog(job.archive_folder, context.clock.zone).backups(job.origin)
    return len(answers.unanswered(backups)) >= _SAVED


def settle(job: PullConfig, catalog: Catalog, new: State, context: Context) -> None:
    """Pin the good state and stop pruning if the next replica is suspicious, else undo that.

    The archive's lock is held, and the replica is not published yet.
    """
    now = context.clock.now()
    if not new.suspicious:
        release(job, catalog)
        return
    good = catalog.good_before(job.origin)
    if good is not None and good.marks.kept_at is None:
        marks.change(good.path, kept_at=clock.to_text(now, context.clock.zone), note=PIN)
    if not new.rejected:
        reason = f"the replica {job.replica} is suspicious: {'; '.join(new.suspicious)}"
        catalog.await_answer(job.origin, reason, now)


def goes_on(job: PullConfig, known: State | None, catalog: Catalog) -> bool:
    """Return whether the replica is suspicious; if its state is lost, the pin decides."""
    if known is not None:
        return bool(known.suspicious)
    return any(backup.marks.note == PIN for backup in catalog.backups(job.origin))


def release(job: PullConfig, catalog: Catalog) -> None:
    """Remove the pins that `settle` has set, and resume pruning."""
    for backup in catalog.backups(job.origin):
        if backup.marks.kept_at is not None and backup.marks.note == PIN:
            marks.change(backup.path, kept_at=None, note="")
    catalog.end_wait(job.origin)


def waiting(job: PullConfig, context: Context) -> str | None:
    """Return the name of the newest backup of the archive that waits for an answer."""
    if not files.is_folder(job.archive_folder):
        return None
    found = Catalog(job.archive_folder, context.clock.zone).look().waiting(job.origin)
    return found.path.name if found else None


def judged(job: PullConfig, state: State, result: PullResult, context: Context) -> PullResult:
    """Return the result with what waits for an answer; raise if the replica is suspicious."""
    result = replace(result, answer=Answer(waiting=waiting(job, context)))
    if not state.suspicious:
        return result
    if state.rejected:
        hint = (
            f"it was rejected: mend the database on {job.host}. The good state before it stays "
            f"pinned in {job.archive_folder}"
        )
    else:
        result = replace(result, answer=Answer(waiting=str(job.replica)))
        name = shlex.quote(job.name)
        hint = (
            f"look at it (gymdbd diff latest --archive {shlex.quote(str(job.archive_folder))} "
            f"--database {shlex.quote(str(job.replica))}); if the change is right run gymdbd "
            f"accept {name}, if not gymdbd reject {name} and mend the database on {job.host}. The "
            "good state before it is pinned, and nothing is pruned meanwhile"
        )
    raise SuspiciousError(
        f"the replica {job.replica} is suspicious: {'; '.join(state.suspicious)}",
        hint=hint,
        result=result,
    )


def answer(job: PullConfig, catalog: Catalog | None, *, right: bool) -> bool:
    """Accept or reject the replica; return whether it waited for that.

    The locks of the replica and of the archive are held.
    """
    replica = Replica(job.replica)
    state = last(job, replica)
    if state is None or not state.suspicious:
        return False
    if right:
        replica.note(replace(state, suspicious=[], rejected=False))
    else:
        replica.note(replace(state, rejected=True))
    if catalog is not None:
        if right:
            release(job, catalog)
        catalog.end_wait(job.origin)
    return right or not state.rejected
