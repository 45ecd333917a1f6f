"""The second half of a pull: prove what arrived, save the old replica, swap the new one in."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from gymdbd import clock, files
from gymdbd.archive import proof
from gymdbd.archive.gates import Content
from gymdbd.errors import CopyDamagedError, VerificationError
from gymdbd.jobs.pull import checking, salvage, suspicion
from gymdbd.jobs.pull.old_replica import save
from gymdbd.jobs.pull.replica import State
from gymdbd.jobs.pull.result import Adopted, Answer, Held
from gymdbd.source.counting import count_rows
from gymdbd.source.errors import SourceCorruptError
from gymdbd.source.schema import read_facts
from gymdbd.sqlite import opening

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from gymdbd.archive.proof import Proof
    from gymdbd.config.kinds import PullConfig
    from gymdbd.jobs.context import Context, Timings
    from gymdbd.jobs.pull.arrived import Arrived
    from gymdbd.jobs.pull.replica import Replica
    from gymdbd.sqlite.soundness import Soundness


class Adoption:
    """What arrived becomes the replica.

    `state` is what the last pull left and still holds: None where the replica is another's work.
    `integrity` is how much SQLite has to check at least (gymdbd.jobs.pull.checking).
    """

    def __init__(
        self,
        job: PullConfig,
        context: Context,
        replica: Replica,
        state: State | None,
        integrity: str,
    ) -> None:
        self.job = job
        self.context = context
        self.replica = replica
        self.state = state
        self.integrity = integrity
        self.in_full = integrity == proof.FULL

    def run(self, arrived: Arrived, timings: Timings) -> Held:
        """Prove what arrived, save the old replica, and put the new one in its place.

        If they are equal the old one stays, unless a full check was due.
        """
        integrity = self._choose_integrity(arrived)
        with timings.step("verify"), files.syncing(self.replica.partial):
            proven, tables = self._prove(arrived, integrity)
        new = self._describe(arrived, proven, tables, integrity)
        same = arrived.changed is not None and not len(arrived.changed)
        before, size = self.state, proven.sums.size
        if before is not None and same and size == before.identity[1] and not self.in_full:
            self._keep(before, new)
            return Held(tables=before.tables, checked=integrity, is_unchanged=True)
        known = suspicion.last(self.job, self.replica)
        new = self._judge(new, known, size)
        saved, waiting = self._swap(arrived, known, new, timings)
        self.context.log.info("replica published", replica=str(self.job.replica), size=size)
        if new.suspicious:
            self.context.log.warning("replica suspicious", reasons=new.suspicious)
        return Held(
            tables=tables,
            checked=integrity,
            adopted=Adopted(
                remarks=[
                    *new.remarks,
                    *(f"not checked: {what}" for what in new.unchecked),
                    *self._unseen(),
                ],
                sha256=new.sha256 or None,
            ),
            saved=str(saved) if saved else None,
            answer=Answer(waiting=waiting),
            lag_s=round(time.monotonic() - arrived.taken, 4),
        )

    def _unseen(self) -> list[str]:
        """Return a remark if an unseen process may go on with the old file."""
        why = self.replica.unknown
        held = (
            "replaced under SQLite's lock, which an idle program in rollback mode does not notice"
        )
        return [f"{why}: {held}"] if why else []

    def _describe(
        self, arrived: Arrived, proven: Proof, tables: dict[str, int], integrity: str
    ) -> State:
        """Return the state of what arrived; its content is judged later."""
        before, checked = self.state, integrity != proof.EQUAL
        now = clock.to_text(self.context.clock.now(), self.context.clock.zone)
        remarks, unchecked = self._told(proven.soundness, integrity)
        check_s = before.check_s if before else None
        return State(
            host=self.job.host,
            remote_database=self.job.remote_database,
            fingerprint=arrived.fingerprint,
            journal_mode=arrived.journal_mode,
            pulled_at=now,
            compared_at=now if self.in_full or before is None else before.compared_at,
            md5=proven.sums.md5,
            sha256=proven.sums.sha256,
            tables=tables,
            ownership=arrived.ownership or (before.ownership if before else None),
            uncounted=arrived.expected.get("uncounted", []),
            remarks=remarks,
            unchecked=unchecked,
            checked_at=now if checked or before is None else before.checked_at,
            check_s=round(proven.check_s, 6) if integrity == proof.QUICK else check_s,
            is_checked=checked,
        )

    def _keep(self, before: State, new: State) -> None:
        """Leave the equal replica, and note that the next pull need not compare."""
        files.remove(self.replica.partial)
        self.replica.note(
            replace(
                before,
                fingerprint=new.fingerprint,
                journal_mode=new.journal_mode,
                ownership=new.ownership,
                spare=None,
                checked_at=new.checked_at,
                check_s=new.check_s,
                is_checked=new.is_checked or before.is_checked,
            )
        )

    def _judge(self, new: State, known: State | None, size: int) -> State:
        """Add the suspicions to the state; an answer holds as long as they are the same."""
        held = Content(new.tables, size, uncounted=new.uncounted)
        found = suspicion.suspicions(self.job, known, held, self.context)
        rejected = known is not None and known.rejected and known.suspicious == found
        return replace(new, suspicious=found, rejected=rejected)

    def _swap(
        self, arrived: Arrived, known: State | None, new: State, timings: Timings
    ) -> tuple[Path | None, str | None]:
        """Save the old replica and publish the new one; return the backup, and what waits."""
        with timings.step("save"):
            self.replica.await_free(self.job.replica_wait, self.context.check)
            found = self.replica.identity()
            saved = self._save(known, new)
            waiting = suspicion.waiting(self.job, self.context)
        with timings.step("publish"):
            self.context.check()
            self.replica.await_free(self.job.replica_wait, self.context.check)
            if self.replica.identity() != found:
                raise self.replica.changed_meanwhile()
            new = replace(new, waiting=waiting is not None)
            self.replica.publish(new, None if saved else self._spare_pages(arrived))
            if saved and files.is_there(saved):
                # It was the replica and has the replica's mode.
                saved.chmod(files.FILE_MODE)
        return saved, waiting

    def _told(self, found: Soundness, integrity: str) -> tuple[list[str], list[str]]:
        """Return the remarks, and what was not checked.

        Less than a full check adds to what is known already.
        """
        if integrity == proof.FULL or self.state is None:
            return found.broken, list(found.unchecked)
        known = self.state
        remarks = known.remarks if integrity == proof.EQUAL else found.broken
        return remarks, list(dict.fromkeys([*known.unchecked, *found.unchecked]))

    def _save(self, known: State | None, new: State) -> Path | None:
        """Save the old replica if it is to be; a good one that a suspicious one replaces always.

        `known` is what the last pull left, whoever has changed the replica since.
        """
        was_good = known is None or not known.suspicious
        wanted = self.job.backup_before or (new.suspicious and was_good)
        if self.replica.exists and wanted:
            if not suspicion.is_enough(self.job, known, self.context):
                # Its manifest may only say what is true: the file may have been written to since.
                # And it belongs to the database it was pulled from, which the job may have left.
                last = self.replica.state()
                unchanged = None if self.replica.change(last) else last
                return save(self.job, self.replica, unchanged, self.context, new)
            self.context.log.warning("old replica not saved", reason="as suspicious as those saved")
        if new.suspicious or (
            files.is_folder(self.job.archive_folder) and not (known and was_good)
        ):
            with suspicion.opened(self.job, self.context) as catalog:
                suspicion.settle(self.job, catalog, new, self.context)
        return None

    def _spare_pages(self, arrived: Arrived) -> Collection[int] | None:
        """Return the pages in which the old replica differs, if it may be kept as the spare.

        None if a copy costs nothing, or if the archive gets the old one.
        """
        needed = arrived.copied not in ("", files.CLONE)
        known = self.state is not None and not self.job.backup_before
        return arrived.changed if needed and known else None

    def _choose_integrity(self, arrived: Arrived) -> str:
        """Choose how much SQLite has to check of what arrived."""
        if self.in_full or self.job.verify == proof.FULL:
            return proof.FULL
        if self.integrity == proof.QUICK:
            return proof.QUICK
        if arrived.changed is None:
            reason = "it is not known which pages changed"
        elif not checking.is_ordinary(self.replica.path, self.replica.partial):
            reason = "the header changed in what an ordinary commit leaves alone"
        else:
            return proof.EQUAL
        self.context.log.info("everything is checked", reason=reason)
        return proof.QUICK

    def _prove(self, arrived: Arrived, integrity: str) -> tuple[Proof, dict[str, int]]:
        """Prove the partial; return the proof and its row counts."""
        partial = self.replica.partial
        try:
            proven = proof.prove(
                partial,
                arrived.expected,
                self.context.check,
                integrity=integrity,
                hashes=self._hashes(arrived),
            )
        except (CopyDamagedError, SourceCorruptError) as error:
            # Every page equals the other side's, so the damage is over there.
            found = _damaged_there(self.job, error.problems)
            raise salvage.save_arrived(
                self.job, partial, found, self.context, arrived.fingerprint
            ) from error
        except VerificationError as error:
            self._distrust()
            raise error.but(hint=_blame(self.job)) from error
        rows = arrived.expected.get("rows")
        if rows is None:
            with opening.reading(partial) as copy:
                rows = count_rows(copy, read_facts(copy))
        return proven, rows

    def _distrust(self) -> None:
        """Remove what arrived, and let the next pull compare every page."""
        files.remove(self.replica.partial)
        if self.state is not None and not self.replica.change(self.state):
            self.replica.note(replace(self.state, fingerprint=None))

    def _hashes(self, arrived: Arrived) -> Sequence[str]:
        """Name the hashes to compute: a manifest's, or else those there are to compare."""
        if self.job.backup_before:
            return proof.HASHES
        return [name for name in proof.HASHES if name in arrived.expected]


def _blame(job: PullConfig) -> str:
    return (
        f"{job.host} has not sent what it described, or the disk of {job.replica.parent} does not "
        "hold what is written (dmesg, SMART). The replica has not changed, what arrived was "
        "removed, and the next pull compares every page"
    )


def _damaged_there(job: PullConfig, problems: tuple[str, ...]) -> SourceCorruptError:
    return SourceCorruptError(
        f"{job.remote_database} on {job.host} is damaged: {'; '.join(problems[:3])}",
        hint=f"the replica has not changed; on {job.host} stop the application and "
        "restore the newest good backup (gymdbd list)",
        problems=problems,
    )
