"""The failures of this machine, with their exit codes; `gymdbd.source.errors` has the base.

    GymdbdError                  exit 1
    +- UsageError                exit 2   the command line is invalid
    |  +- ConfigError            exit 2   the configuration is invalid; all its errors are listed
    |  +- TimeZoneError          exit 2   $TZ is not a time zone
    |  +- MomentError            exit 2   no time that has passed is called so
    +- BusyError                 exit 3   another run holds the lock
    +- StoppedError                       the run was asked to stop before it was done
    +- DeadlineError                      the run exceeded its timeout
    +- CrashError                         the run's process died without a result
    +- UnexpectedError                    an exception that nobody foresaw
    +- NotAllowedError                    this user may not: permissions, a read-only disk
    +- ReadFailedError                    an operation other than writing failed
    +- DestinationError                   errors of the place that is written to
    |  +- FolderMissingError
    |  +- NotWritableError
    |  +- NotOursError                    something else has the name of a file of gymdbd
    |  +- DiskFullError
    |  +- NameTooLongError
    |  +- NoLocksError                   the file system refuses to lock files
    |  +- WriteFailedError
    |  |  +- DiskFailingError             a disk or card of this machine has failed
    |  +- TargetInUseError                a process has the file to replace open
    |  +- TargetRefusedError              SQLite cannot restore into it
    |  +- ReplicaInUseError               transient: a process here writes to the replica
    |  +- ReplicaChangedError             it was changed here, and the configuration forbids that
    +- VerificationError                  the copy differs from the snapshot
    |  +- CopyDamagedError                SQLite finds the copy damaged
    +- TooLargeError                      a database over there is larger than it may be
    +- SuspiciousError                    state `suspicious`: intact, but with much less content
    +- CopyTornError                      the source changed during a plain file copy
    +- BackupDamagedError                 a backup has changed since it was made
    +- DrillFailedError                   a restored backup fails a probe or the command
    +- BackupMissingError                 the archive does not have the requested backup
    |  +- BackupAmbiguousError            the request matches backups of several databases
    +- SecretError                        a secret that the configuration names cannot be had
    |  +- SecretMissingError              no such file, credential or variable, or it is empty
    |  +- SecretExposedError              others may read it, or could have written it
    |  +- SecretCommandError              its command failed, hung, or could not be started
    +- NotToldError                       a notice or ping did not reach its receiver
    |  +- ReceiverAwayError               transient: it could not be reached, or failed
    |  +- ReceiverRefusedError            it will refuse the next one as well
    |  +- ExtraMissingError               what this channel needs is not installed
    +- FormatError                        a manifest, marks or status file is damaged

`gymdbd.remote.errors` has the errors of another machine.
"""

from __future__ import annotations

from gymdbd.source.errors import GymdbdError


class UsageError(GymdbdError, code="usage"):
    """The command line is invalid."""

    exit_code = 2


