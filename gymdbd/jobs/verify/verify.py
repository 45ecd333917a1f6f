"""One verification: which backups are read, what that shows, and what is done about it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gymdbd import clock, lock
from gymdbd.archive import inspection
from gymdbd.archive import marks as all_marks
from gymdbd.archive.backup import DAMAGED
from gymdbd.archive.catalog import Catalog
from gymdbd.errors import BackupDamagedError, BackupMissingError, BusyError, DestinationError
from gymdbd.jobs.context import Timings
from gymdbd.jobs.verify.result import VerifyResult
from gymdbd.jobs.verify.verified import ARCHIVE_WAIT_S, WORKSHOP, Verified
from gymdbd.source.errors import SourceUnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gymdbd.archive.backup import Backup
    from gymdbd.config.kinds import VerifyConfig
    from gymdbd.config.parts import RepairConfig
    from gymdbd.jobs.context import Context
    from gymdbd.source.errors import GymdbdError

_NEVER = datetime(1, 1, 1, tzinfo=UTC)
_ALL = 100
_NAMED = 3


def run(job: VerifyConfig, context: Context) -> VerifyResult:
    """Read the backups that are due, mark what they are worth, and repair what can be.

    Raises BackupDamagedError, with the result, if one of them is damaged in the end; those that
    were known to be damaged are always among them. A backup that is pruned meanwhile is left out.
    """
    return _Verification(job, context).run()


def choose(backups: list[Backup], share: int, now: datetime) -> list[Backup]:
    """Return what a rolling verification reads: the known damaged ones, and a share of the rest.

    `share` is in percent, rounded up to whole backups. Those come first that were proven longest
    ago, or never; being made is being proven. So a new backup queues behind those that wait
    already, and each one's turn comes within 100 / `share` runs, with nothing to remember but
    what is marked anyway; a run that is ended before it is done goes on with the next one. A time
    in the future is a wrong clock's and counts as never.
    """

    def proven(backup: Backup) -> tuple[datetime, Any]:
        moment = clock.from_text(backup.verified_at) if backup.verified_at else _NEVER
        return (moment if moment <= now else _NEVER), backup.order

    damaged = [one for one in backups if one.verdict == DAMAGED]
    others = sorted((one for one in backups if one.verdict != DAMAGED), key=proven)
    return damaged + others[: -(-len(others) * share // 100)]


class _Verification:
    """One run: `found` is what was read, `unread` why something could not be."""

    def __init__(self, job: VerifyConfig, context: Context) -> None:
        self.job = job
        self.context = context
        self.timings = Timings()
        self.catalog = Catalog(job.archive, context.clock.zone)
        self.found: list[Verified] = []
        self.unread: list[GymdbdError] = []
        self.bytes_read = 0

    def run(self) -> VerifyResult:
        """Read, repair, and tell."""
        backups, known = self._due()
        with self.timings.step("read"):
            self._read(backups)
        damaged = [one for one in self.found if one.verdict == DAMAGED]
        if self.job.repair_from is not None:
            self._repair(damaged, self.job.repair_from)
        return self._conclude(known)

    def _repair(self, damaged: list[Verified], place: RepairConfig) -> None:
        """Repair what is damaged, and remove what a killed repair left though nothing is."""
        if not damaged and not (self.job.archive / WORKSHOP).exists():
            return
        # It brings paramiko, which nothing else here needs.
        from gymdbd.jobs.verify import repair  # noqa: PLC0415

        with self.timings.step("repair"):
            if damaged:
                repair.repair(damaged, place, self.catalog, self.context)
            else:
                repair.clear(self.catalog, self.context)

    def _due(self) -> tuple[list[Backup], int]:
        """Return what is to be read, and how many backups the archive holds."""
        backups = self.catalog.backups()
        if not backups:
            raise BackupMissingError(
                f"{self.job.archive} holds no backup to verify",
                hint="backups and pulls make them; check the path, or mount its disk",
            )
        if self.job.only:
            return [self.catalog.find(name) for name in self.job.only], len(backups)
        share = _ALL if self.job.sample is None else self.job.sample
        return choose(backups, share, self.context.clock.now()), len(backups)

    def _read(self, backups: list[Backup]) -> None:
        total = sum(one.size for one in backups)

        def advance(size: int) -> None:
            self.bytes_read += size
            self.context.progress("verify", min(self.bytes_read, total), total)

        for listed in backups:
            self.context.check()
            try:
                self._verify(listed.path.name, advance)
            except BackupMissingError as error:
                self.context.log.info("backup left out", path=str(listed.path), **_facts(error))
                if self.job.only:
                    self.unread.append(error)
            except (SourceUnreadableError, DestinationError) as error:
                self.context.log.warning("backup not read", path=str(listed.path), **_facts(error))
                self.unread.append(error)

    def _verify(self, name: str, advance: Callable[[int], None]) -> None:
        """Read one backup as it is now and mark it."""
        backup = self.catalog.read(name)
        before = _identity(backup)
        findings = inspection.inspect(backup, self.context.check, advance)
        marks = dataclasses.replace(
            backup.marks, problems=findings.problems, verified_at=self._now()
        )
        one = Verified(backup, findings, dataclasses.replace(backup, marks=marks).verdict)
        try:
            self._mark(one, before)
        except (DestinationError, BusyError) as error:
            one.remarks.append(f"its verdict could not be stored: {error.message}")
            self.context.log.warning("verdict not stored", path=str(backup.path), **_facts(error))
        if findings.problems:
            problems = "; ".join(findings.problems)
            self.context.log.error("backup damaged", path=str(backup.path), problems=problems)
        self.found.append(one)

    def _mark(self, one: Verified, before: tuple[int, ...]) -> None:
        """Store what was found, unless another file lies there since."""
        archive_lock = lock.archive_lock(self.job.archive)
        with lock.hold([archive_lock], wait_s=ARCHIVE_WAIT_S, check=self.context.check):
            if _identity(one.backup) != before:
                raise _gone(one.backup)
            all_marks.change(
                one.backup.path, verified_at=self._now(), problems=one.findings.problems
            )

    def _now(self) -> str:
        return clock.to_text(self.context.clock.now(), self.context.clock.zone)

    def _conclude(self, known: int) -> VerifyResult:
        self.found.sort(key=lambda one: one.backup.order, reverse=True)
        result = VerifyResult(
            archive=str(self.job.archive),
            backups=[one.describe() for one in self.found],
            counts=dict(Counter(one.verdict for one in self.found)),
            in_archive=known,
            bytes_read=self.bytes_read,
            duration_s=self.timings.total_s(),
            timings=self.timings.seconds,
        )
        damaged = [one for one in self.found if one.verdict == DAMAGED]
        if damaged:
            raise self._damage(damaged, result)
        if self.unread:
            raise self.unread[0].but(result=result) from self.unread[0].__cause__
        return result

    def _damage(self, damaged: list[Verified], result: VerifyResult) -> BackupDamagedError:
        names = [f"{one.backup.path.name} ({one.findings.problems[0]})" for one in damaged[:_NAMED]]
        more = [f"and {len(damaged) - _NAMED} more"] if len(damaged) > _NAMED else []
        if self.job.repair_from is None:
            hint = (
                "gymdbd verify --repair fetches a good copy where repair_from: of a verify job "
                "names a machine that has one; otherwise remove it once gymdbd list shows good ones"
            )
        else:
            hint = "no good copy could be fetched: remove it once gymdbd list shows good ones"
        return BackupDamagedError(
            f"{len(damaged)} of {len(self.found)} backups read in {self.job.archive} "
            f"{'is' if len(damaged) == 1 else 'are'} damaged: {'; '.join([*names, *more])}",
            hint=f"{hint}; look at the disk too (dmesg, SMART)",
            result=result,
        )


def _gone(backup: Backup) -> BackupMissingError:
    return BackupMissingError(
        f"{backup.path} was removed or replaced while it was read",
        hint="gymdbd verify reads what lies there now",
    )


def _identity(backup: Backup) -> tuple[int, ...]:
    """Return what shows that a file was neither replaced nor written; nothing where it is gone."""
    try:
        facts = backup.path.stat()
    except FileNotFoundError:
        return ()
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def _facts(error: GymdbdError) -> dict[str, str]:
    return {"reason": error.message, "remedy": error.hint}
