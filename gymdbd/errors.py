"""The failures of this machine, with their exit codes; `gymdbd.source.errors` has the base.

    GymdbdError                  exit 1
    +- UsageError                exit 2   the command line asks for something that cannot be
    |  +- ConfigError            exit 2   the configuration, with every fault found in it
    |  +- TimeZoneError          exit 2   $TZ names no time zone
    +- BusyError                 exit 3   another run holds the lock
    +- StoppedError                       the run was asked to stop before it was done
    +- DeadlineError                      the run outlived its timeout
    +- CrashError                         the run's process died without saying why
    +- NotAllowedError                    this user may not: permissions, a read-only disk
    +- ReadFailedError                    the operating system fails where nothing is written
    +- DestinationError                   trouble with where we write
    |  +- FolderMissingError
    |  +- NotWritableError
    |  +- DiskFullError
    |  +- NameTooLongError
    |  +- WriteFailedError
    |  +- TargetInUseError                a process has what is to be replaced open
    |  +- TargetRefusedError              SQLite cannot restore into it
    |  +- ReplicaInUseError               transient: somebody here writes to the replica
    |  +- ReplicaChangedError             and the configuration says to refuse then
    +- VerificationError                  what was written is not what was read
    |  +- CopyDamagedError                SQLite finds the copy damaged
    +- SuspiciousError                    state `suspicious`: a backup is whole, and not believed
    +- CopyTornError                      the source moved on under a plain file copy
    +- BackupDamagedError                 a backup is not what was put into the archive
    +- DrillFailedError                   a restored backup does not answer as it should
    +- BackupMissingError                 the archive does not hold what was asked for
    |  +- BackupAmbiguousError            what was asked for could be of several databases
    +- FormatError                        a file of ours that does not say what it should

`gymdbd.remote.errors` has those of another machine.
"""

from __future__ import annotations

from typing import Any

from gymdbd.source.errors import GymdbdError


class UsageError(GymdbdError):
    """The command line asks for something that cannot be."""

    code = "usage"
    exit_code = 2


class ConfigError(UsageError):
    """The configuration cannot be used; `faults` holds one line for each thing wrong."""

    code = "config"

    def __init__(self, message: str, *, hint: str = "", faults: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.faults = faults


class TimeZoneError(UsageError):
    """$TZ names no time zone, so nobody can say when a job is due."""

    code = "time-zone"


class BusyError(GymdbdError):
    """Another run holds the lock on the same files."""

    code = "busy"
    exit_code = 3
    state = "busy"
    transient = True


class StoppedError(GymdbdError):
    """The run was asked to stop and did so at a safe point."""

    code = "stopped"


class DeadlineError(GymdbdError):
    """The run outlived its `timeout`."""

    code = "deadline"


class CrashError(GymdbdError):
    """The process of a run died without reporting a result."""

    code = "crashed"


class NotAllowedError(GymdbdError):
    """The user that runs may not do with a file or folder what the work needs."""

    code = "not-allowed"


class ReadFailedError(GymdbdError):
    """The operating system failed to read, or to do, what it was asked for."""

    code = "read-failed"


class DestinationError(GymdbdError):
    """Trouble with the place that we write to."""

    code = "destination"


class FolderMissingError(DestinationError):
    """The folder to write into does not exist."""

    code = "folder-missing"


class NotWritableError(DestinationError):
    """The folder or file cannot be written by this user."""

    code = "not-writable"


class DiskFullError(DestinationError):
    """There is, or would be, no space left."""

    code = "disk-full"


class NameTooLongError(DestinationError):
    """The file system takes no name as long as the one that a file of ours would have."""

    code = "name-too-long"


class WriteFailedError(DestinationError):
    """The operating system failed to write, or to make durable, what we gave it."""

    code = "write-failed"


class TargetInUseError(DestinationError):
    """A process has the database open that is to be replaced by another file."""

    code = "target-in-use"


class TargetRefusedError(DestinationError):
    """SQLite cannot put a backup's content into the database that is to be restored."""

    code = "target-refused"


class ReplicaInUseError(DestinationError):
    """Another process has the replica open for writing."""

    code = "replica-in-use"
    transient = True


class ReplicaChangedError(DestinationError):
    """The replica was changed here, and `on_local_change: refuse` says to leave it then."""

    code = "replica-changed"


class VerificationError(GymdbdError):
    """What was written differs from the snapshot it was made from."""

    code = "verification-failed"


class CopyDamagedError(VerificationError):
    """SQLite finds a copy damaged; whether its source is, the catcher has to look.

    `problems` holds what SQLite reports.
    """

    code = "copy-damaged"

    def __init__(self, message: str, *, hint: str = "", problems: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.problems = problems


class SuspiciousError(GymdbdError):
    """The backup was made, and holds so much less than the one before that someone must look."""

    code = "suspicious"
    state = "suspicious"

    def __init__(
        self, message: str, *, hint: str = "", result: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.result = result


class CopyTornError(GymdbdError):
    """The source was written to during every attempt to copy its files."""

    code = "copy-torn"


class DrillFailedError(GymdbdError):
    """A backup could be restored, and a probe or the command says that it is not right."""

    code = "drill-failed"


class BackupMissingError(GymdbdError):
    """The archive does not hold the backup that was asked for."""

    code = "backup-missing"


class BackupAmbiguousError(BackupMissingError):
    """Backups of several databases could be meant."""

    code = "backup-ambiguous"


class BackupDamagedError(GymdbdError):
    """A backup is no longer what was put into the archive."""

    code = "backup-damaged"


class FormatError(GymdbdError):
    """A manifest or status file does not say what it should."""

    code = "format"