class ConfigError(UsageError, code="config"):
    """The configuration is invalid; `faults` has a line for each error."""

    def __init__(self, message: str, *, hint: str = "", faults: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.faults = faults


class TimeZoneError(UsageError, code="time-zone"):
    """$TZ is not a time zone, so due times cannot be computed."""


class MomentError(UsageError, code="time"):
    """No moment is called as a person named it, or it has not come yet."""


class BusyError(GymdbdError, code="busy"):
    """Another run holds the lock on the same files."""

    exit_code = 3
    state = "busy"
    transient = True


class StoppedError(GymdbdError, code="stopped"):
    """The run was asked to stop and did so at a safe point."""


class DeadlineError(GymdbdError, code="deadline"):
    """The run exceeded its `timeout`."""


class CrashError(GymdbdError, code="crashed"):
    """The process of a run died without a result."""


class UnexpectedError(GymdbdError, code="unexpected"):
    """An exception that nobody foresaw: a bug of gymdbd's, or a machine out of memory."""


def unexpected(error: BaseException) -> UnexpectedError:
    """Return the error for an exception that is none of gymdbd's own."""
    return UnexpectedError(
        f"unexpected {type(error).__name__}: {error}",
        hint="this is a bug in gymdbd: report it with what gymdbd --debug prints; earlier backups "
        "are not affected",
    )


class NotAllowedError(GymdbdError, code="not-allowed"):
    """The user of this process may not access a file or folder as needed."""


class ReadFailedError(GymdbdError, code="read-failed"):
    """The operating system failed to read, or in another operation than writing."""


class DestinationError(GymdbdError, code="destination"):
    """An error of the place that is written to."""


class FolderMissingError(DestinationError, code="folder-missing"):
    """The folder to write into does not exist."""


class NotWritableError(DestinationError, code="not-writable"):
    """The folder or file cannot be written by this user."""


class NotOursError(DestinationError, code="not-ours"):
    """A link, a pipe or a folder has the name of a file of gymdbd's own."""


class DiskFullError(DestinationError, code="disk-full"):
    """There is not enough space."""


class NoLocksError(DestinationError, code="no-locks"):
    """The file system does not offer the locks that keep two runs apart."""


class NameTooLongError(DestinationError, code="name-too-long"):
    """A file of gymdbd would have a longer name than the file system allows."""


class WriteFailedError(DestinationError, code="write-failed"):
    """The operating system failed to write data or to flush it to the disk."""


class DiskFailingError(WriteFailedError, code="disk-failing"):
    """A disk or card of this machine answers with I/O errors, or the kernel no longer writes to it.

    It is one that gymdbd writes to: trouble in reading a database is a SourceUnreadError.
    """


class TargetInUseError(DestinationError, code="target-in-use"):
    """A process has the database open that is to be replaced."""


class TargetRefusedError(DestinationError, code="target-refused"):
    """SQLite cannot restore into the database."""


class ReplicaInUseError(DestinationError, code="replica-in-use"):
    """Another process has the replica open for writing."""

    transient = True


class ReplicaChangedError(DestinationError, code="replica-changed"):
    """The replica was changed on this machine, and `on_local_change` is `refuse`."""


class VerificationError(GymdbdError, code="verification-failed"):
    """A copy differs from its snapshot."""


class CopyDamagedError(VerificationError, code="copy-damaged"):
    """SQLite finds a copy damaged; the caller has to check whether the source is damaged too.

    `problems` holds what SQLite reports. If `every_page_sound`, only the module of a virtual table
    finds it wrong: no copying does that, so the source is the same.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        problems: tuple[str, ...] = (),
        every_page_sound: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.problems = problems
        self.every_page_sound = every_page_sound


class TooLargeError(GymdbdError, code="too-large"):
    """The other machine's database is larger than it may be; nothing was fetched."""


class SuspiciousError(GymdbdError, code="suspicious"):
    """The backup was made, but holds so much less than the previous one that it is suspicious."""

    state = "suspicious"


class CopyTornError(GymdbdError, code="copy-torn"):
    """The source was not at rest during any attempt to copy its files."""


class DrillFailedError(GymdbdError, code="drill-failed"):
    """A backup was restored, but a probe or the command failed."""


class BackupMissingError(GymdbdError, code="backup-missing"):
    """The archive does not have the requested backup."""


class BackupAmbiguousError(BackupMissingError, code="backup-ambiguous"):
    """The request matches backups of several databases."""


class BackupDamagedError(GymdbdError, code="backup-damaged"):
    """A backup has changed since it was made."""


class SecretError(GymdbdError, code="secret"):
    """A secret that the configuration names cannot be had."""


class SecretMissingError(SecretError, code="secret-missing"):
    """There is no such file, credential or variable, or it is empty."""


class SecretExposedError(SecretError, code="secret-exposed"):
    """Others may read the secret, or could have written it or its command."""


class SecretCommandError(SecretError, code="secret-command"):
    """The command that prints a secret failed, hung, or could not be started."""


class NotToldError(GymdbdError, code="not-told"):
    """A notice or ping did not reach its receiver."""


class ReceiverAwayError(NotToldError, code="receiver-away"):
    """A receiver could not be reached, did not answer in time, or reports trouble of its own."""

    transient = True


class ReceiverRefusedError(NotToldError, code="receiver-refused"):
    """A receiver refuses in a way that trying again does not change."""


class ExtraMissingError(NotToldError, code="extra-missing"):
    """A channel needs a package or program that is not installed."""


class FormatError(GymdbdError, code="format"):
    """A manifest, marks or status file is damaged."""
