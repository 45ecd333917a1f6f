"""The database that a backup was made of: machine and path of its source, not the file's name."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gymdbd import names


class Place(NamedTuple):
    """A file on a machine: `host` is its name, or for a pull the HOST of `ssh HOST`."""

    host: str
    path: str

    @property
    def is_here(self) -> bool:
        """Return whether it is on this machine; a domain in only one of the names is ignored."""
        shorter, longer = sorted((self.host.casefold(), socket.gethostname().casefold()), key=len)
        return shorter in (longer, longer.partition(".")[0])

    @property
    def is_gone(self) -> bool:
        """Return whether it is certain that the file no longer exists."""
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
        """Return whether both are the same file; links are followed on this machine."""
        if self.host.casefold() != other.host.casefold() and not (self.is_here and other.is_here):
            return False
        if self.is_here:
            return names.same_file(self.path, other.path)
        return names.plain(self.path) == names.plain(other.path)

    def __str__(self) -> str:
        """Return it in the notation of scp."""
        return f"{self.host}:{self.path}"


@dataclass(frozen=True)
class Origin:
    """A database whose backups are selected: the stem of their names, and its places.

    The stem is in the form in which names are compared (gymdbd.names). There are several places if
    its backups were made in each of them: a pull saves states of the remote database and of the
    replica. There are none if only files without a manifest are known.
    """

    stem: str
    places: tuple[Place, ...]

    def __str__(self) -> str:
        """Return its name for messages."""
        return str(self.places[0]) if self.places else self.stem


def here(database: Path) -> Origin:
    """Return the origin of the backups of a database on this machine."""
    return Origin(names.plain(database.stem), (Place(socket.gethostname(), str(database)),))
