"""Every failure that gymdbd names, with its exit code and what to do about it.

    GymdbdError                  exit 1
    +- UsageError                exit 2   the command line asks for something that cannot be
    |  +- ConfigError            exit 2   the configuration, with every fault found in it
    |  +- TimeZoneError          exit 2   $TZ names no time zone
    +- BusyError                 exit 3   another run holds the lock
    +- StoppedError                       the run was asked to stop before it was done
    +- DeadlineError                      the run outlived its timeout
    +- CrashError                         the run's process died without saying why
    +- SourceError                        trouble with the live database
    |  +- SourceMissingError
    |  +- SourceNotAFileError             a folder, a pipe, a device, a loop of links
    |  +- SourceEmptyError                a file of zero bytes
    |  +- SourceUnreadableError           permissions, a hot journal, an I/O error
    |  +- SourceNotADatabaseError
    |  +- SourceCorruptError
    |  +- SourceLockedError               transient: somebody holds an exclusive lock
    |  |  +- SourceMovedError             transient: it was written while it was read unlocked
    |  +- NotOwnerError                   writing would leave side files its owner cannot use
    |  +- AnotherFileError                the application has another file, or another WAL
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
    +- RemoteError                        trouble with the other machine
    |  +- ProtocolError                   it breaks the rules of our protocol, or speaks another
    |  +- ShellNoiseError                 its shell's start-up files print into our stream
    |  +- PythonTooOldError               its python3 is older than 3.9
    |  +- SshConfigError                  ~/.ssh/config, known_hosts or an override is unusable
    |  +- HostKeyUnknownError
    |  |  +- HostKeyChangedError
    |  +- AuthenticationError
    |  +- SshProtocolError                what answers does not speak SSH as we do
    |  +- ChannelRefusedError             no session, no SFTP or no forwarding for this key
    |  +- RemoteCommandError
    |  |  +- CommandMissingError          exit 127: no python3 over there
    |  +- UnreachableError                transient, and the run's state is `unreachable`
    |     +- HostNotFoundError
    |     +- ConnectRefusedError
    |     +- NoRouteError
    |     +- ConnectTimeoutError
    |     +- ProxyError                   the jump host or proxy command gets no further
    |     +- ConnectionLostError
    |     +- StalledError                 connected, but no byte moves any more
    +- CopyTornError                      the source moved on under a plain file copy
    +- BackupDamagedError                 a backup is not what was put into the archive
    +- DrillFailedError                   a restored backup does not answer as it should
    +- BackupMissingError                 the archive does not hold what was asked for
    |  +- BackupAmbiguousError            what was asked for could be of several databases
    +- FormatError                        a file of ours that does not say what it should

The module needs nothing but the standard library of Python 3.9: the puller ships it to the
other machine together with `gymdbd.source`.
"""

from __future__ import annotations

from typing import Any, Optional


class GymdbdError(Exception):
    """What happened, to what; `hint` says what to do next.

    `code` is the stable word for programs, `exit_code` what the command line exits with,
    `state` the state of a run that ends so, `transient` whether trying again soon can help:
    the place that raises knows that, nobody else guesses. `result` is what came of the run all
    the same, where there is anything to tell.
    """

    code = "failed"
    exit_code = 1
    state = "failed"
    transient = False
    result: Optional[dict[str, Any]] = None

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


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


class SourceError(GymdbdError):
    """Trouble with the live database; earlier backups are not touched."""

    code = "source"


class SourceMissingError(SourceError):
    """There is no file at the database's path."""

    code = "source-missing"


class SourceNotAFileError(SourceError):
    """The database's path is a folder, a pipe, a device or a loop of symbolic links."""

    code = "source-not-a-file"


class SourceEmptyError(SourceError):
    """The database's file has zero bytes."""

    code = "source-empty"


class SourceUnreadableError(SourceError):
    """The operating system or SQLite refuses to let us read the database."""

    code = "source-unreadable"


class SourceNotADatabaseError(SourceError):
    """The file is not an SQLite database."""

    code = "source-not-a-database"


class SourceCorruptError(SourceError):
    """The database is damaged; `problems` holds what SQLite reports."""

    code = "source-corrupt"

    def __init__(self, message: str, *, hint: str = "", problems: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.problems = problems


class SourceLockedError(SourceError):
    """The database stayed locked for longer than the busy timeout."""

    code = "source-locked"
    transient = True


class SourceMovedError(SourceLockedError):
    """The database was written while it was read without locks that hold against the writer."""

    code = "source-moved"


class NotOwnerError(SourceError):
    """Writing would leave side files beside the database that are of no use to its owner."""

    code = "not-owner"


class AnotherFileError(SourceError):
    """A process has another file open than the one at the database's path, or another WAL."""

    code = "another-file"


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
        self, message: str, *, hint: str = "", result: Optional[dict[str, Any]] = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.result = result


class RemoteError(GymdbdError):
    """Trouble with the other machine, before any database of it is touched."""

    code = "remote"


class ProtocolError(RemoteError):
    """The other side breaks the rules of the protocol, or speaks another version of it."""

    code = "protocol"

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Say what to do where the place that raises knows nothing better."""
        super().__init__(
            message,
            hint=hint
            or "nothing has changed here; install the same release of gymdbd on both machines, "
            "and if it stays so do not trust what answers there",
        )


class ShellNoiseError(RemoteError):
    """The other side's shell prints something before our server gets to speak."""

    code = "shell-noise"


class PythonTooOldError(RemoteError):
    """The other side's python3 is older than 3.9."""

    code = "python-too-old"


class SshConfigError(RemoteError):
    """The settings for the host, here or in `~/.ssh/config`, cannot be used."""

    code = "ssh-config"


class HostKeyUnknownError(RemoteError):
    """No file of known hosts holds a key of this host."""

    code = "host-key-unknown"


class HostKeyChangedError(HostKeyUnknownError):
    """The host shows another key than the known one, or a revoked one."""

    code = "host-key-changed"


class AuthenticationError(RemoteError):
    """The host accepts none of our keys."""

    code = "authentication"


class SshProtocolError(RemoteError):
    """What answers at the port is not SSH, or has no algorithm in common with us."""

    code = "ssh-protocol"


class ChannelRefusedError(RemoteError):
    """The host let us in, and refuses the session, SFTP or forwarding that we asked for."""

    code = "channel-refused"


class RemoteCommandError(RemoteError):
    """The command on the other machine ended before it had done its work."""

    code = "remote-command"


class CommandMissingError(RemoteCommandError):
    """The other machine has no such command."""

    code = "command-missing"


class UnreachableError(RemoteError):
    """The host cannot be reached now; it may be off, asleep or out of range."""

    code = "unreachable"
    state = "unreachable"
    transient = True


class HostNotFoundError(UnreachableError):
    """The host's name has no address."""

    code = "host-not-found"


class ConnectRefusedError(UnreachableError):
    """The host is there, and nothing listens at the port."""

    code = "connect-refused"


class NoRouteError(UnreachableError):
    """The network has no way to the host, or the system forbids us to use it."""

    code = "no-route"


class ConnectTimeoutError(UnreachableError):
    """The host did not answer in time."""

    code = "connect-timeout"


class ProxyError(UnreachableError):
    """The jump host or the proxy command could not reach the host."""

    code = "proxy"


class ConnectionLostError(UnreachableError):
    """The connection broke."""

    code = "connection-lost"


class StalledError(UnreachableError):
    """The connection stands, and no byte has moved for the stall timeout."""

    code = "stalled"


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
