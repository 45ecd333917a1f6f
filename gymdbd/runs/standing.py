"""How the backups of a database are, without a status file: what the disks alone say."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from gymdbd import acting, clock, disk, files, words
from gymdbd.archive import answers, belonging
from gymdbd.archive.backup import DAMAGED
from gymdbd.archive.catalog import Catalog
from gymdbd.config.kinds import BackupConfig
from gymdbd.errors import NotAllowedError
from gymdbd.jobs.backup import room
from gymdbd.jobs.finding import Finding, Health
from gymdbd.runs import verdict
from gymdbd.source import database, identity
from gymdbd.source.errors import GymdbdError, SourceUnreadableError
from gymdbd.source.format import INDEX, side_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo
    from pathlib import Path

    from gymdbd.archive.backup import Backup
    from gymdbd.clock import Clock
    from gymdbd.origin import Origin

_DENIED = (NotAllowedError, SourceUnreadableError)
_SAME_SECOND = timedelta(seconds=1)
_ACCOUNT = "run it as the user that made the backups, or as root"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A database whose backups are asked for, and where it is, if that is on this machine.

    `max_age` is how old its newest good backup may be, if a job `lent` that.
    """

    archive: Path
    origin: Origin
    file: Path | None = None
    max_age: timedelta | None = None
    lent: str = ""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What was found: `found` is the worst of it.

    `written_at` is when the database was last written, None if that is unknown.
    """

    wanted: Wanted
    found: Finding
    backups: list[Backup]
    newest: Backup | None
    written_at: datetime | None
    free: int | None

    @property
    def written_since(self) -> bool | None:
        """Return whether the database was written after its newest good backup.

        A backup has its time in seconds, and is itself preceded by a checkpoint.
        """
        if self.newest is None or self.written_at is None:
            return None
        return self.written_at > self.newest.created + _SAME_SECOND

    def to_json(self, zone: tzinfo) -> dict[str, Any]:
        """Return it as `--json` has it."""
        newest, written = self.newest, self.written_at
        return {
            "source": str(self.wanted.origin),
            "database": str(self.wanted.file) if self.wanted.file else None,
            "archive": str(self.wanted.archive),
            "backups": len(self.backups),
            "newest": str(newest.path) if newest else None,
            "created_at": clock.to_text(newest.created, zone) if newest else None,
            "verdict": newest.verdict if newest else None,
            "written_at": clock.to_text(written, zone) if written else None,
            "written_since": self.written_since,
            "free": self.free,
            **self.found.to_json(),
        }


def take(wanted: Wanted, now: Clock) -> Standing:
    """Look at the archive and the database; whatever is wrong, nothing is raised."""
    backups: list[Backup] = []
    findings: list[Finding] = []
    written_at = None
    with _told(findings):
        if (file := wanted.file) is not None:
            seen = acting.done_by_decider(file, lambda: _look_at(file))
            written_at = datetime.fromtimestamp(seen["written_at"], UTC)
            _require_room(wanted, file, int(seen["size"]), now)
    with _told(findings):
        backups = belonging.likely(Catalog(wanted.archive, now.zone).backups(), wanted.origin)
        findings += _of_backups(wanted, backups, now)
    free = None
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(wanted.archive).free
    worst = verdict.worst([finding.health for finding in findings])
    return Standing(
        wanted=wanted,
        found=next((one for one in findings if one.health == worst), Finding(Health.OK)),
        backups=backups,
        newest=next((backup for backup in backups if backup.good), None),
        written_at=written_at,
        free=free,
    )


@contextlib.contextmanager
def _told(findings: list[Finding]) -> Iterator[None]:
    """Add the error of the block to the findings: what could not be seen is unknown."""
    try:
        yield
    except _DENIED as error:
        findings.append(Finding(Health.UNKNOWN, error.message, _ACCOUNT, error.code))
    except GymdbdError as error:
        findings.append(Finding(Health.FAILING, error.message, error.hint, error.code))
    except OSError as error:
        told = disk.system_error(error)
        findings.append(Finding(Health.UNKNOWN, told.message, told.hint, told.code))


def _of_backups(wanted: Wanted, backups: list[Backup], now: Clock) -> Iterator[Finding]:
    unread = [backup.unread for backup in backups if backup.unread]
    good = next((backup for backup in backups if backup.good), None)
    if unread:
        yield Finding(Health.UNKNOWN, unread[0].message, unread[0].hint, unread[0].code)
    elif good is None:
        yield Finding(
            Health.FAILING,
            f"{wanted.archive} holds no good backup of {wanted.origin}",
            "make one: gymdbd backup --database PATH --archive DIR",
            "no-backup",
        )
    if waiting := answers.unanswered(backups):
        path = waiting[0].path
        hint = (
            f"look at it (gymdbd diff {path}); then gymdbd accept {path}, or gymdbd reject {path}"
        )
        yield Finding(Health.FAILING, f"{waiting[0].path.name} is suspicious", hint, "suspicious")
    elif frozen := Catalog(wanted.archive, now.zone).frozen(wanted.origin):
        hint = "repair or restore the database; pruning resumes with the next good backup"
        yield Finding(Health.FAILING, f"pruning is stopped: {frozen}", hint, "pruning-stopped")
    if damaged := [backup.path.name for backup in backups if backup.verdict == DAMAGED]:
        yield Finding(
            Health.FAILING,
            f"damaged, so no longer a backup: {damaged[0]}"
            + (f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""),
            "remove it once gymdbd list shows good backups; check the disk as well (dmesg, SMART)",
            "backup-damaged",
        )
    age = now.now() - good.created if good else None
    if age is not None and wanted.max_age is not None and age > wanted.max_age:
        reason = f"its newest good backup is older than {words.limit(wanted.max_age)}"
        yield Finding(Health.LATE, reason, f"max_age is that of {wanted.lent}", "too-old")


def _look_at(file: Path) -> dict[str, float]:
    """Return the size of a database, and when it, its WAL or its journal was last written.

    Raises GymdbdError if the next backup would fail. It is done as the user whose database it is.
    """
    identity.require(file)
    seen = database.locate(file).stat()
    times = [seen.st_mtime]
    for side in side_files(file):
        # Which of them are there changes at any time; an index of the WAL has no content.
        with contextlib.suppress(OSError):
            beside = side.stat()
            has_content = beside.st_size and not side.name.endswith(INDEX)
            times += [beside.st_mtime] if has_content else []
    return {"size": seen.st_size, "written_at": max(times)}


def _require_room(wanted: Wanted, file: Path, size: int, now: Clock) -> None:
    job = BackupConfig(
        name="backup", kind="backup", database=file, archive=wanted.archive, source=wanted.origin
    )
    if files.is_folder(wanted.archive):
        room.require(job, Catalog(wanted.archive, now.zone), size, now.now())
