"""Every failure begins here: the base of all that gymdbd names, and what a serving side can meet.

    GymdbdError                  exit 1
    +- SourceError                        trouble with the live database
    |  +- SourceMissingError
    |  +- SourceNotAFileError             a folder, a pipe, a device, a loop of links
    |  +- SourceEmptyError                a file of zero bytes
    |  +- SourceUnreadableError           permissions, a hot journal, an unknown definition
    |  |  +- SourceUnreadError            an I/O error: pages that should be there are not
    |  +- SourceNotADatabaseError
    |  +- SourceCorruptError
    |  +- SourceLockedError               transient: somebody holds an exclusive lock
    |  |  +- SourceMovedError             transient: it was written while it was read unlocked
    |  +- NotOwnerError                   writing would leave side files its owner cannot use
    |  +- AnotherFileError                the application has another file, or another WAL
    +- RemoteError                        trouble with the other machine
       +- AnotherDatabaseError            the key is bound to another one than the job's
       +- PlaceError                      a database cannot be put where it is to be
       |  +- PlaceTakenError              something is there already, or in use
       +- ProtocolError                   it breaks the rules of our protocol, or speaks another
       +- UnreachableError                transient, and the run's state is `unreachable`
          +- ConnectionLostError
          +- StalledError                 connected, but no byte moves any more

`gymdbd.remote.errors` has what else the way to the other machine can bring, `gymdbd.errors` all
the rest.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Dict, Optional, Type

# The most characters of one text of an error that travel.
MOST_TEXT = 4000

if TYPE_CHECKING:
    from typing import Protocol, Self

    class Told(Protocol):
        """The result of a run, as far as an error needs it: it becomes JSON."""

        def to_json(self) -> dict[str, Any]:
            """Return it as `--json` prints it."""

        def recorded(self) -> dict[str, Any]:
            """Return it as the status file has it."""


class GymdbdError(Exception):
    """What happened, to what; `hint` says what to do next.

    `code` is the stable word for programs, `exit_code` what the command line exits with,
    `state` the state of a run that ends so, `transient` whether trying again soon can help:
    only the place that raises knows that. `result` is what the run achieved all the same, if
    anything.
    """

    code = "failed"
    exit_code = 1
    state = "failed"
    transient = False

    def __init_subclass__(cls, *, code: str) -> None:
        """Take the class's code, which no two kinds of error share."""
        super().__init_subclass__()
        cls.code = code

    def __init__(self, message: str, *, hint: str = "", result: Optional[Told] = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.result = result

    def but(self, **changes: Any) -> Self:
        """Return the same error with another message, hint, exit code or result."""
        other = copy.copy(self)
        vars(other).update(changes)
        return other


class SourceError(GymdbdError, code="source"):
    """Trouble with the live database; earlier backups are not touched."""


class SourceMissingError(SourceError, code="source-missing"):
    """There is no file at the database's path."""


class SourceNotAFileError(SourceError, code="source-not-a-file"):
    """The database's path is a folder, a pipe, a device or a loop of symbolic links."""


class SourceEmptyError(SourceError, code="source-empty"):
    """The database's file has zero bytes."""


class SourceUnreadableError(SourceError, code="source-unreadable"):
    """The operating system or SQLite refuses to let us read the database."""


class SourceUnreadError(SourceUnreadableError, code="source-unread"):
    """The file may be read, and what it should hold is not there: an I/O error, a WAL cut short."""


class SourceNotADatabaseError(SourceError, code="source-not-a-database"):
    """The file is not an SQLite database."""


class SourceCorruptError(SourceError, code="source-corrupt"):
    """The database is damaged; `problems` holds what SQLite reports."""

    def __init__(self, message: str, *, hint: str = "", problems: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.problems = problems


# No database could be read, though nobody keeps us from it: nothing is pruned meanwhile, and the
# bytes are worth a copy as they are.
UNSOUND = (SourceCorruptError, SourceNotADatabaseError, SourceEmptyError, SourceUnreadError)


class SourceLockedError(SourceError, code="source-locked"):
    """The database stayed locked for longer than the busy timeout."""

    transient = True


class SourceMovedError(SourceLockedError, code="source-moved"):
    """The database was written while it was read without locks that hold against the writer."""


class NotOwnerError(SourceError, code="not-owner"):
    """Writing would leave side files beside the database that are of no use to its owner."""


class AnotherFileError(SourceError, code="another-file"):
    """A process has another file open than the one at the database's path, or another WAL."""


class RemoteError(GymdbdError, code="remote"):
    """Trouble with the other machine, before any database of it is touched."""


class AnotherDatabaseError(RemoteError, code="another-database"):
    """The other side serves another database than the one that is asked for."""


class PlaceError(RemoteError, code="place"):
    """A database cannot be put in its place over there; nothing has changed there."""


class PlaceTakenError(PlaceError, code="place-taken"):
    """Something is in its place already, or a process uses what was there."""


class ProtocolError(RemoteError, code="protocol"):
    """The other side breaks the rules of the protocol, or speaks another version of it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Set a default hint if the caller gives none."""
        super().__init__(
            message,
            hint=hint
            or "nothing has changed here; install the same release of gymdbd on both machines, "
            "and if it stays so do not trust what answers there",
        )


class UnreachableError(RemoteError, code="unreachable"):
    """The host cannot be reached now; it may be off, asleep or out of range."""

    state = "unreachable"
    transient = True


class ConnectionLostError(UnreachableError, code="connection-lost"):
    """The connection broke."""


class StalledError(UnreachableError, code="stalled"):
    """The connection stands, and no byte has moved for the stall timeout."""


def to_error(value: dict[str, Any]) -> GymdbdError:
    """Make the error that the other end reports: of the same class, or a RemoteError.

    Its text is shown to people, so control characters, which could steer a terminal, are out.
    """
    code, message, hint = (clean(value.get(key)) for key in ("code", "message", "hint"))
    kind = _by_code().get(code, RemoteError)
    return kind(
        message or "the other side failed without saying why",
        hint=hint or "nothing has changed here; try `gymdbd check` there, and look at its log",
    )


def _by_code() -> Dict[str, Type[GymdbdError]]:
    found: Dict[str, Type[GymdbdError]] = {}
    waiting = [GymdbdError]
    while waiting:
        kind = waiting.pop()
        # A subclass that only refines another keeps its code, and the first one wins.
        found.setdefault(kind.code, kind)
        waiting = kind.__subclasses__() + waiting
    return found


def clean(value: Any) -> str:
    """Return what a text of the other side has that can steer no terminal; "" if it is none."""
    text = value if isinstance(value, str) else ""
    return "".join(letter if letter.isprintable() else " " for letter in text[:MOST_TEXT])
