"""Where gymdbd keeps the status file if the configuration does not say, and making that folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from gymdbd import files
from gymdbd.config.unit import CONFIGURATION, PLACES, STATE
from gymdbd.errors import NotWritableError

_NAME = "status.json"
_FOLDER = "gymdbd"
_DIGITS = 8
_INSTEAD = "name a place with status_file: PATH in the configuration"


def status_file(source: Path) -> Path:
    """Return the status file of the configuration `source`; ValueError if there is no place for it.

    A service has it in the folder that systemd gives to it.
    """
    given = [Path(text) for text in os.environ.get("STATE_DIRECTORY", "").split(":") if text]
    # A service may have several, and then one is for gymdbd.
    given.sort(key=lambda folder: folder.name != _FOLDER)
    return (given[0] if given else standing(source)) / _NAME


def standing(source: Path) -> Path:
    """Return the folder in which every process that is no service has it; ValueError if none.

    For a configuration in /etc/gymdbd, that is the one that systemd gives to gymdbd's own unit. So
    whoever asks for the status finds what the service has written. A configuration that is not in a
    usual place has a folder of its own in there: its jobs may have the names of another one's.
    """
    source = files.absolute(source)
    base = Path(STATE) if source.parent == Path(CONFIGURATION) else _of_user()
    if _is_usual(source):
        return base
    digest = hashlib.sha256(os.fsencode(files.resolved(source))).hexdigest()[:_DIGITS]
    return base / f"{source.stem}-{digest}"


def _is_usual(source: Path) -> bool:
    """Return whether a configuration is one that is found unnamed, also by a link."""
    for place in PLACES:
        # There may be no home folder.
        with contextlib.suppress(RuntimeError):
            usual = Path(place).expanduser()
            if source == usual or files.resolved(source) == files.resolved(usual):
                return True
    return False


def _of_user() -> Path:
    """Return the folder of gymdbd's status for this user; ValueError if there is none."""
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    if base.is_absolute():
        return base / _FOLDER
    try:
        home = Path.home()
    except RuntimeError as error:
        raise ValueError("is needed, because the home folder of this user is unknown") from error
    if not home.is_absolute() or not _is_there(home):
        raise ValueError(f"is needed, because this user has no home folder ({home})")
    return home / ".local" / "state" / _FOLDER


def standing_elsewhere(source: Path, file: Path) -> Path | None:
    """Return where other processes look for the status file of this service, if that is not `file`.

    None as well if the configuration names it.
    """
    try:
        usual = standing(source) / _NAME
        return usual if file == status_file(source) != usual else None
    except ValueError:
        return None


def make(file: Path) -> None:
    """Make the folder of a status file, if it is missing and has a usual name; else do nothing.

    Any other folder may be on a disk that is not mounted.
    """
    if _is_ours_to_make(file.parent):
        try:
            files.make_folder(file.parent)
        except NotWritableError as error:
            raise error.but(hint=f"{error.hint}; or {_INSTEAD}") from error


def require(file: Path) -> None:
    """Raise GymdbdError if a status file has no folder, and `make` would make none."""
    folder = file.parent
    if not _is_ours_to_make(folder):
        files.require_folder(folder)
        return
    there = next(place for place in folder.parents if _is_there(place))
    if not os.access(there, os.W_OK | os.X_OK):
        raise NotWritableError(
            f"there is no folder {folder}, and this user may not make it",
            hint=f"make it (mkdir -p -m 700 {folder}), or {_INSTEAD}",
        )


def _is_ours_to_make(folder: Path) -> bool:
    """Return whether a folder is missing that has the name of one in which we keep the status."""
    usual = [Path(STATE), *map(Path, os.environ.get("STATE_DIRECTORY", "").split(":"))]
    usual.append(Path(os.environ.get("XDG_STATE_HOME", ""), _FOLDER))
    return not _is_there(folder) and any(
        place in usual or place.parts[-3:] == (".local", "state", _FOLDER)
        for place in (folder, folder.parent)
    )


def _is_there(folder: Path) -> bool:
    """Return whether a folder is there; True if this user cannot see it."""
    try:
        return files.is_there(folder)
    except OSError:
        return True
