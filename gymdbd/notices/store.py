"""`notices.json` beside the status file: what was seen and told, for the next look.

Only its owner may read it: it has the error lines of runs.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from gymdbd import bounded, files, lock, words
from gymdbd.config import state
from gymdbd.errors import DestinationError
from gymdbd.log import logger
from gymdbd.notices.memory import Memory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gymdbd.notices.memory import Failure

_FAULTS = (*bounded.FAULTS, KeyError, TypeError, AttributeError)
# A look that tells takes at most a minute and a half.
_WAIT_S = 100.0


def place(status_file: Path) -> Path:
    """Return where the file is; a status file of an unusual name has one of its own.

    So the daemons of two configurations, with one folder for both, do not forget each other's.
    """
    own = "" if status_file.name == "status.json" else f"{status_file.name}."
    return status_file.with_name(f"{own}notices.json")


@contextlib.contextmanager
def alone(status_file: Path) -> Iterator[None]:
    """Wait until no other process tells, and keep others from it; BusyError if that is in vain.

    Where no lock can be taken, such as on a disk that became read-only, telling goes on.
    """
    with contextlib.ExitStack() as held:
        try:
            state.make(status_file)
            held.enter_context(lock.hold([lock.file_lock(place(status_file))], wait_s=_WAIT_S))
        except (OSError, DestinationError) as error:
            logger().debug("notices not locked", reason=str(error))
        yield


def read(status_file: Path) -> Memory:
    """Return what was kept; nothing if there is no file, or none that can be read.

    Then what is wrong now is told once more: that is better than silence.
    """
    path = place(status_file)
    try:
        return Memory.from_json(bounded.parse(bounded.read(path)))
    except FileNotFoundError:
        return Memory()
    except (OSError, *_FAULTS) as error:
        reason = str(error) or type(error).__name__
        logger().warning("notices not read", file=str(path), reason=reason)
        return Memory()


def failures(status_file: Path) -> dict[str, Failure]:
    """Return the channels that could not be told at the last try, as far as this user may know."""
    with contextlib.suppress(OSError, *_FAULTS):
        return Memory.from_json(bounded.parse(bounded.read(place(status_file)))).failures
    return {}


def write(status_file: Path, memory: Memory) -> None:
    """Keep what was seen and told; GymdbdError if it cannot be written."""
    text = words.json_text(memory.to_json(), indent=1)
    files.write_atomically(place(status_file), text.encode())
