"""Getting a database to safety, now: a backup over there, a pull, a backup of what was pulled."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gymdbd import files, words
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
from gymdbd.jobs.pull import pull
from gymdbd.jobs.pull.old_replica import keep_copy
from gymdbd.jobs.pull.replica import Replica
from gymdbd.remote import delta, installed
from gymdbd.remote.errors import ChannelRefusedError, CommandMissingError, RemoteCommandError
from gymdbd.source.errors import AnotherFileError, GymdbdError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gymdbd.config.kinds import EmergencyConfig
    from gymdbd.jobs.context import Context

SKIPPED = "skipped"
# The archive beside the replica if that of the job cannot be written: nothing else uses it.
FALLBACK = "emergency"

_NO_PLACE = (FolderMissingError, NotWritableError, DiskFullError, WriteFailedError)
# The codes of a gymdbd over there that has no job for the database, no configuration that this
# account may read, or may not write to its archive: nothing that a pull would suffer from.
_NOT_FOR_US = ("usage", "config", "not-writable")


def run(job: EmergencyConfig, context: Context) -> dict[str, Any]:
    """Take the three steps and report each; if one fails, the others are tried all the same.

    The caller holds the replica's lock. The result has `steps`, each with `name`, `state` and
    `text`, and `safe_copies`, each with `host` (None is this machine) and `path`, and
    `damaged_copies`: what was saved as it is of a damaged database. The first failure is raised in
    the end, and has all that as its result. SuspiciousError means that all was
    done, and that the backup over there holds much less than the one before it.
    """
    return _Emergency(job, context).run()


def _wants_a_place(error: GymdbdError) -> bool:
    """Say whether a step failed for the lack of a place to write to."""
    if isinstance(error, damaged.DAMAGE):
        return not (error.result or {}).get(damaged.COPY)
    return isinstance(error, _NO_PLACE)


class _Emergency:
    """One emergency: what was done, and where the safe copies are."""

    def __init__(self, job: EmergencyConfig, context: Context) -> None:
        self.pull = job.pull
        self.context = context
        self.timings = Timings()
        self.steps: list[dict[str, Any]] = []
        self.copies: list[dict[str, str | None]] = []
        self.damaged: list[dict[str, str | None]] = []
        self.doubt: dict[str, str] = {}
        self.pulled = False

    def run(self) -> dict[str, Any]:
        """Take one step after the other, whatever became of those before."""
        work = {
            "backup there": self._back_up_there,
            "pull": self._pull,
            "backup here": self._back_up_here,
        }
        first: GymdbdError | None = None
        for name, step in work.items():
            try:
                with self.timings.step(name):
                    self._tell({"name": name, **self._take(step)})
            except (StoppedError, DeadlineError) as error:
                self._fail(name, error)
                error.result = self._report()
                raise
            except GymdbdError as error:
                self._fail(name, error)
                first = first or error
        if first is not None:
            first.result = self._report()
            raise first
        if self.doubt:
            raise SuspiciousError(
                self.doubt["error"],
                hint=f"everything was copied all the same; {self.doubt['hint']}",
                result=self._report(),
            )
        return self._report()

    def _take(self, step: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Take a step, and if the archive here is of no use again with one beside the replica."""
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
                if (another.result or {}).get(damaged.COPY):
                    raise
                self.pull = usual
                raise error from another

    def _fail(self, name: str, error: GymdbdError) -> None:
        self._tell({"name": name, "state": error.state, "text": error.message})
        copy = (error.result or {}).get(damaged.COPY)
        if copy:
            self.damaged.append({"host": None, "path": copy})

    def _tell(self, step: dict[str, Any]) -> None:
        self.steps.append(step)
        self.context.tell(f"{step['name']:<12}  {step['state']}: {step['text']}")
        facts = {"step": step["name"], "state": step["state"], "what": step["text"]}
        self.context.log.info("emergency step ended", **facts)

    def _report(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "safe_copies": self.copies,
            "damaged_copies": self.damaged,
            "duration_s": self.timings.total_s(),
            "timings": self.timings.seconds,
        }

    def _back_up_there(self) -> dict[str, Any]:
        """Let the gymdbd over there run its own job; where there is none the pull must do."""
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
        copy = answer.get(damaged.COPY)
        if isinstance(copy, str):
            self.damaged.append({"host": self.pull.host, "path": copy})
        raise RemoteCommandError(
            f"the backup on {self.pull.host} failed: {error_text}",
            hint=f"over there: {answer.get('hint')}. gymdbd pull brings the database here without "
            "a backup there",
        )

    def _backed_up_there(self, path: str, answer: dict[str, Any]) -> dict[str, Any]:
        self.copies.append({"host": self.pull.host, "path": path})
        if answer["state"] != "ok":
            self.doubt = {
                "error": f"on {self.pull.host}, {answer.get('error')}",
                "hint": f"over there: {answer.get('hint')}",
            }
        facts = {name: answer.get(name) for name in ("path", "size", "sha256", "tables")}
        return {"state": answer["state"], "text": f"{self.pull.host}:{path}", **facts}

    def _skipped(self, reason: str) -> dict[str, Any]:
        text = f"{reason}; the archive of {self.pull.host} gets no backup, the pull goes on"
        return {"state": SKIPPED, "text": text}

    def _pull(self) -> dict[str, Any]:
        try:
            pulled = pull.run(self.pull, self.context, whatever=True)
            state = pulled.pop("state", "ok")
        except SuspiciousError as error:
            # It is here all the same, and so is the good state before it.
            self.doubt = self.doubt or {"error": error.message, "hint": error.hint}
            pulled, state = error.result or {}, error.state
        if state == delta.UNCHANGED:
            self._require_unspoilt()
        self.pulled = True
        self.copies.append({"host": None, "path": str(self.pull.replica)})
        rows = words.rows_in(pulled["tables"])
        traffic = f"{to_size(pulled['bytes_received'])} received"
        text = f"{self.pull.replica}, {rows}, {traffic} ({pulled['strategy']})"
        return {"state": state, "text": text, "pull": pulled}

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

    def _back_up_here(self) -> dict[str, Any]:
        if not self.pull.replica.exists():
            return {"state": SKIPPED, "text": f"there is no replica at {self.pull.replica}"}
        if not self.pulled:
            self._require_unspoilt()
        path, made = keep_copy(self.pull, Replica(self.pull.replica), self.context)
        self.copies.append({"host": None, "path": str(path)})
        text = f"{path}" if made else f"{path} holds the same bytes already, read again"
        return {"state": "ok" if made else "unchanged", "text": text, "path": str(path)}
