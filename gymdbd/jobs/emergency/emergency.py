"""Saving a database right now: a backup over there, a pull, a backup of the replica."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gymdbd import bounded, files, words
from gymdbd.archive import proof
from gymdbd.errors import (
    DeadlineError,
    DiskFullError,
    FolderMissingError,
    NotWritableError,
    StoppedError,
    SuspiciousError,
    VerificationError,
    WriteFailedError,
)
from gymdbd.files import to_size
from gymdbd.jobs import peer
from gymdbd.jobs.backup import damaged
from gymdbd.jobs.context import Timings
from gymdbd.jobs.emergency.result import Copy, EmergencyResult, Here, Step, There
from gymdbd.jobs.pull import pull
from gymdbd.jobs.pull.old_replica import keep_copy
from gymdbd.jobs.pull.replica import Replica
from gymdbd.jobs.pull.result import PullResult
from gymdbd.remote import delta, installed
from gymdbd.remote.errors import ChannelRefusedError, CommandMissingError, RemoteCommandError
from gymdbd.source.errors import UNSOUND, AnotherFileError, GymdbdError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gymdbd.config.kinds import EmergencyConfig
    from gymdbd.jobs.context import Context

THERE, PULL, HERE = "backup there", "pull", "backup here"
SKIPPED = "skipped"
# The archive beside the replica if that of the job cannot be written: nothing else uses it.
FALLBACK = "emergency"

_NO_PLACE = (FolderMissingError, NotWritableError, DiskFullError, WriteFailedError)
# The codes of a gymdbd over there that has no job for the database, cannot read its configuration
# or cannot write to its archive: none of them hinders a pull.
_NOT_FOR_US = ("usage", "config", "not-writable")


def run(job: EmergencyConfig, context: Context) -> EmergencyResult:
    """Take the three steps and report each; if one fails, the others are tried all the same.

    The caller holds the replica's lock. The first failure is raised in the end, with the result.
    SuspiciousError means that all was done, and that the backup over there holds much less than the
    one before it.
    """
    return _Emergency(job, context).run()


def _wants_a_place(error: GymdbdError) -> bool:
    """Return whether a step failed for lack of a place to write to."""
    if isinstance(error, UNSOUND):
        return damaged.copy_of(error) is None
    return isinstance(error, _NO_PLACE)


class _Emergency:
    """One emergency: what was done, and where the safe copies are."""

    def __init__(self, job: EmergencyConfig, context: Context) -> None:
        self.pull = job.pull
        self.context = context
        self.timings = Timings()
        self.steps: list[Step] = []
        self.copies: list[Copy] = []
        self.damaged: list[Copy] = []
        self.doubt: SuspiciousError | None = None
        self.pulled = False

    def run(self) -> EmergencyResult:
        """Take one step after the other, whatever became of those before."""
        work = {
            THERE: self._back_up_there,
            PULL: self._pull,
            HERE: self._back_up_here,
        }
        first: GymdbdError | None = None
        for name, step in work.items():
            try:
                with self.timings.step(name):
                    self._tell(self._take(step))
            except (StoppedError, DeadlineError) as error:
                self._fail(name, error)
                raise error.but(result=self._report()) from error.__cause__
            except GymdbdError as error:
                self._fail(name, error)
                first = first or error
        if first is not None:
            raise first.but(result=self._report()) from first.__cause__
        if self.doubt is not None:
            hint = f"everything was copied all the same; {self.doubt.hint}"
            raise self.doubt.but(hint=hint, result=self._report())
        return self._report()

    def _take(self, step: Callable[[], Step]) -> Step:
        """Take a step; if the archive here is unusable, again with one beside the replica."""
        try:
            return step()
        except GymdbdError as error:
            usual = self.pull
            place = usual.replica.parent / FALLBACK
            if place == usual.archive_folder or not _wants_a_place(error):
                raise
            reason = error.message
            self.context.log.warning("other archive taken", archive=str(place), reason=reason)
            self.pull = replace(usual, archive=place)
            try:
                files.make_folder(place)
                return step()
            except (StoppedError, DeadlineError):
                raise
            except GymdbdError as another:
                if damaged.copy_of(another):
                    raise
                self.pull = usual
                raise error from another

    def _fail(self, name: str, error: GymdbdError) -> None:
        self._tell(Step(name=name, state=error.state, text=error.message))
        if copy := damaged.copy_of(error):
            self.damaged.append(Copy(host=None, path=copy))

    def _tell(self, step: Step) -> None:
        self.steps.append(step)
        self.context.tell(f"{step.name:<12}  {step.state}: {step.text}")
        self.context.log.info(
            "emergency step ended", step=step.name, state=step.state, what=step.text
        )

    def _report(self) -> EmergencyResult:
        return EmergencyResult(
            steps=self.steps,
            safe_copies=self.copies,
            damaged_copies=self.damaged,
            duration_s=self.timings.total_s(),
            timings=self.timings.seconds,
        )

    def _back_up_there(self) -> Step:
        """Let the gymdbd over there run its own job; without one the pull must do."""
        command = ["backup", f"--for={self.pull.remote_database}"]
        try:
            with peer.connect(self.pull, self.context) as connection:
                answer = installed.ask(connection, self.pull.ssh.gymdbd, command)
                if answer.get("code") == AnotherFileError.code and "path" not in answer:
                    command.append("--deleted")
                    saved = installed.ask(connection, self.pull.ssh.gymdbd, command)
                    answer = saved if "path" in saved else answer
        except (CommandMissingError, ChannelRefusedError) as error:
            return self._skipped(error.message)
        path, error_text = answer.get("path"), answer.get("error")
        if isinstance(path, str):
            return self._backed_up_there(path, answer)
        if answer.get("code") in _NOT_FOR_US:
            return self._skipped(f"the gymdbd there says: {error_text}")
        copy = answer.get("damaged_copy")
        if isinstance(copy, str):
            self.damaged.append(Copy(host=self.pull.host, path=copy))
        raise RemoteCommandError(
            f"the backup on {self.pull.host} failed: {error_text}",
            hint=f"over there: {answer.get('hint')}. gymdbd pull brings the database here without "
            "a backup there",
        )

    def _backed_up_there(self, path: str, answer: dict[str, Any]) -> Step:
        self.copies.append(Copy(host=self.pull.host, path=path))
        state = str(answer.get("state"))
        try:
            there = bounded.typed(There, answer)
        except TypeError as error:
            raise RemoteCommandError(
                f"what gymdbd on {self.pull.host} says of its backup is invalid ({error})",
                hint="install the same release of gymdbd there",
            ) from error
        if state != "ok":
            self.doubt = SuspiciousError(
                f"on {self.pull.host}, {answer.get('error')}",
                hint=f"over there: {answer.get('hint')}",
            )
        text = f"{self.pull.host}:{path}"
        return Step(name=THERE, state=state, text=text, there=there)

    def _skipped(self, reason: str) -> Step:
        text = f"{reason}; the archive of {self.pull.host} gets no backup, the pull goes on"
        return Step(name=THERE, state=SKIPPED, text=text)

    def _pull(self) -> Step:
        try:
            pulled = pull.run(self.pull, self.context, whatever=True)
            state = pulled.state
        except SuspiciousError as error:
            if not isinstance(error.result, PullResult):
                raise
            # It is here all the same, and so is the good state before it.
            self.doubt = self.doubt or error
            pulled, state = error.result, error.state
        if state == delta.UNCHANGED:
            self._require_unspoilt()
        self.pulled = True
        self.copies.append(Copy(host=None, path=str(self.pull.replica)))
        rows = words.rows_in(pulled.tables)
        traffic = f"{to_size(pulled.bytes_received)} received"
        text = f"{self.pull.replica}, {rows}, {traffic} ({pulled.strategy})"
        return Step(name=PULL, state=state, text=text, pull=pulled)

    def _require_unspoilt(self) -> None:
        """Read the replica that stayed as it was: its pull is long ago, and disks forget."""
        replica = Replica(self.pull.replica)
        state = replica.state()
        proven = state.sha256 if state else None
        if proven and proof.checksums(replica.path, self.context.check).sha256 != proven:
            raise VerificationError(
                f"{replica.path} no longer holds what was pulled, though nobody wrote to it",
                hint="check the disk (dmesg, SMART), move the file away and run this again: "
                "then every page is brought anew",
            )

    def _back_up_here(self) -> Step:
        if not files.is_there(self.pull.replica):
            text = f"there is no replica at {self.pull.replica}"
            return Step(name=HERE, state=SKIPPED, text=text)
        if not self.pulled:
            self._require_unspoilt()
        path, made = keep_copy(self.pull, Replica(self.pull.replica), self.context)
        self.copies.append(Copy(host=None, path=str(path)))
        text = f"{path}" if made else f"{path} holds the same bytes already, read again"
        state = "ok" if made else "unchanged"
        return Step(name=HERE, state=state, text=text, here=Here(str(path)))
