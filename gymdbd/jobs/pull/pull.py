"""One pull: fetch the remote snapshot; `swap` proves it and swaps it in."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from gymdbd import disk, files
from gymdbd.archive import proof
from gymdbd.errors import DiskFullError, ReplicaChangedError
from gymdbd.jobs.context import Timings
from gymdbd.jobs.peer import serving
from gymdbd.jobs.pull import attempts, checking, growth, told
from gymdbd.jobs.pull.arrived import Arrived
from gymdbd.jobs.pull.foresight import Foresight
from gymdbd.jobs.pull.progress import LoggedProgress
from gymdbd.jobs.pull.replica import Replica, State
from gymdbd.jobs.pull.result import Fetched, Held, PullResult
from gymdbd.remote import delta
from gymdbd.source.errors import (
    UNSOUND,
    GymdbdError,
    SourceCorruptError,
    SourceEmptyError,
    SourceError,
    SourceNotADatabaseError,
)
from gymdbd.source.fingerprint import Fingerprint

if TYPE_CHECKING:
    from gymdbd.config.kinds import PullConfig
    from gymdbd.jobs.context import Context
    from gymdbd.jobs.pull.attempts import Attempt
    from gymdbd.remote.client import Session


def run(job: PullConfig, context: Context, *, whatever: bool = False) -> PullResult:
    """Bring `job.replica` to the newest state of the remote database.

    The caller holds the replica's lock. Any failure leaves the old replica in place, and the
    partial for the next run to continue. A database that cannot be read as one is saved as it is
    before the error is raised (`damaged`), and freezes pruning until a pull succeeds again; a file
    that was never pulled and is no database only with `whatever`.
    """
    try:
        result = _Pull(job, context, whatever=whatever).run()
    except UNSOUND as error:
        is_none = isinstance(error, (SourceNotADatabaseError, SourceEmptyError))
        if is_none and not (whatever or files.is_there(job.replica)):
            raise
        from gymdbd.jobs.pull import salvage  # noqa: PLC0415 - hardly any pull needs it

        salvage.freeze(job, error, context)
        if error.result:
            raise
        raise salvage.save_remote(job, error, context) from error.__cause__
    if any(job.archive_folder.glob(".*.frozen.json")):
        from gymdbd.jobs.pull import salvage  # noqa: PLC0415 - hardly any pull needs it

        salvage.thaw(job, context)
    return result


class _Pull:
    """One pull: what is here, and the steps that its run takes.

    `state` is what the last pull left and still holds: None where the replica is another's work.
    """

    def __init__(self, job: PullConfig, context: Context, *, whatever: bool) -> None:
        self.job = job
        self.whatever = whatever
        self.context = context
        self.timings = Timings()
        self.foresight = Foresight(job, context)
        self.progress = LoggedProgress(context, self.foresight.expect)
        self.replica = Replica(job.replica)
        self.state = self._known_state()
        self.integrity = checking.least(job, self.state, context.clock.now())
        self.harm = ""
        self.bytes_sent = self.bytes_received = 0
        self.waited_s = 0.0

    def run(self) -> PullResult:
        """Fetch, prove, save, publish; on failure report the replica's damage, too."""
        disk.require_name(self.replica.path, "..{}.pull.json.partial")
        if self.integrity != proof.EQUAL:
            self._recheck()
        try:
            return self._run()
        except GymdbdError as error:
            if isinstance(error, SourceCorruptError) and not self.harm:
                # It was like this one not long ago.
                self._recheck()
            hint = "; ".join(filter(None, [error.hint, self.harm]))
            raise error.but(hint=hint) from error.__cause__

    def _recheck(self) -> None:
        """Check the replica if the pull that swapped it in did not."""
        if self.state is not None and not self.state.is_checked:
            with self.timings.step("recheck"):
                self.state, self.harm = checking.recheck(
                    self.job, self.replica, self.state, self.context
                )

    def _run(self) -> PullResult:
        with self.timings.step("replica"):
            self.replica.await_free(self.job.replica_wait, self.context.check)
        is_query = self.job.method == "query"
        arrived = attempts.repeat(self._query, self.job, self.context) if is_query else self._copy()
        if arrived.strategy == delta.UNCHANGED and self.state is not None:
            held = Held(tables=self.state.tables, is_unchanged=True)
        else:
            held = self._adopt(arrived)
        result = PullResult(
            strategy=arrived.strategy,
            method=self.job.method,
            replica=str(self.job.replica),
            reason=arrived.reason,
            pages_total=arrived.pages_total,
            pages_changed=arrived.pages_changed,
            fetched=arrived.fetched,
            bytes_sent=arrived.bytes_sent,
            bytes_received=arrived.bytes_received,
            limited=self.foresight.report(arrived.waited_s),
            size=self._size(),
            tables=held.tables,
            checked=held.checked,
            adopted=held.adopted,
            saved=held.saved,
            answer=held.answer,
            lag_s=held.lag_s,
            duration_s=self.timings.total_s(),
            timings=self.timings.seconds,
            is_unchanged=held.is_unchanged,
        )
        return self._judged(result)

    def _size(self) -> int | None:
        with contextlib.suppress(OSError):
            return self.job.replica.stat().st_size
        return None

    def _judged(self, result: PullResult) -> PullResult:
        """After the pull, raise if the replica is suspicious; note which backup waits."""
        state = self.state if result.is_unchanged else self.replica.state()
        if state is None or not (state.suspicious or state.waiting):
            return result
        # Most pulls find nothing of the kind.
        from gymdbd.jobs.pull import suspicion  # noqa: PLC0415

        return suspicion.judged(self.job, state, result, self.context)

    def _known_state(self) -> State | None:
        """Return what the last pull left, unless the replica was changed here since."""
        state = self.replica.state()
        if state is not None and (state.host, state.remote_database) != self._origin():
            state = None
        change = self.replica.change(state)
        if not change:
            return state
        if self.job.on_local_change == "refuse":
            raise ReplicaChangedError(
                f"{self.job.replica} was changed here: {change}",
                hint="move it away, or let it be saved and overwritten (on_local_change: backup)",
            )
        self.context.log.warning(
            "replica changed here", replica=str(self.job.replica), reason=change
        )
        return None

    def _origin(self) -> tuple[str, str]:
        return self.job.host, self.job.remote_database

    def _copy(self) -> Arrived:
        """Copy the files as they are; refuse them if they were written meanwhile."""
        from gymdbd.jobs.pull import file_copy  # noqa: PLC0415 - few use it

        return file_copy.fetch(
            self.job, self.replica.partial, self.context, self.timings, self.progress
        )

    def _query(self, attempt: Attempt) -> Arrived:
        """Bring the partial to the remote snapshot by the shortest way."""
        known = self._known()
        question = told.Question(self.job, self.context)
        begun = serving(self.job, self.context, self.progress, known, wholly=question.is_due)
        with begun as (session, connection):
            taken = time.monotonic()
            self.timings.seconds["connect"] = self.timings.total_s()
            remote = session.fingerprint
            attempt.has_wal = remote.journal_mode == "wal"
            self._refuse_known(remote)
            if not self.whatever:
                growth.require(self.job, remote.size_bytes)
            plan = session.plan(*known)
            self.context.log.info("pull planned", strategy=plan.strategy, reason=plan.reason)
            self.foresight.plan(plan, remote)
            arrived = Arrived(plan.strategy, taken, plan.reason, pages_total=remote.page_count)
            try:
                if plan.strategy == delta.UNCHANGED:
                    arrived.pages_changed = 0
                else:
                    self._transfer(session, plan, arrived)
                question.ask(session)
            finally:
                attempt.is_further = attempt.has_wal and session.pages_arrived > 0
                self.bytes_sent += connection.bytes_sent
                self.bytes_received += connection.bytes_received
                self.waited_s += connection.pace.waited_s
        arrived.bytes_sent, arrived.bytes_received = self.bytes_sent, self.bytes_received
        arrived.waited_s = self.waited_s
        return arrived

    def _refuse_known(self, remote: Fingerprint) -> None:
        """Refuse a state that was found damaged before, unless all bytes are due again."""
        copies = self.job.archive_folder / f"{self.replica.path.stem}.damaged"
        if self.whatever or not files.is_there(copies):
            return
        from gymdbd.jobs.pull import salvage  # noqa: PLC0415 - hardly any pull needs it

        salvage.refuse_known(self.job, remote, self.context)

    def _transfer(self, session: Session, plan: delta.Plan, arrived: Arrived) -> None:
        remote, partial = session.fingerprint, self.replica.partial
        self._require_space(remote, plan)
        try:
            with ThreadPoolExecutor(1) as pool:
                # Neither machine waits: this one copies while the other one counts.
                cloning = pool.submit(self._prepare_partial, plan)
                with self.timings.step("rows"):
                    rows = session.count_rows()
                arrived.copied = cloning.result()
            with self.timings.step("fetch"):
                fetched = session.fetch(partial, plan)
        except DiskFullError:
            # Another program took the space meanwhile: report how much is missing.
            self._require_space(remote, plan)
            raise
        self.timings.seconds |= {f"fetch.{name}": took for name, took in fetched.timings.items()}
        arrived.strategy = fetched.strategy
        # What an interrupted pull left is no copy of the replica.
        arrived.changed = fetched.changed if arrived.copied else None
        arrived.fingerprint = fetched.fingerprint.to_json()
        arrived.journal_mode = remote.journal_mode
        arrived.ownership = session.ownership
        arrived.expected = {
            "page_count": remote.page_count,
            "page_size": remote.page_size,
            "rows": rows,
            "uncounted": session.uncounted,
            **({"sha256": fetched.sha256} if fetched.sha256 else {}),
        }
        arrived.reason = fetched.reason
        arrived.pages_changed = fetched.pages_changed
        arrived.fetched = Fetched(read=fetched.method, copied=arrived.copied or None)

    def _require_space(self, remote: Fingerprint, plan: delta.Plan) -> None:
        """Raise DiskFullError unless there is room for what the partial has not got yet."""
        state = None if plan.strategy == delta.FULL else self.state
        self.replica.drop_useless_spare(state)
        present = self.replica.reusable_bytes(state)
        missing, folder = max(0, remote.size_bytes - present), self.replica.path.parent
        try:
            files.require_space(folder, missing)
        except DiskFullError:
            # A pull that has room need not pay for importing the archive.
            from gymdbd.archive.catalog import Catalog  # noqa: PLC0415
            from gymdbd.jobs.backup import room  # noqa: PLC0415

            catalog = Catalog(self.job.archive_folder, self.context.clock.zone)
            room.require(self.job, catalog, missing, self.context.clock.now(), folder=folder)

    def _prepare_partial(self, plan: delta.Plan) -> str:
        """Let the partial begin as a copy of the replica, unless an interrupted pull left one.

        Returns how it was copied, "" if it was not.
        """
        if plan.strategy == delta.FULL or files.is_there(self.replica.partial):
            return ""
        with self.timings.step("clone"):
            # One that is damaged is compared as it is; it is kept before it is replaced.
            with contextlib.suppress(SourceError):
                self.replica.roll_back()
            copied = self.replica.begin_partial(self.state)
            if self.state is not None and self.replica.change(self.state):
                # What was written here may be in pages that the plan takes for the other side's.
                files.remove(self.replica.partial)
                raise self.replica.changed_meanwhile()
            return copied

    def _known(self) -> tuple[Fingerprint | None, int | None]:
        """Return the fingerprint of what is here, if it can be trusted, and its size.

        Not trusted are a replica that was changed here, what an interrupted pull left, and the
        shortcut itself once `full_verify_every` has passed: then every page is compared.
        """
        if files.is_there(self.replica.partial):
            self.context.log.info("interrupted pull resumed", partial=str(self.replica.partial))
            return None, self.replica.partial.stat().st_size
        if not self.replica.exists:
            return None, None
        size = self.replica.path.stat().st_size
        if self.integrity == proof.FULL or self.state is None or self.state.fingerprint is None:
            return None, size
        try:
            return Fingerprint.from_json(self.state.fingerprint), size
        except ValueError:
            # Another release wrote it.
            return None, size

    def _adopt(self, arrived: Arrived) -> Held:
        # Most pulls find nothing new, and all that this imports takes a tenth of their time.
        from gymdbd.jobs.pull.swap import Adoption  # noqa: PLC0415

        adoption = Adoption(self.job, self.context, self.replica, self.state, self.integrity)
        return adoption.run(arrived, self.timings)
