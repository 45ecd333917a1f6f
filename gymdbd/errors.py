"""The failures of this machine, with their exit codes; `gymdbd.source.errors` has the base.

    GymdbdError                  exit 1
    +- UsageError                exit 2   the command line is invalid
    |  +- ConfigError            exit 2   the configuration is invalid; all its errors are listed
    |  +- TimeZoneError          exit 2   $TZ is not a time zone
    +- BusyError                 exit 3   another run holds the lock
    +- StoppedError                       the run was asked to stop before it was done
    +- DeadlineError                      the run exceeded its timeout
    +- CrashError                         the run's process died without a result
    +- NotAllowedError                    this user may not: permissions, a read-only disk
    +- ReadFailedError                    an operation other than writing failed
    +- DestinationError                   errors of the place that is written to
    |  +- FolderMissingError
    |  +- NotWritableError
    |  +- DiskFullError
    |  +- NameTooLongError
    |  +- WriteFailedError
    |  +- TargetInUseError                a process has the file to replace open
    |  +- TargetRefusedError              SQLite cannot restore into it
    |  +- ReplicaInUseError               transient: a process here writes to the replica
    |  +- ReplicaChangedError             it was changed here, and the configuration forbids that
    +- VerificationError                  the copy differs from the snapshot
    |  +- CopyDamagedError                SQLite finds the copy damaged
    +- SuspiciousError                    state `suspicious`: intact, but with much less content
    +- CopyTornError                      the source changed during a plain file copy
    +- BackupDamagedError                 a backup has changed since it was made
    +- DrillFailedError                   a restored backup fails a probe or the command
    +- BackupMissingError                 the archive does not have the requested backup
    |  +- BackupAmbiguousError            the request matches backups of several databases
    +- FormatError                        a manifest, marks or status file is damaged

`gymdbd.remote.errors` has the errors of another machine.
"""

from __future__ import annotations

from gymdbd.source.errors import GymdbdError


class UsageError(GymdbdError):
    """The command line is invalid."""

    code = "usage"
    exit_code = 2


class ConfigError(UsageError):
    """The configuration is invalid; `faults` has a line for each error."""

    code = "config"

    def __init__(self, message: str, *, hint: str = "", faults: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.faults = faults


class TimeZoneError(UsageError):
    """$TZ is not a time zone, so due times cannot be computed."""

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
    """The run exceeded its `timeout`."""

    code = "deadline"


class CrashError(GymdbdError):
    """The process of a run died without a result."""

    code = "crashed"


class NotAllowedError(GymdbdError):
    """The user of this process may not access a file or folder as needed."""

    code = "not-allowed"


class ReadFailedError(GymdbdError):
    """The operating system failed to read, or in another operation than writing."""

    code = "read-failed"


class DestinationError(GymdbdError):
    """An error of the place that is written to."""

    code = "destination"


class FolderMissingError(DestinationError):
    """The folder to write into does not exist."""

    code = "folder-missing"


class NotWritableError(DestinationError):
    """The folder or file cannot be written by this user."""

    code = "not-writable"


class DiskFullError(DestinationError):
    """There is not enough space."""

    code = "disk-full"


class NameTooLongError(DestinationError):
    """A file of gymdbd would have a longer name than the file system allows."""

    code = "name-too-long"


class WriteFailedError(DestinationError):
    """The operating system failed to write data or to flush it to the disk."""

    code = "write-failed"


class TargetInUseError(DestinationError):
    """A process has the database open that is to be replaced."""

    code = "target-in-use"


class TargetRefusedError(DestinationError):
    """SQLite cannot restore into the database."""

    code = "target-refused"


class ReplicaInUseError(DestinationError):
    """Another process has the replica open for writing."""

    code = "replica-in-use"
    transient = True


class ReplicaChangedError(DestinationError):
    """The replica was changed on this machine, and `on_local_change` is `refuse`."""

    code = "replica-changed"


class VerificationError(GymdbdError):
    """A copy differs from its snapshot."""

    code = "verification-failed"


class CopyDamagedError(VerificationError):
    """SQLite finds a copy damaged; the caller has to check whether the source is damaged too.

    `problems` holds what SQLite reports.
    """

    code = "copy-damaged"

    def __init__(self, message: str, *, hint: str = "", problems: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.problems = problems


class SuspiciousError(GymdbdError):
    """The backup was made, but holds so much less than the previous one that it is suspicious."""

    code = "suspicious"
    state = "suspicious"


class CopyTornError(GymdbdError):
    """The source was written to during every attempt to copy its files."""

    code = "copy-torn"


class DrillFailedError(GymdbdError):
    """A backup was restored, but a probe or the command failed."""

    code = "drill-failed"


class BackupMissingError(GymdbdError):
    """The archive does not have the requested backup."""

    code = "backup-missing"


class BackupAmbiguousError(BackupMissingError):
    """The request matches backups of several databases."""

    code = "backup-ambiguous"


class BackupDamagedError(GymdbdError):
    """A backup has changed since it was made."""

    code = "backup-damaged"


class FormatError(GymdbdError):
    """A manifest, marks or status file is damaged."""

    code = "format"
