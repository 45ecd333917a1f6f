"""Which database a backup is of: the machine and the path of its source, not the file's name."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """A file on a machine: `host` is its name, or for a pull the host as `ssh HOST` takes it."""

    host: str
    path: str

    @property
    def is_here(self) -> bool:
        """Say whether it is on this machine, whose name may have gained or lost its domain."""
        shorter, longer = sorted((self.host.casefold(), socket.gethostname().casefold()), key=len)
        return shorter in (longer, longer.partition(".")[0])

    @property
    def is_gone(self) -> bool:
        """Say whether nothing lies there any more; of what cannot be looked at nobody knows."""
        if not (self.is_here and Path(self.path).is_absolute()):
            return False
        try:
            os.lstat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except (OSError, ValueError):
            return False
        return False

    def same(self, other: Place) -> bool:
        """Say whether both are the same file, by whatever links it is named."""
        if self.host.casefold() != other.host.casefold() and not (self.is_here and other.is_here):
            return False
        if self.path == other.path:
            return True
        return self.is_here and os.path.realpath(self.path) == os.path.realpath(other.path)

    def __str__(self) -> str:
        """Write it as scp does."""
        return f"{self.host}:{self.path}"


@dataclass(frozen=True)
class Origin:
    """A database whose backups are meant: the stem of their names, and where it lies.

    There are several places if the archive holds what was made of it in each of them: a pull
    saves states of the remote database, and of the replica. There are none if only files without
    a manifest are known.
    """

    stem: str
    places: tuple[Place, ...]

    def __str__(self) -> str:
        """Name it for a person."""
        return str(self.places[0]) if self.places else self.stem


def here(database: Path) -> Origin:
    """Return the origin of the backups of a database on this machine."""
    return Origin(database.stem, (Place(socket.gethostname(), str(database)),))
