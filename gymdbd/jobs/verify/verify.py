"""One verification: choosing the backups to read, reading and marking them, and repairs."""

from __future__ import annotations

import dataclasses
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gymdbd import clock, files, lock
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
    """Read the backups that are due, mark them, and repair damaged ones if possible.

    Raises BackupDamagedError, with the result, if a backup is damaged in the end; backups known to
    be damaged are always due. A backup that is pruned meanwhile is left out.
    """
    return _Verification(job, context).run()


def choose(backups: list[Backup], share: int, now: datetime) -> list[Backup]:
    """Return the backups for a rolling verification: all known as damaged, and a share of the rest.

    `share` is in percent, rounded up to whole backups. Backups that were never verified, or
    longest ago, come first; making one verifies it. So new backups queue behind the others, each
    is read within 100 / `share` runs, no state is needed besides the marks, and the run after an
    interrupted one continues it. A time in the future is from a wrong clock and counts as never.
    """

    def proven(backup: Backup) -> tuple[datetime, Any]:
        moment = clock.from_text(backup.verified_at) if backup.verified_at else _NEVER
        return (moment if moment <= now else _NEVER), backup.order

    damaged = [backup for backup in backups if backup.verdict == DAMAGED]
    others = sorted((backup for backup in backups if backup.verdict != DAMAGED), key=proven)
    return damaged + others[: -(-len(others) * share // 100)]


class _Verification:
    """One run: `found` has the backups that were read, `unread` why others could not be."""

    def __init__(self, job: VerifyConfig, context: Context) -> None:
        self.job = job
        self.context = context
        self.timings = Timings()
        self.catalog = Catalog(job.archive, context.clock.zone)
        self.found: list[Verified] = []
        self.unread: list[GymdbdError] = []
        self.bytes_read = 0

    def run(self) -> VerifyResult:
        """Read, repair, and return the result."""
        backups, known = self._due()
        with self.timings.step("read"):
            self._read(backups)
        if self.job.repair_from is not None:
            self._repair(self._damaged(), self.job.repair_from)
        return self._conclude(known)

    def _damaged(self) -> list[Verified]:
        return [verified for verified in self.found if verified.verdict == DAMAGED]

    def _repair(self, damaged: list[Verified], place: RepairConfig) -> None:
        """Repair damaged backups; without any, remove what a killed repair left."""
        if not damaged and not files.is_there(self.job.archive / WORKSHOP):
            return
        from gymdbd.jobs.verify import repair  # noqa: PLC0415 - hardly any run needs it

        with self.timings.step("repair"):
            if damaged:
                repair.repair(damaged, place, self.catalog, self.context)
            else:
                repair.clear(self.catalog, self.context)

    def _due(self) -> tuple[list[Backup], int]:
        """Return the backups to read, and how many the archive holds."""
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
        total = sum(backup.size for backup in backups)

        def advance(size: int) -> None:
            self.bytes_read += size
            self.context.progress("verify", min(self.bytes_read, total), total)

        for listed in backups:
            self.context.check()
            try:
                self._verify(listed.path.name, advance)
            except BackupMissingError as error:
                self.context.log.info("backup left out", path=str(listed.path), **_reason(error))
                if self.job.only:
                    self.unread.append(error)
            except (SourceUnreadableError, DestinationError) as error:
                self.context.log.warning("backup not read", path=str(listed.path), **_reason(error))
                self.unread.append(error)

    def _verify(self, name: str, advance: Callable[[int], None]) -> None:
        """Read one backup as it is now and mark it."""
        backup = self.catalog.read(name)
        before = _identity(backup)
        findings = inspection.inspect(backup, self.context.check, advance)
        marks = dataclasses.replace(
            backup.marks, problems=findings.problems, verified_at=self._now()
        )
        verified = Verified(backup, findings, backup.with_marks(marks).verdict)
        try:
            self._mark(verified, before)
        except (DestinationError, BusyError, SourceUnreadableError) as error:
            verified.remarks.append(f"its verdict could not be stored: {error.message}")
            self.context.log.warning("verdict not stored", path=str(backup.path), **_reason(error))
        if findings.problems:
            problems = "; ".join(findings.problems)
            self.context.log.error("backup damaged", path=str(backup.path), problems=problems)
        self.found.append(verified)

    def _mark(self, verified: Verified, before: tuple[int, ...]) -> None:
        """Store the verdict, unless the file was replaced meanwhile."""
        backup, problems = verified.backup, verified.findings.problems
        archive_lock = lock.archive_lock(self.job.archive)
        with lock.hold([archive_lock], wait_s=ARCHIVE_WAIT_S, check=self.context.check):
            if _identity(backup) != before:
                raise _gone(backup)
            all_marks.change(backup.path, verified_at=self._now(), problems=problems)

    def _now(self) -> str:
        return clock.to_text(self.context.clock.now(), self.context.clock.zone)

    def _conclude(self, known: int) -> VerifyResult:
        self.found.sort(key=lambda verified: verified.backup.order, reverse=True)
        result = VerifyResult(
            archive=str(self.job.archive),
            backups=[verified.describe() for verified in self.found],
            counts=dict(Counter(verified.verdict for verified in self.found)),
            in_archive=known,
            bytes_read=self.bytes_read,
            duration_s=self.timings.total_s(),
            timings=self.timings.seconds,
        )
        damaged = self._damaged()
        if damaged:
            raise self._damage(damaged, result)
        if self.unread:
            raise self.unread[0].but(result=result) from self.unread[0].__cause__
        return result

    def _damage(self, damaged: list[Verified], result: VerifyResult) -> BackupDamagedError:
        names = [
            f"{verified.backup.path.name} ({verified.findings.problems[0]})"
            for verified in damaged[:_NAMED]
        ]
        more = [f"and {len(damaged) - _NAMED} more"] if len(damaged) > _NAMED else []
        if self.job.repair_from is None:
            hint = (
                "gymdbd verify --repair fetches a good copy from the machine in repair_from: of a "
                "verify job; if there is none, remove it once gymdbd list shows good backups"
            )
        else:
            hint = "no good copy could be fetched: remove it once gymdbd list shows good backups"
        return BackupDamagedError(
            f"{len(damaged)} of {len(self.found)} backups read in {self.job.archive} "
            f"{'is' if len(damaged) == 1 else 'are'} damaged: {'; '.join([*names, *more])}",
            hint=f"{hint}; look at the disk too (dmesg, SMART)",
            result=result,
        )


def _gone(backup: Backup) -> BackupMissingError:
    return BackupMissingError(
        f"{backup.path} was removed or replaced while it was read",
        hint="run gymdbd verify again to read the present files",
    )


def _identity(backup: Backup) -> tuple[int, ...]:
    """Return values that change if a file is replaced or written; () if it is gone."""
    try:
        status = backup.path.stat()
    except FileNotFoundError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _reason(error: GymdbdError) -> dict[str, str]:
    return {"reason": error.message, "remedy": error.hint}
